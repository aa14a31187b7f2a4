//! All that Compute may call.
//!
//! Rows first: inside Compute's own transaction, [`create_port`] for each network or port that a server asks for; nothing
//! touches the kernel. Then, from a step of a durable operation, [`plug`] (idempotent; the tap as an open descriptor), and
//! when the server stops or goes, [`unplug`] and in a transaction [`release_ports`]. Leftovers are the reconciler's.
//!
//! ```text
//! server created: create_port -> commit -> plug -> hand the descriptor to the VM process
//! server stopped: unplug        server deleted: unplug, release_ports -> commit        restart: ports_of, plug
//! ```

use std::{collections::HashMap, net::IpAddr, os::fd::OwnedFd};

use db::{Tx, params};
use ipnet::IpNet;
use rest::{Error, Result};

use crate::{
    App, auto_topology, desired, errors, floatingips, ip, networks,
    networks::store::Network,
    ports::{
        self,
        addresses::{self, Ask},
        dhcp,
        handlers::{Draft, is_label},
        store::{FixedIp as PortAddress, Port},
    },
    query::id_list,
    reconcile::{self, Failure},
    security_groups,
    subnets::{self, store::Subnet},
};

/// Who asks, as Compute has authenticated them.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    pub project_id: &'a str,
    pub is_admin: bool,
}

/// What a server shall be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A new port on this network, with this address if one is named. Deleted with the server.
    Network { network_id: String, fixed_ip: Option<IpAddr> },
    /// A port of the user's own. Only let go when the server is deleted.
    Port { port_id: String },
}

#[derive(Clone, Debug)]
pub struct PortRequest<'a> {
    pub requester: Requester<'a>,
    pub server_id: &'a str,
    /// The server's name, for DHCP and DNS; made into a host name.
    pub server_name: &'a str,
    /// Compute's zone: the port's `device_owner` is `compute:<zone>`.
    pub zone: &'a str,
    pub wanted: &'a Wanted,
    /// Names or ids, for new ports; empty: the default group. Ignored for ports of the user's own, as Nova does.
    pub security_groups: &'a [String],
}

/// A subnet as a guest needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetInfo {
    pub id: String,
    pub cidr: IpNet,
    pub ip_version: u8,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
    /// Destination and next hop.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// Whether a guest gets the address by DHCP.
    pub dhcp: bool,
    /// `slaac`, `dhcpv6-stateful`, `dhcpv6-stateless`.
    pub ipv6_address_mode: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedIp {
    pub address: IpAddr,
    pub subnet: SubnetInfo,
    /// The floating IPs that lead to this address.
    pub floating_ips: Vec<String>,
}

/// A port of a server, with all that `addresses`, network_info, metadata and a config drive tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    pub id: String,
    pub server_id: String,
    pub project_id: String,
    pub network_id: String,
    pub network_name: String,
    /// `local` or `flat`: config drives call the network's kind so.
    pub network_type: String,
    pub mac: String,
    pub mtu: u32,
    pub fixed_ips: Vec<FixedIp>,
    /// Names, each once, in order.
    pub security_groups: Vec<String>,
    pub security_group_ids: Vec<String>,
    pub port_security: bool,
    pub admin_state_up: bool,
    /// `ACTIVE`, `DOWN`, `ERROR`.
    pub status: &'static str,
    /// Made for the server, and deleted with it.
    pub is_owned: bool,
    pub vnic_type: String,
}

/// An open tap, to be handed to the VM process.
#[derive(Debug)]
pub struct Plug {
    pub port_id: String,
    pub tap: OwnedFd,
    pub mac: String,
    pub mtu: u32,
}

/// Why the machine's side did not do what was asked. Trying again is safe, and often helps.
#[derive(Debug)]
pub struct PlugError(String);

impl std::fmt::Display for PlugError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlugError {}

impl From<Failure> for PlugError {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<hostnet::Error> for PlugError {
    fn from(error: hostnet::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Error> for PlugError {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

/// A network that a project may put servers on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub shared: bool,
    pub has_subnet: bool,
}

/// Nova's refusals: a request that names what is not there is 400, what is taken is 409.
fn bad(code: &'static str, text: String) -> Error {
    errors::bad(code, text)
}

/// The networks that the project could use without naming one: its own, or if it has none, shared ones. Exactly one is
/// taken, several are ambiguous.
///
/// # Errors
/// The database's own.
pub fn available_networks(tx: &Tx<'_>, project_id: &str) -> Result<Vec<NetworkInfo>> {
    let all = networks::store::usable(tx, project_id)?;
    let own = all.iter().any(|network| network.project_id == project_id);
    let mut infos = Vec::new();
    for network in all.into_iter().filter(|network| !own || network.project_id == project_id || network.shared) {
        infos.push(info(tx, &network)?);
    }
    Ok(infos)
}

fn info(tx: &Tx<'_>, network: &Network) -> Result<NetworkInfo> {
    Ok(NetworkInfo {
        id: network.id.clone(),
        name: network.name.clone(),
        project_id: network.project_id.clone(),
        shared: network.shared,
        has_subnet: tx.exists("SELECT 1 FROM network_subnet WHERE network_id = ?1", params![network.id])?,
    })
}

/// The project's own network for `networks: auto`, made when it has none.
///
/// # Errors
/// 409 when the cloud has no default external network; quota.
pub fn auto_allocate(tx: &Tx<'_>, app: &App, project_id: &str) -> Result<String> {
    auto_topology::ensure(tx, app, project_id)
}

/// Whether [`auto_allocate`] would work.
///
/// # Errors
/// 409 when it would not.
pub fn check_auto_allocate(tx: &Tx<'_>, project_id: &str) -> Result<()> {
    auto_topology::check(tx, project_id)
}

/// Makes (or takes) one port for a server and binds it to this machine.
///
/// # Errors
/// 400 for what does not exist or fit, 403 for a quota, 409 for what is taken, in Nova's words.
pub fn create_port(tx: &Tx<'_>, app: &App, request: &PortRequest<'_>) -> Result<PortInfo> {
    let port = match request.wanted {
        Wanted::Network { network_id, fixed_ip } => new_port(tx, app, request, network_id, *fixed_ip)?,
        Wanted::Port { port_id } => take_port(tx, app, request, port_id)?,
    };
    let infos = infos(tx, vec![port])?;
    infos.into_iter().next().ok_or_else(|| Error::internal("a port that was just written is not there"))
}

fn visible_network(tx: &Tx<'_>, requester: Requester<'_>, id: &str) -> Result<Network> {
    let network = networks::store::find(tx, id)?;
    let is_visible = |network: &Network| {
        requester.is_admin || network.shared || network.external || network.project_id == requester.project_id
    };
    match network {
        Some(network) if is_visible(&network) => Ok(network),
        _ => Err(bad("NetworkNotFound", format!("Network {id} could not be found."))),
    }
}

fn new_port(
    tx: &Tx<'_>,
    app: &App,
    request: &PortRequest<'_>,
    network_id: &str,
    fixed_ip: Option<IpAddr>,
) -> Result<Port> {
    let requester = request.requester;
    let network = visible_network(tx, requester, network_id)?;
    if network.external && !network.shared && !requester.is_admin && network.project_id != requester.project_id {
        return Err(Error::forbidden(format!(
            "It is not allowed to create an interface on external network {network_id}"
        )));
    }
    let subnets = subnets::store::of_network(tx, network_id)?;
    if subnets.is_empty() {
        return Err(bad(
            "NetworkRequiresSubnet",
            format!("Network {network_id} requires a subnet in order to boot instances on."),
        ));
    }
    let mut draft = Draft::new(requester.project_id, &format!("compute:{}", request.zone), request.server_id);
    if let Some(address) = fixed_ip {
        if !subnets.iter().any(|subnet| subnets::model::is_host_address(subnet.cidr, address)) {
            return Err(bad(
                "FixedIpNotFoundForNetwork",
                format!("Fixed IP address {address} is not a valid ip address for network {network_id}."),
            ));
        }
        draft.asks = Some(vec![Ask { subnet_id: None, address: Some(address) }]);
    }
    if network.port_security_enabled {
        draft.groups = groups(tx, app, requester, request.security_groups)?;
    } else if request.security_groups.iter().any(|name| name != "default") {
        return Err(bad(
            "SecurityGroupCannotBeApplied",
            "Network requires port_security_enabled and subnet associated in order to apply security groups."
                .to_owned(),
        ));
    }
    draft.dns_name = host_name(request.server_name);
    draft.host_id.clone_from(&app.options.host_name);
    draft.made_for = Some(request.server_id.to_owned());
    ports::handlers::make(tx, app, &network, draft).map_err(|error| in_novas_words(error, fixed_ip))
}

/// The same refusal with the status that Compute's API has for it.
fn in_novas_words(error: Error, fixed_ip: Option<IpAddr>) -> Error {
    match (error.code(), fixed_ip) {
        (Some("IpAddressAlreadyAllocated"), Some(address)) => errors::conflict(
            "FixedIpAlreadyInUse",
            format!("Fixed IP address {address} is already in use on instance."),
        ),
        (Some("IpAddressGenerationFailure"), _) => {
            bad("NoMoreFixedIps", format!("No fixed IP addresses available: {}", error.public()))
        }
        (Some("OverQuota"), _) => Error::over_quota("Maximum number of ports exceeded").with_code("PortLimitExceeded"),
        _ => error,
    }
}

fn take_port(tx: &Tx<'_>, app: &App, request: &PortRequest<'_>, port_id: &str) -> Result<Port> {
    let requester = request.requester;
    let port = ports::store::find(tx, port_id)?;
    let not_found = || bad("PortNotFound", format!("Port id {port_id} could not be found."));
    let mut port =
        port.filter(|port| requester.is_admin || port.project_id == requester.project_id).ok_or_else(not_found)?;
    if !port.device_id.is_empty() && port.device_id != request.server_id {
        return Err(errors::conflict("PortInUse", format!("Port {port_id} is still in use.")));
    }
    if ports::is_service(&port.device_owner) {
        return Err(not_found());
    }
    if ports::store::fixed_ips(tx, port_id)?.is_empty() {
        let text = format!("Port {port_id} requires a FixedIP in order to be used.");
        return Err(bad("PortRequiresFixedIP", text));
    }
    if port.vnic_type != "normal" {
        let text = format!("Port {port_id} asks for a {} interface, which this machine does not have.", port.vnic_type);
        return Err(bad("PortBindingFailed", text));
    }
    port.device_id = request.server_id.to_owned();
    port.device_owner = format!("compute:{}", request.zone);
    port.host_id.clone_from(&app.options.host_name);
    if port.dns_name.is_empty() {
        port.dns_name = host_name(request.server_name);
    }
    ports::store::update(tx, &mut port, &app.now())?;
    dhcp::ensure(tx, app, &port.network_id)?;
    Ok(port)
}

/// The groups' ids; None for the default one.
fn groups(tx: &Tx<'_>, app: &App, requester: Requester<'_>, wanted: &[String]) -> Result<Option<Vec<String>>> {
    let mut ids = Vec::with_capacity(wanted.len());
    for name in wanted {
        let id = group_id(tx, app, requester.project_id, name)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok((!ids.is_empty()).then_some(ids))
}

fn group_id(tx: &Tx<'_>, app: &App, project_id: &str, name: &str) -> Result<String> {
    if name == "default" {
        return security_groups::store::ensure_default(tx, app, project_id);
    }
    let found = security_groups::store::named(tx, project_id, name)?;
    match found.as_slice() {
        [] => Err(bad("SecurityGroupNotFound", format!("Security group {name} not found for project {project_id}."))),
        [group, ..] if group.id == name => Ok(group.id.clone()),
        [group] => Ok(group.id.clone()),
        _ => Err(errors::conflict(
            "NoUniqueMatch",
            format!("Multiple security groups found matching '{name}'. Use an ID to be more specific."),
        )),
    }
}

/// Refuses group names that [`create_port`] would refuse.
///
/// # Errors
/// 400 for a group that the project does not have, 409 for an ambiguous name.
pub fn check_security_groups(tx: &Tx<'_>, project_id: &str, names: &[String]) -> Result<()> {
    for name in names.iter().filter(|name| *name != "default") {
        let found = security_groups::store::named(tx, project_id, name)?;
        if found.is_empty() {
            let text = format!("Security group {name} not found for project {project_id}.");
            return Err(bad("SecurityGroupNotFound", text));
        }
        if found.len() > 1 && found[0].id != *name {
            let text = format!("Multiple security groups found matching '{name}'. Use an ID to be more specific.");
            return Err(errors::conflict("NoUniqueMatch", text));
        }
    }
    Ok(())
}

/// A host name out of a server's name, as Nova makes them: spaces and underscores become dashes, other strange characters
/// go, and what is left empty stays empty (DHCP then names the host by its address).
#[must_use]
pub fn host_name(server_name: &str) -> String {
    let text: String = server_name
        .chars()
        .map(|c| if c == ' ' || c == '_' || c == '.' { '-' } else { c.to_ascii_lowercase() })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(63)
        .collect();
    let text = text.trim_matches('-').to_owned();
    if is_label(&text) { text } else { String::new() }
}

/// Binds a server's ports to this machine again: after they were let go by an unshelve or an evacuation.
///
/// # Errors
/// The database's own.
pub fn bind(tx: &Tx<'_>, app: &App, server_id: &str) -> Result<()> {
    for mut port in ports::store::of_devices(tx, &id_list([server_id]))? {
        if port.host_id != app.options.host_name && !ports::is_service(&port.device_owner) {
            port.host_id.clone_from(&app.options.host_name);
            ports::store::update(tx, &mut port, &app.now())?;
        }
    }
    Ok(())
}

/// Lets go of all ports of a server: those made for it are deleted, the user's own are unbound. Call [`unplug`] first, or
/// leave the taps to the reconciler.
///
/// # Errors
/// The database's own.
pub fn release_ports(tx: &Tx<'_>, app: &App, server_id: &str) -> Result<()> {
    for port in ports::store::of_devices(tx, &id_list([server_id]))? {
        release(tx, app, port)?;
    }
    Ok(())
}

/// Lets go of one port of a server (`DELETE /servers/{id}/os-interface/{port_id}`).
///
/// # Errors
/// 404 when the server has no such port.
pub fn release_port(tx: &Tx<'_>, app: &App, server_id: &str, port_id: &str) -> Result<()> {
    let port = ports::store::find(tx, port_id)?.filter(|port| port.device_id == server_id);
    release(tx, app, port.ok_or_else(|| errors::port_not_found(port_id))?)
}

fn release(tx: &Tx<'_>, app: &App, mut port: Port) -> Result<()> {
    if ports::is_service(&port.device_owner) {
        return Ok(());
    }
    if port.made_for.as_deref() == Some(port.device_id.as_str()) {
        return ports::store::delete(tx, &port.id);
    }
    port.device_id = String::new();
    port.device_owner = String::new();
    port.host_id = String::new();
    port.plugged = false;
    ports::store::update(tx, &mut port, &app.now())
}

/// The ports of one server, in the order in which they were connected.
///
/// # Errors
/// The database's own.
pub fn ports_of(tx: &Tx<'_>, server_id: &str) -> Result<Vec<PortInfo>> {
    Ok(ports_of_many(tx, [server_id])?.remove(server_id).unwrap_or_default())
}

/// The ports of many servers, in a handful of statements.
///
/// # Errors
/// The database's own.
pub fn ports_of_many<'a>(
    tx: &Tx<'_>,
    server_ids: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, Vec<PortInfo>>> {
    let mut ports = ports::store::of_devices(tx, &id_list(server_ids))?;
    ports.retain(|port| !ports::is_service(&port.device_owner));
    let mut by_server: HashMap<String, Vec<PortInfo>> = HashMap::new();
    for info in infos(tx, ports)? {
        by_server.entry(info.server_id.clone()).or_default().push(info);
    }
    Ok(by_server)
}

/// One port, whoever has it.
///
/// # Errors
/// 404 when there is none.
pub fn port(tx: &Tx<'_>, port_id: &str) -> Result<PortInfo> {
    let port = ports::store::get(tx, port_id)?;
    infos(tx, vec![port])?.into_iter().next().ok_or_else(|| errors::port_not_found(port_id))
}

/// Servers that have an address that contains `part` (`ip` and `ip6` filters, whose value is a prefix or regular
/// expression to Nova, are matched by Compute on the result of [`ports_of_many`]; this narrows by what it contains).
///
/// # Errors
/// The database's own.
pub fn servers_with_address(tx: &Tx<'_>, part: &str) -> Result<Vec<String>> {
    Ok(tx.list(
        "SELECT DISTINCT p.device_id FROM network_fixed_ip f JOIN network_port p ON p.id = f.port_id
         WHERE instr(f.address, ?1) > 0 AND p.device_id <> '' AND p.device_owner LIKE 'compute:%'",
        params![part],
        |row| row.get(0),
    )?)
}

fn infos(tx: &Tx<'_>, ports: Vec<Port>) -> Result<Vec<PortInfo>> {
    let ids = ports::store::list_text(&ports);
    let mut fixed_ips = ports::store::fixed_ips_of(tx, &ids)?;
    let mut groups = ports::store::groups_of(tx, &ids)?;
    let names = group_names(tx, &ids)?;
    let networks = networks::store::by_ids(tx, ports.iter().map(|port| port.network_id.clone()))?;
    let subnets = subnets::store::by_ids(tx, fixed_ips.values().flatten().map(|fixed| fixed.subnet_id.as_str()))?;
    let mut floating: HashMap<(String, String), Vec<String>> = HashMap::new();
    for row in floatingips::store::of_ports(tx, &ids)? {
        if let (Some(port), Some(fixed)) = (row.fixed_port_id, row.fixed_address) {
            floating.entry((port, fixed)).or_default().push(row.address);
        }
    }
    let mut infos = Vec::with_capacity(ports.len());
    for port in ports {
        let Some(network) = networks.get(&port.network_id) else { continue };
        let fixed = fixed_ips.remove(&port.id).unwrap_or_default();
        let mut addresses = Vec::with_capacity(fixed.len());
        for PortAddress { subnet_id, address } in fixed {
            let Some(subnet) = subnets.get(&subnet_id) else { continue };
            let key = (port.id.clone(), address.to_string());
            addresses.push(FixedIp {
                address,
                subnet: subnet_info(subnet),
                floating_ips: floating.remove(&key).unwrap_or_default(),
            });
        }
        let security_group_ids = groups.remove(&port.id).unwrap_or_default();
        let mut security_groups: Vec<String> = Vec::with_capacity(security_group_ids.len());
        for name in security_group_ids.iter().filter_map(|id| names.get(id)) {
            if !security_groups.contains(name) {
                security_groups.push(name.clone());
            }
        }
        infos.push(PortInfo {
            status: port.status(),
            is_owned: port.made_for.as_deref() == Some(port.device_id.as_str()),
            id: port.id,
            server_id: port.device_id,
            project_id: port.project_id,
            network_id: port.network_id,
            network_name: network.name.clone(),
            network_type: network.provider_type.clone(),
            mac: port.mac.to_string(),
            mtu: network.mtu,
            fixed_ips: addresses,
            security_groups,
            security_group_ids,
            port_security: port.port_security_enabled,
            admin_state_up: port.admin_state_up,
            vnic_type: port.vnic_type,
        });
    }
    Ok(infos)
}

fn subnet_info(subnet: &Subnet) -> SubnetInfo {
    SubnetInfo {
        id: subnet.id.clone(),
        cidr: subnet.cidr,
        ip_version: subnet.ip_version,
        gateway: subnet.gateway,
        dns: subnet.dns.clone(),
        routes: subnet.routes.iter().map(|route| (route.destination, route.nexthop)).collect(),
        dhcp: subnet.enable_dhcp,
        ipv6_address_mode: subnet.address_mode.clone(),
    }
}

fn group_names(tx: &Tx<'_>, port_ids: &str) -> Result<HashMap<String, String>> {
    Ok(tx
        .list(
            "SELECT DISTINCT g.id, g.name FROM network_port_security_group b
             JOIN network_security_group g ON g.id = b.security_group_id
             WHERE b.port_id IN (SELECT value FROM json_each(?1))",
            params![port_ids],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .into_iter()
        .collect())
}

/// Adds a group to all ports of a server that filter (`addSecurityGroup`).
///
/// # Errors
/// 404 for a group that the project does not have, 400 when no port can have one.
pub fn add_security_group(tx: &Tx<'_>, app: &App, server_id: &str, project_id: &str, name: &str) -> Result<()> {
    change_groups(tx, app, server_id, project_id, name, |groups, id| {
        if groups.contains(&id) {
            return false;
        }
        groups.push(id);
        true
    })
    .map(|_| ())
}

/// Removes a group from all ports of a server (`removeSecurityGroup`).
///
/// # Errors
/// 404 when no port has it.
pub fn remove_security_group(tx: &Tx<'_>, app: &App, server_id: &str, project_id: &str, name: &str) -> Result<()> {
    let changed = change_groups(tx, app, server_id, project_id, name, |groups, id| {
        let before = groups.len();
        groups.retain(|group| *group != id);
        groups.len() != before
    })?;
    if changed {
        return Ok(());
    }
    Err(errors::not_found_text(
        "SecurityGroupNotFound",
        format!("Security group {name} not associated with the instance {server_id}"),
    ))
}

fn change_groups(
    tx: &Tx<'_>,
    app: &App,
    server_id: &str,
    project_id: &str,
    name: &str,
    change: impl Fn(&mut Vec<String>, String) -> bool,
) -> Result<bool> {
    let id = group_id(tx, app, project_id, name).map_err(|error| match error.code() {
        Some("SecurityGroupNotFound") => errors::not_found_text("SecurityGroupNotFound", error.public().to_owned()),
        _ => error,
    })?;
    let (mut has_filtering, mut changed) = (false, false);
    for mut port in ports::store::of_devices(tx, &id_list([server_id]))? {
        if ports::is_service(&port.device_owner) || !port.port_security_enabled {
            continue;
        }
        has_filtering = true;
        let mut groups = ports::store::groups(tx, &port.id)?;
        if change(&mut groups, id.clone()) {
            ports::store::set_groups(tx, &port.id, &groups)?;
            ports::store::update(tx, &mut port, &app.now())?;
            changed = true;
        }
    }
    if !has_filtering {
        return Err(bad(
            "SecurityGroupCannotBeApplied",
            "Network requires port_security_enabled and subnet associated in order to apply security groups."
                .to_owned(),
        ));
    }
    Ok(changed)
}

/// Gives a server one more address on a network that it is connected to (`addFixedIp`).
///
/// # Errors
/// 400 when it is not on that network or no address is free.
pub fn add_fixed_ip(tx: &Tx<'_>, app: &App, server_id: &str, network_id: &str) -> Result<()> {
    let on_network = |port: &Port| port.network_id == network_id && !ports::is_service(&port.device_owner);
    let mut port =
        ports::store::of_devices(tx, &id_list([server_id]))?.into_iter().find(on_network).ok_or_else(|| {
            bad("NetworkNotFoundForInstance", format!("Network could not be found for instance {server_id}."))
        })?;
    let mut fixed = ports::store::fixed_ips(tx, &port.id)?;
    for subnet in subnets::store::of_network(tx, network_id)?.iter().filter(|subnet| !subnet.is_automatic()) {
        if let Some(address) = ip::free_address(tx, &subnet.id, &subnet.pools)? {
            fixed.push(PortAddress { subnet_id: subnet.id.clone(), address });
            ports::store::set_fixed_ips(tx, &port, &fixed)?;
            return ports::store::update(tx, &mut port, &app.now());
        }
    }
    Err(bad("NoMoreFixedIps", format!("No fixed IP addresses available for network: {network_id}")))
}

/// Takes an address from a server (`removeFixedIp`).
///
/// # Errors
/// 400 when the server does not have it.
pub fn remove_fixed_ip(tx: &Tx<'_>, app: &App, server_id: &str, address: IpAddr) -> Result<()> {
    for mut port in ports::store::of_devices(tx, &id_list([server_id]))? {
        let fixed = ports::store::fixed_ips(tx, &port.id)?;
        if !fixed.iter().any(|fixed| fixed.address == address) {
            continue;
        }
        let kept: Vec<PortAddress> = fixed.into_iter().filter(|fixed| fixed.address != address).collect();
        tx.execute(
            "UPDATE network_floating_ip SET fixed_port_id = NULL, fixed_ip_address = NULL, router_id = NULL, active = 0,
                 revision = revision + 1
             WHERE fixed_port_id = ?1 AND fixed_ip_address = ?2",
            params![port.id, address.to_string()],
        )?;
        ports::store::set_fixed_ips(tx, &port, &kept)?;
        return ports::store::update(tx, &mut port, &app.now());
    }
    Err(bad("FixedIpNotFoundForInstance", format!("Instance {server_id} doesn't have fixed IP {address}.")))
}

/// Whether the port could get this address: for checks before a transaction that does more.
///
/// # Errors
/// As [`create_port`].
pub fn check_fixed_ip(tx: &Tx<'_>, network_id: &str, address: IpAddr) -> Result<()> {
    let mac = ip::random_mac()?;
    let owner = addresses::For { network_id, mac, device_owner: "compute:", current: &[] };
    let asks = [Ask { subnet_id: None, address: Some(address) }];
    addresses::assign(tx, owner, Some(&asks)).map(|_| ()).map_err(|error| in_novas_words(error, Some(address)))
}

/// Opens the tap of a port: its network is in the kernel, its rules are in force, and the port is ACTIVE. May be called
/// again; while another process holds the tap it fails.
///
/// # Errors
/// What the machine said. The port stays closed then.
pub async fn plug(app: &App, port_id: &str) -> std::result::Result<Plug, PlugError> {
    let asked = port_id.to_owned();
    let (port, mtu) = app
        .db
        .read(move |tx| {
            let port = ports::store::get(tx, &asked)?;
            let mtu = networks::store::get(tx, &port.network_id)?.mtu;
            Ok::<_, Error>((port, mtu))
        })
        .await?;
    if port.host_id.is_empty() {
        return Err(PlugError(format!("port {port_id} is not bound to this machine")));
    }
    let (network_id, id) = (desired::id(&port.network_id)?, desired::id(&port.id)?);
    reconcile::sync_network(app, network_id).await?;
    let tap = match app.host.ensure_tap(network_id, id, port.mac, mtu).await {
        Err(hostnet::Error::NotFound(_)) => {
            // The namespace went away behind our back: look, and make it again.
            reconcile::forget(app, network_id);
            reconcile::sync_network(app, network_id).await?;
            app.host.ensure_tap(network_id, id, port.mac, mtu).await?
        }
        other => other?,
    };
    let (text, now) = (port.id.clone(), app.now());
    app.db.write(move |tx| ports::store::set_plugged(tx, &text, true, &now)).await?;
    Ok(Plug { port_id: port.id, tap, mac: port.mac.to_string(), mtu })
}

/// Removes the tap of a port; the port is DOWN. Succeeds when there is none, and when the port is gone.
///
/// # Errors
/// What the machine said.
pub async fn unplug(app: &App, port_id: &str) -> std::result::Result<(), PlugError> {
    let asked = port_id.to_owned();
    let Some(port) = app.db.read(move |tx| ports::store::find(tx, &asked)).await? else {
        reconcile::look_soon(app);
        return Ok(());
    };
    let (network_id, id) = (desired::id(&port.network_id)?, desired::id(&port.id)?);
    app.host.remove_tap(network_id, id).await?;
    let (text, now) = (port.id, app.now());
    app.db.write(move |tx| ports::store::set_plugged(tx, &text, false, &now)).await?;
    Ok(())
}
