//! `/servers/{id}/do/<verb>`: verbs that need words, or a second thought. And `/servers/{id}/edit`: its name, description,
//! tags and metadata.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::Path, response::Response};
use serde_json::{Map, Value, json};

use super::{
    actions::named,
    choices::{self, Flavor, Image},
    detail::Head,
    model::Server,
    quota::{self, Gauge},
    verbs::{How, Verb},
};
use crate::{
    api::{Service, encoded},
    echo::{Command, Echo, pair},
    failure::{Failure, Result},
    form::{Fields, WithFiles},
    frame::Frame,
    visit::Visit,
    words::Words,
};

#[derive(Template)]
#[template(path = "servers/verb.html")]
struct Page {
    frame: Frame,
    server: Server,
    verb: Verb,
    /// Why it cannot be done, if it cannot.
    why: Option<String>,
    fields: Fields,
    images: Vec<Image>,
    flavors: Vec<Flavor>,
    /// Of the quota, with what is chosen.
    gauges: Vec<Gauge>,
    echo: Echo,
}

impl Page {
    /// A field as it was typed, or as it is suggested.
    fn value<'a>(&'a self, name: &str, suggested: &'a str) -> &'a str {
        if self.fields.is_empty() { suggested } else { self.fields.get(name) }
    }
}

fn find(name: &str) -> Result<Verb> {
    let page = |verb: &Verb| verb.how == How::Page;
    Verb::find(name).filter(page).ok_or_else(|| Failure::not_found("There is no such page."))
}

async fn page(visit: &Visit, head: Head, verb: Verb, fields: Fields, frame: Frame) -> Result<Page> {
    let (server, words) = (head.server, visit.words());
    let images = match verb.name {
        "rebuild" | "rescue" => choices::images(visit).await?,
        _ => Vec::new(),
    };
    let mut gauges = Vec::new();
    let flavors = if verb.name == "resize" {
        let all = choices::flavors(visit).await?;
        if visit.session()?.project_id() == Some(&server.tenant_id) {
            gauges = quota::gauges(words, &quota::limits(&visit.api).await?, quota::Size::default(), 0);
        }
        all.into_iter().filter(|flavor| flavor.name != server.flavor.original_name).collect()
    } else {
        Vec::new()
    };
    let why = verb.why_not(words, &server, head.may);
    let echo = Echo::command(&command(verb, &server, &fields));
    Ok(Page { frame, server, verb, why, fields, images, flavors, gauges, echo })
}

fn title(words: Words, verb: Verb, server: &Server) -> String {
    words.fill("{}: {}", &[&words.t(verb.label), &server.name])
}

/// The same for `openstack`. Passwords are asked for by it, and never stand in a command.
fn command(verb: Verb, server: &Server, fields: &Fields) -> Command {
    let field = |name: &str, else_: &str| if fields.on(name) { fields.get(name).to_owned() } else { else_.to_owned() };
    let command = Command::new(verb.command);
    let command = match verb.name {
        "snapshot" => command.option("--name", &field("name", &server.name)),
        "backup" => command
            .option("--name", &field("name", &server.name))
            .option("--type", &field("type", "daily"))
            .option("--rotate", &field("rotation", "7")),
        "resize" => command.option("--flavor", &field("flavor", "FLAVOR")),
        "rebuild" => command.option_if("--image", fields.get("image")),
        "rescue" => command.option_if("--image", fields.get("image")),
        "lock" => command.option_if("--reason", fields.get("reason")),
        "reset-state" => {
            return Command::new("server set").option("--state", &field("state", "active")).argument(&server.id);
        }
        _ => command,
    };
    command.argument(&server.id)
}

/// `GET /servers/{id}/do/{verb}`.
pub(super) async fn show(visit: Visit, Path((id, verb)): Path<(String, String)>) -> Result<Response> {
    let verb = find(&verb)?;
    let head = Head::of(&visit, &id, "").await?;
    let frame = visit.frame("/servers", title(visit.words(), verb, &head.server));
    visit.page(&page(&visit, head, verb, Fields::default(), frame).await?)
}

/// `POST /servers/{id}/do/{verb}`.
pub(super) async fn submit(
    visit: Visit,
    Path((id, verb)): Path<(String, String)>,
    WithFiles(fields): WithFiles,
) -> Result<Response> {
    let verb = find(&verb)?;
    let head = Head::of(&visit, &id, "").await?;
    match done(&visit, verb, &head.server, &fields).await {
        Ok(text) if verb.name == "delete" => visit.done("/servers", text).await,
        Ok(text) => visit.done(&format!("/servers/{}", encoded(&id)), text).await,
        Err(failure) if failure.is_users() => {
            let failure = Failure { message: named(&failure, &head.server), ..failure };
            let frame = visit.frame("/servers", title(visit.words(), verb, &head.server)).with_problem(&failure);
            visit.again(&failure, &page(&visit, head, verb, fields, frame).await?)
        }
        Err(failure) => Err(failure),
    }
}

async fn act(visit: &Visit, server: &Server, action: &str, argument: Value) -> Result<Value> {
    let path = format!("/servers/{}/action", encoded(&server.id));
    visit.api.post(Service::Compute, &path, &json!({ action: argument })).await
}

/// Does it, and says that it is done.
async fn done(visit: &Visit, verb: Verb, server: &Server, fields: &Fields) -> Result<String> {
    let words = visit.words();
    let wrong = |text: &'static str| Err(Failure::bad_request(words.t(text)));
    match verb.name {
        "snapshot" => {
            act(visit, server, "createImage", json!({"name": fields.get("name")})).await?;
            Ok(words.fill("The image {} is being made.", &[&fields.get("name")]))
        }
        "backup" => {
            let argument = json!({
                "name": fields.get("name"), "backup_type": fields.get("type"), "rotation": fields.get("rotation"),
            });
            act(visit, server, "createBackup", argument).await?;
            Ok(words.fill("The backup {} is being made.", &[&fields.get("name")]))
        }
        "resize" => {
            act(visit, server, "resize", json!({"flavorRef": fields.get("flavor")})).await?;
            Ok(words.t("The server is being resized. Look at it then, and confirm or revert it.").to_owned())
        }
        "rebuild" => {
            if !fields.on("sure") {
                return wrong(words.t("Mark that you know that the disk is overwritten."));
            }
            act(visit, server, "rebuild", json!({"imageRef": fields.get("image")})).await?;
            Ok(words.t("The server is being rebuilt.").to_owned())
        }
        "rescue" => {
            let mut argument = json!({});
            if fields.on("image") {
                argument["rescue_image_ref"] = json!(fields.get("image"));
            }
            let answer = act(visit, server, "rescue", argument).await?;
            let password = answer["adminPass"].as_str().unwrap_or_default();
            Ok(words.fill("The server starts into rescue. The password, shown this once: {}", &[&password]))
        }
        "password" => {
            if fields.raw("password").is_empty() || fields.raw("password") != fields.raw("again") {
                return wrong(words.t("Type the same password twice."));
            }
            act(visit, server, "changePassword", json!({"adminPass": fields.raw("password")})).await?;
            Ok(words.t("The password is changed.").to_owned())
        }
        "lock" => {
            let reason = fields.get("reason");
            act(visit, server, "lock", if reason.is_empty() { Value::Null } else { json!({"locked_reason": reason}) })
                .await?;
            Ok(words.t("The server is locked.").to_owned())
        }
        "migrate" => {
            act(visit, server, "migrate", Value::Null).await?;
            Ok(words.t("The server is being moved.").to_owned())
        }
        "reset-state" => {
            act(visit, server, "os-resetState", json!({"state": fields.get("state")})).await?;
            Ok(words.t("The state is set.").to_owned())
        }
        "delete" => {
            visit.api.delete(Service::Compute, &format!("/servers/{}", encoded(&server.id))).await?;
            Ok(words.fill("The server {} is being deleted.", &[&server.name]))
        }
        _ => Err(Failure::not_found("There is no such page.")),
    }
}

#[derive(Template)]
#[template(path = "servers/edit.html")]
struct Edit {
    frame: Frame,
    server: Server,
    name: String,
    description: String,
    tags: String,
    metadata: Vec<(String, String)>,
    echo: Echo,
}

fn edit(visit: &Visit, head: Head, typed: Option<&Fields>, problem: Option<&Failure>) -> Edit {
    let server = head.server;
    let mut frame = visit.frame("/servers", visit.words().fill("Edit {}", &[&server.name]));
    if let Some(problem) = problem {
        frame = frame.with_problem(problem);
    }
    let (name, description, tags, mut metadata) = match typed {
        Some(fields) => (
            fields.get("name").to_owned(),
            fields.get("description").to_owned(),
            fields.get("tags").to_owned(),
            fields.table("key_of", "value_of"),
        ),
        None => (
            server.name.clone(),
            server.description.clone().unwrap_or_default(),
            server.tags.join(", "),
            server.metadata.clone().into_iter().collect(),
        ),
    };
    let mut command = Command::new("server set").option_if("--name", &name).option_if("--description", &description);
    for (key, value) in &metadata {
        command = command.option("--property", &pair(key, value));
    }
    command = tags_of(&tags).into_iter().fold(command, |command, tag| command.option("--tag", tag));
    let echo = Echo::command(&command.argument(&server.id));
    metadata.extend(std::iter::repeat_n((String::new(), String::new()), 3));
    Edit { frame, server, name, description, tags, metadata, echo }
}

fn tags_of(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect()
}

/// `GET /servers/{id}/edit`.
pub(super) async fn show_edit(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let head = Head::of(&visit, &id, "").await?;
    visit.page(&edit(&visit, head, None, None))
}

/// `POST /servers/{id}/edit`: sends what is other than it was.
pub(super) async fn save_edit(visit: Visit, Path(id): Path<String>, WithFiles(fields): WithFiles) -> Result<Response> {
    let head = Head::of(&visit, &id, "").await?;
    match save(&visit, &head.server, &fields).await {
        Ok(()) => visit.done(&format!("/servers/{}", encoded(&id)), visit.words().t("The changes are saved.")).await,
        Err(failure) if failure.is_users() => visit.again(&failure, &edit(&visit, head, Some(&fields), Some(&failure))),
        Err(failure) => Err(failure),
    }
}

async fn save(visit: &Visit, server: &Server, fields: &Fields) -> Result<()> {
    let path = format!("/servers/{}", encoded(&server.id));
    let mut change = Map::new();
    if fields.get("name") != server.name {
        change.insert("name".into(), json!(fields.get("name")));
    }
    if fields.get("description") != server.description.as_deref().unwrap_or_default() {
        change.insert("description".into(), json!(Some(fields.get("description")).filter(|text| !text.is_empty())));
    }
    if !change.is_empty() {
        visit.api.put(Service::Compute, &path, &json!({ "server": change })).await?;
    }
    let metadata: BTreeMap<String, String> = fields.table("key_of", "value_of").into_iter().collect();
    if metadata != server.metadata {
        visit.api.put(Service::Compute, &format!("{path}/metadata"), &json!({ "metadata": metadata })).await?;
    }
    let mut tags = tags_of(fields.get("tags"));
    tags.sort_unstable();
    tags.dedup();
    let mut before: Vec<&str> = server.tags.iter().map(String::as_str).collect();
    before.sort_unstable();
    if tags != before {
        visit.api.put(Service::Compute, &format!("{path}/tags"), &json!({ "tags": tags })).await?;
    }
    Ok(())
}
