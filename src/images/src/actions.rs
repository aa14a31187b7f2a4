//! `POST /v2/images/{id}/actions/deactivate|reactivate`: data that must not be used for now.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Reply, Result, Rule, rule};

use crate::app::Images;
use crate::image::handlers::viewer;
use crate::image::model::Status;
use crate::image::store;
use crate::policy::{MEMBER, allow};

pub const DEACTIVATE: Rule =
    rule("deactivate", MEMBER, "Deactivate image", &[("POST", "/v2/images/{image_id}/actions/deactivate")]);
pub const REACTIVATE: Rule =
    rule("reactivate", MEMBER, "Reactivate image", &[("POST", "/v2/images/{image_id}/actions/reactivate")]);

pub async fn deactivate(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    switch(app, ctx, id, DEACTIVATE, "deactivate", Status::Active, Status::Deactivated).await
}

pub async fn reactivate(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    switch(app, ctx, id, REACTIVATE, "reactivate", Status::Deactivated, Status::Active).await
}

async fn switch(
    app: Images,
    ctx: Ctx,
    id: String,
    rule: Rule,
    verb: &'static str,
    from: Status,
    to: Status,
) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    app.db()
        .write(move |tx| {
            let image = store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, rule, &image)?;
            // Doing it twice is fine.
            if image.status != to && !store::update_status(tx, &id, from, to, &now)? {
                let status = image.status.as_str();
                return Err(Error::forbidden(format!("Not allowed to {verb} image in status '{status}'")));
            }
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}
