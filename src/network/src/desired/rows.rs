//! The rows that plans are made of, read in a fixed number of statements however many ports there are, and no more of each
//! than the kernel needs to know.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use db::{Row, Tx, params, rusqlite};
use hostnet::{Id, Mac};
use rest::Result;

use crate::{
    ports::{
        DHCP, ROUTER_GATEWAY, ROUTER_INTERFACE, is_service,
        options::DhcpOpt,
        store::{AddressPair, json_list},
    },
    subnets::{
        self,
        store::{Subnet, parsed},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Guest,
    Dhcp,
    RouterInterface,
    RouterGateway,
    OtherService,
}

impl Owner {
    fn of(device_owner: &str) -> Self {
        match device_owner {
            DHCP => Self::Dhcp,
            ROUTER_INTERFACE => Self::RouterInterface,
            ROUTER_GATEWAY => Self::RouterGateway,
            other if is_service(other) => Self::OtherService,
            _ => Self::Guest,
        }
    }

    pub(super) fn is_router(self) -> bool {
        matches!(self, Self::RouterInterface | Self::RouterGateway)
    }
}

/// A port as far as the kernel is concerned.
#[derive(Debug)]
pub(super) struct Port {
    pub id: Id,
    pub network_id: Id,
    pub mac: Mac,
    pub is_up: bool,
    pub owner: Owner,
    /// The router, of a port that belongs to one.
    pub router_id: Option<Id>,
    pub is_secured: bool,
    pub pairs: Vec<AddressPair>,
    pub dhcp_opts: Vec<DhcpOpt>,
    pub dns_name: String,
    /// To this machine, which is the only one.
    pub is_bound: bool,
    pub plugged: bool,
    pub has_problem: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FixedIp {
    pub port_id: Id,
    ordinal: i64,
    pub subnet_id: Id,
    pub address: IpAddr,
}

/// What each port has.
pub(super) struct Parts {
    /// Sorted by network and id.
    pub ports: Vec<Port>,
    /// Sorted by port, each port's own in their order.
    fixed_ips: Vec<FixedIp>,
    /// Which port is in which group, sorted: the ports, and beside each a group.
    grouped: Vec<Id>,
    groups: Vec<Id>,
    subnets: HashMap<Id, Vec<Subnet>>,
}

const PORTS: &str = "SELECT r.id, r.network_id, r.mac_address, r.admin_state_up, r.device_owner, r.device_id,
    r.port_security_enabled, r.allowed_address_pairs, r.extra_dhcp_opts, r.dns_name, r.host_id <> '', r.plugged,
    r.problem IS NOT NULL FROM network_port r";
const PORTS_OF_ONE: &str = "SELECT r.id, r.network_id, r.mac_address, r.admin_state_up, r.device_owner, r.device_id,
    r.port_security_enabled, r.allowed_address_pairs, r.extra_dhcp_opts, r.dns_name, r.host_id <> '', r.plugged,
    r.problem IS NOT NULL FROM network_port r WHERE r.network_id = ?1";
const FIXED_IPS: &str = "SELECT port_id, ordinal, subnet_id, address FROM network_fixed_ip";
const FIXED_IPS_OF_ONE: &str =
    "SELECT port_id, ordinal, subnet_id, address FROM network_fixed_ip WHERE network_id = ?1";
const GROUPS: &str = "SELECT port_id, security_group_id FROM network_port_security_group";
const GROUPS_OF_ONE: &str = "SELECT s.port_id, s.security_group_id FROM network_port p
    JOIN network_port_security_group s ON s.port_id = p.id WHERE p.network_id = ?1";

fn port(row: &Row<'_>) -> rusqlite::Result<Port> {
    let owner = Owner::of(row.get_ref(4)?.as_str()?);
    Ok(Port {
        id: parsed(row, 0)?,
        network_id: parsed(row, 1)?,
        mac: parsed(row, 2)?,
        is_up: row.get(3)?,
        owner,
        router_id: if owner.is_router() { row.get_ref(5)?.as_str()?.parse().ok() } else { None },
        is_secured: row.get(6)?,
        pairs: json_list(row, 7)?,
        dhcp_opts: json_list(row, 8)?,
        dns_name: row.get(9)?,
        is_bound: row.get(10)?,
        plugged: row.get(11)?,
        has_problem: row.get(12)?,
    })
}

fn fixed_ip(row: &Row<'_>) -> rusqlite::Result<FixedIp> {
    Ok(FixedIp { port_id: parsed(row, 0)?, ordinal: row.get(1)?, subnet_id: parsed(row, 2)?, address: parsed(row, 3)? })
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(Id, Id)> {
    Ok((parsed(row, 0)?, parsed(row, 1)?))
}

impl Parts {
    /// Of everything, or of one network.
    pub(super) fn load(tx: &Tx<'_>, network_id: Option<&str>) -> Result<Self> {
        let (mut ports, mut fixed_ips, mut groups, rows) = match network_id {
            None => (
                tx.list(PORTS, [], port)?,
                tx.list(FIXED_IPS, [], fixed_ip)?,
                tx.list(GROUPS, [], pair)?,
                subnets::store::all(tx)?,
            ),
            Some(id) => (
                tx.list(PORTS_OF_ONE, params![id], port)?,
                tx.list(FIXED_IPS_OF_ONE, params![id], fixed_ip)?,
                tx.list(GROUPS_OF_ONE, params![id], pair)?,
                subnets::store::of_network(tx, id)?,
            ),
        };
        ports.sort_unstable_by_key(|port| (port.network_id, port.id));
        fixed_ips.sort_unstable_by_key(|fixed| (fixed.port_id, fixed.ordinal));
        groups.sort_unstable();
        let mut subnets: HashMap<Id, Vec<Subnet>> = HashMap::new();
        for subnet in rows {
            subnets.entry(super::id(&subnet.network_id)?).or_default().push(subnet);
        }
        let (grouped, groups) = groups.into_iter().unzip();
        Ok(Self { ports, fixed_ips, grouped, groups, subnets })
    }

    pub(super) fn ports_of(&self, network_id: Id) -> &[Port] {
        &self.ports[equal_range(&self.ports, network_id, |port| port.network_id)]
    }

    pub(super) fn fixed_ips_of(&self, port_id: Id) -> &[FixedIp] {
        &self.fixed_ips[equal_range(&self.fixed_ips, port_id, |fixed| fixed.port_id)]
    }

    pub(super) fn groups_of(&self, port_id: Id) -> &[Id] {
        &self.groups[equal_range(&self.grouped, port_id, |port| *port)]
    }

    /// Every group that a port is in, each once.
    pub(super) fn groups(&self) -> Vec<Id> {
        let mut groups = self.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    pub(super) fn subnets_of(&self, network_id: Id) -> &[Subnet] {
        self.subnets.get(&network_id).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.values().flatten()
    }
}

/// Where the rows of this key are in what is sorted by it.
fn equal_range<T>(rows: &[T], key: Id, of: impl Fn(&T) -> Id) -> Range<usize> {
    let start = rows.partition_point(|row| of(row) < key);
    let length = rows[start..].iter().take_while(|row| of(row) == key).count();
    start..start + length
}
