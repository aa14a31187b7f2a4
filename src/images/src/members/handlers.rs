//! The owner shares and unshares; the member accepts or rejects. Each sees only what concerns it.

use ::policy::Target;
use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Reply, Result};
use serde::Deserialize;
use serde_json::Value;

use super::store::{self, Member};
use super::{policy, views};
use crate::app::Images;
use crate::image::handlers::viewer;
use crate::image::model::{Image, Visibility};
use crate::image::store::{self as image_store, Viewer};
use crate::policy::{allow, target};

const MEMBERS_MAX: i64 = 128;

#[derive(Debug, Deserialize)]
pub struct NewMember {
    member: String,
}

#[derive(Debug, Deserialize)]
pub struct NewStatus {
    status: String,
}

fn not_found(image_id: &str, member: &str) -> Error {
    Error::new(Kind::NotFound, format!("{member} not found in the member list of the image {image_id}."))
}

fn check_shared(image: &Image) -> Result<()> {
    match image.visibility {
        Visibility::Shared => Ok(()),
        _ => Err(Error::forbidden("Only shared images have members.")),
    }
}

/// The target of a rule about one member.
fn member_target(image: &Image, member: &str) -> Target {
    let mut target = target(image);
    target.insert("member_id".to_owned(), Value::from(member));
    target
}

/// Whether the caller manages the image, and so sees all its members.
fn manages(viewer: &Viewer, image: &Image) -> bool {
    viewer.is_admin || viewer.project_id.as_ref() == Some(&image.owner)
}

pub async fn index(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let members = app
        .db()
        .read(move |tx| {
            let image = image_store::get_visible(tx, &viewer, &id)?;
            check_shared(&image)?;
            ctx.allow_or(policy::INDEX, &target(&image), || image_store::not_found(&id))?;
            let mut members = store::list(tx, &id)?;
            if !manages(&viewer, &image) {
                members.retain(|member| Some(&member.member) == viewer.project_id.as_ref());
            }
            Ok::<_, Error>(members)
        })
        .await?;
    Ok(Reply::ok(&views::index(&members)))
}

pub async fn show(State(app): State<Images>, ctx: Ctx, Path((id, member)): Path<(String, String)>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let member = app
        .db()
        .read(move |tx| {
            let image = image_store::get_visible(tx, &viewer, &id)?;
            let found = store::find(tx, &id, &member)?.ok_or_else(|| not_found(&id, &member))?;
            ctx.allow_or(policy::SHOW, &member_target(&image, &member), || not_found(&id, &member))?;
            Ok::<_, Error>(found)
        })
        .await?;
    Ok(Reply::ok(&views::show(&member)))
}

pub async fn create(
    State(app): State<Images>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(body): Body<NewMember>,
) -> Result<Reply> {
    if body.member.is_empty() || body.member.chars().count() > 255 {
        return Err(Error::bad_request("Member can't be empty and has at most 255 characters."));
    }
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let member = app
        .db()
        .write(move |tx| {
            let image = image_store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::CREATE, &image)?;
            check_shared(&image)?;
            if store::count(tx, &id)? >= MEMBERS_MAX {
                return Err(Error::too_large(format!(
                    "The limit has been exceeded on the number of allowed image members for this image. Maximum: {MEMBERS_MAX}"
                )));
            }
            let member = Member {
                image_id: id,
                member: body.member,
                status: "pending".to_owned(),
                created_at: now.clone(),
                updated_at: now,
            };
            store::insert(tx, &member)?;
            Ok::<_, Error>(member)
        })
        .await?;
    Ok(Reply::ok(&views::show(&member)))
}

pub async fn update(
    State(app): State<Images>,
    ctx: Ctx,
    Path((id, member)): Path<(String, String)>,
    Body(body): Body<NewStatus>,
) -> Result<Reply> {
    if !["pending", "accepted", "rejected"].contains(&body.status.as_str()) {
        return Err(Error::bad_request("Status must be \"pending\", \"accepted\" or \"rejected\"."));
    }
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let member = app
        .db()
        .write(move |tx| {
            let image = image_store::get_visible(tx, &viewer, &id)?;
            let mut found = store::find(tx, &id, &member)?.ok_or_else(|| not_found(&id, &member))?;
            // Another member may not even know of this one; the owner knows it, but may not answer for it.
            if !manages(&viewer, &image) && viewer.project_id.as_ref() != Some(&member) {
                ctx.decide();
                return Err(not_found(&id, &member));
            }
            ctx.allow(policy::UPDATE, &member_target(&image, &member))?;
            check_shared(&image)?;
            found.status = body.status;
            found.updated_at = now;
            store::update(tx, &found)?;
            Ok::<_, Error>(found)
        })
        .await?;
    Ok(Reply::ok(&views::show(&member)))
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path((id, member)): Path<(String, String)>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    app.db()
        .write(move |tx| {
            let image = image_store::get_visible(tx, &viewer, &id)?;
            allow(&ctx, policy::DELETE, &image)?;
            check_shared(&image)?;
            match store::delete(tx, &id, &member)? {
                true => Ok(()),
                false => Err(not_found(&id, &member)),
            }
        })
        .await?;
    Ok(Reply::no_content())
}
