use axum::extract::State;
use rest::{Ctx, Params, Reply, Result};

use super::{policy, report};
use crate::App;

/// `GET /v1/health`.
pub async fn show(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::SHOW, &rest::target(&[]))?;
    params.finish()?;
    Ok(Reply::ok(&report(&app).await))
}
