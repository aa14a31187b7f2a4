use axum::extract::State;
use rest::{Ctx, Params, Reply, Result};

use super::{groups, policy, search, views};
use crate::{
    App,
    reply::{Changed, Fresh},
    request::WantsJson,
};

pub async fn index(State(app): State<App>, ctx: Ctx, _: WantsJson, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let request = groups::parse(&ctx, &params)?;
    let found = app.db.read(move |tx| search::run(tx, &request)).await?;
    Ok(Reply::ok(&views::index(&ctx, &found)).fresh(&ctx, &Changed::now(&app.clock)))
}
