//! Before a server has its ports: the networks it may use, what of its request would be refused, and making or taking them.

use std::net::IpAddr;

use db::{Tx, params};
use rest::{Error, Result};

use super::{PortInfo, Requester, bad, read::infos};
use crate::{
    App, auto_topology, errors, ip, networks,
    networks::store::Network,
    ports::{
        self,
        addresses::{self, Ask},
        dhcp,
        handlers::{Draft, is_label},
        store::Port,
    },
    security_groups, subnets,
};

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

/// A network that a project may put servers on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub shared: bool,
    pub has_subnet: bool,
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

pub(super) fn group_id(tx: &Tx<'_>, app: &App, project_id: &str, name: &str) -> Result<String> {
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
