//! The forms that make and change projects, users, groups, roles and domains.

use askama::Template;
use axum::{extract::Path, response::Response};
use serde_json::{Map, Value, json};

use super::{Thing, find_things, get_thing, kinds::Kind};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::{Fields, listed},
    frame::Frame,
    session::Scope,
    visit::Visit,
};

/// What holds for a user where the rules of passwords and logins say otherwise.
const OPTIONS: &[(&str, &str)] = &[
    ("ignore_change_password_upon_first_use", t("Need not change a password that somebody else has set")),
    ("ignore_password_expiry", t("The password never expires")),
    ("ignore_lockout_failure_attempts", t("Wrong passwords never lock the user out")),
    ("ignore_user_inactivity", t("Stays enabled however long it is not used")),
    ("lock_password", t("Cannot change its own password")),
    ("multi_factor_auth_enabled", t("Signs in with password and authenticator, where it has one")),
];

const fn t(text: &'static str) -> &'static str {
    text
}

#[derive(Template)]
#[template(path = "identity/form.html")]
struct Page {
    frame: Frame,
    kind: &'static Kind,
    fields: Fields,
    /// Of what is changed; nothing when it is to be made.
    id: Option<String>,
    domains: Vec<Thing>,
    options: &'static [(&'static str, &'static str)],
    action: String,
}

async fn page(kind: &'static Kind, visit: &Visit, fields: Fields, id: Option<String>) -> Result<Page> {
    let words = visit.words();
    let (title, action) = match &id {
        None => (words.t(kind.new).to_owned(), format!("{}/new", kind.path)),
        Some(id) => (words.fill("Edit {}", &[&fields.get("name")]), format!("{}/{}/edit", kind.path, encoded(id))),
    };
    let domains =
        if kind.has_domain && id.is_none() { find_things(visit, "/domains", "domains").await? } else { Vec::new() };
    Ok(Page { frame: visit.frame(kind.path, title), kind, fields, id, domains, options: OPTIONS, action })
}

async fn again(
    kind: &'static Kind,
    visit: &Visit,
    fields: Fields,
    id: Option<String>,
    failure: Failure,
) -> Result<Response> {
    if !failure.is_users() {
        return Err(failure);
    }
    let mut page = page(kind, visit, fields, id).await?;
    page.frame = page.frame.with_problem(&failure);
    visit.again(&failure, &page)
}

/// `GET /projects/new`, ...
pub(super) async fn new(kind: &'static Kind, visit: Visit, fields: Fields) -> Result<Response> {
    let mut fields = fields.with("enabled", "1");
    let domain = match &visit.session()?.scope {
        Scope::Project { domain, .. } | Scope::Domain(domain) => domain.id.clone(),
        _ => visit.session()?.user_domain.id.clone(),
    };
    if kind.has_domain && !fields.on("domain") {
        fields.push("domain", domain);
    }
    let page = page(kind, &visit, fields, None).await?;
    visit.page(&page)
}

/// `POST /projects/new`, ...
pub(super) async fn create(kind: &'static Kind, visit: Visit, fields: Fields) -> Result<Response> {
    let made = async {
        let mut thing = body(kind, &visit, &fields, None)?;
        if kind.has_domain && fields.on("domain") {
            thing.insert("domain_id".to_owned(), fields.get("domain").into());
        }
        visit.api.post(Service::Identity, kind.path, &json!({ kind.one: thing })).await
    };
    match made.await {
        Ok(made) => {
            let id = made[kind.one]["id"].as_str().unwrap_or_default();
            let text = visit.words().fill("{} is made.", &[&fields.get("name")]);
            visit.done(&format!("{}/{}", kind.path, encoded(id)), text).await
        }
        Err(failure) => again(kind, &visit, fields, None, failure).await,
    }
}

/// `GET /projects/{id}/edit`, ...
pub(super) async fn edit(kind: &'static Kind, visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let thing = get_thing(&visit, &format!("{}/{}", kind.path, encoded(&id)), kind.one).await?;
    let mut fields = Fields::default()
        .with("name", &thing.name)
        .with("description", thing.description.as_deref().unwrap_or_default())
        .with("email", thing.email_text())
        .with("default_project", thing.default_project_id.as_deref().unwrap_or_default())
        .with("tags", thing.tags.join(", "));
    if thing.is_on() {
        fields.push("enabled", "1");
    }
    for (name, _) in OPTIONS.iter().filter(|(name, _)| thing.option(name)) {
        fields.push("option", *name);
    }
    let page = page(kind, &visit, fields, Some(thing.id)).await?;
    visit.page(&page)
}

/// `POST /projects/{id}/edit`, ...
pub(super) async fn update(
    kind: &'static Kind,
    visit: Visit,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response> {
    let path = format!("{}/{}", kind.path, encoded(&id));
    match change(kind, &visit, &path, &fields).await {
        Ok(()) => {
            let text = visit.words().fill("{} is changed.", &[&fields.get("name")]);
            visit.done(&path, text).await
        }
        Err(failure) => again(kind, &visit, fields, Some(id), failure).await,
    }
}

async fn change(kind: &'static Kind, visit: &Visit, path: &str, fields: &Fields) -> Result<()> {
    let before = get_thing(visit, path, kind.one).await?;
    let thing = body(kind, visit, fields, Some(&before))?;
    visit.api.patch(Service::Identity, path, &json!({ kind.one: thing })).await.map(|_| ())
}

/// What the form says. Of something that is there, only what differs.
fn body(kind: &Kind, visit: &Visit, fields: &Fields, before: Option<&Thing>) -> Result<Map<String, Value>> {
    let mut body = Map::new();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut put = |name: &str, value: Value, old: Option<Value>| {
        if old.as_ref() != Some(&value) {
            body.insert(name.to_owned(), value);
        }
    };
    put("name", fields.get("name").into(), before.map(|thing| thing.name.as_str().into()));
    put("description", fields.get("description").into(), before.map(|thing| text(&thing.description).into()));
    if kind.has_enabled {
        put("enabled", fields.on("enabled").into(), before.map(|thing| thing.is_on().into()));
    }
    if kind.is_project {
        put("tags", json!(listed(fields.get("tags"))), before.map(|thing| json!(thing.tags)));
        if fields.on("parent") && before.is_none() {
            put("parent_id", fields.get("parent").into(), None);
        }
    }
    if kind.is_user {
        let password = fields.raw("password");
        if password != fields.raw("again") {
            return Err(Failure::bad_request(visit.words().t("The two passwords differ.")));
        }
        if !password.is_empty() {
            put("password", password.into(), None);
        }
        let email = before.map(|thing| thing.email_text().into());
        put("email", fields.get("email").into(), email.or(Some("".into())));
        let project = Some(fields.get("default_project")).filter(|id| !id.is_empty());
        let default = before.and_then(|thing| thing.default_project_id.as_deref());
        put("default_project_id", json!(project), Some(json!(default)));
        let mut options = Map::new();
        for (name, _) in OPTIONS {
            let (wanted, had) = (fields.has("option", name), before.is_some_and(|thing| thing.option(name)));
            if wanted != had {
                options.insert((*name).to_owned(), wanted.into());
            }
        }
        if !options.is_empty() {
            put("options", options.into(), None);
        }
    }
    Ok(body)
}
