//! Flavor documents by microversion.

use rest::Ctx;
use serde_json::{Value, json};

use super::Flavor;

pub(crate) fn links(ctx: &Ctx, id: &str) -> Value {
    json!([
        {"rel": "self", "href": ctx.url(&format!("/v2.1/flavors/{id}"))},
        {"rel": "bookmark", "href": ctx.url(&format!("/flavors/{id}"))},
    ])
}

/// `specs`: whether the caller may see extra specs (2.61).
pub(crate) fn show(ctx: &Ctx, flavor: &Flavor, specs: bool) -> Value {
    let swap = if flavor.swap_mib == 0 && !ctx.since(2, 75) { json!("") } else { json!(flavor.swap_mib) };
    let mut view = json!({
        "id": flavor.id,
        "name": flavor.name,
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "swap": swap,
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gib,
        "OS-FLV-DISABLED:disabled": flavor.disabled,
        "vcpus": flavor.vcpus,
        "os-flavor-access:is_public": flavor.is_public,
        "rxtx_factor": flavor.rxtx_factor,
        "links": links(ctx, &flavor.id),
    });
    if ctx.since(2, 55) {
        view["description"] = json!(flavor.description);
    }
    if specs && ctx.since(2, 61) {
        view["extra_specs"] = json!(flavor.extra_specs);
    }
    view
}

pub(crate) fn brief(ctx: &Ctx, flavor: &Flavor) -> Value {
    let mut view = json!({"id": flavor.id, "name": flavor.name, "links": links(ctx, &flavor.id)});
    if ctx.since(2, 55) {
        view["description"] = json!(flavor.description);
    }
    view
}
