//! What the rows want of the kernel: one plan per network, one specification per router. Reads only; the same rows give
//! the same plan, so comparing plans tells what has to be done.
//!
//! A plan lives as long as it is worked with. What stays of it is its [`Outline`], some hundred bytes and the ids of its taps.

mod digest;
mod firewall;
mod routers;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use db::Tx;
use hostnet::{
    AddressMode, DhcpHost, DhcpSpec, DhcpSubnet, ExternalSpec, Id, NetworkFirewall, NetworkSpec, RouterSpec,
    StaticRoute,
};
use ipnet::IpNet;
use rest::Result;

use self::{
    digest::Digest,
    firewall::Rules,
    rows::{Owner, Parts, Port},
};
use crate::{
    Options,
    networks::{self, store::Network},
    ports::{self, options},
    subnets::{self, store::Subnet},
};

/// A day, as Neutron's default.
const LEASE_SECONDS: u32 = 86_400;

/// Everything of one network.
#[derive(Debug)]
pub(crate) struct NetworkPlan {
    pub spec: NetworkSpec,
    pub external: Option<ExternalSpec>,
    pub dhcp: DhcpSpec,
    pub firewall: NetworkFirewall,
    /// Ports that may have a tap: bound to this machine, also when closed. Sorted.
    pub taps: Vec<Id>,
    /// The DHCP server's port.
    pub dhcp_port: Option<Id>,
    pub told: Told,
}

/// What the rows say became of the network; not part of what is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The network has a problem.
    pub has_problem: bool,
    /// Of the ports with rules, those that have a problem.
    pub ports_with_problem: usize,
    pub is_dhcp_plugged: bool,
}

/// What is remembered of a plan: whether another one differs, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub spec: Digest,
    pub external: Option<Digest>,
    pub dhcp: Digest,
    pub has_dhcp: bool,
    pub firewall: Digest,
    pub taps: Vec<Id>,
    pub dhcp_port: Option<Id>,
}

impl NetworkPlan {
    pub(crate) fn outline(&self) -> Outline {
        Outline {
            spec: Digest::of(&self.spec),
            external: self.external.as_ref().map(Digest::of),
            dhcp: Digest::of(&self.dhcp),
            has_dhcp: !self.dhcp.subnets.is_empty(),
            firewall: Digest::of(&self.firewall),
            taps: self.taps.clone(),
            dhcp_port: self.dhcp_port,
        }
    }
}

/// A router, and the rows that are up once it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouterPlan {
    pub spec: RouterSpec,
    pub ports: Vec<String>,
    pub floating_ips: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Desired {
    pub networks: BTreeMap<Id, Outline>,
    pub routers: BTreeMap<Id, RouterPlan>,
    /// Ports of routers that are switched off: connected as far as they shall be.
    pub idle_ports: Vec<String>,
}

/// An id of ours as the host takes it. All are UUIDs that we made.
pub(crate) fn id(text: &str) -> Result<Id> {
    text.parse().map_err(rest::Error::internal)
}

pub(crate) fn load(tx: &Tx<'_>, options: &Options) -> Result<Desired> {
    let mut networks: BTreeMap<Id, Network> = BTreeMap::new();
    for network in networks::store::all(tx)? {
        networks.insert(id(&network.id)?, network);
    }
    let parts = Parts::load(tx, None)?;
    let mut rules = Rules::load(tx, &parts, None)?;
    let externals = externals(tx)?;
    let mut outlines = BTreeMap::new();
    for (network_id, network) in &networks {
        // One plan at a time: together they would be large.
        if let Some(plan) = plan(options, *network_id, network, &externals, &mut rules, &parts)? {
            outlines.insert(*network_id, plan.outline());
        }
    }
    let (routers, idle_ports) = routers::load(tx, &networks, &parts)?;
    Ok(Desired { networks: outlines, routers, idle_ports })
}

/// The plan of one network; None when it needs nothing in the kernel.
pub(crate) fn load_network(tx: &Tx<'_>, options: &Options, network_id: &str) -> Result<Option<NetworkPlan>> {
    let Some(network) = networks::store::find(tx, network_id)? else { return Ok(None) };
    let parts = Parts::load(tx, Some(network_id))?;
    let mut rules = Rules::load(tx, &parts, Some(network_id))?;
    let externals = if network.external { externals(tx)? } else { BTreeSet::new() };
    plan(options, id(network_id)?, &network, &externals, &mut rules, &parts)
}

fn plan(
    options: &Options,
    network_id: Id,
    network: &Network,
    externals: &BTreeSet<Id>,
    rules: &mut Rules,
    parts: &Parts,
) -> Result<Option<NetworkPlan>> {
    let subnets = parts.subnets_of(network_id);
    let ports = parts.ports_of(network_id);
    let is_used = ports.iter().any(|port| port.is_bound) || (network.external && !subnets.is_empty());
    if !is_used {
        return Ok(None);
    }
    let spec =
        NetworkSpec { id: network_id, mtu: network.mtu, subnets: subnets.iter().map(|subnet| subnet.cidr).collect() };
    let external = externals
        .contains(&network_id)
        .then(|| ExternalSpec { id: network_id, mtu: network.mtu, host_addresses: host_addresses(subnets) })
        .filter(|spec| !spec.host_addresses.is_empty());
    let guests = || ports.iter().filter(|port| port.owner == Owner::Guest && port.is_bound);
    let filtered = || guests().filter(|port| port.is_up && network.admin_state_up);
    let dhcp_port = ports.iter().find(|port| port.owner == Owner::Dhcp);
    Ok(Some(NetworkPlan {
        spec,
        external,
        dhcp: dhcp(options, network, network_id, subnets, ports, dhcp_port, parts)?,
        firewall: rules.of(filtered(), parts),
        taps: guests().map(|port| port.id).collect(),
        dhcp_port: dhcp_port.map(|port| port.id),
        told: Told {
            has_problem: network.problem.is_some(),
            ports_with_problem: filtered().filter(|port| port.has_problem).count(),
            is_dhcp_plugged: dhcp_port.is_some_and(|port| port.plugged),
        },
    }))
}

fn host_addresses(subnets: &[Subnet]) -> Vec<IpNet> {
    subnets
        .iter()
        .filter_map(|subnet| {
            let gateway = subnet.gateway.filter(|gateway| subnet.cidr.contains(gateway))?;
            IpNet::new(gateway, subnet.cidr.prefix_len()).ok()
        })
        .collect()
}

/// External networks that are connected to the host. Two with the same addresses cannot both be; the older one is.
fn externals(tx: &Tx<'_>) -> Result<BTreeSet<Id>> {
    let rows = tx.list(
        "SELECT n.id, s.cidr FROM network_network n JOIN network_subnet s ON s.network_id = n.id
         WHERE n.external ORDER BY n.created_at, n.id, s.created_at",
        [],
        |row| Ok((subnets::store::parsed::<Id>(row, 0)?, subnets::store::parsed::<IpNet>(row, 1)?)),
    )?;
    let mut connected: BTreeMap<Id, Vec<IpNet>> = BTreeMap::new();
    let mut refused: BTreeSet<Id> = BTreeSet::new();
    for (network, cidr) in rows {
        let overlaps = connected
            .iter()
            .filter(|(other, _)| **other != network)
            .flat_map(|(_, nets)| nets)
            .any(|other| other.contains(&cidr) || cidr.contains(other));
        if overlaps {
            refused.insert(network);
        }
        connected.entry(network).or_default().push(cidr);
        for gone in &refused {
            connected.remove(gone);
        }
    }
    Ok(connected.into_keys().collect())
}

fn dhcp(
    options: &Options,
    network: &Network,
    network_id: Id,
    subnets: &[Subnet],
    ports: &[Port],
    dhcp_port: Option<&Port>,
    parts: &Parts,
) -> Result<DhcpSpec> {
    let own = dhcp_port.map(|port| parts.fixed_ips_of(port.id)).unwrap_or_default();
    let mut served = Vec::new();
    for subnet in subnets.iter().filter(|subnet| subnet.has_dhcp() && network.admin_state_up) {
        let subnet_id = id(&subnet.id)?;
        let Some(server) = own.iter().find(|fixed| fixed.subnet_id == subnet_id) else { continue };
        served.push(DhcpSubnet {
            cidr: subnet.cidr,
            server: server.address,
            gateway: subnet.gateway,
            dns: subnet.dns.clone(),
            routes: subnet
                .routes
                .iter()
                .map(|route| StaticRoute { destination: route.destination, next_hop: route.nexthop })
                .collect(),
            mode: subnet.address_mode.as_deref().and_then(address_mode),
        });
    }
    let mut hosts = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    if !served.is_empty() {
        for port in ports.iter().filter(|port| port.owner != Owner::Dhcp) {
            let addresses: Vec<IpAddr> = parts
                .fixed_ips_of(port.id)
                .iter()
                .filter(|fixed| served.iter().any(|subnet| subnet.cidr.contains(&fixed.address)))
                .map(|fixed| fixed.address)
                .collect();
            let Some(first) = addresses.first().copied() else { continue };
            // Two servers may have one name; DNS answers for the first, the other is reached by its address's name.
            let mut hostname = ports::hostname(&port.dns_name, first);
            if !names.insert(hostname.clone()) {
                hostname = ports::hostname("", first);
            }
            hosts.push(DhcpHost {
                port_id: port.id,
                mac: port.mac,
                addresses,
                hostname,
                options: port.dhcp_opts.iter().filter_map(|option| options::typed(option).ok()).collect(),
            });
        }
    }
    let domain = network.dns_domain.trim_end_matches('.');
    Ok(DhcpSpec {
        network_id,
        subnets: served,
        hosts,
        mtu: network.mtu,
        domain: if domain.is_empty() { options.dns_domain.clone() } else { domain.to_owned() },
        upstream_dns: options.dns_servers.clone(),
        lease_seconds: LEASE_SECONDS,
    })
}

fn address_mode(text: &str) -> Option<AddressMode> {
    match text {
        subnets::store::SLAAC => Some(AddressMode::Slaac),
        subnets::store::STATEFUL => Some(AddressMode::DhcpStateful),
        subnets::store::STATELESS => Some(AddressMode::DhcpStateless),
        _ => None,
    }
}
