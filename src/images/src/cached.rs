//! `/v2/cache`: the raw copies that servers are started from, for administrators (API reference, "Cache"). An image whose
//! file is a raw disk already has none and needs none: asked for, it is listed at once with its own size.

use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use rest::{Ctx, Error, Kind, Reply, Result, Rule, rule};
use serde_json::json;

use crate::app::Images;
use crate::cache;
use crate::image::handlers::viewer;
use crate::image::model::Status;
use crate::image::store;
use crate::peer;
use crate::policy::ADMIN;

pub const INDEX: Rule = rule("cache_list", ADMIN, "List cache status", &[("GET", "/v2/cache")]);
pub const CREATE: Rule = rule("cache_image", ADMIN, "Queue image for caching", &[("PUT", "/v2/cache/{image_id}")]);
pub const DELETE: Rule = rule(
    "cache_delete",
    ADMIN,
    "Delete image(s) from cache and/or queue",
    &[("DELETE", "/v2/cache"), ("DELETE", "/v2/cache/{image_id}")],
);

pub async fn index(State(app): State<Images>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(INDEX, &rest::target(&[]))?;
    let copies = copies(&app).await?;
    let mut cached: Vec<_> = copies
        .iter()
        .map(|copy| {
            json!({
                "image_id": copy.image_id,
                "size": copy.size_bytes,
                "hits": copy.hits,
                "last_accessed": copy.used_at,
                "last_modified": copy.made_at,
            })
        })
        .collect();
    let of = app.clone();
    let flat = tokio::task::spawn_blocking(move || of.cache().list_flat(of.files())).await.map_err(Error::internal)?;
    cached.extend(flat.into_iter().map(
        |(id, size, at)| json!({"image_id": id, "size": size, "hits": 0, "last_accessed": at, "last_modified": at}),
    ));
    Ok(Reply::ok(&json!({"cached_images": cached, "queued_images": app.cache().queued()})))
}

async fn copies(app: &Images) -> Result<Vec<cache::Copy>> {
    let app = app.clone();
    let listed = tokio::task::spawn_blocking(move || cache::list(&app)).await.map_err(Error::internal)?;
    listed.map_err(Error::internal)
}

/// `PUT /v2/cache/{id}`: 202 once it is queued; a restart forgets the queue, and the first server makes the copy all the same.
pub async fn create(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(CREATE, &rest::target(&[]))?;
    let (viewer, wanted) = (viewer(&ctx)?, id.clone());
    let image = app.db().read(move |tx| store::get_visible(tx, &viewer, &wanted)).await?;
    if image.status != Status::Active {
        return Err(Error::bad_request("Only images with status active can be targeted for queueing"));
    }
    if !image.is_plain() {
        return Err(Error::bad_request(format!("Image {id} holds no disk that a server can be started from.")));
    }
    let flat = image.formats().is_ok_and(|(format, _)| format.is_flat());
    if flat {
        app.cache().mark_flat(&id);
    } else if app.cache().enqueue(&id) {
        tokio::spawn(async move {
            // One at a time, in the order asked.
            let _turn = app.cache().turn().await;
            // Somebody may have taken it off the queue.
            if app.cache().is_queued(&id)
                && let Err(error) = peer::raw_cached(&app, &id).await
            {
                tracing::warn!(image.id = id, %error, "a queued image could not be made ready");
            }
            app.cache().dequeue(&id);
        });
    }
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(DELETE, &rest::target(&[]))?;
    let queued = app.cache().dequeue(&id) | app.cache().forget_flat(&id);
    let found: Vec<_> = copies(&app).await?.into_iter().filter(|copy| copy.image_id == id).collect();
    if found.is_empty() && !queued {
        let wanted = id.clone();
        let known = app.db().read(move |tx| store::find(tx, &wanted)).await.map_err(|e: db::Error| Error::from(e))?;
        if known.is_none() {
            return Err(Error::new(Kind::NotFound, format!("Image {id} not found.")));
        }
    }
    remove(&found)?;
    Ok(Reply::no_content())
}

/// `DELETE /v2/cache`: everything, or what `x-image-cache-clear-target` names: `cache` or `queue`.
pub async fn clear(State(app): State<Images>, ctx: Ctx, headers: HeaderMap) -> Result<Reply> {
    ctx.allow(DELETE, &rest::target(&[]))?;
    let target =
        headers.get("x-image-cache-clear-target").map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let (cache, queue) = match target.as_deref().unwrap_or_default() {
        "" => (true, true),
        "cache" => (true, false),
        "queue" => (false, true),
        _ => {
            return Err(Error::bad_request(
                "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.",
            ));
        }
    };
    if queue {
        for id in app.cache().queued() {
            app.cache().dequeue(&id);
        }
    }
    if cache {
        app.cache().forget_all_flat();
        remove(&copies(&app).await?)?;
    }
    Ok(Reply::no_content())
}

/// Takes the names away; a server that is being started from a copy has it open.
fn remove(copies: &[cache::Copy]) -> Result<()> {
    copies.iter().try_for_each(|copy| crate::files::remove(&copy.path)).map_err(Error::internal)
}
