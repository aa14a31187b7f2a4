//! The URL table.

use rest::{Route, delete, get, post, put};

use crate::{App, about, audit, bundle, certificates, claim, health, operations};

/// A chain and its key, each of which may be 256 KiB.
const CHAIN_BODY_BYTES: usize = 1 << 20;

pub fn table() -> Vec<Route<App>> {
    vec![
        get("/v1/about", about::handlers::show).public(),
        // Guarded by the code that it asks for.
        post("/v1/claim", claim::handlers::claim).public(),
        get("/v1/health", health::handlers::show).rule(health::policy::SHOW),
        get("/v1/operations", operations::handlers::index).rule(operations::policy::LIST),
        get("/v1/certificates", certificates::handlers::index).rule(certificates::policy::LIST),
        post("/v1/certificates/rotate", certificates::handlers::rotate).rule(certificates::policy::ROTATE),
        put("/v1/certificates/intermediate", certificates::handlers::bring)
            .rule(certificates::policy::BRING)
            .body_max_bytes(CHAIN_BODY_BYTES),
        delete("/v1/certificates/intermediate", certificates::handlers::reset).rule(certificates::policy::RESET),
        get("/v1/audit", audit::handlers::index).rule(audit::policy::LIST),
        get("/v1/support-bundle", bundle::handlers::show).rule(bundle::policy::SHOW),
    ]
}
