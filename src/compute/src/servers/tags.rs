//! Server tags (2.26). Compute API reference, "Server tags".

use axum::extract::{Path, State};
use http::{HeaderName, StatusCode};
use rest::{Body, Ctx, Error, Kind, Reply, Result, Rule};
use serde::Deserialize;
use serde_json::json;

use super::{handlers::visible, policy, store};
use crate::App;

pub(crate) const TAGS_MAX: usize = 50;

pub(crate) fn check(tag: &str) -> Result<()> {
    if tag.is_empty() || tag.chars().count() > 60 || tag.contains(['/', ',']) {
        return Err(Error::bad_request(format!(
            "Invalid input for field/attribute tags: {tag:?} must have 1 to 60 characters, none of them '/' or ','."
        )));
    }
    Ok(())
}

/// Tags of devices become part of a path in the guest's metadata.
pub(crate) fn check_device_tag(tag: &str) -> Result<()> {
    check(tag)
        .map_err(|_| Error::bad_request("Invalid input for field/attribute tag: 1 to 60 characters, none '/' or ','."))
}

fn missing(id: &str, tag: &str) -> Error {
    Error::new(Kind::NotFound, format!("Server {id} has no tag '{tag}'"))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::TAGS_INDEX).await?;
    let tags = app.db.read(move |tx| store::tags(tx, &server.id)).await.map_err(Error::from)?;
    Ok(Reply::ok(&json!({"tags": tags})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::TAGS_SHOW).await?;
    let tags = app.db.read(move |tx| store::tags(tx, &server.id)).await.map_err(Error::from)?;
    if tags.contains(&tag) { Ok(Reply::no_content()) } else { Err(missing(&id, &tag)) }
}

pub(crate) async fn update(State(app): State<App>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    check(&tag)?;
    let location = ctx.url(&format!("/v2.1/servers/{id}/tags/{tag}"));
    let new = change(&app, &ctx, &id, policy::TAGS_UPDATE, move |tx, id| {
        let new = store::insert_tag(tx, id, &tag)?;
        if store::tags(tx, id)?.len() > TAGS_MAX {
            return Err(Error::bad_request(format!("The number of tags exceeded the per-server limit {TAGS_MAX}")));
        }
        Ok(new)
    })
    .await?;
    Ok(if new {
        Reply::empty(StatusCode::CREATED).with_header(HeaderName::from_static("location"), &location)
    } else {
        Reply::no_content()
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tags {
    tags: Vec<String>,
}

pub(crate) async fn update_all(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(Tags { mut tags }): Body<Tags>,
) -> Result<Reply> {
    tags.iter().try_for_each(|tag| check(tag))?;
    tags.sort();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        return Err(Error::bad_request(format!("The number of tags exceeded the per-server limit {TAGS_MAX}")));
    }
    let answer = json!({"tags": tags});
    change(&app, &ctx, &id, policy::TAGS_UPDATE_ALL, move |tx, id| {
        store::delete_tags(tx, id)?;
        for tag in &tags {
            store::insert_tag(tx, id, tag)?;
        }
        Ok(())
    })
    .await?;
    Ok(Reply::ok(&answer))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    change(&app, &ctx, &id, policy::TAGS_DELETE, move |tx, id| {
        if store::delete_tag(tx, id, &tag)? { Ok(()) } else { Err(missing(id, &tag)) }
    })
    .await?;
    Ok(Reply::no_content())
}

pub(crate) async fn delete_all(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    change(&app, &ctx, &id, policy::TAGS_DELETE_ALL, |tx, id| Ok(store::delete_tags(tx, id)?)).await?;
    Ok(Reply::no_content())
}

async fn change<T: Send + 'static>(
    app: &App,
    ctx: &Ctx,
    id: &str,
    rule: Rule,
    write: impl FnOnce(&db::Tx<'_>, &str) -> Result<T> + Send + 'static,
) -> Result<T> {
    let server = visible(app, ctx, id, rule).await?;
    super::handlers::refuse_locked(ctx, &server)?;
    app.db
        .write(move |tx| {
            store::get(tx, &server.id)?;
            write(tx, &server.id)
        })
        .await
}
