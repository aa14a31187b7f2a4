//! A server's interfaces: all that Compute asks of Network, in Compute's words.

use std::{collections::HashMap, net::IpAddr, os::fd::OwnedFd, sync::Arc};

use db::Tx;
use network::peer;
pub(crate) use network::peer::Traffic;
use rest::{Error, Result};
use serde_json::{Value, json};
use tasks::Failure;
use uuid::Uuid;

use crate::{
    App, aggregates,
    servers::{Server, request::NetworkRequest, store},
};

/// A port of a server, with what its networks say of it.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub port_id: String,
    pub network_id: String,
    pub network_name: String,
    pub mac: String,
    pub mtu: u16,
    pub active: bool,
    pub fixed_ips: Vec<FixedIp>,
    pub floating_ips: Vec<String>,
    /// Id and name.
    pub security_groups: Vec<(String, String)>,
    /// Place in the machine, for as long as the server has it.
    pub slot: u8,
    /// Whether that place is written down. A port that became the server's behind Compute's back has none yet.
    pub placed: bool,
    /// Device tag, as given at create or attach.
    pub tag: Option<String>,
}

impl Interface {
    /// What its tap is called on this machine: as Neutron names it.
    pub fn tap_name(&self) -> String {
        format!("tap{}", self.port_id.get(..11).unwrap_or(&self.port_id))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FixedIp {
    pub address: String,
    pub subnet: Arc<peer::SubnetInfo>,
}

impl FixedIp {
    /// `255.255.255.0` or `ffff:ffff::`.
    pub fn netmask(&self) -> IpAddr {
        self.subnet.cidr.netmask()
    }

    /// Routes as network_data.json has them: the default one first.
    pub fn routes(&self) -> Vec<Value> {
        let any = if self.address.contains(':') { "::" } else { "0.0.0.0" };
        let mut routes: Vec<Value> = Vec::new();
        if let Some(gateway) = self.subnet.gateway {
            routes.push(json!({"network": any, "netmask": any, "gateway": gateway}));
        }
        for (destination, next_hop) in &self.subnet.routes {
            let (network, netmask) = (destination.network(), destination.netmask());
            routes.push(json!({"network": network, "netmask": netmask, "gateway": next_hop}));
        }
        routes
    }
}

/// Interfaces of several servers.
#[derive(Debug, Default)]
pub(crate) struct ByServer(HashMap<String, Vec<Interface>>);

impl ByServer {
    pub fn of(&self, server_id: &str) -> &[Interface] {
        self.0.get(server_id).map_or(&[], Vec::as_slice)
    }
}

/// A port that a server is to have.
#[derive(Clone, Debug)]
pub(crate) struct PortRequest {
    pub network_id: Option<String>,
    pub port_id: Option<String>,
    pub fixed_ip: Option<IpAddr>,
    pub tag: Option<String>,
}

impl PortRequest {
    pub fn network(id: String) -> Self {
        Self { network_id: Some(id), port_id: None, fixed_ip: None, tag: None }
    }
}

impl From<NetworkRequest> for PortRequest {
    fn from(request: NetworkRequest) -> Self {
        Self {
            network_id: request.uuid,
            port_id: request.port,
            fixed_ip: request.fixed_ip.and_then(|text| text.parse().ok()),
            tag: request.tag,
        }
    }
}

/// An interface ready for the VM.
pub(crate) struct Plug {
    pub slot: u8,
    pub port_id: Uuid,
    pub mac: vmspec::Mac,
    pub mtu: u16,
    pub tap: OwnedFd,
}

/// All interfaces of these servers, each in the order of its slots.
pub(crate) fn of_servers(tx: &Tx<'_>, server_ids: &[&str]) -> Result<ByServer> {
    let mut all = HashMap::with_capacity(server_ids.len());
    let mut nics = store::nics_of(tx, server_ids)?;
    for (server_id, ports) in peer::ports_of_many(tx, server_ids.iter().copied())? {
        let nics = nics.remove(&server_id).unwrap_or_default();
        let mut interfaces: Vec<Interface> = ports.into_iter().map(Interface::from).collect();
        for interface in &mut interfaces {
            if let Some(nic) = nics.iter().find(|nic| nic.port_id == interface.port_id) {
                (interface.placed, interface.slot, interface.tag) = (true, nic.slot, nic.tag.clone());
            }
        }
        // Ports that were attached otherwise get what is free, in the order in which they were connected.
        let mut free = (0_u8..).filter(|slot| !nics.iter().any(|nic| nic.slot == *slot));
        for interface in interfaces.iter_mut().filter(|interface| !interface.placed) {
            interface.slot = free.next().unwrap_or(u8::MAX);
        }
        interfaces.sort_by_key(|interface| interface.slot);
        all.insert(server_id, interfaces);
    }
    Ok(ByServer(all))
}

impl From<peer::PortInfo> for Interface {
    fn from(port: peer::PortInfo) -> Self {
        let floating_ips = port.fixed_ips.iter().flat_map(|fixed| fixed.floating_ips.iter().cloned()).collect();
        let fixed = |fixed: peer::FixedIp| FixedIp { address: fixed.address.to_string(), subnet: fixed.subnet };
        let fixed_ips = port.fixed_ips.into_iter().map(fixed).collect();
        Self {
            active: port.status == "ACTIVE",
            port_id: port.id,
            network_id: port.network_id,
            network_name: port.network_name,
            mac: port.mac,
            mtu: u16::try_from(port.mtu).unwrap_or(u16::MAX),
            fixed_ips,
            floating_ips,
            security_groups: port.security_groups,
            slot: u8::MAX,
            placed: false,
            tag: None,
        }
    }
}

/// Servers whose addresses match `ip` and `ip6`, both regular expressions.
pub(crate) fn servers_with_address(tx: &Tx<'_>, patterns: &[(String, String)]) -> Result<Vec<String>> {
    let mut hits = Vec::new();
    let patterns: Vec<(bool, regex::Regex)> = patterns
        .iter()
        .map(|(name, pattern)| {
            regex::RegexBuilder::new(pattern)
                .size_limit(1 << 18)
                .build()
                .map(|regex| (name == "ip6", regex))
                .map_err(|_| Error::bad_request(format!("Invalid regular expression {pattern:?}.")))
        })
        .collect::<Result<_>>()?;
    let servers = store::names(tx)?;
    let ids: Vec<&str> = servers.iter().map(|(id, _)| id.as_str()).collect();
    for (server_id, interfaces) in of_servers(tx, &ids)?.0 {
        let addresses: Vec<&String> =
            interfaces.iter().flat_map(|interface| &interface.fixed_ips).map(|fixed| &fixed.address).collect();
        let fits = patterns
            .iter()
            .all(|(v6, regex)| addresses.iter().any(|address| address.contains(':') == *v6 && regex.is_match(address)));
        if fits {
            hits.push(server_id);
        }
    }
    Ok(hits)
}

/// The network of a server that names none: the only one its project can use, if there is one.
pub(crate) fn only_network(tx: &Tx<'_>, project_id: &str) -> Result<Option<String>> {
    let networks = peer::available_networks(tx, project_id)?;
    match networks.as_slice() {
        [] => Ok(None),
        [network] => Ok(Some(network.id.clone())),
        _ => Err(Error::conflict("Multiple possible networks found, use a Network ID to be more specific.")),
    }
}

/// `auto`: as [`only_network`], and where the project can use none it gets one of its own.
pub(crate) fn auto_network(tx: &Tx<'_>, app: &App, project_id: &str) -> Result<String> {
    match only_network(tx, project_id)? {
        Some(id) => Ok(id),
        None => peer::auto_allocate(tx, &app.network, project_id),
    }
}

/// Makes a port for the server, or takes the one that was given. Answers its id.
pub(crate) fn take_port(
    tx: &Tx<'_>,
    app: &App,
    server: &Server,
    request: &PortRequest,
    security_groups: &[String],
    is_admin: bool,
) -> Result<String> {
    let wanted = match (&request.port_id, &request.network_id) {
        (Some(port_id), _) => peer::Wanted::Port { port_id: port_id.clone() },
        (None, Some(network_id)) => {
            peer::Wanted::Network { network_id: network_id.clone(), fixed_ip: request.fixed_ip }
        }
        (None, None) => return Err(Error::bad_request("Bad network format: missing 'uuid' or 'port'")),
    };
    let zone = aggregates::store::zone(tx, &app.options)?;
    let request = peer::PortRequest {
        requester: peer::Requester { project_id: &server.project_id, is_admin },
        server_id: &server.id,
        server_name: &server.name,
        zone: &zone,
        wanted: &wanted,
        security_groups,
    };
    Ok(peer::create_port(tx, &app.network, &request)?.id)
}

/// Gives a server one more interface: its port, bound, and its place in the machine. `running`: its machine has what was
/// in it when it started, so places of what was lost since then are not free.
pub(crate) fn attach(
    tx: &Tx<'_>,
    app: &App,
    server: &Server,
    request: &PortRequest,
    is_admin: bool,
    running: bool,
) -> Result<String> {
    if let Some(port_id) = &request.port_id
        && peer::port(tx, port_id).is_ok_and(|port| port.server_id == server.id)
    {
        return Err(Error::conflict(format!("Port {port_id} is still in use.")));
    }
    if !running {
        place_all(tx, &server.id)?;
    }
    let all = of_servers(tx, &[&server.id])?;
    let (interfaces, rows) = (all.of(&server.id), store::nics_of(tx, &[&server.id])?);
    let rows = rows.get(&server.id).map_or(&[][..], Vec::as_slice);
    let taken = |slot: u8| interfaces.iter().any(|one| one.slot == slot) || rows.iter().any(|row| row.slot == slot);
    let slot = (0..vmspec::spec::MAX_NICS).filter_map(|slot| u8::try_from(slot).ok()).find(|slot| !taken(*slot));
    let slot = slot.ok_or_else(|| {
        Error::bad_request(format!(
            "Failed to attach network adapter device to {}: a server can have {} interfaces at most.",
            server.id,
            vmspec::spec::MAX_NICS
        ))
    })?;
    let port_id = take_port(tx, app, server, request, &["default".to_owned()], is_admin)?;
    let port = peer::port(tx, &port_id)?;
    if interfaces.iter().any(|interface| interface.mac == port.mac) {
        return Err(Error::bad_request(format!(
            "Port {port_id} not usable for instance {}: it has an interface with the MAC address {}.",
            server.id, port.mac
        )));
    }
    store::insert_nic(tx, &server.id, &port_id, slot, request.tag.as_deref())?;
    Ok(port_id)
}

/// Lets go of one port of the server; one that was made for it is deleted. One that is gone is fine.
pub(crate) fn detach(tx: &Tx<'_>, app: &App, server_id: &str, port_id: &str) -> db::Result<()> {
    match peer::release_port(tx, &app.network, server_id, port_id) {
        Err(error) if error.kind() != rest::Kind::NotFound => {
            return Err(db::Error::Corrupt(format!("port {port_id} not released: {}", error.causes())));
        }
        _ => {}
    }
    store::delete_nic(tx, server_id, port_id)
}

/// Ports that were made for the server go, those that were given to it become free.
pub(crate) fn release(tx: &Tx<'_>, app: &App, server_id: &str) -> db::Result<()> {
    peer::release_ports(tx, &app.network, server_id)
        .map_err(|error| db::Error::Corrupt(format!("ports of {server_id} not released: {}", error.causes())))
}

pub(crate) fn change_security_group(tx: &Tx<'_>, app: &App, server: &Server, name: &str, add: bool) -> Result<()> {
    if add {
        peer::add_security_group(tx, &app.network, &server.id, &server.project_id, name)
    } else {
        peer::remove_security_group(tx, &app.network, &server.id, &server.project_id, name)
    }
}

fn requester(project_id: &str, admin: bool) -> peer::Requester<'_> {
    peer::Requester { project_id, is_admin: admin }
}

pub(crate) fn networks(tx: &Tx<'_>, project_id: &str, admin: bool) -> Result<Vec<peer::NetworkView>> {
    peer::visible_networks(tx, requester(project_id, admin))
}

pub(crate) fn network(tx: &Tx<'_>, project_id: &str, admin: bool, id: &str) -> Result<peer::NetworkView> {
    peer::visible_network(tx, requester(project_id, admin), id)
}

pub(crate) fn floating_ip_pools(tx: &Tx<'_>) -> Result<Vec<String>> {
    peer::floating_ip_pools(tx)
}

pub(crate) fn floating_ips(tx: &Tx<'_>, project_id: &str) -> Result<Vec<peer::FloatingIpView>> {
    peer::floating_ips(tx, project_id)
}

pub(crate) fn floating_ip(tx: &Tx<'_>, project_id: &str, id: &str) -> Result<peer::FloatingIpView> {
    peer::floating_ip(tx, project_id, id)
}

pub(crate) fn create_floating_ip(
    tx: &Tx<'_>,
    app: &App,
    project_id: &str,
    pool: Option<&str>,
) -> Result<peer::FloatingIpView> {
    peer::create_floating_ip(tx, &app.network, project_id, pool)
}

pub(crate) fn delete_floating_ip(tx: &Tx<'_>, project_id: &str, id: &str) -> Result<()> {
    peer::delete_floating_ip(tx, project_id, id)
}

/// A project's security groups, or everybody's.
pub(crate) fn list_security_groups(
    tx: &Tx<'_>,
    app: &App,
    project_id: &str,
    everywhere: bool,
) -> Result<Vec<peer::GroupView>> {
    peer::list_security_groups(tx, &app.network, project_id, everywhere)
}

/// Those that a server's ports have, each once.
pub(crate) fn security_groups_of(tx: &Tx<'_>, server_id: &str) -> Result<Vec<peer::GroupView>> {
    let mut ids: Vec<String> = Vec::new();
    for interface in of_servers(tx, &[server_id])?.of(server_id) {
        for (id, _) in &interface.security_groups {
            if !ids.contains(id) {
                ids.push(id.clone());
            }
        }
    }
    peer::security_groups_by_id(tx, ids.iter().map(String::as_str))
}

pub(crate) fn security_group(tx: &Tx<'_>, project_id: &str, admin: bool, id: &str) -> Result<peer::GroupView> {
    peer::security_group(tx, requester(project_id, admin), id)
}

pub(crate) fn create_security_group(
    tx: &Tx<'_>,
    app: &App,
    project_id: &str,
    name: &str,
    description: &str,
) -> Result<peer::GroupView> {
    peer::create_security_group(tx, &app.network, project_id, name, description)
}

/// `text`: name and description.
pub(crate) fn update_security_group(
    tx: &Tx<'_>,
    app: &App,
    (project_id, admin): (&str, bool),
    id: &str,
    text: (&str, &str),
) -> Result<peer::GroupView> {
    peer::update_security_group(tx, &app.network, requester(project_id, admin), id, text.0, text.1)
}

pub(crate) fn delete_security_group(tx: &Tx<'_>, project_id: &str, admin: bool, id: &str) -> Result<()> {
    peer::delete_security_group(tx, requester(project_id, admin), id)
}

/// `terms` as Network's own API has them.
pub(crate) fn create_security_group_rule(
    tx: &Tx<'_>,
    app: &App,
    (project_id, admin): (&str, bool),
    group_id: &str,
    terms: Value,
) -> Result<peer::GroupRuleView> {
    peer::create_security_group_rule(tx, &app.network, requester(project_id, admin), group_id, terms)
}

pub(crate) fn delete_security_group_rule(
    tx: &Tx<'_>,
    app: &App,
    (project_id, admin): (&str, bool),
    id: &str,
) -> Result<()> {
    peer::delete_security_group_rule(tx, &app.network, requester(project_id, admin), id)
}

/// Gives the server one more address on a network that it is on, or takes one from it.
pub(crate) fn change_fixed_ip(tx: &Tx<'_>, app: &App, server: &Server, value: &str, add: bool) -> Result<()> {
    if add {
        return peer::add_fixed_ip(tx, &app.network, &server.id, value);
    }
    let address = value
        .parse()
        .map_err(|_| Error::bad_request("Invalid input for field/attribute address: it is no IP address."))?;
    peer::remove_fixed_ip(tx, &app.network, &server.id, address)
}

/// Leads a floating IP to an address of the server: the one that is named, or its first. In upstream's words.
pub(crate) fn add_floating_ip(
    tx: &Tx<'_>,
    app: &App,
    server: &Server,
    address: IpAddr,
    fixed: Option<IpAddr>,
    is_admin: bool,
) -> Result<()> {
    let all = of_servers(tx, &[&server.id])?;
    let interfaces = all.of(&server.id);
    if interfaces.is_empty() {
        return Err(Error::bad_request("Instance network is not ready yet"));
    }
    let addresses: Vec<(&str, IpAddr)> = interfaces
        .iter()
        .flat_map(|one| {
            one.fixed_ips.iter().filter_map(|fixed| Some((one.port_id.as_str(), fixed.address.parse().ok()?)))
        })
        .collect();
    let (port_id, fixed) = match fixed {
        _ if addresses.is_empty() => return Err(Error::bad_request("No fixed IPs associated to instance")),
        Some(wanted) => addresses
            .iter()
            .find(|(_, address)| *address == wanted)
            .ok_or_else(|| Error::bad_request("Specified fixed address not assigned to instance"))?,
        None => addresses.iter().find(|(_, address)| address.is_ipv4()).ok_or_else(|| {
            Error::bad_request(format!(
                "Unable to associate floating IP {address} to any fixed IPs for instance {}. Instance has no fixed IPv4 \
                 addresses to associate.",
                server.id
            ))
        })?,
    };
    let requester = peer::Requester { project_id: &server.project_id, is_admin };
    let led = peer::associate_floating_ip(tx, &app.network, requester, address, port_id, *fixed);
    led.map_err(|error| match error.code() {
        Some("FloatingIPNotFound") => Error::new(rest::Kind::NotFound, "floating IP not found"),
        _ if error.kind() == rest::Kind::Internal => error,
        _ => Error::bad_request(format!(
            "Unable to associate floating IP {address} to fixed IP {fixed} for instance {}. Error: {}",
            server.id,
            error.public()
        )),
    })
}

/// Has a floating IP of the server lead nowhere.
pub(crate) fn remove_floating_ip(
    tx: &Tx<'_>,
    app: &App,
    server: &Server,
    address: IpAddr,
    is_admin: bool,
) -> Result<()> {
    let requester = peer::Requester { project_id: &server.project_id, is_admin };
    let removed = peer::disassociate_floating_ip(tx, &app.network, requester, address, &server.id);
    match removed {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Error::conflict(format!("Floating IP {address} is not associated with instance {}.", server.id)))
        }
        Err(error) if error.kind() == rest::Kind::NotFound => {
            Err(Error::new(rest::Kind::NotFound, "floating IP not found"))
        }
        Err(error) => Err(error),
    }
}

/// Has all interfaces connected, and their taps open.
pub(crate) async fn plug(app: &App, server: &Server) -> std::result::Result<Vec<Plug>, Failure> {
    place(app, server).await?;
    let mut plugs = Vec::new();
    for interface in interfaces(app, server).await? {
        plugs.push(plug_one(app, &interface).await?);
    }
    Ok(plugs)
}

/// Has one interface connected, and its tap open.
pub(crate) async fn plug_one(app: &App, interface: &Interface) -> std::result::Result<Plug, Failure> {
    let port_id = Uuid::try_parse(&interface.port_id)
        .map_err(|error| Failure::fatal("A port's id is no UUID.").caused_by(error))?;
    let plug = peer::plug(&app.network, &interface.port_id).await.map_err(|error| {
        Failure::retry(format!("Port {} could not be connected: {error}", interface.port_id)).caused_by(error)
    })?;
    let mac = plug
        .mac
        .parse()
        .map_err(|error: vmspec::SpecError| Failure::fatal("A port's MAC address is not valid.").caused_by(error))?;
    Ok(Plug { slot: interface.slot, port_id, mac, mtu: interface.mtu, tap: plug.tap })
}

/// Has none of them connected.
pub(crate) async fn unplug(app: &App, server: &Server) -> std::result::Result<(), Failure> {
    for interface in interfaces(app, server).await? {
        unplug_one(app, &interface.port_id).await?;
    }
    Ok(())
}

/// Has one not connected. A port that is gone is not.
pub(crate) async fn unplug_one(app: &App, port_id: &str) -> std::result::Result<(), Failure> {
    peer::unplug(&app.network, port_id)
        .await
        .map_err(|error| Failure::retry(format!("Port {port_id} could not be disconnected.")).caused_by(error))
}

/// Before a machine is made: every interface has its place written down, and what the server has lost meanwhile has none.
async fn place(app: &App, server: &Server) -> std::result::Result<(), Failure> {
    let unread = |error: Error| Failure::retry("The server's interfaces cannot be read.").caused_by(error.causes());
    let id = server.id.clone();
    let unplaced = app.db.read(move |tx| unplaced(tx, &id)).await.map_err(unread)?;
    if unplaced {
        let id = server.id.clone();
        app.db.write(move |tx| place_all(tx, &id)).await.map_err(unread)?;
    }
    Ok(())
}

/// Whether rows and ports differ.
fn unplaced(tx: &Tx<'_>, server_id: &str) -> Result<bool> {
    let all = of_servers(tx, &[server_id])?;
    let rows = store::nics_of(tx, &[server_id])?.remove(server_id).unwrap_or_default();
    let interfaces = all.of(server_id);
    Ok(rows.len() != interfaces.len() || interfaces.iter().any(|interface| !interface.placed))
}

fn place_all(tx: &Tx<'_>, server_id: &str) -> Result<()> {
    let ports: Vec<String> =
        of_servers(tx, &[server_id])?.of(server_id).iter().map(|one| one.port_id.clone()).collect();
    for row in store::nics_of(tx, &[server_id])?.remove(server_id).unwrap_or_default() {
        if !ports.contains(&row.port_id) {
            store::delete_nic(tx, server_id, &row.port_id)?;
        }
    }
    for interface in of_servers(tx, &[server_id])?.of(server_id).iter().filter(|interface| !interface.placed) {
        store::insert_nic(tx, server_id, &interface.port_id, interface.slot, None)?;
    }
    Ok(())
}

/// What has gone through an interface. `None` where nobody can tell.
pub(crate) async fn traffic(app: &App, interface: &Interface) -> Option<Traffic> {
    match peer::traffic(&app.network, &interface.network_id, &interface.port_id).await {
        Ok(traffic) => traffic,
        Err(error) => {
            tracing::warn!(port.id = interface.port_id, %error, "counters of an interface cannot be read");
            None
        }
    }
}

pub(crate) async fn interfaces(app: &App, server: &Server) -> std::result::Result<Vec<Interface>, Failure> {
    let id = server.id.clone();
    app.db
        .read(move |tx| Ok::<_, Error>(of_servers(tx, &[&id])?.of(&id).to_vec()))
        .await
        .map_err(|error| Failure::retry("The server's interfaces cannot be read.").caused_by(error.causes()))
}
