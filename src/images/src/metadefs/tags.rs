//! Tags of a namespace: names and nothing else.

use axum::extract::{Path, State};
use http::HeaderMap;
use rest::{Ctx, Error, Params, RawJson, Reply, Result};
use serde_json::{Map, Value, json};

use super::items::{self, not_found};
use super::model::{self, Item, Kind};
use super::namespaces::{check_deletable, readable, writable};
use super::{policy, schemas, store, views};
use crate::app::Images;
use crate::image::handlers::viewer;

fn tag(name: &str, now: &str) -> Result<Item> {
    model::item(Map::from_iter([("name".to_owned(), Value::from(name))]), now)
}

/// `limit`, `marker` (a name), `sort_key` (`name` or `created_at`) and `sort_dir`.
pub async fn index(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>, params: Params) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let limit = match params.get("limit").map(str::parse::<usize>) {
        None => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return Err(Error::bad_request("limit param must be an integer and positive")),
    };
    let ascending = match params.get("sort_dir") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(other) => return Err(Error::bad_request(format!("Invalid sort direction: {other}"))),
    };
    let by_name = match params.get("sort_key") {
        None | Some("created_at") => false,
        Some("name") => true,
        Some(other) => return Err(Error::bad_request(format!("Invalid sort key: {other}"))),
    };
    let marker = params.get("marker").map(str::to_owned);
    let space_name = name.clone();
    let mut tags = app
        .db()
        .read(move |tx| {
            let space = readable(tx, &ctx, &viewer, &name, policy::TAG_INDEX)?;
            Ok::<_, Error>(store::list_items(tx, &space.id, Kind::Tag)?)
        })
        .await?;
    if by_name {
        tags.sort_by(|one, other| other.name.cmp(&one.name));
    }
    if ascending {
        tags.reverse();
    }
    let begin = match &marker {
        None => 0,
        Some(marker) => {
            let at = tags.iter().position(|tag| tag.name == *marker);
            at.ok_or_else(|| not_found(Kind::Tag, &space_name, marker))? + 1
        }
    };
    let shown: Vec<Value> = tags.iter().skip(begin).take(limit).map(views::tag).collect();
    let link = format!("/v2/metadefs/namespaces/{space_name}/tags");
    Ok(Reply::ok(&json!({"tags": shown, "first": link, "schema": "/v2/schemas/metadefs/tags"})))
}

pub async fn show(State(app): State<Images>, ctx: Ctx, Path(names): Path<(String, String)>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let view = app
        .db()
        .read(move |tx| {
            let space = readable(tx, &ctx, &viewer, &names.0, policy::TAG_SHOW)?;
            let item = store::find_item(tx, &space.id, Kind::Tag, &names.1)?;
            item.ok_or_else(|| not_found(Kind::Tag, &names.0, &names.1)).map(|item| views::tag(&item))
        })
        .await?;
    Ok(Reply::ok(&view))
}

/// `POST .../tags/{name}`: the name is in the URL; a body is not looked at.
pub async fn create(State(app): State<Images>, ctx: Ctx, Path(names): Path<(String, String)>) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let view = app
        .db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &names.0, policy::TAG_CREATE)?;
            let item = tag(&names.1, &now)?;
            store::insert_item(tx, &space, Kind::Tag, &item)?;
            Ok::<_, Error>(views::tag(&item))
        })
        .await?;
    Ok(Reply::created(&view))
}

/// `POST .../tags`: these instead of all there were, or beside them with `X-Openstack-Append: true`.
pub async fn create_all(
    State(app): State<Images>,
    ctx: Ctx,
    Path(name): Path<String>,
    headers: HeaderMap,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let append = headers.get("x-openstack-append").and_then(|value| value.to_str().ok());
    let append = append.and_then(rest::parse_bool).unwrap_or(false);
    let view = app
        .db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &name, policy::TAGS_CREATE)?;
            let body = model::checked(&schemas::tags(), body)?;
            if !append {
                check_deletable(&space, "its tags")?;
                store::delete_items(tx, &space.id, Kind::Tag)?;
            }
            let mut shown = Vec::new();
            for one in body.get("tags").and_then(Value::as_array).into_iter().flatten() {
                let item = tag(one["name"].as_str().unwrap_or_default(), &now)?;
                store::insert_item(tx, &space, Kind::Tag, &item)?;
                shown.push(views::tag(&item));
            }
            Ok::<_, Error>(json!({"tags": shown}))
        })
        .await?;
    Ok(Reply::created(&view))
}

pub async fn update(
    State(app): State<Images>,
    ctx: Ctx,
    Path(names): Path<(String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    items::update(app, ctx, names, body, Kind::Tag, policy::TAG_UPDATE).await
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path(names): Path<(String, String)>) -> Result<Reply> {
    items::delete(app, ctx, names, Kind::Tag, policy::TAG_DELETE).await
}
