//! Server groups: `/server-groups`.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Router, response::Response, routing::get};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
};

const ROWS: usize = 100;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/server-groups", get(index).post(act))
}

#[derive(Debug, Deserialize)]
struct Group {
    id: String,
    name: String,
    policy: String,
    #[serde(default)]
    rules: BTreeMap<String, Value>,
    #[serde(default)]
    members: Vec<String>,
}

#[derive(Deserialize)]
struct Groups {
    server_groups: Vec<Group>,
}

#[derive(Template)]
#[template(path = "server_groups/index.html")]
struct Page {
    frame: Frame,
    fields: Fields,
    groups: Vec<Group>,
    policies: &'static [&'static str],
    next: Option<String>,
}

const POLICIES: &[&str] = &["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"];

async fn page(visit: &Visit, fields: Fields) -> Result<Page> {
    // Compute counts here, it knows no marker.
    let offset = fields.number("offset").ok().flatten().unwrap_or(0).max(0);
    let path = format!("/os-server-groups?limit={ROWS}&offset={offset}");
    let found: Groups = visit.api.get(Service::Compute, &path).await?;
    let more = found.server_groups.len() == ROWS;
    let next = more.then(|| format!("/server-groups?offset={}", offset.saturating_add(100)));
    let frame = visit.frame("/server-groups", visit.words().t("Server groups"));
    Ok(Page { frame, fields, groups: found.server_groups, policies: POLICIES, next })
}

/// `GET /server-groups`.
async fn index(visit: Visit, fields: Fields) -> Result<Response> {
    let page = page(&visit, fields).await?;
    visit.page(&page)
}

/// `POST /server-groups`.
async fn act(visit: Visit, fields: Fields) -> Result<Response> {
    let words = visit.words();
    let (result, text) = match fields.get("do") {
        "create" => (create(&visit, &fields).await, words.t("The server group is made.")),
        "delete" => {
            let path = format!("/os-server-groups/{}", encoded(fields.get("id")));
            (visit.api.delete(Service::Compute, &path).await, words.t("The server group is deleted."))
        }
        _ => (Err(Failure::bad_request(words.t("Choose what to do."))), ""),
    };
    match result {
        Ok(()) => visit.done("/server-groups", text).await,
        Err(failure) if failure.is_users() => {
            let mut page = page(&visit, fields).await?;
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

async fn create(visit: &Visit, fields: &Fields) -> Result<()> {
    let mut group = json!({"name": fields.get("name"), "policy": fields.get("policy")});
    if let Some(most) = fields.number("max_server_per_host")? {
        group["rules"] = json!({"max_server_per_host": most});
    }
    visit.api.post(Service::Compute, "/os-server-groups", &json!({"server_group": group})).await.map(|_| ())
}
