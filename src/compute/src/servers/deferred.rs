//! `forceDelete` and `restore`. Nothing is deleted softly here, so one is a delete and the other finds nothing to restore.

use http::StatusCode;
use rest::{Ctx, Reply, Result};
use serde_json::Value;

use super::{
    handlers::{delete_now, refuse_locked, require, visible},
    policy, request,
};
use crate::App;

pub(crate) async fn force_delete(app: &App, ctx: &Ctx, id: &str) -> Result<Reply> {
    let server = visible(app, ctx, id, policy::FORCE_DELETE).await?;
    refuse_locked(ctx, &server)?;
    delete_now(app, ctx, &server, "forceDelete").await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

pub(crate) async fn restore(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    request::nothing("restore", argument)?;
    let server = visible(app, ctx, id, policy::RESTORE).await?;
    refuse_locked(ctx, &server)?;
    require(&server, "restore", &[])?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}
