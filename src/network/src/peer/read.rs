//! What is known of the ports of servers, for any number of them in a handful of statements.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use db::{Tx, params};
use ipnet::IpNet;
use rest::Result;

use crate::{
    errors, floatingips, networks,
    ports::{
        self,
        store::{FixedIp as PortAddress, Port},
    },
    query::id_list,
    subnets::{self, store::Subnet},
};

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
    pub subnet: Arc<SubnetInfo>,
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
    /// Id and name, in order.
    pub security_groups: Vec<(String, String)>,
    pub port_security: bool,
    pub admin_state_up: bool,
    /// `ACTIVE`, `DOWN`, `ERROR`.
    pub status: &'static str,
    /// Made for the server, and deleted with it.
    pub is_owned: bool,
    pub vnic_type: String,
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

/// Those of these ports that there are not.
///
/// # Errors
/// The database's own.
pub fn missing<'a>(tx: &Tx<'_>, port_ids: impl IntoIterator<Item = &'a str>) -> db::Result<HashSet<String>> {
    let sql = "SELECT value FROM json_each(?1) WHERE NOT EXISTS (SELECT 1 FROM network_port p WHERE p.id = value)";
    Ok(tx.list(sql, [id_list(port_ids)], |row| row.get(0))?.into_iter().collect())
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

pub(super) fn infos(tx: &Tx<'_>, ports: Vec<Port>) -> Result<Vec<PortInfo>> {
    let ids = ports::store::list_text(&ports);
    let mut fixed_ips = ports::store::fixed_ips_of(tx, &ids)?;
    let mut groups = ports::store::groups_of(tx, &ids)?;
    let names = group_names(tx, groups.values().flatten())?;
    let networks = networks::store::by_ids(tx, ports.iter().map(|port| port.network_id.clone()))?;
    let subnets = subnets::store::by_ids(tx, fixed_ips.values().flatten().map(|fixed| fixed.subnet_id.as_str()))?;
    // A thousand ports are mostly in few subnets.
    let subnets: HashMap<&str, Arc<SubnetInfo>> =
        subnets.iter().map(|(id, subnet)| (id.as_str(), Arc::new(subnet_info(subnet)))).collect();
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
            let Some(subnet) = subnets.get(subnet_id.as_str()) else { continue };
            let led_to = (!floating.is_empty()).then(|| floating.remove(&(port.id.clone(), address.to_string())));
            addresses.push(FixedIp {
                address,
                subnet: Arc::clone(subnet),
                floating_ips: led_to.flatten().unwrap_or_default(),
            });
        }
        let ids = groups.remove(&port.id).unwrap_or_default();
        let named = ids.into_iter().filter_map(|id| names.get(&id).map(|name| (id, name.clone())));
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
            security_groups: named.collect(),
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

fn group_names<'a>(tx: &Tx<'_>, ids: impl Iterator<Item = &'a String>) -> Result<HashMap<String, String>> {
    let ids: BTreeSet<&str> = ids.map(String::as_str).collect();
    let sql = "SELECT id, name FROM network_security_group WHERE id IN (SELECT value FROM json_each(?1))";
    let rows = tx.list(sql, params![id_list(ids)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.into_iter().collect())
}
