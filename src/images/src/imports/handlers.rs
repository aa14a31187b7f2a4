//! `PUT /stage`, `POST /import`, `GET /tasks`.

use axum::extract::{Path, Request, State};
use http::StatusCode;
use rest::{Body, Ctx, Error, Reply, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tasks::{Busy, NewTask};

use super::operation::Import;
use crate::app::Images;
use crate::file::handlers::{Transfer, begin, revert};
use crate::file::{policy, receive};
use crate::image::handlers::{viewer, visible};
use crate::image::model::Status;
use crate::image::{store, views};
use crate::policy::target;

pub const METHOD: &str = "glance-direct";

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
}

/// `POST /v2/images/{id}/import`: 202 means that the staged data will become the image's, or be refused.
pub async fn create(
    State(app): State<Images>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(body): Body<NewImport>,
) -> Result<Reply> {
    if body.method.name != METHOD {
        return Err(Error::bad_request(format!("Unknown import method name '{}'.", body.method.name)));
    }
    if body.all_stores && body.stores.is_some() {
        return Err(Error::bad_request(
            "All_stores parameter can't be used with x-image-meta-store header nor stores parameter",
        ));
    }
    if let Some(unknown) = body.stores.iter().flatten().find(|store| *store != views::STORE) {
        return Err(Error::conflict(format!("Store {unknown:?} is not one of this cloud's.")));
    }
    // With one store, either answer comes to the same.
    let _ = body.all_stores_must_succeed;
    let (viewer, now) = (viewer(&ctx)?, app.now());
    app.db()
        .write(move |tx| {
            let image = store::get_visible(tx, &viewer, &id)?;
            ctx.allow(policy::UPLOAD, &target(&image))?;
            let (Status::Uploading, Some(staged), Some(upload_id)) =
                (image.status, image.staged.clone(), image.upload_id.clone())
            else {
                return Err(Error::conflict(format!(
                    "Only images with status 'uploading' and complete data can be imported: this one is '{}'.",
                    image.status.as_str()
                )));
            };
            store::update_status(tx, &id, Status::Uploading, Status::Importing, &now)?;
            let new = NewTask {
                resource: &id,
                action: "import",
                request_id: ctx.request_id(),
                user_id: ctx.user_id(),
                project_id: Some(&image.owner),
                now: &now,
            };
            match tasks::start(tx, &new, &Import::Publish { upload_id, staged }) {
                Ok(_) => Ok(()),
                Err(Busy::Busy(_)) => Err(Error::conflict("The image is being imported already.")),
                Err(Busy::Db(error)) => Err(error.into()),
            }
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// `GET /v2/images/{id}/tasks`: the imports of an image and how they ended.
pub async fn tasks(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let image = visible(&app, &ctx, &id).await?;
    // What others did with a public image is not for everybody.
    let viewer = viewer(&ctx)?;
    if !viewer.is_admin && viewer.project_id.as_ref() != Some(&image.owner) {
        return Ok(Reply::ok(&json!({"tasks": []})));
    }
    let entries =
        app.db().read(move |tx| tasks::list_log(tx, &id)).await.map_err(|error: db::Error| Error::from(error))?;
    let tasks: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let status = match entry.result.as_deref() {
                None => "processing",
                Some("success") => "success",
                Some(_) => "failure",
            };
            json!({
                "id": format!("{}-{}", entry.resource, entry.generation),
                "type": "api_image_import",
                "status": status,
                "owner": entry.project_id,
                "user_id": entry.user_id,
                "request_id": entry.request_id,
                "image_id": entry.resource,
                "input": {"image_id": entry.resource, "import_req": {"method": {"name": METHOD}}},
                "result": null,
                "message": entry.message.as_deref().unwrap_or_default(),
                "created_at": db::clock::seconds(&entry.started_at),
                "updated_at": db::clock::seconds(&entry.updated_at),
                "expires_at": null,
                "self": format!("/v2/tasks/{}-{}", entry.resource, entry.generation),
                "schema": "/v2/schemas/task",
            })
        })
        .collect();
    Ok(Reply::ok(&json!({"tasks": tasks})))
}
