//! Imports as tasks: those of one image, and `/v2/tasks` for administrators (API reference, "Tasks").
//!
//! A task is a line of the log of operations. Its id is the image's and the operation's number.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Kind, Params, RawJson, Reply, Result, Rule, rule};
use serde_json::{Map, Value, json};
use tasks::{LogEntry, NewTask, Operation};

use super::handlers::{self, WEB};
use super::operation::Import;
use crate::app::Images;
use crate::image::handlers::{new_image, viewer, visible};
use crate::image::{model, store};
use crate::policy::ADMIN;

/// What a list looks through: the newest of all imports.
const LOOKED_THROUGH: u32 = 10_000;

pub const ACCESS: Rule = rule(
    "tasks_api_access",
    ADMIN,
    "Who may use the tasks API at all",
    &[("GET", "/v2/tasks"), ("GET", "/v2/tasks/{task_id}"), ("POST", "/v2/tasks")],
);
pub const INDEX: Rule = rule("get_tasks", "rule:default", "List tasks for all images", &[("GET", "/v2/tasks")]);
pub const SHOW: Rule = rule("get_task", "rule:default", "Get an image task", &[("GET", "/v2/tasks/{task_id}")]);
pub const CREATE: Rule = rule("add_task", "rule:default", "Create a task", &[("POST", "/v2/tasks")]);

fn id_of(entry: &LogEntry) -> String {
    format!("{}-{}", entry.resource, entry.generation)
}

fn status_of(entry: &LogEntry) -> &'static str {
    match entry.result.as_deref() {
        None => "processing",
        Some("success") => "success",
        Some(_) => "failure",
    }
}

/// Tasks that `POST /v2/tasks` began have that API's type.
fn type_of(entry: &LogEntry) -> &'static str {
    if entry.action == TASK { "import" } else { "api_image_import" }
}

/// The action of an import that began as a task.
const TASK: &str = "import-task";

/// What lists show of a task.
fn brief(entry: &LogEntry) -> Map<String, Value> {
    let id = id_of(entry);
    Map::from_iter([
        ("id".to_owned(), json!(id)),
        ("type".to_owned(), json!(type_of(entry))),
        ("status".to_owned(), json!(status_of(entry))),
        ("owner".to_owned(), json!(entry.project_id)),
        ("user_id".to_owned(), json!(entry.user_id)),
        ("request_id".to_owned(), json!(entry.request_id)),
        ("image_id".to_owned(), json!(entry.resource)),
        ("created_at".to_owned(), json!(db::clock::seconds(&entry.started_at))),
        ("updated_at".to_owned(), json!(db::clock::seconds(&entry.updated_at))),
        ("expires_at".to_owned(), Value::Null),
        ("self".to_owned(), json!(format!("/v2/tasks/{id}"))),
        ("schema".to_owned(), json!("/v2/schemas/task")),
    ])
}

fn whole(entry: &LogEntry) -> Value {
    let mut view = brief(entry);
    // Where the data came from is not told: a URL may be a secret.
    let method = match entry.action.as_str() {
        TASK => WEB,
        // What imports were called before there were two ways.
        "import" => handlers::DIRECT,
        other => other,
    };
    let input = json!({"image_id": entry.resource, "import_req": {"method": {"name": method}}});
    view.insert("input".to_owned(), input);
    let result = match status_of(entry) {
        "success" => json!({"image_id": entry.resource}),
        _ => Value::Null,
    };
    view.insert("result".to_owned(), result);
    view.insert("message".to_owned(), json!(entry.message.as_deref().unwrap_or_default()));
    Value::Object(view)
}

/// `GET /v2/images/{id}/tasks`: the imports of an image and how they ended.
pub async fn of_image(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let image = visible(&app, &ctx, &id).await?;
    // What others did with a public image is not for everybody.
    let viewer = viewer(&ctx)?;
    if !viewer.is_admin && viewer.project_id.as_ref() != Some(&image.owner) {
        return Ok(Reply::ok(&json!({"tasks": []})));
    }
    let entries =
        app.db().read(move |tx| tasks::list_log(tx, &id)).await.map_err(|error: db::Error| Error::from(error))?;
    Ok(Reply::ok(&json!({"tasks": entries.iter().map(whole).collect::<Vec<_>>()})))
}

/// `GET /v2/tasks`: filters `type`, `status`, `image_id`, `owner`; `limit`, `marker`, `sort_key` (times, `status`, `type`),
/// `sort_dir`.
pub async fn index(State(app): State<Images>, ctx: Ctx, params: Params) -> Result<Reply> {
    let target = rest::target(&[]);
    ctx.allow(ACCESS, &target)?;
    ctx.allow(INDEX, &target)?;
    let limit = match params.get("limit").map(str::parse::<usize>) {
        None => 25,
        Some(Ok(limit)) => limit.min(1000),
        Some(Err(_)) => return Err(Error::bad_request("limit param must be an integer and positive")),
    };
    let entries = app
        .db()
        .read(|tx| tasks::list_log_of_kind(tx, Import::KIND, LOOKED_THROUGH))
        .await
        .map_err(|error: db::Error| Error::from(error))?;
    let wanted = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
    let mut found: Vec<&LogEntry> = entries
        .iter()
        .filter(|entry| {
            wanted("type", type_of(entry))
                && wanted("status", status_of(entry))
                && wanted("image_id", &entry.resource)
                && wanted("owner", entry.project_id.as_deref().unwrap_or_default())
        })
        .collect();
    // They come newest first.
    match params.get("sort_key") {
        None | Some("created_at" | "id") => {}
        Some("updated_at") => found.sort_by(|one, other| other.updated_at.cmp(&one.updated_at)),
        Some("status") => found.sort_by_key(|entry| std::cmp::Reverse(status_of(entry))),
        Some("type") => found.sort_by_key(|entry| std::cmp::Reverse(type_of(entry))),
        Some(other) => return Err(Error::bad_request(format!("Invalid sort_key: {other}"))),
    }
    match params.get("sort_dir") {
        None | Some("desc") => {}
        Some("asc") => found.reverse(),
        Some(other) => return Err(Error::bad_request(format!("Invalid sort direction: {other}"))),
    }
    let begin = match params.get("marker") {
        None => 0,
        Some(marker) => found.iter().position(|entry| id_of(entry) == marker).ok_or_else(|| not_found(marker))? + 1,
    };
    let rest = found.get(begin..).unwrap_or_default();
    let page = rest.get(..limit).unwrap_or(rest);
    let mut first = params.clone();
    first.take("marker");
    let link = |query: String| if query.is_empty() { "/v2/tasks".to_owned() } else { format!("/v2/tasks?{query}") };
    let mut body = json!({
        "tasks": page.iter().map(|entry| Value::Object(brief(entry))).collect::<Vec<_>>(),
        "first": link(first.with(&[])),
        "schema": "/v2/schemas/tasks",
    });
    if let Some(last) = page.last().filter(|_| rest.len() > page.len()) {
        body["next"] = Value::from(link(params.with(&[("marker", &id_of(last))])));
    }
    Ok(Reply::ok(&body))
}

fn not_found(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("Task not found for task_id {id}"))
}

pub async fn show(State(app): State<Images>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let target = rest::target(&[]);
    ctx.allow(ACCESS, &target)?;
    ctx.allow(SHOW, &target)?;
    let (resource, generation) = id.rsplit_once('-').ok_or_else(|| not_found(&id))?;
    let (resource, generation) = (resource.to_owned(), generation.parse::<i64>().map_err(|_| not_found(&id))?);
    let entries =
        app.db().read(move |tx| tasks::list_log(tx, &resource)).await.map_err(|error: db::Error| Error::from(error))?;
    let entry = entries.iter().find(|entry| entry.generation == generation && entry.kind == Import::KIND);
    Ok(Reply::ok(&whole(entry.ok_or_else(|| not_found(&id))?)))
}

/// `POST /v2/tasks`: the older way to import from the web: makes an image of `image_properties` and fetches its data.
pub async fn create(State(app): State<Images>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(ACCESS, &rest::target(&[]))?;
    ctx.allow(CREATE, &rest::target(&[]))?;
    let kind = body["type"].as_str().ok_or_else(|| Error::bad_request("Task type is required."))?;
    if kind != "import" {
        return Err(Error::bad_request(format!("Invalid type of task: {kind}. Only import can be asked for.")));
    }
    let input = &body["input"];
    let field = |name: &str| {
        let missing = || Error::bad_request(format!("Input does not contain '{name}' field"));
        input.get(name).filter(|value| !value.is_null()).ok_or_else(missing)
    };
    let text =
        |name: &str| field(name)?.as_str().ok_or_else(|| Error::bad_request(format!("'{name}' must be a string")));
    let (uri, _format) = (text("import_from")?, text("import_from_format")?);
    let properties = field("image_properties")?
        .as_object()
        .ok_or_else(|| Error::bad_request("'image_properties' must be an object"))?;
    let image = new_image(&ctx, &app, properties)?;
    image.formats()?;
    let import = handlers::download(&app, uri)?;
    let (asked, now) = (ctx.clone(), app.now());
    let entry = app
        .db()
        .write(move |tx| {
            store::insert(tx, &image)?;
            let Import::Download { upload_id, .. } = &import else { return Err(Error::internal("not a download")) };
            store::begin_upload(tx, &image.id, model::Status::Importing, upload_id, &now)?;
            store::mark_import(tx, &image.id, crate::image::views::STORE, "")?;
            let new = NewTask {
                resource: &image.id,
                action: TASK,
                request_id: asked.request_id(),
                user_id: asked.user_id(),
                project_id: Some(&image.owner),
                now: &now,
            };
            tasks::start(tx, &new, &import).map_err(handlers::busy)?;
            let entries = tasks::list_log(tx, &image.id)?;
            entries.into_iter().next().ok_or_else(|| Error::internal("a task without a line in the log"))
        })
        .await?;
    let location = ctx.url(&format!("/v2/tasks/{}", id_of(&entry)));
    Ok(Reply::created(&whole(&entry)).with_header(http::header::LOCATION, &location))
}
