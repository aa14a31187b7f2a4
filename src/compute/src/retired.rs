//! What Compute served once and upstream answers 410 for: clients that still ask learn that it is gone, not that they
//! mistyped. Compute API reference, "Obsolete APIs" and the pages of each.

use rest::{Ctx, Error, Kind, Reply, Result, Route, delete, get, post, put};

use crate::App;

async fn gone(_: Ctx) -> Result<Reply> {
    Err(Error::new(Kind::Gone, "This API was removed from Compute and does not exist any more."))
}

pub(crate) fn table() -> Vec<Route<App>> {
    let table = vec![
        get("/v2.1/os-agents", gone),
        post("/v2.1/os-agents", gone),
        put("/v2.1/os-agents/{id}", gone),
        delete("/v2.1/os-agents/{id}", gone),
        get("/v2.1/os-cells", gone),
        post("/v2.1/os-cells", gone),
        get("/v2.1/os-cells/detail", gone),
        get("/v2.1/os-cells/info", gone),
        get("/v2.1/os-cells/capacities", gone),
        post("/v2.1/os-cells/sync_instances", gone),
        get("/v2.1/os-cells/{id}", gone),
        put("/v2.1/os-cells/{id}", gone),
        delete("/v2.1/os-cells/{id}", gone),
        get("/v2.1/os-cells/{id}/capacities", gone),
        post("/v2.1/os-certificates", gone),
        get("/v2.1/os-certificates/{id}", gone),
        get("/v2.1/os-cloudpipe", gone),
        post("/v2.1/os-cloudpipe", gone),
        put("/v2.1/os-cloudpipe/{id}", gone),
        get("/v2.1/os-fixed-ips/{address}", gone),
        post("/v2.1/os-fixed-ips/{address}/action", gone),
        get("/v2.1/os-floating-ip-dns", gone),
        get("/v2.1/os-floating-ip-dns/{domain}", gone),
        put("/v2.1/os-floating-ip-dns/{domain}", gone),
        delete("/v2.1/os-floating-ip-dns/{domain}", gone),
        get("/v2.1/os-floating-ip-dns/{domain}/entries/{entry}", gone),
        put("/v2.1/os-floating-ip-dns/{domain}/entries/{entry}", gone),
        delete("/v2.1/os-floating-ip-dns/{domain}/entries/{entry}", gone),
        get("/v2.1/os-floating-ips-bulk", gone),
        post("/v2.1/os-floating-ips-bulk", gone),
        put("/v2.1/os-floating-ips-bulk/delete", gone),
        get("/v2.1/os-floating-ips-bulk/{host_name}", gone),
        get("/v2.1/os-fping", gone),
        get("/v2.1/os-fping/{id}", gone),
        post("/v2.1/os-networks", gone),
        post("/v2.1/os-networks/add", gone),
        delete("/v2.1/os-networks/{id}", gone),
        post("/v2.1/os-networks/{id}/action", gone),
        post("/v2.1/os-tenant-networks", gone),
        delete("/v2.1/os-tenant-networks/{id}", gone),
        get("/v2.1/os-security-group-default-rules", gone),
        post("/v2.1/os-security-group-default-rules", gone),
        get("/v2.1/os-security-group-default-rules/{id}", gone),
        delete("/v2.1/os-security-group-default-rules/{id}", gone),
        get("/v2.1/servers/{id}/os-virtual-interfaces", gone),
        get("/v2.1/servers/{id}/consoles", gone),
        post("/v2.1/servers/{id}/consoles", gone),
        get("/v2.1/servers/{id}/consoles/{console_id}", gone),
        delete("/v2.1/servers/{id}/consoles/{console_id}", gone),
    ];
    // Nothing is done, so no rule guards it: a token is all that is asked.
    table.into_iter().map(Route::any_token).collect()
}
