//! New images: from a file of the visitor, which passes through to the Image service as it comes, or from an address.

use std::io;

use askama::Template;
use axum::{
    Json,
    body::Body,
    extract::{Multipart, State, multipart::Field},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, future::join, stream};
use http::{HeaderMap, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    format::{LOOK_BYTES, proposed},
    index::FORMATS,
};
use crate::{
    Dashboard,
    api::{Service, answer, encoded},
    failure::{Failure, Result},
    form::{Fields, listed},
    frame::Frame,
    visit::Visit,
};

/// Of everything in the form but the file.
const FIELD_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 64;
/// What is read on after a refusal, so that the browser hears of it before it has sent everything.
const DRAIN_MAX: usize = 16 << 20;
/// The page's own script asks so, and goes on by itself.
const BY_SCRIPT: &str = "x-upload";

#[derive(Template)]
#[template(path = "images/new.html")]
struct Page {
    frame: Frame,
    fields: Fields,
    formats: &'static [&'static str],
    /// From an address instead of a file.
    import: bool,
    /// Whether the cloud downloads by itself.
    can_import: bool,
}

impl Page {
    async fn new(visit: &Visit, fields: Fields, import: bool) -> Result<Self> {
        let frame = visit.frame("/images", visit.words().t("New image"));
        Ok(Self { frame, fields, formats: FORMATS, import, can_import: can_import(visit).await? })
    }
}

#[derive(Deserialize)]
struct Info {
    #[serde(rename = "import-methods")]
    methods: Methods,
}

#[derive(Deserialize)]
struct Methods {
    value: Vec<String>,
}

async fn can_import(visit: &Visit) -> Result<bool> {
    let info: Option<Info> = visit.api.find(Service::Images, "/info/import").await?;
    Ok(info.is_some_and(|info| info.methods.value.iter().any(|method| method == "web-download")))
}

/// `GET /images/new`.
pub(super) async fn form(visit: Visit) -> Result<Response> {
    let fields = Fields::default().with("visibility", "private");
    visit.page(&Page::new(&visit, fields, false).await?)
}

/// `GET /images/import`.
pub(super) async fn import_form(visit: Visit) -> Result<Response> {
    let fields = Fields::default().with("visibility", "private").with("disk_format", "qcow2");
    visit.page(&Page::new(&visit, fields, true).await?)
}

/// A record without bytes, as the form describes it.
async fn record(visit: &Visit, fields: &Fields, format: &str) -> Result<String> {
    if !fields.on("name") {
        return Err(Failure::bad_request(visit.words().t("The image needs a name.")));
    }
    let container = if matches!(format, "ami" | "aki" | "ari") { format } else { "bare" };
    let mut body = json!({
        "name": fields.get("name"), "disk_format": format, "container_format": container,
        "protected": fields.on("protected"), "tags": listed(fields.get("tags")),
        "min_disk": fields.number("min_disk")?.unwrap_or(0), "min_ram": fields.number("min_ram")?.unwrap_or(0),
    });
    for name in ["visibility", "hw_firmware_type"] {
        if fields.on(name) {
            body[name] = Value::from(fields.get(name));
        }
    }
    let made = visit.api.post(Service::Images, "/images", &body).await?;
    made["id"].as_str().map(str::to_owned).ok_or_else(|| Failure::broken("an image without an id"))
}

/// Takes a record away that never got its bytes.
async fn discard(visit: &Visit, id: &str) {
    // It may have been protected by its form.
    let path = format!("/images/{}", encoded(id));
    let kind = [("content-type", "application/openstack-images-v2.1-json-patch")];
    let open = json!([{"op": "replace", "path": "/protected", "value": false}]);
    let opened = visit.api.send_with(http::Method::PATCH, Service::Images, &path, &kind, Some(&open)).await;
    let gone = visit.api.delete(Service::Images, &path).await;
    for failure in [opened.err(), gone.err()].into_iter().flatten() {
        if !failure.is_not_found() {
            tracing::warn!(image.id = id, failure = failure.message, "an image without data was left behind");
        }
    }
}

/// `POST /images/import`.
pub(super) async fn import(visit: Visit, fields: Fields) -> Result<Response> {
    let result = async {
        let format = Some(fields.get("disk_format")).filter(|format| !format.is_empty());
        let id = record(&visit, &fields, format.unwrap_or("qcow2")).await?;
        let body = json!({"method": {"name": "web-download", "uri": fields.get("uri")}});
        match visit.api.post(Service::Images, &format!("/images/{}/import", encoded(&id)), &body).await {
            Ok(_) => Ok(id),
            Err(failure) => {
                discard(&visit, &id).await;
                Err(failure)
            }
        }
    }
    .await;
    match result {
        Ok(id) => {
            let text = visit.words().t("The cloud is downloading the image.");
            visit.done(&format!("/images/{}", encoded(&id)), text).await
        }
        Err(failure) if failure.is_users() => {
            let mut page = Page::new(&visit, fields, true).await?;
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /images/new`: `_csrf` first, `file` last.
pub(super) async fn create(
    visit: Visit,
    State(dashboard): State<Dashboard>,
    headers: HeaderMap,
    multipart: Multipart,
) -> Result<Response> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // A task of its own: a browser that goes away must not take the cleaning up with it.
    let task = tokio::spawn(async move {
        let mut fields = Fields::default();
        let result = receive(&visit, &dashboard, multipart, length, &mut fields).await;
        let by_script = headers.contains_key(BY_SCRIPT);
        match result {
            Ok(id) => {
                let to = format!("/images/{}", encoded(&id));
                let response = visit.done(&to, visit.words().t("The image is uploaded.")).await?;
                Ok(if by_script { Json(json!({"to": to})).into_response() } else { response })
            }
            Err(failure) if failure.is_users() && by_script => {
                Ok((failure.status, Json(json!({"error": failure.line()}))).into_response())
            }
            // A form of another session is not shown again: what it would do is not this visitor's wish.
            Err(failure) if failure.is_users() && fields.on("name") => {
                let mut page = Page::new(&visit, fields, false).await?;
                page.frame = page.frame.with_problem(&failure);
                visit.again(&failure, &page)
            }
            Err(failure) => Err(failure),
        }
    });
    task.await.map_err(Failure::internal)?
}

async fn receive(
    visit: &Visit,
    dashboard: &Dashboard,
    mut multipart: Multipart,
    length: Option<u64>,
    fields: &mut Fields,
) -> Result<String> {
    let mut checked = false;
    while let Some(field) = multipart.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        if !checked {
            let token = if name == "_csrf" { Some(small(field).await?) } else { None };
            visit.check_csrf(token.as_deref())?;
            checked = true;
        } else if name == "file" {
            return data(visit, dashboard, field, length, fields).await;
        } else if fields.len() < FIELDS_MAX {
            fields.push(name, small(field).await?);
        } else {
            return Err(Failure::bad_request("The form has too many fields."));
        }
    }
    if !checked {
        visit.check_csrf(None)?;
    }
    Err(Failure::bad_request(visit.words().t("Choose a file.")))
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::bad_request(format!("The form ended early: {error}."))
}

async fn small(mut field: Field<'_>) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
        if bytes.len() + chunk.len() > FIELD_MAX {
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "A field of the form is larger than 64 KiB."));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Failure::bad_request("A field of the form is no text."))
}

/// The file: looked at, then passed on.
async fn data(
    visit: &Visit,
    dashboard: &Dashboard,
    mut field: Field<'_>,
    length: Option<u64>,
    fields: &mut Fields,
) -> Result<String> {
    let name = field.file_name().unwrap_or_default().to_owned();
    let (mut start, mut chunks) = (Vec::new(), Vec::new());
    while start.len() < LOOK_BYTES {
        let Some(chunk) = field.chunk().await.map_err(unreadable)? else { break };
        start.extend_from_slice(&chunk[..chunk.len().min(LOOK_BYTES - start.len())]);
        chunks.push(chunk);
    }
    if start.is_empty() {
        let words = visit.words();
        let text = if name.is_empty() { words.t("Choose a file.") } else { words.t("The file is empty.") };
        return Err(Failure::bad_request(text));
    }
    let chosen = fields.get("disk_format");
    let format = if chosen.is_empty() { proposed(&start, &name) } else { chosen };
    let id = match record(visit, fields, format).await {
        Ok(id) => id,
        Err(failure) => {
            drain(&mut field).await;
            return Err(failure);
        }
    };

    let underway = dashboard.uploads.begin(&id, length);
    let (sender, receiver) = mpsc::channel::<io::Result<axum::body::Bytes>>(8);
    let from_browser = stream::unfold(receiver, |mut receiver| async {
        let item = receiver.recv().await?;
        Some((item, receiver))
    });
    let early = stream::iter(chunks.into_iter().map(Ok));
    underway.progress.add(start.len());
    let request = Request::put(format!("/image/v2/images/{}/file", encoded(&id)))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Body::from_stream(early.chain(from_browser)))
        .map_err(Failure::internal)?;
    let pump = async {
        loop {
            match field.chunk().await {
                Ok(Some(chunk)) => {
                    underway.progress.add(chunk.len());
                    if sender.send(Ok(chunk)).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = sender.send(Err(io::Error::other(error.to_string()))).await;
                    break;
                }
            }
        }
        drop(sender);
        drain(&mut field).await;
    };
    let saved = async { answer(visit.api.raw(request).await?).await };
    let (saved, ()) = join(saved, pump).await;
    match saved {
        Ok(_) => Ok(id),
        Err(failure) => {
            discard(visit, &id).await;
            Err(failure)
        }
    }
}

async fn drain(field: &mut Field<'_>) {
    let mut left = DRAIN_MAX;
    while let Ok(Some(chunk)) = field.chunk().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}
