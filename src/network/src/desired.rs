//! What the rows want of the kernel: one plan per network, one specification per router. Reads only; the same rows give
//! the same plan, so comparing plans tells what has to be done.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use db::{Tx, params};
use hostnet::{
    AddressMode, Advertised, AllowedAddress, DhcpHost, DhcpSpec, DhcpSubnet, Ethertype, ExternalSpec, FloatingIp, Id,
    NetworkSpec, PortFirewall, Protocol, Remote, RouterGateway, RouterInterface, RouterSpec, Rule, StaticRoute,
};
use ipnet::IpNet;
use rest::Result;

use crate::{
    Options, floatingips, ip,
    networks::{self, store::Network},
    ports::{
        self, DHCP, ROUTER_GATEWAY, ROUTER_INTERFACE, is_service, options,
        store::{FixedIp, Port},
    },
    query::id_list,
    routers,
    security_groups::{
        model::{has_ports, is_icmp, protocol_number},
        store::{self as groups, GroupRule},
    },
    subnets::{self, store::Subnet},
};

/// A day, as Neutron's default.
const LEASE_SECONDS: u32 = 86_400;

/// Everything of one network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetworkPlan {
    pub spec: NetworkSpec,
    pub external: Option<ExternalSpec>,
    pub dhcp: DhcpSpec,
    pub firewall: Vec<PortFirewall>,
    /// Ports that may have a tap: bound to this machine, also when closed.
    pub taps: BTreeSet<Id>,
    /// The DHCP server's port.
    pub dhcp_port: Option<String>,
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
    pub networks: BTreeMap<Id, NetworkPlan>,
    pub routers: BTreeMap<Id, RouterPlan>,
    /// Ports of routers that are switched off: connected as far as they shall be.
    pub idle_ports: Vec<String>,
}

/// An id of ours as the host takes it. All are UUIDs that we made.
pub(crate) fn id(text: &str) -> Result<Id> {
    text.parse().map_err(rest::Error::internal)
}

/// What each port has, read at once.
struct Parts {
    ports: Vec<Port>,
    fixed_ips: HashMap<String, Vec<FixedIp>>,
    groups: HashMap<String, Vec<String>>,
    subnets: HashMap<String, Vec<Subnet>>,
}

pub(crate) fn load(tx: &Tx<'_>, options: &Options) -> Result<Desired> {
    let networks = networks::store::all(tx)?;
    let parts = parts(tx, None)?;
    let by_id: HashMap<&str, &Network> = networks.iter().map(|network| (network.id.as_str(), network)).collect();
    let (routers, idle_ports) = routers(tx, &by_id, &parts)?;
    Ok(Desired { networks: plans(tx, options, &networks, &parts)?, routers, idle_ports })
}

/// The plan of one network; None when it needs nothing in the kernel.
pub(crate) fn load_network(tx: &Tx<'_>, options: &Options, network_id: &str) -> Result<Option<NetworkPlan>> {
    let Some(network) = networks::store::find(tx, network_id)? else { return Ok(None) };
    let parts = parts(tx, Some(network_id))?;
    Ok(plans(tx, options, std::slice::from_ref(&network), &parts)?.into_values().next())
}

fn parts(tx: &Tx<'_>, network_id: Option<&str>) -> Result<Parts> {
    let ports = ports::store::all(tx, network_id)?;
    let mut by_network: HashMap<String, Vec<Subnet>> = HashMap::new();
    let subnets = match network_id {
        None => subnets::store::all(tx)?,
        Some(id) => subnets::store::of_network(tx, id)?,
    };
    for subnet in subnets {
        by_network.entry(subnet.network_id.clone()).or_default().push(subnet);
    }
    Ok(Parts {
        fixed_ips: ports::store::all_fixed_ips(tx, network_id)?,
        groups: ports::store::groups_of(tx, &ports::store::list_text(&ports))?,
        ports,
        subnets: by_network,
    })
}

fn plans(tx: &Tx<'_>, options: &Options, networks: &[Network], parts: &Parts) -> Result<BTreeMap<Id, NetworkPlan>> {
    let rules = Rules::load(tx, parts)?;
    let mut by_network: HashMap<&str, Vec<&Port>> = HashMap::new();
    for port in &parts.ports {
        by_network.entry(port.network_id.as_str()).or_default().push(port);
    }
    let externals = externals(tx)?;
    let no_subnets = Vec::new();
    let mut plans = BTreeMap::new();
    for network in networks {
        let subnets = parts.subnets.get(&network.id).unwrap_or(&no_subnets);
        let ports = by_network.remove(network.id.as_str()).unwrap_or_default();
        let is_used = ports.iter().any(|port| !port.host_id.is_empty()) || (network.external && !subnets.is_empty());
        if !is_used {
            continue;
        }
        let network_id = id(&network.id)?;
        let spec = NetworkSpec {
            id: network_id,
            mtu: network.mtu,
            subnets: subnets.iter().map(|subnet| subnet.cidr).collect(),
        };
        let external = externals
            .contains(&network.id)
            .then(|| ExternalSpec { id: network_id, mtu: network.mtu, host_addresses: host_addresses(subnets) })
            .filter(|spec| !spec.host_addresses.is_empty());
        let mut taps = BTreeSet::new();
        let mut firewall = Vec::new();
        for port in ports.iter().filter(|port| !is_service(&port.device_owner) && !port.host_id.is_empty()) {
            let port_id = id(&port.id)?;
            taps.insert(port_id);
            if port.admin_state_up && network.admin_state_up {
                firewall.push(rules.of(port, port_id, parts));
            }
        }
        let dhcp_port = ports.iter().find(|port| port.device_owner == DHCP).copied();
        plans.insert(
            network_id,
            NetworkPlan {
                spec,
                external,
                dhcp: dhcp(options, network, network_id, subnets, &ports, dhcp_port, parts)?,
                firewall,
                taps,
                dhcp_port: dhcp_port.map(|port| port.id.clone()),
            },
        );
    }
    Ok(plans)
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
fn externals(tx: &Tx<'_>) -> Result<BTreeSet<String>> {
    let rows = tx.list(
        "SELECT n.id, s.cidr FROM network_network n JOIN network_subnet s ON s.network_id = n.id
         WHERE n.external ORDER BY n.created_at, n.id, s.created_at",
        [],
        |row| Ok((row.get::<_, String>(0)?, subnets::store::parsed::<IpNet>(row, 1)?)),
    )?;
    let mut connected: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for (network, cidr) in rows {
        let overlaps = connected
            .iter()
            .filter(|(other, _)| **other != network)
            .flat_map(|(_, nets)| nets)
            .any(|other| other.contains(&cidr) || cidr.contains(other));
        if overlaps {
            refused.insert(network.clone());
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
    ports: &[&Port],
    dhcp_port: Option<&Port>,
    parts: &Parts,
) -> Result<DhcpSpec> {
    let own = dhcp_port.and_then(|port| parts.fixed_ips.get(&port.id)).map(Vec::as_slice).unwrap_or_default();
    let mut served = Vec::new();
    for subnet in subnets.iter().filter(|subnet| subnet.has_dhcp() && network.admin_state_up) {
        let Some(server) = own.iter().find(|fixed| fixed.subnet_id == subnet.id) else { continue };
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
    let mut names: BTreeSet<String> = BTreeSet::new();
    if !served.is_empty() {
        for port in ports.iter().filter(|port| port.device_owner != DHCP) {
            let addresses: Vec<IpAddr> = parts
                .fixed_ips
                .get(&port.id)
                .into_iter()
                .flatten()
                .filter(|fixed| served.iter().any(|subnet| subnet.cidr.contains(&fixed.address)))
                .map(|fixed| fixed.address)
                .collect();
            let Some(first) = addresses.first().copied() else { continue };
            // Two servers may have one name; DNS answers for the first, the other is reached by its address's name.
            let mut hostname = port.hostname(first);
            if !names.insert(hostname.clone()) {
                hostname = format!("host-{}", first.to_string().replace([':', '.'], "-"));
            }
            hosts.push(DhcpHost {
                port_id: id(&port.id)?,
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

/// The rules of all groups that the ports have, and the members of the groups that those rules name.
struct Rules {
    by_group: HashMap<String, Vec<GroupRule>>,
    members: HashMap<String, Vec<IpNet>>,
}

impl Rules {
    fn load(tx: &Tx<'_>, parts: &Parts) -> Result<Self> {
        let used: BTreeSet<&str> = parts.groups.values().flatten().map(String::as_str).collect();
        let by_group = groups::rules_of(tx, &id_list(used))?;
        let remotes: BTreeSet<&str> =
            by_group.values().flatten().filter_map(|rule| rule.remote_group_id.as_deref()).collect();
        let remotes = id_list(remotes);
        // Members are all ports of the group, wherever they are: their addresses arrive through routers too.
        let mut members: HashMap<String, BTreeSet<IpNet>> = HashMap::new();
        let rows = tx.list(
            "SELECT g.security_group_id, f.address FROM network_port_security_group g
             JOIN network_fixed_ip f ON f.port_id = g.port_id
             WHERE g.security_group_id IN (SELECT value FROM json_each(?1))",
            params![remotes],
            |row| Ok((row.get::<_, String>(0)?, subnets::store::parsed::<IpAddr>(row, 1)?)),
        )?;
        for (group, address) in rows {
            members.entry(group).or_default().insert(IpNet::from(address));
        }
        let rows = tx.list(
            "SELECT g.security_group_id, p.allowed_address_pairs FROM network_port_security_group g
             JOIN network_port p ON p.id = g.port_id AND p.allowed_address_pairs <> '[]'
             WHERE g.security_group_id IN (SELECT value FROM json_each(?1))",
            params![remotes],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )?;
        for (group, pairs) in rows {
            let pairs: Vec<ports::store::AddressPair> = crate::query::stored(&pairs);
            members
                .entry(group)
                .or_default()
                .extend(pairs.iter().filter_map(|pair| ip::parse_prefix(&pair.ip_address)));
        }
        let members = members.into_iter().map(|(group, nets)| (group, nets.into_iter().collect())).collect();
        Ok(Self { by_group, members })
    }

    fn of(&self, port: &Port, port_id: Id, parts: &Parts) -> PortFirewall {
        let fixed = parts.fixed_ips.get(&port.id).into_iter().flatten();
        let mut addresses: BTreeSet<AllowedAddress> =
            fixed.map(|fixed| AllowedAddress { net: IpNet::from(fixed.address), mac: port.mac }).collect();
        for pair in &port.pairs {
            if let (Some(net), Ok(mac)) = (ip::parse_prefix(&pair.ip_address), pair.mac_address.parse()) {
                addresses.insert(AllowedAddress { net, mac });
            }
        }
        let (mut ingress, mut egress) = (BTreeSet::new(), BTreeSet::new());
        let groups = parts.groups.get(&port.id).into_iter().flatten();
        for rule in groups.filter_map(|group| self.by_group.get(group)).flatten() {
            let Some(translated) = self.translate(rule) else { continue };
            if rule.direction == "ingress" {
                ingress.insert(translated)
            } else {
                egress.insert(translated)
            };
        }
        PortFirewall {
            port_id,
            mac: port.mac,
            addresses: addresses.into_iter().collect(),
            port_security: port.port_security_enabled,
            ingress: ingress.into_iter().collect(),
            egress: egress.into_iter().collect(),
        }
    }

    fn translate(&self, rule: &GroupRule) -> Option<Rule> {
        let ethertype = if rule.ethertype == "IPv6" { Ethertype::Ipv6 } else { Ethertype::Ipv4 };
        let protocol = match rule.protocol.as_deref() {
            None => Protocol::Any,
            Some(text) => match protocol_number(text)? {
                // "ip" and "0" stand for any protocol, as iptables has it.
                0 => Protocol::Any,
                number if has_ports(number) => match (rule.port_min, rule.port_max) {
                    (Some(min), Some(max)) => Protocol::Ports { number, min, max },
                    _ => Protocol::Number(number),
                },
                // Neutron takes "icmp" in an IPv6 rule for ICMPv6.
                number if is_icmp(number) => Protocol::Icmp {
                    kind: rule.port_min.and_then(|kind| u8::try_from(kind).ok()),
                    code: rule.port_max.and_then(|code| u8::try_from(code).ok()),
                },
                number => Protocol::Number(number),
            },
        };
        let remote = match (&rule.remote_group_id, &rule.remote_ip_prefix) {
            (Some(group), _) => Remote::Set(self.members.get(group).cloned().unwrap_or_default()),
            (None, Some(prefix)) => Remote::Net(ip::parse_prefix(prefix)?),
            (None, None) => Remote::Any,
        };
        Some(Rule { ethertype, protocol, remote })
    }
}

fn routers(
    tx: &Tx<'_>,
    networks: &HashMap<&str, &Network>,
    parts: &Parts,
) -> Result<(BTreeMap<Id, RouterPlan>, Vec<String>)> {
    let subnets: HashMap<&str, &Subnet> =
        parts.subnets.values().flatten().map(|subnet| (subnet.id.as_str(), subnet)).collect();
    let mut by_router: HashMap<&str, Vec<&Port>> = HashMap::new();
    for port in
        parts.ports.iter().filter(|port| matches!(port.device_owner.as_str(), ROUTER_INTERFACE | ROUTER_GATEWAY))
    {
        by_router.entry(port.device_id.as_str()).or_default().push(port);
    }
    let mut floating: HashMap<String, Vec<floatingips::store::FloatingIp>> = HashMap::new();
    for row in floatingips::store::routed(tx)? {
        floating.entry(row.router_id.clone().unwrap_or_default()).or_default().push(row);
    }
    let at = |port: &Port| -> Vec<(IpNet, &Subnet)> {
        let fixed = parts.fixed_ips.get(&port.id).into_iter().flatten();
        fixed
            .filter_map(|fixed| {
                let subnet = *subnets.get(fixed.subnet_id.as_str())?;
                Some((IpNet::new(fixed.address, subnet.cidr.prefix_len()).ok()?, subnet))
            })
            .collect()
    };
    let mut plans = BTreeMap::new();
    let mut idle_ports = Vec::new();
    for router in routers::store::all(tx)? {
        let own = by_router.remove(router.id.as_str()).unwrap_or_default();
        // A router that is switched off, or connected to nothing, is not there.
        if !router.admin_state_up {
            idle_ports.extend(own.iter().filter(|port| !port.plugged).map(|port| port.id.clone()));
        }
        if !router.admin_state_up || own.is_empty() {
            continue;
        }
        let (mut interfaces, mut gateway, mut port_ids) = (Vec::new(), None, Vec::new());
        for port in own.iter().filter(|port| port.admin_state_up) {
            let Some(network) = networks.get(port.network_id.as_str()) else { continue };
            let addresses = at(port);
            if addresses.is_empty() {
                continue;
            }
            port_ids.push(port.id.clone());
            let nets: Vec<IpNet> = addresses.iter().map(|(net, _)| *net).collect();
            if router.gateway_port_id.as_deref() == Some(port.id.as_str()) {
                let mut next_hops: Vec<IpAddr> = Vec::new();
                for hop in addresses.iter().filter_map(|(_, subnet)| subnet.gateway) {
                    if !next_hops.iter().any(|other| other.is_ipv4() == hop.is_ipv4()) {
                        next_hops.push(hop);
                    }
                }
                gateway = Some(RouterGateway {
                    network_id: id(&port.network_id)?,
                    port_id: id(&port.id)?,
                    mac: port.mac,
                    addresses: nets,
                    next_hops,
                    snat: router.enable_snat,
                    mtu: network.mtu,
                });
            } else if port.device_owner == ROUTER_INTERFACE {
                interfaces.push(RouterInterface {
                    network_id: id(&port.network_id)?,
                    port_id: id(&port.id)?,
                    mac: port.mac,
                    addresses: nets,
                    mtu: network.mtu,
                    advertise: addresses.iter().filter_map(|(_, subnet)| advertised(subnet)).collect(),
                });
            }
        }
        let mut floating_ips = Vec::new();
        let mut floating_ids = Vec::new();
        for row in floating.remove(&router.id).unwrap_or_default() {
            let fixed = row.fixed_address.as_deref().and_then(|text| text.parse().ok());
            if let (Some(fixed), Ok(outside)) = (fixed, row.address.parse()) {
                floating_ips.push(FloatingIp { floating: outside, fixed });
                floating_ids.push(row.id);
            }
        }
        let router_id = id(&router.id)?;
        let routes = router
            .routes
            .iter()
            .map(|route| StaticRoute { destination: route.destination, next_hop: route.nexthop })
            .collect();
        plans.insert(
            router_id,
            RouterPlan {
                spec: RouterSpec { id: router_id, interfaces, gateway, floating_ips, routes },
                ports: port_ids,
                floating_ips: floating_ids,
            },
        );
    }
    Ok((plans, idle_ports))
}

fn advertised(subnet: &Subnet) -> Option<Advertised> {
    let IpNet::V6(prefix) = subnet.cidr else { return None };
    let mode = address_mode(subnet.ra_mode.as_deref()?)?;
    let dns = subnet
        .dns
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        })
        .collect();
    Some(Advertised { prefix, mode, dns })
}
