//! Metadata of servers. Compute API reference, "Server metadata".

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Reply, Result, Rule};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{handlers::visible, policy, request, store};
use crate::{App, limits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Items {
    metadata: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    meta: BTreeMap<String, Value>,
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::METADATA_INDEX).await?;
    Ok(Reply::ok(&json!({"metadata": server.metadata})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path((id, key)): Path<(String, String)>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::METADATA_SHOW).await?;
    match server.metadata.get(&key) {
        Some(value) => Ok(Reply::ok(&json!({"meta": {key: value}}))),
        None => Err(missing()),
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(Items { metadata }): Body<Items>,
) -> Result<Reply> {
    let items = request::metadata(metadata)?;
    let all = change(&app, &ctx, &id, policy::METADATA_CREATE, move |all| {
        all.extend(items);
        Ok(())
    })
    .await?;
    Ok(Reply::ok(&json!({"metadata": all})))
}

pub(crate) async fn replace(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(Items { metadata }): Body<Items>,
) -> Result<Reply> {
    let items = request::metadata(metadata)?;
    let all = change(&app, &ctx, &id, policy::METADATA_UPDATE_ALL, move |all| {
        *all = items;
        Ok(())
    })
    .await?;
    Ok(Reply::ok(&json!({"metadata": all})))
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
    Body(Item { meta }): Body<Item>,
) -> Result<Reply> {
    if !meta.contains_key(&key) {
        return Err(Error::bad_request("Request body and URI mismatch"));
    }
    if meta.len() > 1 {
        return Err(Error::bad_request("Request body contains too many items"));
    }
    let item = request::metadata(meta)?;
    let answer = json!({"meta": item});
    change(&app, &ctx, &id, policy::METADATA_UPDATE, move |all| {
        all.extend(item);
        Ok(())
    })
    .await?;
    Ok(Reply::ok(&answer))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path((id, key)): Path<(String, String)>) -> Result<Reply> {
    change(&app, &ctx, &id, policy::METADATA_DELETE, move |all| all.remove(&key).map(|_| ()).ok_or_else(missing))
        .await?;
    Ok(Reply::no_content())
}

fn missing() -> Error {
    Error::new(Kind::NotFound, "Metadata item was not found")
}

async fn change(
    app: &App,
    ctx: &Ctx,
    id: &str,
    rule: Rule,
    edit: impl FnOnce(&mut BTreeMap<String, String>) -> Result<()> + Send + 'static,
) -> Result<BTreeMap<String, String>> {
    let server = visible(app, ctx, id, rule).await?;
    super::handlers::refuse_locked(ctx, &server)?;
    let (now, defaults) = (app.clock.now_text(), app.options.quotas.clone());
    app.db
        .write(move |tx| {
            let quotas = limits::store::of_project(tx, &server.project_id, &defaults)?;
            let mut metadata = store::get(tx, &server.id)?.metadata;
            edit(&mut metadata)?;
            limits::check_metadata(&quotas, metadata.len())?;
            store::set_metadata(tx, &server.id, &metadata, &now)?;
            Ok(metadata)
        })
        .await
}
