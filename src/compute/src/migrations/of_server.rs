//! `/servers/{id}/migrations`: live migrations that are in progress. One host has none; what there is of a server are its
//! resizes, which `os-migrations` lists.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Kind, RawJson, Reply, Result, Rule};
use serde_json::json;

use super::{policy, store};
use crate::{
    App,
    servers::{
        handlers::{refuse_locked, require, visible_to_few},
        model::VmState,
    },
};

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    visible_to_few(&app, &ctx, &id, policy::OF_SERVER).await?;
    Ok(Reply::ok(&json!({"migrations": []})))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, migration_id)): Path<(String, String)>,
) -> Result<Reply> {
    Err(missing(&app, &ctx, &id, &migration_id, policy::OF_SERVER_SHOW).await?)
}

/// Since 2.24: abort.
pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, migration_id)): Path<(String, String)>,
) -> Result<Reply> {
    Err(missing(&app, &ctx, &id, &migration_id, policy::OF_SERVER_DELETE).await?)
}

/// Since 2.22: `force_complete`.
pub(crate) async fn action(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, migration_id)): Path<(String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    if body != json!({"force_complete": null}) {
        return Err(Error::bad_request("Invalid input: the body must be {\"force_complete\": null}."));
    }
    let server = visible_to_few(&app, &ctx, &id, policy::OF_SERVER_FORCE).await?;
    refuse_locked(&ctx, &server)?;
    require(&server, "force_complete", &[VmState::Active, VmState::Paused])?;
    let missing = missing(&app, &ctx, &id, &migration_id, policy::OF_SERVER_FORCE).await?;
    Err(Error::bad_request(missing.public().to_owned()))
}

/// Why there is no such live migration.
async fn missing(app: &App, ctx: &Ctx, id: &str, migration_id: &str, rule: Rule) -> Result<Error> {
    let server = visible_to_few(app, ctx, id, rule).await?;
    let known = match migration_id.parse() {
        Ok(number) => app.db.read(move |tx| store::is_of(tx, &server.id, number)).await?,
        Err(_) => false,
    };
    Ok(Error::new(
        Kind::NotFound,
        if known {
            format!("Migration {migration_id} for server {id} is not live-migration.")
        } else {
            format!("In-progress live migration {migration_id} is not found for server {id}.")
        },
    ))
}
