//! `images` until 2.35, their metadata until 2.38.

use std::collections::BTreeMap;

use ::images::peer::ImageView;
use axum::extract::{Path, State};
use http::StatusCode;
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asker, policy};
use crate::{App, image_info};

fn allow(ctx: &Ctx, rule: rest::Rule) -> Result<()> {
    ctx.allow(rule, &target(&[("project_id", ctx.creds()?.project_id().unwrap_or_default())]))
}

fn missing(error: Error) -> Error {
    if error.kind() == Kind::NotFound { Error::new(Kind::NotFound, "Image not found.") } else { error }
}

/// Compute's word for a state, and how far it is.
fn status(image: &ImageView) -> (&'static str, u8) {
    match image.status {
        "active" => ("ACTIVE", 100),
        "queued" => ("SAVING", 25),
        "saving" | "uploading" | "importing" => ("SAVING", 50),
        _ => ("UNKNOWN", 0),
    }
}

fn links(ctx: &Ctx, image: &ImageView) -> Value {
    let id = &image.id;
    let root = ctx.url("");
    // Images answers beside Compute, on the same host.
    let glance = root
        .strip_suffix("/compute")
        .map_or_else(|| format!("/images/{id}"), |root| format!("{root}/image/v2/images/{id}"));
    json!([
        {"rel": "self", "href": ctx.url(&format!("/v2.1/images/{id}"))},
        {"rel": "bookmark", "href": ctx.url(&format!("/images/{id}"))},
        {"rel": "alternate", "type": "application/vnd.openstack.image", "href": glance},
    ])
}

fn brief(ctx: &Ctx, image: &ImageView) -> Value {
    json!({"id": image.id, "name": image.name, "links": links(ctx, image)})
}

fn full(ctx: &Ctx, image: &ImageView) -> Value {
    let (status, progress) = status(image);
    let mut view = brief(ctx, image);
    view["minRam"] = json!(image.min_ram_mib);
    view["minDisk"] = json!(image.min_disk_gib);
    view["metadata"] = json!(image.properties);
    view["created"] = json!(db::clock::seconds(&image.created_at));
    view["updated"] = json!(db::clock::seconds(&image.updated_at));
    view["status"] = json!(status);
    view["progress"] = json!(progress);
    view["OS-EXT-IMG-SIZE:size"] = json!(image.size_bytes.unwrap_or(0));
    if let Some(id) = image.properties.get("instance_uuid") {
        view["server"] = json!({"id": id, "links": [
            {"rel": "self", "href": ctx.url(&format!("/v2.1/servers/{id}"))},
            {"rel": "bookmark", "href": ctx.url(&format!("/servers/{id}"))},
        ]});
    }
    if let Some(auto) = image.properties.get("auto_disk_config").and_then(|text| rest::parse_bool(text)) {
        view["OS-DCF:diskConfig"] = json!(if auto { "AUTO" } else { "MANUAL" });
    }
    view
}

/// A query in Compute's words, in those of Images. What Images does not know either is the value of a property.
fn translated(params: &Params) -> Result<Params> {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for (name, value) in params.pairs() {
        match name.as_str() {
            "limit" | "marker" | "name" => pairs.push((name, value.clone())),
            "status" => pairs.push((
                "status",
                match value.to_ascii_uppercase().as_str() {
                    "SAVING" => "in:queued,saving,uploading,importing".to_owned(),
                    other => other.to_ascii_lowercase(),
                },
            )),
            "changes-since" => {
                let at = db::clock::parse(value).ok_or_else(|| {
                    Error::bad_request("Invalid value for changes-since: expected a time in ISO 8601.")
                })?;
                pairs.push(("updated_at", format!("gte:{}", db::clock::seconds(&db::clock::text(at)))));
            }
            "minRam" => pairs.push(("min_ram", value.clone())),
            "minDisk" => pairs.push(("min_disk", value.clone())),
            // An id, or a link whose last segment it is.
            "server" => pairs.push(("instance_uuid", value.rsplit('/').next().unwrap_or_default().to_owned())),
            "type" => pairs.push(("image_type", value.clone())),
            other => {
                if let Some(property) = other.strip_prefix("property-") {
                    pairs.push((property, value.clone()));
                }
            }
        }
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Ok(Params::parse(&Params::default().with(&pairs)))
}

async fn list(app: &App, ctx: &Ctx, params: &Params, view: fn(&Ctx, &ImageView) -> Value) -> Result<Reply> {
    allow(ctx, policy::IMAGES)?;
    let (project_id, admin) = asker(ctx)?;
    let query = translated(params)?;
    let (images, more) = app.db.read(move |tx| image_info::list(tx, &project_id, admin, query)).await?;
    let mut body = json!({"images": images.iter().map(|image| view(ctx, image)).collect::<Vec<_>>()});
    if let Some(last) = images.last().filter(|_| more) {
        let next = format!("{}?{}", ctx.url(ctx.path()), params.with(&[("marker", &last.id)]));
        body["images_links"] = json!([{"rel": "next", "href": next}]);
    }
    Ok(Reply::ok(&body))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    list(&app, &ctx, &params, brief).await
}

pub(crate) async fn detail(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    list(&app, &ctx, &params, full).await
}

async fn one(app: &App, ctx: &Ctx, id: String) -> Result<ImageView> {
    allow(ctx, policy::IMAGES_SHOW)?;
    let (project_id, admin) = asker(ctx)?;
    app.db.read(move |tx| image_info::one(tx, &project_id, admin, &id)).await.map_err(missing)
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let image = one(&app, &ctx, id).await?;
    Ok(Reply::ok(&json!({"image": full(&ctx, &image)})))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::IMAGES_DELETE)?;
    let (project_id, admin) = asker(&ctx)?;
    let deleter = app.clone();
    app.db.write(move |tx| image_info::delete(tx, &deleter, &project_id, admin, &id)).await.map_err(missing)?;
    Ok(Reply::no_content())
}

pub(crate) async fn metadata(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let image = one(&app, &ctx, id).await?;
    Ok(Reply::ok(&json!({"metadata": image.properties})))
}

fn no_item() -> Error {
    Error::new(Kind::NotFound, "Metadata item was not found")
}

pub(crate) async fn metadata_show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> Result<Reply> {
    let image = one(&app, &ctx, id).await?;
    let value = image.properties.get(&key).ok_or_else(no_item)?;
    Ok(Reply::ok(&json!({"meta": {key: value}})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetadataRequest {
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemRequest {
    meta: BTreeMap<String, String>,
}

type Properties = BTreeMap<String, String>;

async fn change(
    app: &App,
    ctx: &Ctx,
    id: String,
    change: impl FnOnce(&mut Properties) -> Result<()> + Send + 'static,
) -> Result<Properties> {
    allow(ctx, policy::IMAGES_METADATA)?;
    let (project_id, admin) = asker(ctx)?;
    let changer = app.clone();
    let changed =
        app.db.write(move |tx| image_info::change_properties(tx, &changer, &project_id, admin, &id, change)).await;
    changed.map_err(|error| match error.kind() {
        Kind::NotFound if error.public() == no_item().public() => error,
        Kind::TooLarge => Error::over_quota(error.public().to_owned()),
        _ => missing(error),
    })
}

pub(crate) async fn metadata_create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(MetadataRequest { metadata }): Body<MetadataRequest>,
) -> Result<Reply> {
    let add = move |properties: &mut Properties| {
        properties.extend(metadata);
        Ok(())
    };
    Ok(Reply::ok(&json!({"metadata": change(&app, &ctx, id, add).await?})))
}

pub(crate) async fn metadata_replace(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(MetadataRequest { metadata }): Body<MetadataRequest>,
) -> Result<Reply> {
    let replace = move |properties: &mut Properties| {
        *properties = metadata;
        Ok(())
    };
    Ok(Reply::ok(&json!({"metadata": change(&app, &ctx, id, replace).await?})))
}

pub(crate) async fn metadata_update(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
    Body(ItemRequest { meta }): Body<ItemRequest>,
) -> Result<Reply> {
    let asked = meta.clone();
    let set = move |properties: &mut Properties| {
        if asked.len() != 1 || !asked.contains_key(&key) {
            return Err(Error::bad_request("Request body and URI mismatch"));
        }
        properties.extend(asked);
        Ok(())
    };
    change(&app, &ctx, id, set).await?;
    Ok(Reply::ok(&json!({"meta": meta})))
}

pub(crate) async fn metadata_delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> Result<Reply> {
    let remove = move |properties: &mut Properties| properties.remove(&key).map(|_| ()).ok_or_else(no_item);
    change(&app, &ctx, id, remove).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
