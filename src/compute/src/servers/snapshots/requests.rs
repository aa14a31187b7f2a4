//! `createImage` and `createBackup`. Compute API reference, "Create Image (createImage Action)" and "Create Server Back Up
//! (createBackup Action)".

use std::collections::BTreeMap;

use http::{StatusCode, header};
use rest::{Ctx, Error, Reply, Result, Rule};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    image::{self, Maker, Wanted},
    operation::{Rotate, Snapshot, Work},
};
use crate::{
    App,
    flavors::model::check_name,
    limits,
    servers::{
        begin::Wish,
        handlers::visible,
        model::VmState::{self, Active, Paused, Stopped, Suspended},
        policy, request,
    },
    sisters,
};

/// States in which a server's disk can be had.
pub(crate) const STATES: &[VmState] = &[Active, Stopped, Paused, Suspended];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateImage {
    name: String,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBackup {
    name: String,
    backup_type: String,
    rotation: Value,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

pub(crate) async fn create_image(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let body: CreateImage = request::fields("createImage", argument)?;
    let image_id = make(
        app,
        ctx,
        id,
        Request {
            action: "createImage",
            rule: policy::CREATE_IMAGE,
            task_state: "image_snapshot_pending",
            name: check_name("name", &body.name)?,
            metadata: request::metadata(body.metadata)?,
            backup: None,
        },
    )
    .await?;
    Ok(answer(ctx, &image_id, true))
}

pub(crate) async fn create_backup(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let body: CreateBackup = request::fields("createBackup", argument)?;
    let keep = match &body.rotation {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let keep = keep.and_then(|keep| u32::try_from(keep).ok()).ok_or_else(|| {
        Error::bad_request("Invalid input for field/attribute rotation: it must be a number of backups, 0 or more.")
    })?;
    if body.backup_type.chars().count() > 255 {
        return Err(Error::bad_request(
            "Invalid input for field/attribute backup_type: it has more than 255 characters.",
        ));
    }
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let image_id = make(
        app,
        ctx,
        id,
        Request {
            action: "createBackup",
            rule: policy::CREATE_BACKUP,
            task_state: "image_backup",
            name: check_name("name", &body.name)?,
            metadata: request::metadata(body.metadata)?,
            backup: Some((body.backup_type, keep)),
        },
    )
    .await?;
    // A backup that is not kept has no address.
    Ok(answer(ctx, &image_id, keep > 0))
}

struct Request {
    action: &'static str,
    rule: Rule,
    task_state: &'static str,
    name: String,
    metadata: BTreeMap<String, String>,
    /// Type, and how many of it are kept.
    backup: Option<(String, usize)>,
}

/// The image's record and the operation that fills it, in one transaction. Answers the image's id.
async fn make(app: &App, ctx: &Ctx, id: &str, request: Request) -> Result<String> {
    let server = visible(app, ctx, id, request.rule).await?;
    let wish = Wish::new(app, ctx, &server, request.action)?;
    let owner = ctx.creds()?.project_id().unwrap_or(&server.project_id).to_owned();
    let mut kind = vec![("image_type", if request.backup.is_some() { "backup" } else { "snapshot" }.to_owned())];
    if let Some((backup_type, _)) = &request.backup {
        kind.push(("backup_type", backup_type.clone()));
    }
    let rotate = request.backup.map(|(backup_type, keep)| Rotate { owner: owner.clone(), backup_type, keep });
    let wanted = Wanted {
        name: request.name,
        owner: owner.clone(),
        kind,
        metadata: request.metadata,
        maker: Maker::of(ctx.creds()?),
    };
    let (app, task_state) = (app.clone(), request.task_state);
    app.db
        .clone()
        .write(move |tx| {
            let server = wish.server(tx, STATES)?;
            let quotas = limits::store::of_project(tx, &owner, &app.options.quotas)?;
            limits::check_metadata(&quotas, wanted.metadata.len())
                .map_err(|_| Error::over_quota("Image metadata limit exceeded"))?;
            let image_id = image::insert(tx, &app, &server, &wanted)?;
            let work = Work { image_id: image_id.clone(), rotate };
            wish.start(tx, task_state, &Snapshot::Begin(work))?;
            Ok(image_id)
        })
        .await
}

/// In the body since 2.45; its address before.
fn answer(ctx: &Ctx, image_id: &str, address: bool) -> Reply {
    if ctx.since(2, 45) {
        return Reply::accepted(&json!({"image_id": image_id}));
    }
    let reply = Reply::empty(StatusCode::ACCEPTED);
    if address { reply.with_header(header::LOCATION, &image_url(ctx.base_url(), image_id)) } else { reply }
}

/// Where Images has it.
fn image_url(base_url: &str, image_id: &str) -> String {
    format!("{}/v2/images/{image_id}", sisters::root(base_url, images::INFO.prefix, images::INFO.port))
}

#[cfg(test)]
mod tests {
    use super::image_url;

    #[test]
    fn an_image_is_found_where_images_is() {
        assert_eq!(image_url("https://cloud.test/compute", "x"), "https://cloud.test/image/v2/images/x");
        assert_eq!(image_url("https://cloud.test:8774", "x"), "https://cloud.test:9292/v2/images/x");
    }
}
