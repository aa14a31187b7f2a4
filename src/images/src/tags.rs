//! `PUT|DELETE /v2/images/{id}/tags/{tag}`.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Kind, Reply, Result};

use crate::app::Images;
use crate::image::handlers::viewer;
use crate::image::{model, policy, store};
use crate::policy::allow;

pub async fn update(State(app): State<Images>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    app.db()
        .write(move |tx| {
            let mut image = store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::UPDATE, &image)?;
            let tag = model::check_tag(&tag)?;
            if !image.tags.contains(&tag) {
                image.tags.push(tag.clone());
                image.check_quotas()?;
                store::insert_tag(tx, &id, &tag)?;
                store::touch(tx, &id, &now)?;
            }
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    app.db()
        .write(move |tx| {
            let image = store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::UPDATE, &image)?;
            if !store::delete_tag(tx, &id, &tag)? {
                return Err(Error::new(Kind::NotFound, format!("Image {id} has no tag {tag:?}.")));
            }
            store::touch(tx, &id, &now)?;
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}
