use rest::Ctx;
use serde_json::{Map, Value, json};

use super::search::{Candidate, Found, Summary};

pub fn index(ctx: &Ctx, found: &Found) -> Value {
    let requests: Vec<Value> = found.candidates.iter().map(|candidate| request(ctx, found, candidate)).collect();
    let summaries: Map<String, Value> =
        found.summaries.iter().map(|one| (one.provider.uuid.clone(), summary(ctx, found, one))).collect();
    json!({"allocation_requests": requests, "provider_summaries": summaries})
}

fn request(ctx: &Ctx, found: &Found, candidate: &Candidate) -> Value {
    let uuid = |id: &i64| found.uuids.get(id).cloned().unwrap_or_default();
    let shares = candidate.resources.iter().map(|(provider, amounts)| {
        let resources: Map<String, Value> = amounts
            .iter()
            .filter_map(|(class, amount)| Some((found.classes.get(class)?.clone(), Value::from(*amount))))
            .collect();
        (uuid(provider), resources)
    });
    if !ctx.since(1, 12) {
        let list: Vec<Value> = shares
            .map(|(uuid, resources)| json!({"resource_provider": {"uuid": uuid}, "resources": resources}))
            .collect();
        return json!({"allocations": list});
    }
    let allocations: Map<String, Value> =
        shares.map(|(uuid, resources)| (uuid, json!({"resources": resources}))).collect();
    let mut view = json!({"allocations": allocations});
    if ctx.since(1, 34) {
        let mappings: Map<String, Value> = candidate
            .mappings
            .iter()
            .map(|(suffix, providers)| (suffix.clone(), providers.iter().map(uuid).collect::<Vec<_>>().into()))
            .collect();
        view["mappings"] = Value::Object(mappings);
    }
    view
}

fn summary(ctx: &Ctx, found: &Found, summary: &Summary) -> Value {
    let all_classes = ctx.since(1, 27);
    let resources: Map<String, Value> = summary
        .resources
        .iter()
        .filter(|(class, ..)| all_classes || found.asked.contains(class))
        .map(|(_, name, capacity, used)| (name.clone(), json!({"capacity": capacity, "used": used})))
        .collect();
    let mut view = json!({"resources": resources});
    if ctx.since(1, 17) {
        view["traits"] = json!(summary.traits);
    }
    if ctx.since(1, 29) {
        view["parent_provider_uuid"] = json!(summary.provider.parent_uuid);
        view["root_provider_uuid"] = json!(summary.provider.root_uuid);
    }
    view
}
