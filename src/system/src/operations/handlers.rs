use axum::extract::State;
use rest::{Ctx, Params, Reply, Result};
use serde_json::{Value, json};

use super::{policy, store};
use crate::App;

/// `GET /v1/operations`: newest first.
pub async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let mut left = params.clone();
    let page = store::LIST.page(&mut left)?;
    left.finish()?;
    let listing = app.db.read(|tx| page.fetch(tx, store::shown)).await?;
    let next = listing.next_link(&ctx, &params, |row| row["id"].as_str().unwrap_or_default());
    Ok(Reply::ok(&json!({"operations": listing.rows, "links": {"next": next.map_or(Value::Null, Value::from)}})))
}
