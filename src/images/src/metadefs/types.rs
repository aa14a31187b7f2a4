//! Resource types, and which namespaces are for which.

use axum::extract::{Path, State};
use rest::{Ctx, Error, RawJson, Reply, Result};
use serde_json::{Value, json};

use super::items;
use super::model::{self, Kind};
use super::namespaces::{own_target, readable, target, writable};
use super::{policy, schemas, store, views};
use crate::app::Images;
use crate::image::handlers::viewer;

/// `GET /v2/metadefs/resource_types`.
pub async fn index(State(app): State<Images>, ctx: Ctx) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    ctx.allow(policy::TYPE_INDEX, &own_target(&viewer))?;
    let types = app.db().read(|tx| Ok::<_, Error>(store::list_types(tx)?)).await?;
    let types: Vec<Value> = types
        .iter()
        .map(|(name, created_at, updated_at)| {
            json!({
                "name": name,
                "created_at": db::clock::seconds(created_at),
                "updated_at": db::clock::seconds(updated_at),
            })
        })
        .collect();
    Ok(Reply::ok(&json!({"resource_types": types})))
}

/// `GET .../{namespace}/resource_types`.
pub async fn associations(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let items = app
        .db()
        .read(move |tx| {
            let space = readable(tx, &ctx, &viewer, &name, policy::TYPE_INDEX)?;
            if !ctx.may(policy::TYPE_SHOW, &target(&space))? {
                return Ok(Vec::new());
            }
            Ok::<_, Error>(store::list_items(tx, &space.id, Kind::Association)?)
        })
        .await?;
    let shown: Vec<Value> = items.iter().map(views::association).collect();
    Ok(Reply::ok(&json!({"resource_type_associations": shown})))
}

pub async fn create(
    State(app): State<Images>,
    ctx: Ctx,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let view = app
        .db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &name, policy::TYPE_CREATE)?;
            let item = model::item(model::checked(&schemas::resource_type(), body)?, &now)?;
            store::insert_item(tx, &space, Kind::Association, &item)?;
            Ok::<_, Error>(views::association(&item))
        })
        .await?;
    Ok(Reply::created(&view))
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path(names): Path<(String, String)>) -> Result<Reply> {
    items::delete(app, ctx, names, Kind::Association, policy::TYPE_DELETE).await
}
