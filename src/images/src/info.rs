//! `/v2/info/...`: what this cloud offers for image data.

use axum::extract::State;
use rest::{Ctx, Error, Reply, Result, Rule, rule};
use serde_json::json;

use crate::app::Images;
use crate::image::store;
use crate::image::views::STORE;
use crate::imports::handlers::methods;
use crate::policy::ADMIN;

pub const STORES_DETAIL: Rule =
    rule("stores_info_detail", ADMIN, "Expose store specific information", &[("GET", "/v2/info/stores/detail")]);

pub async fn import(State(app): State<Images>) -> Result<Reply> {
    Ok(Reply::ok(&json!({"import-methods": {
        "description": "Import methods available.",
        "type": "array",
        "value": methods(&app),
    }})))
}

pub async fn stores() -> Result<Reply> {
    Ok(Reply::ok(&json!({"stores": [{"id": STORE, "description": "The disk of this machine", "default": "true"}]})))
}

pub async fn stores_detail(ctx: Ctx) -> Result<Reply> {
    ctx.allow(STORES_DETAIL, &rest::target(&[]))?;
    Ok(Reply::ok(&json!({"stores": [{
        "id": STORE,
        "type": "file",
        "description": "The disk of this machine",
        "default": "true",
        "weight": 0,
        "properties": {"chunk_size": 65536, "thin_provisioning": true},
    }]})))
}

/// Usage against limits of the caller's project; -1 is no limit. Sizes in MiB, rounded up, as unified limits count.
pub async fn usage(State(app): State<Images>, ctx: Ctx) -> Result<Reply> {
    let project_id = ctx.project_id()?.to_owned();
    let usage = app.db().read(move |tx| Ok::<_, Error>(store::usage(tx, &project_id)?)).await?;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let limit = app.options().project_quota_bytes.map_or(-1, |bytes| i64::try_from(bytes >> 20).unwrap_or(i64::MAX));
    Ok(Reply::ok(&json!({"usage": {
        "image_size_total": {"limit": limit, "usage": mib(usage.size_bytes)},
        "image_stage_total": {"limit": limit, "usage": mib(usage.staged_bytes)},
        "image_count_total": {"limit": -1, "usage": usage.count},
        "image_count_uploading": {"limit": -1, "usage": usage.uploading},
    }})))
}
