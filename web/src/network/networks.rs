//! `/networks`: the list, one network with its subnets and ports, and its forms. A new network gets its subnet, and a way
//! out through a router, in one form.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    addresses,
    bulk::{self, Act, Verb},
    lists::{self, Left, Rows},
    model::{Network, Port, Resource, Router as NetRouter, Subnet},
    ports::{self, Told},
    subnets,
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    network::model::label,
    visit::Visit,
};

pub(super) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/networks", get(index))
        .route("/networks/actions", post(actions))
        .route("/networks/new", get(new).post(create))
        .route("/networks/{id}", get(show))
        .route("/networks/{id}/edit", get(edit).post(update))
}

const fn t(text: &'static str) -> &'static str {
    text
}

pub(super) const VERBS: &[Verb] = &[Verb {
    name: "delete",
    label: t("Delete"),
    question: t("Delete the marked networks with their subnets? Networks that servers or routers use are kept."),
    act: Act::Delete,
}];

struct Row {
    network: Network,
    subnets: Vec<Subnet>,
    blocked: Option<String>,
}

#[derive(Template)]
#[template(path = "networks/index.html")]
struct Index {
    frame: Frame,
    fields: Fields,
    rows: Vec<Row>,
    next: Option<String>,
    verbs: &'static [Verb],
    left: Option<Left>,
    blocked: Option<String>,
}

/// `GET /networks`.
async fn index(visit: Visit, fields: Fields) -> Result<Response> {
    let (name, kind) = (fields.get("name"), fields.get("kind"));
    let only = lists::only_project(&visit, fields.on("all"))?;
    let keep = |network: &Network| {
        let is_mine = only.as_ref().is_none_or(|project| network.project_id == *project);
        let is_here = is_mine || network.shared || network.external;
        let is_kind = match kind {
            "external" => network.external,
            "shared" => network.shared,
            "internal" => !network.external,
            _ => true,
        };
        is_here && is_kind && lists::matches(name, &[&network.name, &network.id, &network.description])
    };
    let sifted = only.is_some() || !name.is_empty() || !kind.is_empty();
    let Rows { rows, next } = lists::page(&visit.api, "", fields.get("marker"), sifted, keep).await?;
    let subnets: Vec<Subnet> = lists::all(&visit.api, "").await?;
    let mut by_network: HashMap<String, Vec<Subnet>> = HashMap::new();
    for subnet in subnets {
        by_network.entry(subnet.network_id.clone()).or_default().push(subnet);
    }
    let rows = rows.into_iter().map(|network: Network| {
        let subnets = by_network.remove(&network.id).unwrap_or_default();
        let blocked = bulk::blocked(&visit, &network.project_id)?;
        Ok(Row { network, subnets, blocked })
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let [left] = lists::quota(&visit, ["network"]).await?;
    visit.page(&Index {
        frame: visit.frame("/networks", visit.words().t("Networks")).live(),
        next: next.map(|marker| format!("/networks?{}", fields.after(&marker))),
        rows,
        verbs: VERBS,
        left,
        blocked: bulk::only_reads(&visit)?,
        fields,
    })
}

/// `POST /networks/actions`.
async fn actions(visit: Visit, fields: Fields) -> Result<Response> {
    bulk::many::<Network>(visit, fields, VERBS, "/networks").await
}

/// How many addresses of a subnet are in use: administrators are told.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Availability {
    total_ips: u64,
    used_ips: u64,
}

#[derive(Deserialize)]
struct Availabilities {
    network_ip_availability: Availability,
}

#[derive(Template)]
#[template(path = "networks/show.html")]
struct Show {
    frame: Frame,
    network: Network,
    subnets: Vec<Subnet>,
    ports: Vec<(Port, Told)>,
    more: bool,
    routers: Vec<NetRouter>,
    usage: Option<Availability>,
    blocked: Option<String>,
    /// Why it cannot be deleted now.
    kept: Option<String>,
}

/// `GET /networks/{id}`.
async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let network: Network = lists::one(&visit.api, &id).await?;
    let words = visit.words();
    let of = format!("?network_id={}", encoded(&network.id));
    let subnets: Vec<Subnet> = lists::all(&visit.api, &format!("{of}&sort_key=name&sort_key=id")).await?;
    let Rows { rows, next } =
        lists::page::<Port>(&visit.api, &format!("&network_id={}", encoded(&network.id)), "", false, |_| true).await?;
    let used = rows.iter().filter(|port| port.device_owner != "network:dhcp").count();
    let blocked = bulk::blocked(&visit, &network.project_id)?;
    let kept =
        (used > 0).then(|| words.t("Ports use it: remove them, or their servers and routers, first.").to_owned());
    let router_ids: Vec<&str> = rows
        .iter()
        .filter(|port| port.device_owner.starts_with("network:router"))
        .map(|port| port.device_id.as_str())
        .collect();
    let routers: Vec<NetRouter> = if router_ids.is_empty() { Vec::new() } else { lists::all(&visit.api, "").await? };
    let routers = routers.into_iter().filter(|router| router_ids.contains(&router.id.as_str())).collect();
    let usage: Option<Availabilities> =
        visit.api.find(Service::Network, &format!("/network-ip-availabilities/{}", encoded(&network.id))).await?;
    let ports = ports::told(&visit, rows).await?;
    visit.page(&Show {
        frame: visit.frame("/networks", network.label()).live(),
        subnets,
        ports,
        more: next.is_some(),
        routers,
        usage: usage.map(|usage| usage.network_ip_availability),
        blocked,
        kept,
        network,
    })
}

#[derive(Template)]
#[template(path = "networks/new.html")]
struct New {
    frame: Frame,
    fields: Fields,
    routers: Vec<NetRouter>,
    left: Option<Left>,
    subnets_left: Option<Left>,
    blocked: Option<String>,
}

/// `GET /networks/new`: with a range that is free and the router that leads out.
async fn new(visit: Visit) -> Result<Response> {
    let subnets: Vec<Subnet> = lists::all(&visit.api, "?fields=cidr").await?;
    let cidr = addresses::free_range(subnets.iter().map(|subnet| subnet.cidr.as_str()));
    let mine = visit.session()?.project_id().unwrap_or_default().to_owned();
    let routers: Vec<NetRouter> = lists::all(&visit.api, &format!("?project_id={}", encoded(&mine))).await?;
    let out = routers.iter().find(|router| router.external_gateway_info.is_some());
    let fields = Fields::default()
        .with_box("subnet", true)
        .with("cidr", cidr)
        .with_box("dhcp", true)
        .with_box("port_security", true)
        .with("router", out.map(|router| router.id.clone()).unwrap_or_default());
    new_form(visit, fields, None).await
}

async fn new_form(visit: Visit, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let mine = visit.session()?.project_id().unwrap_or_default().to_owned();
    let routers: Vec<NetRouter> = lists::all(&visit.api, &format!("?project_id={}", encoded(&mine))).await?;
    let [left, subnets_left] = lists::quota(&visit, ["network", "subnet"]).await?;
    let frame = visit.frame("/networks", visit.words().t("New network"));
    let blocked = bulk::only_reads(&visit)?;
    match failure {
        None => visit.page(&New { frame, fields, routers, left, subnets_left, blocked }),
        Some(failure) => visit
            .again(failure, &New { frame: frame.with_problem(failure), fields, routers, left, subnets_left, blocked }),
    }
}

/// The attributes that both forms have.
fn attributes(visit: &Visit, fields: &Fields, is_new: bool) -> Result<Value> {
    let words = visit.words();
    let mut body = json!({"name": fields.get("name"), "description": fields.get("description")});
    let mut put = |name: &str, value: Value| body[name] = value;
    if !is_new {
        put("admin_state_up", fields.on("up").into());
    }
    // What is left as it is by default needs no right to be said.
    if !is_new || !fields.on("port_security") {
        put("port_security_enabled", fields.on("port_security").into());
    }
    if fields.on("mtu") {
        let mtu: i64 =
            fields.get("mtu").parse().map_err(|_| Failure::bad_request(words.t("The MTU is a number of bytes.")))?;
        put("mtu", mtu.into());
    }
    if fields.on("dns_domain") || !is_new {
        put("dns_domain", fields.get("dns_domain").into());
    }
    if visit.session()?.has_role("admin") {
        for (name, attribute) in [("shared", "shared"), ("external", "router:external")] {
            if !is_new || fields.on(name) {
                put(attribute, fields.on(name).into());
            }
        }
        if is_new && fields.on("physical") {
            put("provider:physical_network", fields.get("physical").into());
            put("provider:network_type", "flat".into());
        }
    }
    Ok(body)
}

/// `POST /networks/new`: all of it, or nothing.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    match make(&visit, &fields).await {
        Ok(id) => visit.done(&format!("/networks/{}", encoded(&id)), visit.words().t("The network is made.")).await,
        Err(failure) if failure.is_users() => new_form(visit, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

async fn make(visit: &Visit, fields: &Fields) -> Result<String> {
    let api = &visit.api;
    let subnet = if fields.on("subnet") { Some(subnets::attributes(visit, fields, true)?) } else { None };
    let network = json!({"network": attributes(visit, fields, true)?});
    let made = api.post(Service::Network, "/networks", &network).await?;
    let id = made["network"]["id"].as_str().unwrap_or_default().to_owned();
    let Some(mut subnet) = subnet else { return Ok(id) };
    subnet["network_id"] = id.as_str().into();
    let result = match api.post(Service::Network, "/subnets", &json!({ "subnet": subnet })).await {
        Ok(made) if fields.on("router") => {
            let body = json!({"subnet_id": made["subnet"]["id"]});
            let path = format!("/routers/{}/add_router_interface", encoded(fields.get("router")));
            api.put(Service::Network, &path, &body).await.map(|_| ())
        }
        Ok(_) => Ok(()),
        Err(failure) => Err(failure),
    };
    if let Err(failure) = result {
        // Half a network would only be in the way of the next try.
        api.delete(Service::Network, &format!("/networks/{}", encoded(&id))).await?;
        return Err(failure);
    }
    Ok(id)
}

#[derive(Template)]
#[template(path = "networks/edit.html")]
struct Edit {
    frame: Frame,
    id: String,
    fields: Fields,
    blocked: Option<String>,
}

/// `GET /networks/{id}/edit`.
async fn edit(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let network: Network = lists::one(&visit.api, &id).await?;
    let fields = Fields::default()
        .with("name", network.name)
        .with("description", network.description)
        .with_box("up", network.admin_state_up)
        .with_box("port_security", network.port_security_enabled)
        .with("mtu", network.mtu.to_string())
        .with("dns_domain", network.dns_domain)
        .with_box("shared", network.shared)
        .with_box("external", network.external);
    edit_form(visit, id, fields, &network.project_id, None).await
}

async fn edit_form(
    visit: Visit,
    id: String,
    fields: Fields,
    project: &str,
    failure: Option<&Failure>,
) -> Result<Response> {
    let title = visit.words().fill("Edit {}", &[&label(fields.get("name"), &id)]);
    let frame = visit.frame("/networks", title);
    let blocked = bulk::blocked(&visit, project)?;
    match failure {
        None => visit.page(&Edit { frame, id, fields, blocked }),
        Some(failure) => visit.again(failure, &Edit { frame: frame.with_problem(failure), id, fields, blocked }),
    }
}

/// `POST /networks/{id}/edit`.
async fn update(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let network: Network = lists::one(&visit.api, &id).await?;
    let path = format!("/networks/{}", encoded(&id));
    let result = match attributes(&visit, &fields, false) {
        Ok(body) => visit.api.put(Service::Network, &path, &json!({ "network": body })).await.map(|_| ()),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => visit.done(&path, visit.words().t("The network is changed.")).await,
        Err(failure) if failure.is_users() => edit_form(visit, id, fields, &network.project_id, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}
