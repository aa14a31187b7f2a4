//! `/ports`: where something is connected to a network; and why a port is down, in words.

use std::collections::HashMap;

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
    lists::{self, Left, Machines, Rows},
    model::{Group, Network, Port, Resource, Router as NetRouter, Subnet, label},
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    show,
    visit::Visit,
    words::Words,
};

pub(super) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/ports", get(index))
        .route("/ports/actions", post(actions))
        .route("/ports/new", get(new).post(create))
        .route("/ports/{id}", get(one))
        .route("/ports/{id}/edit", get(edit).post(update))
}

const fn t(text: &'static str) -> &'static str {
    text
}

const VERBS: &[Verb] = &[
    Verb { name: "up", label: t("Switch on"), question: "", act: Act::Set("admin_state_up", || true.into()) },
    Verb { name: "down", label: t("Switch off"), question: "", act: Act::Set("admin_state_up", || false.into()) },
    Verb {
        name: "delete",
        label: t("Delete"),
        question: t("Delete the marked ports? A server that uses one loses that interface."),
        act: Act::Delete,
    },
];

/// What a port's row says beyond the port: who uses it, and why it is not up.
pub(super) struct Told {
    pub user: String,
    pub href: Option<String>,
    pub why: Option<String>,
}

/// What is known around ports.
struct Around {
    networks: HashMap<String, Network>,
    routers: HashMap<String, NetRouter>,
    machines: Machines,
}

/// Rows of ports with what is to be said of each.
pub(super) async fn told(visit: &Visit, ports: Vec<Port>) -> Result<Vec<(Port, Told)>> {
    let routers: Vec<NetRouter> = if ports.iter().any(|port| port.device_owner.starts_with("network:router")) {
        lists::all(&visit.api, "").await?
    } else {
        Vec::new()
    };
    let around = Around {
        networks: lists::networks(&visit.api).await?,
        routers: routers.into_iter().map(|router| (router.id.clone(), router)).collect(),
        machines: lists::machines_of(visit, &ports).await?,
    };
    let words = visit.words();
    Ok(ports
        .into_iter()
        .map(|port| {
            let told = around.tell(words, &port);
            (port, told)
        })
        .collect())
}

impl Around {
    fn tell(&self, words: Words, port: &Port) -> Told {
        let (user, href) = self.user(words, port);
        Told { user, href, why: self.why(words, port) }
    }

    fn user(&self, words: Words, port: &Port) -> (String, Option<String>) {
        let at = |page: &str| Some(format!("/{page}/{}", encoded(&port.device_id)));
        match port.device_owner.as_str() {
            owner if owner.starts_with("compute:") => match self.machines.get(&port.device_id) {
                Some(machine) => (words.fill("Server {}", &[&label(&machine.name, &machine.id)]), at("servers")),
                None => (words.fill("Server {}", &[&show::short(&port.device_id)]), None),
            },
            "network:router_interface" | "network:router_gateway" => match self.routers.get(&port.device_id) {
                Some(router) => (words.fill("Router {}", &[&router.label()]), at("routers")),
                None => (words.t("A router").to_owned(), None),
            },
            "network:dhcp" => (words.t("The network's DHCP server").to_owned(), None),
            "network:floatingip" => (words.t("A floating IP").to_owned(), at("floating-ips")),
            "" if port.device_id.is_empty() => (words.t("nothing").to_owned(), None),
            "" => (port.device_id.clone(), None),
            owner => (owner.to_owned(), None),
        }
    }

    /// Why the port is not up; nothing of one that is.
    fn why(&self, words: Words, port: &Port) -> Option<String> {
        let network_is_off = self.networks.get(&port.network_id).is_some_and(|network| !network.admin_state_up);
        match port.status.as_str() {
            "ERROR" => {
                return Some(words.t("The host could not apply its rules. What was in force before stays so, and it is tried again; the log of the cloud says why.").to_owned());
            }
            "DOWN" => {}
            _ if network_is_off => return Some(words.t("Its network is switched off: nothing passes.").to_owned()),
            _ => return None,
        }
        let mut reasons: Vec<String> = Vec::new();
        if !port.admin_state_up {
            reasons.push(words.t("It is switched off (admin state down).").to_owned());
        }
        if network_is_off {
            reasons.push(words.t("Its network is switched off.").to_owned());
        }
        if port.vif_type.as_deref() == Some("binding_failed") {
            reasons.push(words.t("The host could not bind it. The log of the cloud says why.").to_owned());
        }
        if let Some(reason) = self.why_of_user(words, port) {
            reasons.push(reason);
        }
        let has_no_subnet = self.networks.get(&port.network_id).is_some_and(|network| network.subnets.is_empty());
        if port.fixed_ips.is_empty() && has_no_subnet {
            reasons.push(words.t("It has no address: its network has no subnet.").to_owned());
        }
        if reasons.is_empty() {
            reasons.push(words.t("It is not connected yet.").to_owned());
        }
        Some(reasons.join(" "))
    }

    /// What of its user keeps it down.
    fn why_of_user(&self, words: Words, port: &Port) -> Option<String> {
        let text = match port.device_owner.as_str() {
            owner if owner.starts_with("compute:") => {
                let Some(machine) = self.machines.get(&port.device_id) else {
                    return Some(words.t("Its server is gone, or not yours to see.").to_owned());
                };
                match machine.status.as_str() {
                    "ACTIVE" if !port.admin_state_up => return None,
                    "ACTIVE" => t("Its server runs, and is not connected yet."),
                    "BUILD" => t("Its server is still being built."),
                    "SHUTOFF" => t("Its server is off: start it."),
                    "ERROR" => t("Its server failed: the server's page says why."),
                    "SHELVED" | "SHELVED_OFFLOADED" => t("Its server is shelved: unshelve it."),
                    "SUSPENDED" => t("Its server is suspended: resume it."),
                    other => return Some(words.fill("Its server is not running: {}.", &[&other])),
                }
            }
            "network:router_interface" | "network:router_gateway" => match self.routers.get(&port.device_id) {
                Some(router) if !router.admin_state_up => t("Its router is switched off."),
                Some(router) if router.status == "ERROR" => t("The host could not set its router up."),
                _ => t("Its router is not connected yet."),
            },
            "network:dhcp" => t("The DHCP server does not run: no subnet has DHCP, or the network is switched off."),
            "" if port.device_id.is_empty() => t("No server is attached to it."),
            _ => return None,
        };
        Some(words.t(text).to_owned())
    }
}

struct Row {
    port: Port,
    told: Told,
    network: String,
    blocked: Option<String>,
}

#[derive(Template)]
#[template(path = "ports/index.html")]
struct Index {
    frame: Frame,
    fields: Fields,
    rows: Vec<Row>,
    networks: Vec<Network>,
    next: Option<String>,
    verbs: &'static [Verb],
    left: Option<Left>,
    blocked: Option<String>,
}

/// `GET /ports`.
async fn index(visit: Visit, fields: Fields) -> Result<Response> {
    let wanted = fields.get("name");
    let user = fields.get("user");
    let mut query = String::new();
    for (field, filter) in
        [("network", "network_id"), ("status", "status"), ("group", "security_groups"), ("server", "device_id")]
    {
        if fields.on(field) {
            query.push_str(&format!("&{filter}={}", encoded(fields.get(field))));
        }
    }
    query.push_str(&lists::only_project_filter(&visit, fields.on("all"))?);
    let keep = |port: &Port| {
        let is_user = match user {
            "server" => port.is_of_server(),
            "network" => port.is_service(),
            "none" => port.device_id.is_empty(),
            _ => true,
        };
        let mut texts = vec![port.name.as_str(), &port.id, &port.mac_address, &port.device_id];
        texts.extend(port.addresses());
        is_user && lists::matches(wanted, &texts)
    };
    let sifted = !wanted.is_empty() || !user.is_empty();
    let Rows { rows, next } = lists::page::<Port>(&visit.api, &query, fields.get("marker"), sifted, keep).await?;
    let networks = lists::networks(&visit.api).await?;
    let rows = told(&visit, rows).await?.into_iter().map(|(port, told)| {
        let network =
            networks.get(&port.network_id).map_or_else(|| show::short(&port.network_id).to_owned(), Resource::label);
        let blocked = bulk::blocked(&visit, &port.project_id)?;
        Ok(Row { network, blocked, told, port })
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let [left] = lists::quota(&visit, ["port"]).await?;
    visit.page(&Index {
        frame: visit.frame("/ports", visit.words().t("Ports")).live(),
        next: next.map(|marker| format!("/ports?{}", fields.after(&marker))),
        rows,
        networks: by_name(networks.into_values().collect()),
        verbs: VERBS,
        left,
        blocked: bulk::only_reads(&visit)?,
        fields,
    })
}

/// In the order of their names.
pub(super) fn by_name<T: Resource>(mut things: Vec<T>) -> Vec<T> {
    things.sort_by_cached_key(|thing| (thing.label().to_lowercase(), thing.id().to_owned()));
    things
}

/// `POST /ports/actions`.
async fn actions(visit: Visit, fields: Fields) -> Result<Response> {
    bulk::many::<Port>(visit, fields, VERBS, "/ports").await
}

#[derive(Template)]
#[template(path = "ports/show.html")]
struct Show {
    frame: Frame,
    port: Port,
    told: Told,
    network: String,
    subnets: HashMap<String, Subnet>,
    groups: Vec<Group>,
    blocked: Option<String>,
    /// Why it cannot be deleted here.
    kept: Option<String>,
}

/// `GET /ports/{id}`.
async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let port: Port = lists::one(&visit.api, &id).await?;
    let words = visit.words();
    let network: Option<Network> = lists::find(&visit.api, &port.network_id).await?;
    let subnets: Vec<Subnet> = lists::all(&visit.api, &format!("?network_id={}", encoded(&port.network_id))).await?;
    let groups: Vec<Group> = lists::all(&visit.api, "").await?;
    let groups = groups.into_iter().filter(|group| port.security_groups.contains(&group.id)).collect();
    let blocked = bulk::blocked(&visit, &port.project_id)?;
    let kept =
        port.is_service().then(|| words.t("The network made it for itself; it goes with what uses it.").to_owned());
    let Some((port, told)) = told(&visit, vec![port]).await?.pop() else { return Err(Failure::broken("a port")) };
    visit.page(&Show {
        frame: visit.frame("/ports", port.title()).live(),
        network: network.map_or_else(|| port.network_id.clone(), |network| network.label()),
        subnets: subnets.into_iter().map(|subnet| (subnet.id.clone(), subnet)).collect(),
        groups,
        blocked,
        kept,
        told,
        port,
    })
}

#[derive(Template)]
#[template(path = "ports/form.html")]
struct Form {
    frame: Frame,
    fields: Fields,
    /// Of a port that is changed.
    id: Option<String>,
    networks: Vec<Network>,
    subnets: Vec<Subnet>,
    groups: Vec<Group>,
    left: Option<Left>,
    blocked: Option<String>,
}

impl Form {
    fn network(&self, id: &str) -> String {
        let network = self.networks.iter().find(|network| network.id == id);
        network.map_or_else(|| show::short(id).to_owned(), Resource::label)
    }
}

/// What the API takes of the form, the network apart.
fn attributes(visit: &Visit, fields: &Fields, subnets: &[Subnet], is_new: bool) -> Result<Value> {
    let words = visit.words();
    let secured = fields.on("port_security");
    let mut body = json!({
        "name": fields.get("name"),
        "description": fields.get("description"),
        "admin_state_up": fields.on("up"),
    });
    let fixed = fixed_ips(words, fields.get("fixed_ips"), subnets)?;
    // What stays as it was needs no right to be said.
    let was = |name: &str| !is_new && fields.get(name) == fields.get(&format!("was_{name}"));
    if !was("fixed_ips") && (!is_new || !fixed.is_empty()) {
        body["fixed_ips"] = fixed.into();
    }
    if is_new && !secured || !is_new && secured != fields.on("was_port_security") {
        body["port_security_enabled"] = secured.into();
    }
    let groups = fields.all("group");
    if !secured && !groups.is_empty() {
        return Err(Failure::bad_request(
            words.t("Without port security there can be no security groups: take the marks away."),
        ));
    }
    if !is_new || !groups.is_empty() || fields.on("no_groups") || !secured {
        body["security_groups"] = json!(groups);
    }
    let pairs = addresses::pairs(words, fields.get("pairs"))?;
    if !was("pairs") && (!is_new || !pairs.is_empty()) {
        body["allowed_address_pairs"] = pairs.into();
    }
    if is_new && fields.on("mac") {
        body["mac_address"] = fields.get("mac").into();
    }
    Ok(body)
}

/// Addresses, or subnets by name, range or id: one in each line.
fn fixed_ips(words: Words, text: &str, subnets: &[Subnet]) -> Result<Vec<Value>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            if line.parse::<std::net::IpAddr>().is_ok() {
                return Ok(json!({"ip_address": line}));
            }
            let subnet =
                subnets.iter().find(|subnet| [&subnet.id, &subnet.cidr, &subnet.name].contains(&&line.to_owned()));
            let subnet = subnet.ok_or_else(|| {
                Failure::bad_request(words.fill("This is neither an address nor a subnet of the network: {}", &[&line]))
            })?;
            Ok(json!({"subnet_id": subnet.id}))
        })
        .collect()
}

/// `GET /ports/new?network=..`
async fn new(visit: Visit, asked: Fields) -> Result<Response> {
    let groups: Vec<Group> = groups_of(&visit, visit.session()?.project_id().unwrap_or_default()).await?;
    let mut fields =
        Fields::default().with("network", asked.get("network")).with_box("up", true).with_box("port_security", true);
    if let Some(group) = groups.iter().find(|group| group.is_default()) {
        fields = fields.with("group", group.id.clone());
    }
    form(visit, fields, None, None).await
}

async fn groups_of(visit: &Visit, project: &str) -> Result<Vec<Group>> {
    Ok(by_name(lists::all(&visit.api, &format!("?project_id={}", encoded(project))).await?))
}

async fn form(visit: Visit, fields: Fields, port: Option<&Port>, failure: Option<&Failure>) -> Result<Response> {
    let words = visit.words();
    let mine = visit.session()?.project_id().unwrap_or_default().to_owned();
    let project = port.map_or(&mine, |port| &port.project_id);
    let networks: Vec<Network> = lists::all(&visit.api, "").await?;
    let subnets: Vec<Subnet> = lists::all(&visit.api, "").await?;
    let groups = groups_of(&visit, project).await?;
    let [left] = if port.is_some() { [None] } else { lists::quota(&visit, ["port"]).await? };
    let blocked = match port {
        Some(port) => bulk::blocked(&visit, &port.project_id)?,
        None => bulk::only_reads(&visit)?,
    };
    let title = match port {
        Some(port) => words.fill("Edit {}", &[&port.title()]),
        None => words.t("New port").to_owned(),
    };
    let mut frame = visit.frame("/ports", title);
    if let Some(failure) = failure {
        frame = frame.with_problem(failure);
    }
    let id = port.map(|port| port.id.clone());
    let page = Form { frame, fields, id, networks: by_name(networks), subnets, groups, left, blocked };
    match failure {
        None => visit.page(&page),
        Some(failure) => visit.again(failure, &page),
    }
}

/// `POST /ports/new`.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    match make(&visit, &fields).await {
        Ok(id) => visit.done(&format!("/ports/{}", encoded(&id)), visit.words().t("The port is made.")).await,
        Err(failure) if failure.is_users() => form(visit, fields, None, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

async fn make(visit: &Visit, fields: &Fields) -> Result<String> {
    let network = fields.get("network");
    if network.is_empty() {
        return Err(Failure::bad_request(visit.words().t("Choose the network.")));
    }
    let subnets: Vec<Subnet> = lists::all(&visit.api, &format!("?network_id={}", encoded(network))).await?;
    let mut body = attributes(visit, fields, &subnets, true)?;
    body["network_id"] = network.into();
    let made = visit.api.post(Service::Network, "/ports", &json!({ "port": body })).await?;
    Ok(made["port"]["id"].as_str().unwrap_or_default().to_owned())
}

/// `GET /ports/{id}/edit`.
async fn edit(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let port: Port = lists::one(&visit.api, &id).await?;
    let pairs = port.allowed_address_pairs.iter().map(|pair| {
        if pair.mac_address == port.mac_address {
            pair.ip_address.clone()
        } else {
            format!("{} {}", pair.ip_address, pair.mac_address)
        }
    });
    let (fixed, pairs) = (port.addresses().join("\n"), pairs.collect::<Vec<_>>().join("\n"));
    let mut fields = Fields::default()
        .with("name", port.name.clone())
        .with("description", port.description.clone())
        .with("network", port.network_id.clone())
        .with_box("up", port.admin_state_up)
        .with_box("port_security", port.port_security_enabled)
        .with_box("was_port_security", port.port_security_enabled)
        .with("fixed_ips", fixed.clone())
        .with("was_fixed_ips", fixed)
        .with("pairs", pairs.clone())
        .with("was_pairs", pairs);
    for group in &port.security_groups {
        fields = fields.with("group", group.clone());
    }
    form(visit, fields, Some(&port), None).await
}

/// `POST /ports/{id}/edit`.
async fn update(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let port: Port = lists::one(&visit.api, &id).await?;
    let path = format!("/ports/{}", encoded(&id));
    let subnets: Vec<Subnet> = lists::all(&visit.api, &format!("?network_id={}", encoded(&port.network_id))).await?;
    let result = match attributes(&visit, &fields, &subnets, false) {
        Ok(body) => visit.api.put(Service::Network, &path, &json!({ "port": body })).await.map(|_| ()),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => visit.done(&path, visit.words().t("The port is changed.")).await,
        Err(failure) if failure.is_users() => form(visit, fields, Some(&port), Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn around() -> Around {
        let network = Network { id: "n".into(), admin_state_up: true, ..Network::default() };
        let machine = lists::Machine { id: "s".into(), name: "web".into(), status: "SHUTOFF".into() };
        Around {
            networks: HashMap::from([("n".to_owned(), network)]),
            routers: HashMap::new(),
            machines: HashMap::from([("s".to_owned(), machine)]),
        }
    }

    fn port(owner: &str, device: &str) -> Port {
        Port {
            id: "11111111-1111".into(),
            network_id: "n".into(),
            admin_state_up: true,
            status: "DOWN".into(),
            device_owner: owner.into(),
            device_id: device.into(),
            ..Port::default()
        }
    }

    #[test]
    fn a_port_that_is_down_says_why() {
        let words = Words::of(&HeaderMap::new());
        let why = |port: &Port| around().tell(words, port).why.unwrap();
        assert_eq!(why(&port("", "")), "No server is attached to it. It has no address: its network has no subnet.");
        assert!(why(&port("compute:nova", "s")).starts_with("Its server is off: start it."));
        assert!(why(&port("compute:nova", "x")).starts_with("Its server is gone"));
        assert!(
            why(&Port { admin_state_up: false, ..port("", "") }).starts_with("It is switched off (admin state down).")
        );
        assert!(why(&Port { vif_type: Some("binding_failed".into()), ..port("", "") }).contains("could not bind it"));
        assert!(why(&port("network:router_interface", "r")).contains("router is not connected yet"));
        assert!(why(&Port { status: "ERROR".into(), ..port("", "") }).contains("tried again"));
        let active = Port { status: "ACTIVE".into(), ..port("compute:nova", "s") };
        assert!(around().tell(words, &active).why.is_none());
        assert_eq!(around().tell(words, &active).href.as_deref(), Some("/servers/s"));
    }

    #[test]
    fn addresses_and_subnets_are_told_apart() {
        let words = Words::of(&HeaderMap::new());
        let subnets =
            [Subnet { id: "i".into(), name: "inside".into(), cidr: "10.0.0.0/24".into(), ..Subnet::default() }];
        let read = |text: &str| fixed_ips(words, text, &subnets);
        assert_eq!(read("10.0.0.5\ninside").unwrap(), [json!({"ip_address": "10.0.0.5"}), json!({"subnet_id": "i"})]);
        assert_eq!(read("10.0.0.0/24").unwrap(), [json!({"subnet_id": "i"})]);
        assert!(read("outside").is_err());
    }
}
