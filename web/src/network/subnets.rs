//! Subnets: made and changed below their network's page.

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    addresses,
    bulk::{self, Act, Verb},
    lists::{self, Left},
    model::{Network, Resource, Subnet},
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
};

pub(super) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/networks/{id}/subnets/new", get(new).post(create))
        .route("/subnets/{id}", get(edit).post(update))
        .route("/subnets/actions", post(actions))
}

const fn t(text: &'static str) -> &'static str {
    text
}

const VERBS: &[Verb] =
    &[Verb { name: "delete", label: t("Delete"), question: t("Delete this subnet?"), act: Act::Delete }];

#[derive(Template)]
#[template(path = "subnets/form.html")]
struct Form {
    frame: Frame,
    fields: Fields,
    network: Network,
    /// Of the subnet that is changed.
    subnet: Option<Subnet>,
    left: Option<Left>,
    blocked: Option<String>,
}

/// The attributes of a form. The name of a subnet made with its network is `subnet_name`.
pub(super) fn attributes(visit: &Visit, fields: &Fields, is_new: bool) -> Result<Value> {
    let words = visit.words();
    let name = if fields.on("subnet") { fields.get("subnet_name") } else { fields.get("name") };
    let mut body = json!({
        "name": name,
        "enable_dhcp": fields.on("dhcp"),
        "dns_nameservers": addresses::words_of(fields.get("dns")),
        "host_routes": addresses::routes(words, fields.get("routes"))?,
    });
    if !fields.on("subnet") {
        body["description"] = fields.get("description").into();
    }
    if fields.on("no_gateway") {
        body["gateway_ip"] = Value::Null;
    } else if fields.on("gateway") {
        body["gateway_ip"] = fields.get("gateway").into();
    } else if !is_new {
        return Err(Failure::bad_request(words.t("Give the gateway, or mark that there is none.")));
    }
    let pools = addresses::pools(words, fields.get("pools"))?;
    if !pools.is_empty() {
        body["allocation_pools"] = pools.into();
    }
    if is_new {
        let cidr = fields.get("cidr");
        if cidr.is_empty() {
            return Err(Failure::bad_request(words.t("A subnet needs a range, such as 10.0.0.0/24.")));
        }
        let is_v6 = cidr.contains(':');
        body["cidr"] = cidr.into();
        body["ip_version"] = if is_v6 { 6.into() } else { 4.into() };
        if is_v6 && fields.on("ipv6_mode") {
            body["ipv6_address_mode"] = fields.get("ipv6_mode").into();
            body["ipv6_ra_mode"] = fields.get("ipv6_mode").into();
        }
    }
    Ok(body)
}

/// `GET /networks/{id}/subnets/new`.
async fn new(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let subnets: Vec<Subnet> = lists::all(&visit.api, "?fields=cidr").await?;
    let cidr = addresses::free_range(subnets.iter().map(|subnet| subnet.cidr.as_str()));
    let network: Network = lists::one(&visit.api, &id).await?;
    form(visit, Fields::default().with("cidr", cidr).with_box("dhcp", !network.external), network, None, None).await
}

async fn form(
    visit: Visit,
    fields: Fields,
    network: Network,
    subnet: Option<Subnet>,
    failure: Option<&Failure>,
) -> Result<Response> {
    let words = visit.words();
    let title = match &subnet {
        Some(subnet) => words.fill("Subnet {}", &[&subnet.title()]),
        None => words.fill("New subnet of {}", &[&network.label()]),
    };
    let frame = visit.frame("/networks", title);
    let [left] = if subnet.is_some() { [None] } else { lists::quota(&visit, ["subnet"]).await? };
    let blocked = bulk::blocked(&visit, subnet.as_ref().map_or(&network.project_id, |subnet| &subnet.project_id))?;
    match failure {
        None => visit.page(&Form { frame, fields, network, subnet, left, blocked }),
        Some(failure) => {
            visit.again(failure, &Form { frame: frame.with_problem(failure), fields, network, subnet, left, blocked })
        }
    }
}

/// `POST /networks/{id}/subnets/new`.
async fn create(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let network: Network = lists::one(&visit.api, &id).await?;
    let result = match attributes(&visit, &fields, true) {
        Ok(mut body) => {
            body["network_id"] = network.id.as_str().into();
            visit.api.post(Service::Network, "/subnets", &json!({ "subnet": body })).await.map(|_| ())
        }
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => visit.done(&format!("/networks/{}", encoded(&id)), visit.words().t("The subnet is made.")).await,
        Err(failure) if failure.is_users() => form(visit, fields, network, None, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

async fn around(visit: &Visit, id: &str) -> Result<(Subnet, Network)> {
    let subnet: Subnet = lists::one(&visit.api, id).await?;
    let network = lists::one(&visit.api, &subnet.network_id).await?;
    Ok((subnet, network))
}

/// `GET /subnets/{id}`.
async fn edit(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let (subnet, network) = around(&visit, &id).await?;
    let pools: Vec<String> =
        subnet.allocation_pools.iter().map(|pool| format!("{} - {}", pool.start, pool.end)).collect();
    let routes: Vec<String> =
        subnet.host_routes.iter().map(|route| format!("{} via {}", route.destination, route.nexthop)).collect();
    let fields = Fields::default()
        .with("name", subnet.name.clone())
        .with("description", subnet.description.clone())
        .with("gateway", subnet.gateway_ip.clone().unwrap_or_default())
        .with_box("no_gateway", subnet.gateway_ip.is_none())
        .with_box("dhcp", subnet.enable_dhcp)
        .with("dns", subnet.dns_nameservers.join("\n"))
        .with("pools", pools.join("\n"))
        .with("routes", routes.join("\n"));
    form(visit, fields, network, Some(subnet), None).await
}

/// `POST /subnets/{id}`.
async fn update(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let (subnet, network) = around(&visit, &id).await?;
    let path = format!("/subnets/{}", encoded(&id));
    let result = match attributes(&visit, &fields, false) {
        Ok(body) => visit.api.put(Service::Network, &path, &json!({ "subnet": body })).await.map(|_| ()),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => {
            let to = format!("/networks/{}", encoded(&network.id));
            visit.done(&to, visit.words().t("The subnet is changed.")).await
        }
        Err(failure) if failure.is_users() => form(visit, fields, network, Some(subnet), Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

/// `POST /subnets/actions`.
async fn actions(visit: Visit, fields: Fields) -> Result<Response> {
    bulk::many::<Subnet>(visit, fields, VERBS, "/networks").await
}
