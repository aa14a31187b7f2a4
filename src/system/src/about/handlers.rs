use axum::extract::State;
use rest::{Ctx, Reply, Result};
use serde_json::json;

use crate::{App, VERSION};

/// `GET /v1/about`: public, for the sign-in page and for installers.
pub async fn show(State(app): State<App>, _: Ctx) -> Result<Reply> {
    Ok(Reply::ok(&json!({
        "region": &*app.region,
        "version": VERSION,
        "ca_fingerprint": app.certificates.as_ref().map(|certificates| certificates.fingerprint()),
        "claimed": !app.claims.waits()?,
        "several_domains": app.machine.several_domains()?,
    })))
}
