//! Aggregate documents by microversion.

use rest::Ctx;
use serde_json::{Value, json};

use super::Aggregate;
use crate::Options;

/// What POST answers: neither hosts nor metadata.
pub(crate) fn created(ctx: &Ctx, aggregate: &Aggregate) -> Value {
    let mut view = json!({
        "id": aggregate.id,
        "name": aggregate.name,
        "availability_zone": aggregate.zone(),
        "created_at": db::clock::naive(&aggregate.created_at),
        "updated_at": aggregate.updated_at.as_deref().map(db::clock::naive),
        "deleted": false,
        "deleted_at": null,
    });
    if ctx.since(2, 41) {
        view["uuid"] = json!(aggregate.uuid);
    }
    view
}

pub(crate) fn show(ctx: &Ctx, options: &Options, aggregate: &Aggregate) -> Value {
    let mut view = created(ctx, aggregate);
    let hosts: &[&str] = if aggregate.has_host { &[&options.host_name] } else { &[] };
    view["hosts"] = json!(hosts);
    view["metadata"] = json!(aggregate.metadata);
    view
}
