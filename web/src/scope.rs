//! Where the user works: a project, a domain, or the system. Changing it changes the session's token.

use askama::Template;
use axum::{
    Form, Router,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::{Api, Service},
    failure::{Failure, Result},
    frame::Frame,
    session::Scope,
    signin::{Given, given, session},
    visit::{Visit, local},
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/scope", get(show).post(switch))
}

#[derive(Clone, Debug, Deserialize)]
struct Project {
    id: String,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize)]
struct Projects {
    projects: Vec<Project>,
}

#[derive(Clone, Debug, Deserialize)]
struct Domain {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Domains {
    domains: Vec<Domain>,
}

#[derive(Deserialize)]
struct Systems {
    system: Vec<Value>,
}

#[derive(Template)]
#[template(path = "scope/index.html")]
struct Page {
    frame: Frame,
    projects: Vec<Project>,
    domains: Vec<Domain>,
    system: bool,
    here: String,
}

/// `GET /scope`.
async fn show(visit: Visit) -> Result<Response> {
    let here = match &visit.session()?.scope {
        Scope::Project { project, .. } => project.id.clone(),
        Scope::Domain(domain) => domain.id.clone(),
        Scope::System => "system".to_owned(),
        Scope::Unscoped => String::new(),
    };
    let projects: Projects = visit.api.get(Service::Identity, "/auth/projects").await?;
    let domains: Domains = visit.api.get(Service::Identity, "/auth/domains").await?;
    let system: Systems = visit.api.get(Service::Identity, "/auth/system").await?;
    visit.page(&Page {
        frame: visit.frame("/scope", visit.words().t("Where to work")),
        projects: projects.projects.into_iter().filter(|project| project.enabled).collect(),
        domains: domains.domains,
        system: !system.system.is_empty(),
        here,
    })
}

#[derive(Deserialize)]
struct Wanted {
    /// `project:<id>`, `domain:<id>` or `system`.
    scope: String,
    #[serde(default)]
    next: String,
}

/// `POST /scope`.
async fn switch(visit: Visit, Form(wanted): Form<Wanted>) -> Result<Response> {
    let scope = match wanted.scope.split_once(':') {
        Some(("project", id)) => json!({"project": {"id": id}}),
        Some(("domain", id)) => json!({"domain": {"id": id}}),
        None if wanted.scope == "system" => json!({"system": {"all": true}}),
        _ => return Err(Failure::bad_request("There is no such place to work in.")),
    };
    let old = visit.session()?.clone();
    let given = match scoped(&visit.api, &old.token, &scope).await {
        Ok(given) => given,
        // The token is good, the place is not the user's.
        Err(mut failure) => {
            failure.sign_in = false;
            return visit.outcome::<()>(Err(failure), "/scope", "").await;
        }
    };
    visit.replace(&session(given, old.csrf)?).await?;
    // It ends by itself later, if it cannot be ended now.
    let subject = [("x-subject-token", old.token.as_str())];
    if let Err(failure) = visit.api.send_with(Method::DELETE, Service::Identity, "/auth/tokens", &subject, None).await {
        tracing::debug!(failure = failure.message, "the token of another scope was not revoked");
    }
    Ok(Redirect::to(local(&wanted.next)).into_response())
}

/// A token of another scope for the same user.
pub(crate) async fn scoped(api: &Api, token: &str, scope: &Value) -> Result<Given> {
    let body = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": scope}});
    given(api.send(Method::POST, Service::Identity, "/auth/tokens", Some(&body)).await?)
}

/// Where a user without a default project begins: the first that there is.
pub(crate) async fn first(api: &Api) -> Result<Option<Value>> {
    let projects: Projects = api.get(Service::Identity, "/auth/projects").await?;
    if let Some(project) = projects.projects.iter().find(|project| project.enabled) {
        return Ok(Some(json!({"project": {"id": project.id}})));
    }
    let domains: Domains = api.get(Service::Identity, "/auth/domains").await?;
    if let Some(domain) = domains.domains.first() {
        return Ok(Some(json!({"domain": {"id": domain.id}})));
    }
    let system: Systems = api.get(Service::Identity, "/auth/system").await?;
    Ok((!system.system.is_empty()).then(|| json!({"system": {"all": true}})))
}
