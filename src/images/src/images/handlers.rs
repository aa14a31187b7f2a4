//! Index, show, create, update, delete.

use axum::extract::{Path, Request, State};
use rest::{Ctx, Error, Params, RawJson, Reply, Result};
use serde_json::{Map, Value};

use super::model::{self, Image, Visibility};
use super::patch::{self, Change};
use super::store::{self, Viewer};
use super::{list, policy, views};
use crate::app::Images;
use crate::policy::{allow, is_admin, target};

/// Who looks, for the store.
pub fn viewer(ctx: &Ctx) -> Result<Viewer> {
    Ok(Viewer { project_id: ctx.creds()?.project_id().map(str::to_owned), is_admin: is_admin(ctx)? })
}

pub async fn index(State(app): State<Images>, ctx: Ctx, params: Params) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let own = viewer.project_id.clone().unwrap_or_default();
    ctx.allow(policy::INDEX, &rest::target(&[("project_id", &own)]))?;
    let page = list::page(&viewer, params.clone())?;
    let listing = app.db().read(move |tx| list::fetch(&page, tx)).await?;
    Ok(Reply::ok(&views::index(&listing, &params)))
}

pub async fn show(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let image = visible(&app, &ctx, &id).await?;
    Ok(Reply::ok(&views::show(&image)))
}

/// The image if the caller may look at it, else 404.
pub async fn visible(app: &Images, ctx: &Ctx, id: &str) -> Result<Image> {
    let (viewer, wanted) = (viewer(ctx)?, id.to_owned());
    let image = app.db().read(move |tx| store::get_visible(tx, &viewer, &wanted)).await?;
    ctx.allow_or(policy::SHOW, &target(&image), || store::not_found(id))?;
    Ok(image)
}

pub async fn create(State(app): State<Images>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let Value::Object(body) = body else { return Err(Error::bad_request("The request body must be an object.")) };
    let image = new_image(&ctx, &app, &body)?;
    let image = app
        .db()
        .write(move |tx| {
            store::insert(tx, &image)?;
            Ok::<_, Error>(image)
        })
        .await?;
    let methods = crate::imports::handlers::methods(&app).join(",");
    Ok(Reply::created(&views::show(&image))
        .with_header(http::header::LOCATION, &ctx.url(&format!("/v2/images/{}", image.id)))
        .with_header(http::HeaderName::from_static("openstack-image-import-methods"), &methods)
        .with_header(http::HeaderName::from_static("openstack-image-store-ids"), views::STORE))
}

/// The record that the caller asks for, if the caller may have it. It is not kept yet.
pub fn new_image(ctx: &Ctx, app: &Images, body: &Map<String, Value>) -> Result<Image> {
    let admin = is_admin(ctx)?;
    let own = ctx.creds()?.project_id().unwrap_or_default().to_owned();
    let mut image = Image::new(rest::new_uuid(), own.clone(), app.now());
    for (key, value) in body {
        if key == "id" {
            let id = value.as_str().filter(|id| rest::is_uuid(id));
            image.id = id.ok_or_else(|| Error::bad_request("The id of an image is a UUID."))?.to_ascii_lowercase();
            continue;
        }
        model::check_writable(key)?;
        // Clients that know no owner say null.
        if key == "owner" && value.is_null() {
            continue;
        }
        image.assign(key, value)?;
    }
    image.check_quotas()?;
    if image.owner != own && !admin {
        ctx.decide();
        return Err(Error::forbidden(format!("You are not permitted to create images owned by '{}'.", image.owner)));
    }
    ctx.allow(policy::CREATE, &target(&image))?;
    if image.owner.is_empty() {
        return Err(Error::bad_request("The token has no project, so the owner of the image must be given."));
    }
    check_visibility(ctx, &image)?;
    Ok(image)
}

/// Everybody's images are the administrator's to give.
fn check_visibility(ctx: &Ctx, image: &Image) -> Result<()> {
    match image.visibility {
        Visibility::Public => ctx.allow(policy::PUBLICIZE, &target(image)),
        Visibility::Community => ctx.allow(policy::COMMUNITIZE, &target(image)),
        Visibility::Private | Visibility::Shared => Ok(()),
    }
}

pub async fn update(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>, request: Request) -> Result<Reply> {
    let changes = patch::read(request).await?;
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let image = app
        .db()
        .write(move |tx| {
            let mut image = store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::UPDATE, &image)?;
            let before = (image.owner.clone(), image.visibility);
            for change in &changes {
                apply(&ctx, &viewer, &mut image, change)?;
            }
            image.check_quotas()?;
            if image.visibility != before.1 {
                check_visibility(&ctx, &image)?;
            }
            if !changes.is_empty() {
                image.tags.sort_unstable();
                image.tags.dedup();
                image.updated_at = now;
                store::update(tx, &image)?;
            }
            Ok::<_, Error>(image)
        })
        .await?;
    Ok(Reply::ok(&views::show(&image)))
}

fn apply(ctx: &Ctx, viewer: &Viewer, image: &mut Image, change: &Change) -> Result<()> {
    if change.key == "owner" && !viewer.is_admin {
        ctx.decide();
        return Err(Error::forbidden("Owner can't be updated by non admin."));
    }
    patch::apply(image, change)
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let (viewer, now, inner) = (viewer(&ctx)?, app.now(), app.clone());
    app.db()
        .write(move |tx| {
            let image = store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::DELETE, &image)?;
            if image.protected {
                return Err(Error::forbidden(format!("Image {id} is protected and cannot be deleted.")));
            }
            store::delete(tx, &id, &now)?;
            // The file goes by the reconciler: once the record is gone nothing can find it any more.
            tx.after_commit(move || {
                inner.live().cancel_image(&id);
                inner.wake();
            });
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}

pub async fn no_id(ctx: Ctx) -> Result<Reply> {
    let own = ctx.creds()?.project_id().unwrap_or_default().to_owned();
    ctx.allow(policy::DELETE, &rest::target(&[("project_id", &own)]))?;
    Err(Error::no_such_route())
}
