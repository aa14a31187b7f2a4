//! Availability zones and aggregates: `/aggregates`. One machine is in one zone at most.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Router, response::Response, routing::get};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::{Fields, pairs},
    frame::Frame,
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/aggregates", get(index).post(act))
}

#[derive(Deserialize)]
struct Zones {
    #[serde(rename = "availabilityZoneInfo")]
    zones: Vec<Zone>,
}

#[derive(Debug, Deserialize)]
struct Zone {
    #[serde(rename = "zoneName")]
    name: String,
    #[serde(rename = "zoneState")]
    state: State,
    /// For administrators alone.
    hosts: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct State {
    available: bool,
}

#[derive(Debug, Deserialize)]
struct Aggregate {
    id: i64,
    name: String,
    availability_zone: Option<String>,
    hosts: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Option<String>>,
}

impl Aggregate {
    fn lines(&self) -> String {
        let own = self.metadata.iter().filter(|(name, _)| *name != "availability_zone");
        own.map(|(name, value)| format!("{name}={}\n", value.as_deref().unwrap_or_default())).collect()
    }
}

#[derive(Deserialize)]
struct Aggregates {
    aggregates: Vec<Aggregate>,
}

#[derive(Template)]
#[template(path = "aggregates/index.html")]
struct Page {
    frame: Frame,
    fields: Fields,
    zones: Vec<Zone>,
    aggregates: Vec<Aggregate>,
    /// Why there are none to see, if they must not be seen.
    hidden: Option<Failure>,
    hosts: Vec<String>,
}

async fn page(visit: &Visit, fields: Fields) -> Result<Page> {
    let detailed: Option<Zones> = visit.api.find(Service::Compute, "/os-availability-zone/detail").await?;
    let zones = match detailed {
        Some(found) => found.zones,
        None => visit.api.get::<Zones>(Service::Compute, "/os-availability-zone").await?.zones,
    };
    let (aggregates, hidden) = match visit.api.get::<Aggregates>(Service::Compute, "/os-aggregates").await {
        Ok(found) => (found.aggregates, None),
        Err(failure) if failure.is_forbidden() => (Vec::new(), Some(failure)),
        Err(failure) => return Err(failure),
    };
    let mut hosts: Vec<String> = zones
        .iter()
        .filter(|zone| zone.name != "internal")
        .filter_map(|zone| zone.hosts.as_ref())
        .flat_map(BTreeMap::keys)
        .cloned()
        .collect();
    hosts.sort();
    hosts.dedup();
    let frame = visit.frame("/aggregates", visit.words().t("Availability zones"));
    Ok(Page { frame, fields, zones, aggregates, hidden, hosts })
}

/// `GET /aggregates`.
async fn index(visit: Visit) -> Result<Response> {
    let page = page(&visit, Fields::default()).await?;
    visit.page(&page)
}

/// `POST /aggregates`: `do` says what, `id` with which.
async fn act(visit: Visit, fields: Fields) -> Result<Response> {
    let words = visit.words();
    let (api, id) = (&visit.api, encoded(fields.get("id")));
    let action =
        async |body: Value| api.post(Service::Compute, &format!("/os-aggregates/{id}/action"), &body).await.map(|_| ());
    let (result, text) = match fields.get("do") {
        "create" => {
            let mut aggregate = json!({"name": fields.get("name")});
            if fields.on("zone") {
                aggregate["availability_zone"] = fields.get("zone").into();
            }
            let made = api.post(Service::Compute, "/os-aggregates", &json!({"aggregate": aggregate})).await;
            (made.map(|_| ()), words.t("The aggregate is made."))
        }
        "delete" => {
            (api.delete(Service::Compute, &format!("/os-aggregates/{id}")).await, words.t("The aggregate is deleted."))
        }
        "add" => (action(json!({"add_host": {"host": fields.get("host")}})).await, words.t("The host is in it.")),
        "remove" => (
            action(json!({"remove_host": {"host": fields.get("host")}})).await,
            words.t("The host is no longer in it."),
        ),
        "metadata" => (metadata(&visit, &id, &fields).await, words.t("The metadata is changed.")),
        _ => (Err(Failure::bad_request(words.t("Choose what to do."))), ""),
    };
    match result {
        Ok(()) => visit.done("/aggregates", text).await,
        Err(failure) if failure.is_users() => {
            let mut page = page(&visit, fields).await?;
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

/// Makes the metadata what the text says; `null` takes a key away.
async fn metadata(visit: &Visit, id: &str, fields: &Fields) -> Result<()> {
    #[derive(Deserialize)]
    struct One {
        aggregate: Aggregate,
    }
    let wanted: BTreeMap<String, String> = pairs(fields.raw("metadata"))?.into_iter().collect();
    let One { aggregate } = visit.api.get(Service::Compute, &format!("/os-aggregates/{id}")).await?;
    let mut changes: BTreeMap<&str, Value> =
        wanted.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str()))).collect();
    for name in aggregate.metadata.keys().filter(|name| *name != "availability_zone") {
        changes.entry(name).or_insert(Value::Null);
    }
    if fields.get("zone") != aggregate.availability_zone.as_deref().unwrap_or_default() {
        let zone = Some(fields.get("zone")).filter(|zone| !zone.is_empty());
        changes.insert("availability_zone", json!(zone));
    }
    if changes.is_empty() {
        return Ok(());
    }
    let body = json!({"set_metadata": {"metadata": changes}});
    visit.api.post(Service::Compute, &format!("/os-aggregates/{id}/action"), &body).await.map(|_| ())
}
