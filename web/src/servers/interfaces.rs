//! `/servers/{id}/interfaces`: networks and ports of a server, its floating IPs and security groups.

use askama::Template;
use axum::{extract::Path, response::Response};
use futures::try_join;
use serde::Deserialize;
use serde_json::json;

use super::{
    choices::{self, Network, Port, SecurityGroup},
    detail::Head,
};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::{Fields, WithFiles},
    frame::Frame,
    visit::Visit,
};

#[derive(Clone, Debug, Deserialize)]
struct Floating {
    id: String,
    floating_ip_address: String,
    fixed_ip_address: Option<String>,
    port_id: Option<String>,
}

#[derive(Deserialize)]
struct Floatings {
    floatingips: Vec<Floating>,
}

#[derive(Deserialize)]
struct Attachments {
    #[serde(rename = "interfaceAttachments")]
    all: Vec<Attachment>,
}

#[derive(Clone, Debug, Deserialize)]
struct Attachment {
    port_id: String,
    port_state: String,
    net_id: String,
    mac_addr: String,
    #[serde(default)]
    fixed_ips: Vec<choices::FixedIp>,
}

/// One interface, with what Network knows of its port.
struct Row {
    port_id: String,
    name: String,
    network: String,
    mac: String,
    active: bool,
    fixed: Vec<String>,
    floating: Vec<Floating>,
    groups: Vec<SecurityGroup>,
}

impl Row {
    fn has(&self, group_id: &str) -> bool {
        self.groups.iter().any(|group| group.id == group_id)
    }
}

#[derive(Template)]
#[template(path = "servers/interfaces.html")]
struct Page {
    frame: Frame,
    head: Head,
    rows: Vec<Row>,
    networks: Vec<Network>,
    ports: Vec<Port>,
    groups: Vec<SecurityGroup>,
    /// Free ones.
    floating: Vec<Floating>,
    external: Vec<Network>,
    /// Why interfaces cannot be attached or detached now.
    why: Option<String>,
}

/// `GET /servers/{id}/interfaces`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let head = Head::of(&visit, &id, "/interfaces").await?;
    let project = &head.server.tenant_id;
    let (attachments, floating) = (
        format!("/servers/{}/os-interface", encoded(&id)),
        format!("/floatingips?project_id={}&limit=1000", encoded(project)),
    );
    let (attached, ports, networks, free, groups, floating, external) = try_join!(
        visit.api.get::<Attachments>(Service::Compute, &attachments),
        choices::ports_of(&visit, &id),
        choices::networks(&visit),
        choices::free_ports(&visit),
        choices::security_groups(&visit, project),
        visit.api.get::<Floatings>(Service::Network, &floating),
        choices::external_networks(&visit),
    )?;
    let row = |attachment: Attachment| {
        let port = ports.iter().find(|port| port.id == attachment.port_id);
        let network = networks.iter().find(|network| network.id == attachment.net_id);
        let of_port = |one: &&Floating| one.port_id.as_deref() == Some(&attachment.port_id);
        let of_group = |group: &&SecurityGroup| port.is_some_and(|port| port.security_groups.contains(&group.id));
        Row {
            name: port.map(|port| port.name.clone()).unwrap_or_default(),
            network: network.map_or(attachment.net_id.as_str(), Network::label).to_owned(),
            active: attachment.port_state == "ACTIVE",
            fixed: attachment.fixed_ips.iter().map(|fixed| fixed.ip_address.clone()).collect(),
            floating: floating.floatingips.iter().filter(of_port).cloned().collect(),
            groups: groups.iter().filter(of_group).cloned().collect(),
            mac: attachment.mac_addr,
            port_id: attachment.port_id,
        }
    };
    let rows = attached.all.into_iter().map(row).collect();
    let words = visit.words();
    let right = ["ACTIVE", "PAUSED", "SHUTOFF"];
    let why = if !head.may.change() {
        Some(words.t("needs the role member").to_owned())
    } else if right.contains(&head.server.status.as_str()) {
        None
    } else {
        Some(words.fill("needs {}, is {}", &[&right.join(words.t(" or ")), &head.server.status]))
    };
    let floating = floating.floatingips.into_iter().filter(|one| one.port_id.is_none()).collect();
    let frame = head.frame(&visit).live();
    visit.page(&Page { frame, head, rows, networks, ports: free, groups, floating, external, why })
}

/// `POST /servers/{id}/interfaces`: `do` says what.
pub(super) async fn change(visit: Visit, Path(id): Path<String>, WithFiles(fields): WithFiles) -> Result<Response> {
    let words = visit.words();
    let back = format!("/servers/{}/interfaces", encoded(&id));
    let (result, text) = match fields.get("do") {
        "attach" => (attach(&visit, &id, &fields).await, words.t("The interface is attached.")),
        "detach" => (detach(&visit, &id, &fields).await, words.t("The interface is being detached.")),
        "associate" => (associate(&visit, &fields).await, words.t("The floating IP leads to the server.")),
        "disassociate" => (disassociate(&visit, &fields).await, words.t("The floating IP is free.")),
        "groups" => (groups(&visit, &fields).await, words.t("The security groups are changed.")),
        _ => (Err(Failure::bad_request(words.t("Choose what to do."))), ""),
    };
    visit.outcome(result, &back, text).await
}

async fn attach(visit: &Visit, id: &str, fields: &Fields) -> Result<()> {
    let mut wanted = serde_json::Map::new();
    match fields.get("to").split_once(':') {
        Some(("port", port)) => wanted.insert("port_id".into(), json!(port)),
        Some(("net", network)) => wanted.insert("net_id".into(), json!(network)),
        _ => return Err(Failure::bad_request(visit.words().t("Choose a network or a port."))),
    };
    if fields.on("address") {
        wanted.insert("fixed_ips".into(), json!([{"ip_address": fields.get("address")}]));
    }
    let path = format!("/servers/{}/os-interface", encoded(id));
    visit.api.post(Service::Compute, &path, &json!({ "interfaceAttachment": wanted })).await.map(|_| ())
}

async fn detach(visit: &Visit, id: &str, fields: &Fields) -> Result<()> {
    let path = format!("/servers/{}/os-interface/{}", encoded(id), encoded(fields.get("port")));
    visit.api.delete(Service::Compute, &path).await
}

/// With a free floating IP, or a new one of an external network.
async fn associate(visit: &Visit, fields: &Fields) -> Result<()> {
    let mut wanted = json!({"port_id": fields.get("port")});
    if fields.on("fixed") {
        wanted["fixed_ip_address"] = json!(fields.get("fixed"));
    }
    match fields.get("from").split_once(':') {
        Some(("new", network)) => {
            wanted["floating_network_id"] = json!(network);
            visit.api.post(Service::Network, "/floatingips", &json!({ "floatingip": wanted })).await.map(|_| ())
        }
        Some(("ip", id)) => {
            let path = format!("/floatingips/{}", encoded(id));
            visit.api.put(Service::Network, &path, &json!({ "floatingip": wanted })).await.map(|_| ())
        }
        _ => Err(Failure::bad_request(visit.words().t("Choose a floating IP."))),
    }
}

async fn disassociate(visit: &Visit, fields: &Fields) -> Result<()> {
    let path = format!("/floatingips/{}", encoded(fields.get("floating")));
    visit.api.put(Service::Network, &path, &json!({"floatingip": {"port_id": null}})).await.map(|_| ())
}

async fn groups(visit: &Visit, fields: &Fields) -> Result<()> {
    let path = format!("/ports/{}", encoded(fields.get("port")));
    let body = json!({"port": {"security_groups": fields.all("group")}});
    visit.api.put(Service::Network, &path, &body).await.map(|_| ())
}
