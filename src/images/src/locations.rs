//! `/v2/images/{id}/locations`: where the bytes are (API reference 2.17). There is one store, which no URL reaches from outside,
//! so services learn in which store an image is, and nobody can add another place.

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Reply, Result};
use serde::Deserialize;
use serde_json::json;

use crate::app::Images;
use crate::image::handlers::{viewer, visible};
use crate::image::model::Status;
use crate::image::{policy, store, views};
use crate::policy::allow;

pub async fn index(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let image = visible(&app, &ctx, &id).await?;
    allow(&ctx, policy::LOCATIONS_SHOW, &image)?;
    let held = matches!(image.status, Status::Active | Status::Deactivated);
    let places: Vec<_> = held
        .then(|| json!({"url": format!("{}://{}", views::STORE, image.id), "metadata": {"store": views::STORE}}))
        .into_iter()
        .collect();
    Ok(Reply::ok(&json!(places)))
}

#[derive(Debug, Deserialize)]
pub struct NewLocation {
    url: String,
}

pub async fn create(
    State(app): State<Images>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(body): Body<NewLocation>,
) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let image = app.db().read(move |tx| store::get_visible(tx, &viewer, &id)).await?;
    allow(&ctx, policy::LOCATIONS_CREATE, &image)?;
    if image.status != Status::Queued {
        return Err(Error::conflict("Only images with status queued can have a location added."));
    }
    let scheme = body.url.split(':').next().unwrap_or_default();
    let scheme: String = scheme.chars().filter(|c| c.is_ascii_alphanumeric()).take(20).collect();
    Err(Error::bad_request(format!(
        "Invalid location: this cloud has no store for {scheme} URLs; it keeps all image data itself. To have data fetched, \
         import it with the method web-download."
    )))
}
