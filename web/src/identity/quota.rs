//! How much a project may have: of Compute, and of Network.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::Path, response::Response};
use http::Method;
use serde_json::{Map, Value, json};

use super::{Thing, get_thing};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
};

/// One resource; -1 is no limit.
struct Row {
    name: String,
    label: String,
    used: i64,
    limit: i64,
}

/// Of one service.
struct Part {
    title: &'static str,
    /// Before the names of its fields.
    prefix: &'static str,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "identity/quota.html")]
struct Page {
    frame: Frame,
    project: Thing,
    parts: Vec<Part>,
    /// What was typed, where that was no good.
    fields: Fields,
}

impl Page {
    fn value(&self, part: &Part, row: &Row) -> String {
        let name = format!("{}.{}", part.prefix, row.name);
        match self.fields.get(&name) {
            "" => row.limit.to_string(),
            typed => typed.to_owned(),
        }
    }
}

const COMPUTE: &str = "compute";
const NETWORK: &str = "network";

async fn page(visit: &Visit, id: &str, fields: Fields) -> Result<Page> {
    let project = get_thing(visit, &format!("/projects/{}", encoded(id)), "project").await?;
    let words = visit.words();
    let id = encoded(&project.id);
    let compute = rows(visit, Service::Compute, &format!("/os-quota-sets/{id}/detail"), "quota_set", "in_use").await?;
    let network = rows(visit, Service::Network, &format!("/quotas/{id}/details"), "quota", "used").await?;
    let parts = vec![
        Part { title: words.t("Compute"), prefix: COMPUTE, rows: compute },
        Part { title: words.t("Network"), prefix: NETWORK, rows: network },
    ];
    Ok(Page { frame: visit.frame("/projects", words.fill("Quota of {}", &[&project.name])), project, parts, fields })
}

async fn rows(visit: &Visit, service: Service, path: &str, key: &str, used: &str) -> Result<Vec<Row>> {
    let found: Value = visit.api.get(service, path).await?;
    let set: BTreeMap<String, Value> = serde_json::from_value(found[key].clone()).map_err(Failure::internal)?;
    let rows = set.into_iter().filter_map(|(name, value)| {
        let number = |key: &str| value.get(key).and_then(Value::as_i64);
        let limit = number("limit")?;
        let label = name.replace('_', " ");
        Some(Row { used: number(used).unwrap_or(0), limit, label, name })
    });
    Ok(rows.collect())
}

/// `GET /projects/{id}/quota`.
pub(super) async fn form(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let page = page(&visit, &id, Fields::default()).await?;
    visit.page(&page)
}

/// `POST /projects/{id}/quota`: what differs is sent; `do=reset` takes every limit of the project's own away.
pub(super) async fn update(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let words = visit.words();
    let here = format!("/projects/{}/quota", encoded(&id));
    let (compute, network) = (format!("/os-quota-sets/{}", encoded(&id)), format!("/quotas/{}", encoded(&id)));
    if fields.get("do") == "reset" {
        let mut result = visit.api.delete(Service::Compute, &compute).await;
        if result.is_ok() {
            // Network has nothing to take away from a project that it has no limits for.
            result = match visit.api.delete(Service::Network, &network).await {
                Err(failure) if failure.is_not_found() => Ok(()),
                other => other,
            };
        }
        return visit.outcome(result, &here, words.t("The project has the quota of every project again.")).await;
    }
    let before = page(&visit, &id, Fields::default()).await?;
    let result: Result<()> = async {
        let mut changes = Vec::new();
        for part in &before.parts {
            changes.push(changed(part, &fields)?);
        }
        let places = [(Service::Compute, &compute, "quota_set"), (Service::Network, &network, "quota")];
        for ((service, path, key), change) in places.into_iter().zip(changes) {
            if !change.is_empty() {
                visit.api.send(Method::PUT, service, path, Some(&json!({ key: change }))).await?;
            }
        }
        Ok(())
    }
    .await;
    match result {
        Ok(()) => visit.done(&here, words.t("The quota is changed.")).await,
        Err(failure) if failure.is_users() => {
            let mut page = page(&visit, &id, fields).await?;
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

fn changed(part: &Part, fields: &Fields) -> Result<Map<String, Value>> {
    let mut changes = Map::new();
    for row in &part.rows {
        if let Some(limit) = fields.number(&format!("{}.{}", part.prefix, row.name))?
            && limit != row.limit
        {
            changes.insert(row.name.clone(), limit.into());
        }
    }
    Ok(changes)
}
