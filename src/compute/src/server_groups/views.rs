//! Server group documents by microversion.

use rest::Ctx;
use serde_json::{Value, json};

use super::{Group, Policy};

pub(crate) fn show(ctx: &Ctx, group: &Group) -> Value {
    let mut view = json!({"id": group.id, "name": group.name, "members": group.members});
    if ctx.since(2, 64) {
        view["policy"] = json!(group.policy.word());
        view["rules"] = match (group.policy, group.max_server_per_host) {
            (Policy::AntiAffinity, Some(max)) => json!({"max_server_per_host": max}),
            _ => json!({}),
        };
    } else {
        view["policies"] = json!([group.policy.word()]);
        // Never had a meaning.
        view["metadata"] = json!({});
    }
    if ctx.since(2, 13) {
        view["project_id"] = json!(group.project_id);
        view["user_id"] = json!(group.user_id);
    }
    view
}
