//! `/servers/{id}/shares`, since 2.97.

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, is_uuid};
use serde::Deserialize;
use serde_json::json;

use super::policy;
use crate::{
    App,
    servers::{
        handlers::{refuse_locked, visible},
        request::bad,
    },
    versions,
};

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    visible(&app, &ctx, &id, policy::SHARES).await?;
    versions::finish(&ctx, params)?;
    Ok(Reply::ok(&json!({"shares": []})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path((id, share)): Path<(String, String)>) -> Result<Reply> {
    visible(&app, &ctx, &id, policy::SHARES_SHOW).await?;
    Err(not_found(&share))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    share: Wanted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    share_id: String,
    tag: Option<String>,
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(Request { share }): Body<Request>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::SHARES_CREATE).await?;
    if !is_uuid(&share.share_id) {
        return Err(bad("share_id", "it is no UUID"));
    }
    if share.tag.is_some_and(|tag| !(1..=255).contains(&tag.chars().count())) {
        return Err(bad("tag", "it must have 1 to 255 characters"));
    }
    refuse_locked(&ctx, &server)?;
    Err(not_found(&share.share_id))
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, share)): Path<(String, String)>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::SHARES_DELETE).await?;
    refuse_locked(&ctx, &server)?;
    Err(not_found(&share))
}

fn not_found(share: &str) -> Error {
    Error::new(Kind::NotFound, format!("Share {share} could not be found: this cloud has no file shares."))
}
