//! Projects, users, groups, roles, domains, who may what, and one's own account.

mod account;
mod application_credentials;
mod assignments;
mod forms;
mod group;
mod kinds;
mod lists;
mod project;
mod quota;
mod rights;
mod role;
mod user;

use axum::{
    Router,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result, seen},
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    let mut router = Router::new()
        .route("/projects/{id}", get(project::show))
        .route("/projects/{id}/quota", get(quota::form).post(quota::update))
        .route("/users/{id}", get(user::show).post(user::act))
        .route("/groups/{id}", get(group::show).post(group::act))
        .route("/roles/{id}", get(role::show).post(role::act))
        .route("/domains/{id}", get(project::show_domain))
        .route("/assignments", post(assignments::act))
        .route("/rights", get(rights::show))
        .route("/account", get(account::show))
        .route("/account/password", post(account::password))
        .route("/account/totp", post(account::totp))
        .merge(application_credentials::routes());
    for kind in &kinds::ALL {
        router = router
            .route(kind.path, get(async move |visit, filters| lists::show(kind, visit, filters).await))
            .route(
                &format!("{}/new", kind.path),
                get(async move |visit, fields| forms::new(kind, visit, fields).await)
                    .post(async move |visit, fields| forms::create(kind, visit, fields).await),
            )
            .route(
                &format!("{}/delete", kind.path),
                post(async move |visit, fields| lists::delete(kind, visit, fields).await),
            )
            .route(
                &format!("{}/{{id}}/edit", kind.path),
                get(async move |visit, path| forms::edit(kind, visit, path).await)
                    .post(async move |visit, path, fields| forms::update(kind, visit, path, fields).await),
            );
    }
    router
}

/// What all of them have.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Thing {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub domain_id: Option<String>,
    /// Groups and roles cannot be switched off.
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub email: Option<Value>,
    #[serde(default)]
    pub parent_id: Option<String>,
    #[serde(default)]
    pub default_project_id: Option<String>,
    #[serde(default)]
    pub password_expires_at: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub options: serde_json::Map<String, Value>,
}

impl Thing {
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// A free attribute; only text is shown.
    #[must_use]
    pub fn email_text(&self) -> &str {
        self.email.as_ref().and_then(Value::as_str).unwrap_or_default()
    }

    #[must_use]
    pub fn option(&self, name: &str) -> bool {
        self.options.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// An id and a name, as assignments have it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Reference {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub domain: Option<Box<Reference>>,
}

/// One thing of a kind.
async fn get_thing(visit: &Visit, path: &str, one: &str) -> Result<Thing> {
    let mut found: Value = visit.api.get(Service::Identity, path).await?;
    serde_json::from_value(found[one].take()).map_err(Failure::internal)
}

/// Things of a list, as many as one page of the service holds.
async fn get_things(visit: &Visit, path: &str, many: &str) -> Result<Vec<Thing>> {
    let mut found: Value = visit.api.get(Service::Identity, path).await?;
    serde_json::from_value(found[many].take()).map_err(Failure::internal)
}

/// [`get_things`] where the visitor need not be allowed to.
async fn find_things(visit: &Visit, path: &str, many: &str) -> Result<Vec<Thing>> {
    Ok(seen(get_things(visit, path, many).await)?.unwrap_or_default())
}

/// The id of what is called so, or has that id.
async fn id_of(visit: &Visit, many: &str, text: &str) -> Result<String> {
    let words = visit.words();
    if text.is_empty() {
        return Err(Failure::bad_request(words.t("Say who.")));
    }
    let named = get_things(visit, &format!("/{many}?name={}", encoded(text)), many).await?;
    match named.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Ok(text.to_owned()),
        _ => Err(Failure::bad_request(words.fill("Several are called {}: give the ID.", &[&text]))),
    }
}
