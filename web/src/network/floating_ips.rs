//! `/floating-ips`: addresses outside that lead to servers, chosen by the servers' names.

use std::collections::{HashMap, HashSet};

use askama::Template;
use axum::{
    Router as Routes,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    bulk::{self, Act, Verb},
    lists::{self, Left, Machines, Rows},
    model::{FloatingIp, Network, Port, Resource, Router, label},
    ports::by_name,
    routers::name_of,
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    show,
    visit::Visit,
};

pub(super) fn routes() -> Routes<Dashboard> {
    Routes::new()
        .route("/floating-ips", get(index))
        .route("/floating-ips/actions", post(actions))
        .route("/floating-ips/new", get(new).post(create))
        .route("/floating-ips/{id}", get(one).post(associate))
}

const fn t(text: &'static str) -> &'static str {
    text
}

const VERBS: &[Verb] = &[
    Verb { name: "disassociate", label: t("Disassociate"), question: "", act: Act::Set("port_id", || Value::Null) },
    Verb {
        name: "delete",
        label: t("Release"),
        question: t("Release the marked addresses? Somebody else may get them then."),
        act: Act::Delete,
    },
];

/// Where a floating IP leads.
struct Target {
    text: String,
    href: String,
}

struct Row {
    ip: FloatingIp,
    network: String,
    target: Option<Target>,
    blocked: Option<String>,
}

#[derive(Template)]
#[template(path = "floating-ips/index.html")]
struct Index {
    frame: Frame,
    fields: Fields,
    rows: Vec<Row>,
    next: Option<String>,
    verbs: &'static [Verb],
    left: Option<Left>,
    blocked: Option<String>,
}

/// Ports that floating IPs may lead to, by id, and their servers.
#[derive(Default)]
struct Ends {
    ports: HashMap<String, Port>,
    machines: Machines,
}

impl Ends {
    /// Whatever there may be.
    async fn all(visit: &Visit, query: &str) -> Result<Self> {
        let ports: Vec<Port> = lists::all(&visit.api, query).await?;
        Ok(Self::new(ports, lists::machines(visit).await?))
    }

    /// Those of a few addresses.
    async fn of(visit: &Visit, ips: &[FloatingIp]) -> Result<Self> {
        let mut query = String::new();
        for id in ips.iter().filter_map(|ip| ip.port_id.as_deref()) {
            query.push_str(if query.is_empty() { "?id=" } else { "&id=" });
            query.push_str(&encoded(id));
        }
        if query.is_empty() {
            return Ok(Self::default());
        }
        let ports: Vec<Port> = lists::all(&visit.api, &query).await?;
        let machines = lists::machines_of(visit, &ports).await?;
        Ok(Self::new(ports, machines))
    }

    fn new(ports: Vec<Port>, machines: Machines) -> Self {
        Self { ports: ports.into_iter().map(|port| (port.id.clone(), port)).collect(), machines }
    }

    /// The server's name, or what else the port is called.
    fn name(&self, port: &Port) -> String {
        match self.machines.get(&port.device_id) {
            Some(machine) => label(&machine.name, &machine.id),
            None => port.title(),
        }
    }

    fn target(&self, ip: &FloatingIp) -> Option<Target> {
        let id = ip.port_id.as_ref()?;
        Some(match self.ports.get(id) {
            Some(port) if self.machines.contains_key(&port.device_id) => {
                Target { text: self.name(port), href: format!("/servers/{}", encoded(&port.device_id)) }
            }
            Some(port) => Target { text: port.title(), href: format!("/ports/{}", encoded(id)) },
            None => Target { text: show::short(id).to_owned(), href: format!("/ports/{}", encoded(id)) },
        })
    }
}

/// `GET /floating-ips`.
async fn index(visit: Visit, fields: Fields) -> Result<Response> {
    let (wanted, use_) = (fields.get("name"), fields.get("use"));
    let query = lists::only_project_filter(&visit, fields.on("all"))?;
    // Names are looked for among all that there are; for the rows of a page their own do.
    let named = !wanted.is_empty();
    let mut ends = if named { Ends::all(&visit, "").await? } else { Ends::default() };
    let keep = |ip: &FloatingIp| {
        let target = ends.target(ip);
        let name = target.as_ref().map(|target| target.text.as_str()).unwrap_or_default();
        let fixed = ip.fixed_ip_address.as_deref().unwrap_or_default();
        let is_used = match use_ {
            "used" => ip.port_id.is_some(),
            "free" => ip.port_id.is_none(),
            _ => true,
        };
        is_used && lists::matches(wanted, &[&ip.floating_ip_address, fixed, name, &ip.id, &ip.description])
    };
    let sifted = named || !use_.is_empty();
    let Rows { rows, next } = lists::page(&visit.api, &query, fields.get("marker"), sifted, keep).await?;
    if !named {
        ends = Ends::of(&visit, &rows).await?;
    }
    let networks = lists::networks(&visit.api).await?;
    let rows = rows.into_iter().map(|ip: FloatingIp| {
        let blocked = bulk::blocked(&visit, &ip.project_id)?;
        Ok(Row { network: name_of(&networks, &ip.floating_network_id), target: ends.target(&ip), blocked, ip })
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let [left] = lists::quota(&visit, ["floatingip"]).await?;
    visit.page(&Index {
        frame: visit.frame("/floating-ips", visit.words().t("Floating IPs")).live(),
        next: next.map(|marker| format!("/floating-ips?{}", fields.after(&marker))),
        rows,
        verbs: VERBS,
        left,
        blocked: bulk::only_reads(&visit)?,
        fields,
    })
}

/// `POST /floating-ips/actions`.
async fn actions(visit: Visit, fields: Fields) -> Result<Response> {
    bulk::many::<FloatingIp>(visit, fields, VERBS, "/floating-ips").await
}

/// An address of a server that a floating IP may lead to.
struct Choice {
    /// `port id/address`.
    value: String,
    text: String,
    /// Why it cannot be reached from outside.
    why: Option<String>,
}

/// Addresses of servers' ports, those that a floating IP of the network reaches first.
async fn choices(visit: &Visit, project: &str, outside: Option<&str>, taken: &HashSet<String>) -> Result<Vec<Choice>> {
    let words = visit.words();
    let ends = Ends::all(visit, &format!("?project_id={}", encoded(project))).await?;
    let networks = lists::networks(&visit.api).await?;
    let routers: Vec<Router> = lists::all(&visit.api, "").await?;
    let leads = |router: &&Router| {
        let gateway = router.external_gateway_info.as_ref();
        gateway.is_some_and(|gateway| outside.is_none_or(|outside| gateway.network_id == outside))
    };
    let leading: HashSet<&str> = routers.iter().filter(leads).map(|router| router.id.as_str()).collect();
    let interfaces: Vec<Port> = lists::all(&visit.api, "?device_owner=network:router_interface").await?;
    let reached: HashSet<&str> = interfaces
        .iter()
        .filter(|port| leading.contains(port.device_id.as_str()))
        .flat_map(|port| &port.fixed_ips)
        .map(|fixed| fixed.subnet_id.as_str())
        .collect();
    let mut choices = Vec::new();
    for port in ends.ports.values().filter(|port| !port.is_service()) {
        for fixed in port.fixed_ips.iter().filter(|fixed| !fixed.ip_address.contains(':')) {
            let value = format!("{}/{}", port.id, fixed.ip_address);
            let why = if taken.contains(&value) {
                Some(words.t("it has a floating IP").to_owned())
            } else if reached.contains(fixed.subnet_id.as_str()) {
                None
            } else {
                Some(words.t("no router leads from there to the external network").to_owned())
            };
            let network = name_of(&networks, &port.network_id);
            choices.push(Choice {
                value,
                text: format!("{} – {} ({network})", ends.name(port), fixed.ip_address),
                why,
            });
        }
    }
    choices.sort_by_cached_key(|choice| (choice.why.is_some(), choice.text.to_lowercase()));
    Ok(choices)
}

/// Addresses that have a floating IP already, as choices have them.
async fn taken(visit: &Visit) -> Result<HashSet<String>> {
    let all: Vec<FloatingIp> = lists::all(&visit.api, "").await?;
    let pairs = all.into_iter().filter_map(|ip| Some(format!("{}/{}", ip.port_id?, ip.fixed_ip_address?)));
    Ok(pairs.collect())
}

/// What `port` of a form says: port and address.
fn chosen(fields: &Fields, body: &mut Value) {
    let (port, address) = fields.get("port").split_once('/').unwrap_or((fields.get("port"), ""));
    body["port_id"] = port.into();
    if !address.is_empty() {
        body["fixed_ip_address"] = address.into();
    }
}

#[derive(Template)]
#[template(path = "floating-ips/new.html")]
struct New {
    frame: Frame,
    fields: Fields,
    outside: Vec<Network>,
    choices: Vec<Choice>,
    left: Option<Left>,
    blocked: Option<String>,
}

/// `GET /floating-ips/new`; `server` marks one of its addresses.
async fn new(visit: Visit, asked: Fields) -> Result<Response> {
    let mut fields = Fields::default();
    if asked.on("server") {
        let query = format!("?device_id={}", encoded(asked.get("server")));
        let ports: Vec<Port> = lists::all(&visit.api, &query).await?;
        let first = ports.iter().find_map(|port| {
            let fixed = port.fixed_ips.iter().find(|fixed| !fixed.ip_address.contains(':'))?;
            Some(format!("{}/{}", port.id, fixed.ip_address))
        });
        fields = fields.with("port", first.unwrap_or_default());
    }
    new_form(visit, fields, None).await
}

async fn new_form(visit: Visit, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let networks = lists::networks(&visit.api).await?;
    let mut outside: Vec<Network> =
        by_name(networks.into_values().filter(|network| network.external && !network.subnets.is_empty()).collect());
    outside.sort_by_key(|network| network.is_default != Some(true));
    let mine = visit.session()?.project_id().unwrap_or_default().to_owned();
    let choices = choices(&visit, &mine, None, &taken(&visit).await?).await?;
    let [left] = lists::quota(&visit, ["floatingip"]).await?;
    let mut frame = visit.frame("/floating-ips", visit.words().t("Allocate a floating IP"));
    if let Some(failure) = failure {
        frame = frame.with_problem(failure);
    }
    let page = New { frame, fields, outside, choices, left, blocked: bulk::only_reads(&visit)? };
    match failure {
        None => visit.page(&page),
        Some(failure) => visit.again(failure, &page),
    }
}

/// `POST /floating-ips/new`.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    let mut body = json!({"floating_network_id": fields.get("network"), "description": fields.get("description")});
    if fields.on("address") {
        body["floating_ip_address"] = fields.get("address").into();
    }
    if fields.on("port") {
        chosen(&fields, &mut body);
    }
    match visit.api.post(Service::Network, "/floatingips", &json!({ "floatingip": body })).await {
        Ok(made) => {
            let address = made["floatingip"]["floating_ip_address"].as_str().unwrap_or_default().to_owned();
            let text = visit.words().fill("The floating IP {} is yours.", &[&address]);
            visit.done("/floating-ips", text).await
        }
        Err(failure) if failure.is_users() => new_form(visit, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

#[derive(Template)]
#[template(path = "floating-ips/show.html")]
struct Show {
    frame: Frame,
    fields: Fields,
    ip: FloatingIp,
    network: String,
    target: Option<Target>,
    choices: Vec<Choice>,
    blocked: Option<String>,
}

/// `GET /floating-ips/{id}`.
async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    page(visit, &id, Fields::default(), None).await
}

async fn page(visit: Visit, id: &str, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let ip: FloatingIp = lists::one(&visit.api, id).await?;
    let networks = lists::networks(&visit.api).await?;
    let ends = Ends::of(&visit, std::slice::from_ref(&ip)).await?;
    let choices = choices(&visit, &ip.project_id, Some(&ip.floating_network_id), &taken(&visit).await?).await?;
    let mut frame = visit.frame("/floating-ips", ip.label());
    frame = match failure {
        Some(failure) => frame.with_problem(failure),
        None => frame.live(),
    };
    let shown = Show {
        frame,
        fields,
        network: name_of(&networks, &ip.floating_network_id),
        target: ends.target(&ip),
        choices,
        blocked: bulk::blocked(&visit, &ip.project_id)?,
        ip,
    };
    match failure {
        None => visit.page(&shown),
        Some(failure) => visit.again(failure, &shown),
    }
}

/// `POST /floating-ips/{id}`: where it leads, and its description.
async fn associate(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let mut body = json!({});
    if fields.on("describe") {
        body["description"] = fields.get("description").into();
    } else if fields.on("port") {
        chosen(&fields, &mut body);
    } else {
        let failure = Failure::bad_request(visit.words().t("Choose the server."));
        return page(visit, &id, fields, Some(&failure)).await;
    }
    let path = format!("/floatingips/{}", encoded(&id));
    match visit.api.put(Service::Network, &path, &json!({ "floatingip": body })).await {
        Ok(_) => {
            let to = format!("/floating-ips/{}", encoded(&id));
            visit.done(&to, visit.words().t("The floating IP is changed.")).await
        }
        Err(failure) if failure.is_users() => page(visit, &id, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}
