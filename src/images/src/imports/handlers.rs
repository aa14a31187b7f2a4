//! `PUT /stage`, `POST /import`.

use axum::extract::{Path, Request, State};
use db::Tx;
use http::StatusCode;
use rest::{Body, Ctx, Error, Reply, Result};
use serde::Deserialize;
use tasks::{Busy, NewTask};

use super::operation::Import;
use crate::app::Images;
use crate::file::handlers::{Transfer, begin, revert};
use crate::file::{policy, receive};
use crate::image::handlers::viewer;
use crate::image::model::{Image, Status};
use crate::image::{policy as image_policy, store, views};
use crate::policy::allow;

pub const DIRECT: &str = "glance-direct";
pub const WEB: &str = "web-download";
const COPY: &str = "copy-image";

/// The methods that this cloud has.
pub fn methods(app: &Images) -> Vec<&'static str> {
    let mut methods = vec![DIRECT];
    if app.web().is_some() {
        methods.push(WEB);
    }
    methods.push(COPY);
    methods
}

/// `PUT /v2/images/{id}/stage`: like an upload, but the bytes wait for [`create`].
pub async fn stage(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>, request: Request) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let task = tokio::spawn(async move {
        let Transfer { image, guard, bounds } = begin(&app, &ctx, &id, &parts.headers, Status::Uploading).await?;
        let result = async {
            let mut received = receive::receive(&app, &image.id, &guard, body, bounds).await?;
            let (id, work_id, now, staged) =
                (image.id.clone(), guard.work_id.clone(), app.now(), received.staged.clone());
            let kept = app
                .db()
                .write(move |tx| Ok::<_, Error>(store::finish_staging(tx, &id, &work_id, &staged, &now)?))
                .await?;
            if !kept {
                return Err(receive::gone(Some(&image.id)));
            }
            received.keep();
            Ok(())
        }
        .await;
        if result.is_err() {
            revert(&app, &image.id, &guard).await;
        }
        result
    });
    task.await.map_err(Error::internal)??;
    Ok(Reply::no_content())
}

#[derive(Debug, Deserialize)]
pub struct NewImport {
    method: Method,
    #[serde(default)]
    stores: Option<Vec<String>>,
    #[serde(default)]
    all_stores: bool,
    #[serde(default)]
    all_stores_must_succeed: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct Method {
    name: String,
    #[serde(default)]
    uri: Option<String>,
}

impl NewImport {
    fn check(&self, app: &Images) -> Result<()> {
        let name = self.method.name.as_str();
        if !methods(app).contains(&name) {
            let text = format!("Unknown import method name '{name}'.");
            return Err(Error::bad_request(match name {
                "glance-download" => format!("{text} This cloud knows no other Image service to take images from."),
                WEB => format!("{text} The operator has switched it off."),
                _ => text,
            }));
        }
        if self.all_stores && self.stores.is_some() {
            return Err(Error::bad_request(
                "All_stores parameter can't be used with x-image-meta-store header nor stores parameter",
            ));
        }
        if let Some(unknown) = self.stores.iter().flatten().find(|store| *store != views::STORE) {
            return Err(Error::conflict(format!("Store {unknown:?} is not one of this cloud's.")));
        }
        // With one store, either answer comes to the same.
        let _ = self.all_stores_must_succeed;
        Ok(())
    }
}

/// The operation that fetches `uri`.
///
/// # Errors
/// 400 for what may not be fetched, as far as that can be said without looking the host up.
pub fn download(app: &Images, uri: &str) -> Result<Import> {
    let filtered =
        |why: String| Error::bad_request(format!("URI for web-download does not pass filtering: {uri}: {why}."));
    let (Some(web), Some(settings)) = (app.web(), app.options().downloads.as_ref()) else {
        return Err(filtered("the operator has switched downloads off".to_owned()));
    };
    web.check(uri).map_err(filtered)?;
    Ok(Import::Download { upload_id: rest::new_uuid(), uri: uri.to_owned(), max_seconds: settings.max_seconds })
}

/// `POST /v2/images/{id}/import`: 202 means that the data will become the image's, or be refused.
pub async fn create(
    State(app): State<Images>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(body): Body<NewImport>,
) -> Result<Reply> {
    let (viewer, now, inner) = (viewer(&ctx)?, app.now(), app.clone());
    app.db()
        .write(move |tx| {
            let image = store::get_visible(tx, &viewer, &id)?;
            let rule = if body.method.name == COPY { image_policy::COPY } else { policy::UPLOAD };
            allow(&ctx, rule, &image)?;
            body.check(&inner)?;
            match body.method.name.as_str() {
                DIRECT => start(tx, &ctx, &image, DIRECT, &publish_staged(tx, &image, &now)?, &now),
                WEB => {
                    let uri = body.method.uri.as_deref();
                    let uri = uri.ok_or_else(|| Error::bad_request("The method web-download needs a 'uri'."))?;
                    let import = fetch(tx, &inner, &image, uri, &now)?;
                    start(tx, &ctx, &image, WEB, &import, &now)
                }
                _ => already_there(&image, body.all_stores),
            }
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

fn publish_staged(tx: &Tx<'_>, image: &Image, now: &str) -> Result<Import> {
    let (Status::Uploading, Some(staged), Some(upload_id)) =
        (image.status, image.staged.clone(), image.upload_id.clone())
    else {
        return Err(Error::conflict(format!(
            "Only images with status 'uploading' and complete data can be imported: this one is '{}'.",
            image.status.as_str()
        )));
    };
    store::update_status(tx, &image.id, Status::Uploading, Status::Importing, now)?;
    Ok(Import::Publish { upload_id, staged })
}

fn fetch(tx: &Tx<'_>, app: &Images, image: &Image, uri: &str, now: &str) -> Result<Import> {
    if image.status != Status::Queued {
        return Err(Error::conflict(format!(
            "Image needs to be in 'queued' state to use 'web-download' method: this one is '{}'.",
            image.status.as_str()
        )));
    }
    image.formats()?;
    let import = download(app, uri)?;
    if store::room(tx, app.options(), &image.owner)? == 0 {
        return Err(receive::too_large(0));
    }
    if let Import::Download { upload_id, .. } = &import {
        store::begin_upload(tx, &image.id, Status::Importing, upload_id, now)?;
    }
    Ok(import)
}

/// There is one store, and an active image is in it.
fn already_there(image: &Image, all_stores: bool) -> Result<()> {
    if image.status != Status::Active {
        return Err(Error::conflict("Only images with status active can be targeted for copying"));
    }
    if all_stores {
        return Ok(());
    }
    Err(Error::bad_request(format!("Image is already present at store '{}'", views::STORE)))
}

fn start(tx: &Tx<'_>, ctx: &Ctx, image: &Image, action: &str, import: &Import, now: &str) -> Result<()> {
    store::mark_import(tx, &image.id, views::STORE, "")?;
    let new = NewTask {
        resource: &image.id,
        action,
        request_id: ctx.request_id(),
        user_id: ctx.user_id(),
        project_id: Some(&image.owner),
        now,
    };
    tasks::start(tx, &new, import).map(|_| ()).map_err(busy)
}

pub fn busy(busy: Busy) -> Error {
    match busy {
        Busy::Busy(_) => Error::conflict("The image is being imported already."),
        Busy::Db(error) => error.into(),
    }
}
