//! Upload and download.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{HeaderMap, header};
use rest::{Ctx, Error, Kind, Reply, Result};

use super::receive::{self, Bounds, Received};
use super::{download, policy};
use crate::app::Images;
use crate::image::handlers::{viewer, visible};
use crate::image::model::{Image, Status};
use crate::image::store;
use crate::live::Guard;
use crate::policy::{allow, is_admin};

/// `PUT /v2/images/{id}/file`: 204 once the image is active; whatever else happens leaves it queued and without data.
pub async fn update(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>, request: Request) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    // A task of its own: a client that goes away must not take the cleaning up with it.
    let task = tokio::spawn(async move {
        let transfer = begin(&app, &ctx, &id, &parts.headers, Status::Saving).await?;
        save(app, transfer, body).await
    });
    task.await.map_err(Error::internal)??;
    Ok(Reply::no_content())
}

/// A transfer that the record knows of.
pub struct Transfer {
    pub image: Image,
    pub guard: Guard,
    pub bounds: Bounds,
}

/// Checks everything that can be checked before the first byte, and marks the record.
pub async fn begin(app: &Images, ctx: &Ctx, id: &str, headers: &HeaderMap, status: Status) -> Result<Transfer> {
    let announced = announced_bytes(headers);
    let (viewer, now, options) = (viewer(ctx)?, app.now(), app.options().clone());
    let guard = app.live().register(id, &rest::new_uuid());
    let (work_id, ctx, id) = (guard.work_id.clone(), ctx.clone(), id.to_owned());
    let (image, bounds) = app
        .db()
        .write(move |tx| {
            let image = store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::UPLOAD, &image)?;
            let announced = announced?;
            if image.status != Status::Queued {
                let (from, to) = (image.status.as_str(), status.as_str());
                return Err(Error::conflict(format!("Image status transition from {from} to {to} is not allowed")));
            }
            image.formats()?;
            let max_bytes = store::room(tx, &options, &image.owner)?;
            if max_bytes == 0 || announced.is_some_and(|length| length > max_bytes) {
                return Err(receive::too_large(max_bytes));
            }
            store::begin_upload(tx, &id, status, &work_id, &now)?;
            Ok::<_, Error>((image, Bounds { max_bytes, announced }))
        })
        .await?;
    Ok(Transfer { image, guard, bounds })
}

/// The size that the client announces, if it does; refuses what is no stream of bytes.
fn announced_bytes(headers: &HeaderMap) -> Result<Option<u64>> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/octet-stream") {
        let text = format!("Image data is application/octet-stream, not {essence:?}.");
        return Err(Error::new(Kind::WrongMediaType, text));
    }
    let Some(value) = headers.get(header::CONTENT_LENGTH).or_else(|| headers.get("x-openstack-image-size")) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    length.map(Some).ok_or_else(|| Error::bad_request("The size of the image data is no number."))
}

async fn save(app: Images, transfer: Transfer, body: Body) -> Result<()> {
    let Transfer { image, guard, bounds } = transfer;
    let result = async {
        let received = receive::receive(&app, &image.id, &guard, body, bounds).await?;
        let (received, virtual_size_bytes) = inspect(&app, &image, received).await?;
        publish(&app, &image.id, &guard, received, virtual_size_bytes).await
    }
    .await;
    if let Err(error) = &result {
        tracing::info!(image.id = image.id, causes = error.causes(), "upload failed: {}", error.public());
        revert(&app, &image.id, &guard).await;
    }
    result
}

/// Takes a failed transfer back. What cannot be written now (a full disk) the reconciler writes later.
pub async fn revert(app: &Images, image_id: &str, guard: &Guard) {
    let (id, work_id, now) = (image_id.to_owned(), guard.work_id.clone(), app.now());
    let reverted = app.db().write(move |tx| store::revert_upload(tx, &id, &work_id, &now)).await;
    if let Err(error) = reverted {
        let error: db::Error = error;
        tracing::warn!(image.id = image_id, %error, "a failed upload stays for the reconciler");
    }
    app.wake();
}

/// The inspector's verdict; archives around a disk are kept as they are and never booted.
async fn inspect(app: &Images, image: &Image, received: Received) -> Result<(Received, Option<u64>)> {
    if !image.is_plain() {
        return Ok((received, None));
    }
    let ((format, _), limits) = (image.formats()?, app.limits());
    let (received, verdict) = tokio::task::spawn_blocking(move || {
        let verdict = disks::inspect_file(&received.file, format, &limits);
        (received, verdict)
    })
    .await
    .map_err(Error::internal)?;
    match verdict {
        Ok(inspection) => Ok((received, Some(inspection.virtual_size_bytes))),
        Err(disks::Error::Refused(_)) if !app.options().require_format_match => Ok((received, None)),
        Err(disks::Error::Refused(refused)) => Err(refusal(&refused)),
        Err(error) => Err(Error::internal(error)),
    }
}

pub fn refusal(refused: &disks::Refused) -> Error {
    Error::bad_request(format!("Image content is not acceptable: {refused}."))
}

/// File first, record second: a record never names a file that is not there.
async fn publish(
    app: &Images,
    image_id: &str,
    guard: &Guard,
    mut received: Received,
    virtual_size_bytes: Option<u64>,
) -> Result<()> {
    let (from, to) = (app.files().staging(image_id, &guard.work_id), app.files().data(image_id));
    let _placing = app.placing().read().await;
    let received = tokio::task::spawn_blocking(move || {
        disks::persist(&received.file, &from, &to).map(|()| {
            received.keep();
            received
        })
    })
    .await
    .map_err(Error::internal)?
    .map_err(receive::write_error)?;
    let (id, work_id, now, staged) = (image_id.to_owned(), guard.work_id.clone(), app.now(), received.staged.clone());
    let active = app.db().write(move |tx| store::activate(tx, &id, &work_id, &staged, virtual_size_bytes, &now)).await;
    let error = match active {
        Ok(true) => return Ok(()),
        Ok(false) => receive::gone(Some(image_id)),
        Err(error) => {
            let error: db::Error = error;
            error.into()
        }
    };
    if let Err(error) = crate::files::remove(&app.files().data(image_id)) {
        tracing::warn!(image.id = image_id, %error, "an unnamed file stays for the reconciler");
    }
    Err(error)
}

/// `GET /v2/images/{id}/file`: the bytes as they were uploaded; 204 when there are none.
pub async fn show(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>, request: Request) -> Result<Response> {
    let image = visible(&app, &ctx, &id).await?;
    allow(&ctx, policy::DOWNLOAD, &image)?;
    match image.status {
        Status::Active => {}
        Status::Deactivated => {
            if !is_admin(&ctx)? {
                return Err(Error::forbidden(
                    "The requested image has been deactivated. Image data download is forbidden.",
                ));
            }
        }
        _ => return Ok(axum::response::IntoResponse::into_response(Reply::no_content())),
    }
    let range = request.headers().get(header::RANGE).map(|value| value.to_str().unwrap_or("?").to_owned());
    download::respond(&app, &image, range.as_deref()).await
}
