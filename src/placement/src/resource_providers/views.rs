use rest::Ctx;
use serde_json::{Value, json};

use super::store::Provider;

pub fn show(ctx: &Ctx, provider: &Provider) -> Value {
    // Relative to the endpoint, as clients join paths to it.
    let link =
        |rel: &str, below: &str| json!({"rel": rel, "href": format!("/resource_providers/{}{below}", provider.uuid)});
    let mut links = vec![link("self", ""), link("inventories", "/inventories"), link("usages", "/usages")];
    if ctx.since(1, 1) {
        links.push(link("aggregates", "/aggregates"));
    }
    if ctx.since(1, 6) {
        links.push(link("traits", "/traits"));
    }
    if ctx.since(1, 11) {
        links.push(link("allocations", "/allocations"));
    }
    let mut view =
        json!({"uuid": provider.uuid, "name": provider.name, "generation": provider.generation, "links": links});
    if ctx.since(1, 14) {
        view["parent_provider_uuid"] = json!(provider.parent_uuid);
        view["root_provider_uuid"] = json!(provider.root_uuid);
    }
    view
}

pub fn index(ctx: &Ctx, providers: &[Provider]) -> Value {
    json!({"resource_providers": providers.iter().map(|provider| show(ctx, provider)).collect::<Vec<_>>()})
}
