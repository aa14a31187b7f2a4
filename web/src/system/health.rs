//! How the machine is, what it does, and its services.

use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::Query,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Links, maybe, names, span};
use crate::{
    api::{Service, answer, encoded},
    failure::{Failure, Result},
    frame::Frame,
    visit::Visit,
};

#[derive(Deserialize)]
struct Health {
    state: String,
    version: String,
    region: String,
    uptime_s: i64,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    name: String,
    state: String,
    reason: String,
    advice: Option<String>,
}

/// The colour of a state.
pub(crate) fn mood(state: &str) -> &'static str {
    match state {
        "ok" | "success" | "up" => "good",
        "degraded" | "superseded" => "warn",
        "running" => "busy",
        _ => "bad",
    }
}

#[derive(Default, Deserialize)]
struct Operations {
    operations: Vec<Operation>,
    #[serde(default)]
    links: Links,
}

#[derive(Deserialize)]
struct Operation {
    id: String,
    resource: String,
    kind: String,
    action: String,
    started_at: String,
    project_id: Option<String>,
    result: String,
    reason: Option<String>,
    state: Option<String>,
    attempts: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Services {
    services: Vec<ComputeService>,
}

#[derive(Deserialize)]
struct ComputeService {
    id: String,
    binary: String,
    host: String,
    status: String,
    state: String,
    disabled_reason: Option<String>,
    #[serde(default)]
    forced_down: bool,
}

#[derive(Default, Deserialize)]
struct Agents {
    agents: Vec<Agent>,
}

#[derive(Deserialize)]
struct Agent {
    binary: String,
    agent_type: String,
    host: String,
    alive: bool,
}

/// What stands in the address.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Filters {
    #[serde(default)]
    result: String,
    #[serde(default)]
    marker: String,
}

#[derive(Template)]
#[template(path = "system/health.html")]
struct Page {
    frame: Frame,
    health: Health,
    uptime: String,
    operations: Vec<Operation>,
    projects: std::collections::HashMap<String, String>,
    filters: Filters,
    next: Option<String>,
    services: Vec<ComputeService>,
    agents: Vec<Agent>,
}

impl Page {
    fn project<'a>(&'a self, id: &'a Option<String>) -> &'a str {
        let Some(id) = id else { return "" };
        self.projects.get(id).unwrap_or(id)
    }
}

/// Of one page.
const ROWS: u32 = 25;

/// `GET /system`.
pub(super) async fn show(visit: Visit, Query(filters): Query<Filters>) -> Result<Response> {
    let health: Health = visit.api.get(Service::System, "/health").await?;
    let mut path = format!("/operations?limit={ROWS}");
    for (name, value) in [("result", &filters.result), ("marker", &filters.marker)] {
        if !value.is_empty() {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    let operations: Operations = visit.api.get(Service::System, &path).await?;
    let services: Services = maybe(&visit, Service::Compute, "/os-services").await?;
    let agents: Agents = maybe(&visit, Service::Network, "/agents").await?;
    let last = operations.operations.last().filter(|_| operations.links.next.is_some());
    let next = last.map(|last| format!("/system?result={}&marker={}", encoded(&filters.result), last.id));
    let page = Page {
        frame: visit.frame("/system", visit.words().t("Health")).live(),
        uptime: span(visit.words(), health.uptime_s),
        projects: names(&visit, "projects").await,
        health,
        next,
        operations: operations.operations,
        filters,
        services: services.services,
        agents: agents.agents,
    };
    visit.page(&page)
}

#[derive(Deserialize)]
pub(super) struct Change {
    id: String,
    verb: String,
    #[serde(default)]
    reason: String,
}

/// `POST /system/services`: enable, disable, force down, take that back.
pub(super) async fn service(visit: Visit, Form(form): Form<Change>) -> Result<Response> {
    let words = visit.words();
    let reason = form.reason.trim();
    let body: Value = match form.verb.as_str() {
        "enable" => json!({"status": "enabled"}),
        "disable" if reason.is_empty() => json!({"status": "disabled"}),
        "disable" => json!({"status": "disabled", "disabled_reason": reason}),
        "down" => json!({"forced_down": true}),
        "up" => json!({"forced_down": false}),
        _ => return Err(Failure::bad_request(words.t("There is no such verb."))),
    };
    let changed = visit.api.put(Service::Compute, &format!("/os-services/{}", encoded(&form.id)), &body).await;
    visit.outcome(changed, "/system", words.t("The service is changed.")).await
}

/// `GET /system/support-bundle`: as the API sends it.
pub(super) async fn bundle(visit: Visit) -> Result<Response> {
    let request = Request::get("/solostack/v1/support-bundle").body(Body::empty()).map_err(Failure::internal)?;
    let reply = visit.api.raw(request).await?;
    if reply.status() != StatusCode::OK {
        return match answer(reply).await {
            Ok(_) => Err(Failure::broken("the support bundle")),
            Err(failure) => Err(failure),
        };
    }
    let (parts, body) = reply.into_parts();
    let mut response = body.into_response();
    for name in [header::CONTENT_TYPE, header::CONTENT_DISPOSITION] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}
