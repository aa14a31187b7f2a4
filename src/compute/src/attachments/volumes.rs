//! `/servers/{id}/os-volume_attachments`.

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, is_uuid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::policy;
use crate::{
    App,
    flavors::handlers::unexpected,
    servers::{
        handlers::{refuse_locked, visible},
        request::bad,
    },
    versions,
};

pub(crate) async fn index(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    visible(&app, &ctx, &id, policy::VOLUMES).await?;
    for name in ["limit", "offset"] {
        if params.take(name).is_some_and(|text| text.parse::<u64>().is_err()) {
            return Err(bad(name, "it must be a number, 0 or more"));
        }
    }
    versions::finish(&ctx, params)?;
    Ok(Reply::ok(&json!({"volumeAttachments": []})))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, volume)): Path<(String, String)>,
) -> Result<Reply> {
    visible(&app, &ctx, &id, policy::VOLUMES_SHOW).await?;
    Err(not_attached(&id, &volume))
}

/// Both requests, as far as what is wrong with them can be told without volumes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(rename = "volumeAttachment")]
    attachment: Wanted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(rename = "volumeId")]
    volume_id: String,
    device: Option<String>,
    tag: Option<String>,
    delete_on_termination: Option<Value>,
    id: Option<Value>,
    #[serde(rename = "serverId")]
    server_id: Option<Value>,
}

impl Wanted {
    fn check(&self, ctx: &Ctx, update: bool) -> Result<()> {
        if !is_uuid(&self.volume_id) {
            return Err(bad("volumeId", "it is no UUID"));
        }
        let changes = update && ctx.since(2, 85);
        for (present, field, known) in [
            (self.device.is_some(), "device", !update || changes),
            (self.tag.is_some(), "tag", if update { changes } else { ctx.since(2, 49) }),
            (
                self.delete_on_termination.is_some(),
                "delete_on_termination",
                if update { changes } else { ctx.since(2, 79) },
            ),
            (self.id.is_some(), "id", changes),
            (self.server_id.is_some(), "serverId", changes),
        ] {
            if present && !known {
                return Err(unexpected(field));
            }
        }
        match &self.delete_on_termination {
            None | Some(Value::Bool(_)) => {}
            Some(Value::String(text)) if rest::parse_bool(text).is_some() => {}
            Some(_) => return Err(bad("delete_on_termination", "it must be a boolean")),
        }
        if let Some(tag) = &self.tag {
            crate::servers::tags::check_device_tag(tag)?;
        }
        Ok(())
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(Request { attachment }): Body<Request>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::VOLUMES_CREATE).await?;
    attachment.check(&ctx, false)?;
    refuse_locked(&ctx, &server)?;
    Err(Error::new(
        Kind::NotFound,
        format!("Volume {} could not be found: this cloud has no volumes.", attachment.volume_id),
    ))
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, volume)): Path<(String, String)>,
    Body(Request { attachment }): Body<Request>,
) -> Result<Reply> {
    visible(&app, &ctx, &id, policy::VOLUMES_UPDATE).await?;
    attachment.check(&ctx, true)?;
    Err(not_attached(&id, &volume))
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, volume)): Path<(String, String)>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::VOLUMES_DELETE).await?;
    refuse_locked(&ctx, &server)?;
    Err(not_attached(&id, &volume))
}

fn not_attached(id: &str, volume: &str) -> Error {
    Error::new(Kind::NotFound, format!("Instance {id} is not attached to volume {volume}: this cloud has no volumes."))
}
