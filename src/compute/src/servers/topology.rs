//! `GET /servers/{id}/topology` (2.78). Compute API reference, "Show server topology".
//!
//! A server that asked for CPUs or pages of its own has one node; any other has none, as upstream draws it.

use axum::extract::{Path, State};
use rest::{Ctx, Reply, Result, target};
use serde_json::{Map, Value, json};
use vmspec::PageSize;

use super::{handlers::visible, policy, store};
use crate::{App, flavors::extra_specs};

const MIB_KIB: u64 = 1024;

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::TOPOLOGY).await?;
    let owner = target(&[("project_id", &server.project_id), ("user_id", &server.user_id)]);
    let host = ctx.may(policy::TOPOLOGY_HOST, &owner)?;
    let tuning = extra_specs::tuning(&server.flavor, &server.image_properties)?;
    if !tuning.dedicated && tuning.page_size == PageSize::default() {
        return Ok(Reply::ok(&json!({"nodes": [], "pagesize_kb": null})));
    }
    let pinned = app.db.read(move |tx| store::dedicated_cpus_of(tx, &server.id)).await?;
    let mut node = json!({
        "memory_mb": server.flavor.ram_mib,
        "vcpu_set": (0..server.flavor.vcpus).collect::<Vec<_>>(),
        "siblings": [],
    });
    if host {
        let pinning: Map<String, Value> =
            pinned.iter().enumerate().map(|(vcpu, cpu)| (vcpu.to_string(), json!(cpu))).collect();
        node["cpu_pinning"] = json!(pinning);
        node["host_node"] = json!(0);
    }
    // Where there is a choice of sizes, the machine makes it when it starts.
    let pagesize_kb = match tuning.page_size.pools_mib() {
        [mib] => Some(mib * MIB_KIB),
        _ => None,
    };
    Ok(Reply::ok(&json!({"nodes": [node], "pagesize_kb": pagesize_kb})))
}
