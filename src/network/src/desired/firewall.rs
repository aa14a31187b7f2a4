//! Security groups as the rules of ports. Ports with the same groups share their rules, and a rule that names a group names
//! it only: its members are listed once for all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use db::{Tx, params};
use hostnet::{AllowedAddress, Ethertype, Id, NetworkFirewall, PortFirewall, Protocol, Remote, Rule};
use ipnet::IpNet;
use rest::Result;

use super::rows::{Parts, Port};
use crate::{
    ip,
    ports::store::{AddressPair, json_list},
    query::id_list,
    security_groups::{
        model::{has_ports, is_icmp, protocol_number},
        store::{self as groups, GroupRule},
    },
    subnets::store::{parsed, parsed_if_any},
};

/// The rules of all groups that the ports have, and the members of the groups that those rules name.
pub(super) struct Rules {
    by_group: HashMap<Id, GroupRules>,
    members: HashMap<Id, Arc<[IpNet]>>,
    /// By the groups of a port.
    shared: HashMap<Vec<Id>, Shared>,
}

#[derive(Default)]
struct GroupRules {
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

#[derive(Clone)]
struct Shared {
    ingress: Arc<[Rule]>,
    egress: Arc<[Rule]>,
}

impl Rules {
    /// `network_id`: the only network that the parts are of; None when they are of all.
    pub(super) fn load(tx: &Tx<'_>, parts: &Parts, network_id: Option<&str>) -> Result<Self> {
        let used: Vec<String> = parts.groups().iter().map(Id::to_string).collect();
        let mut by_group: HashMap<Id, GroupRules> = HashMap::new();
        let mut remotes: BTreeSet<String> = BTreeSet::new();
        for (group, rules) in groups::rules_of(tx, &id_list(used.iter().map(String::as_str)))? {
            let own = by_group.entry(super::id(&group)?).or_default();
            for rule in rules {
                let Some(translated) = translate(&rule) else { continue };
                let side = if rule.direction == "ingress" { &mut own.ingress } else { &mut own.egress };
                side.push(translated);
                remotes.extend(rule.remote_group_id);
            }
        }
        let members = if remotes.is_empty() { HashMap::new() } else { members(tx, &remotes, parts, network_id)? };
        Ok(Self { by_group, members, shared: HashMap::new() })
    }

    /// The rules of some ports of one network.
    pub(super) fn of<'a>(&mut self, ports: impl Iterator<Item = &'a Port>, parts: &Parts) -> NetworkFirewall {
        let mut firewall = NetworkFirewall { ports: Vec::with_capacity(ports.size_hint().0), groups: BTreeMap::new() };
        for port in ports {
            let Shared { ingress, egress } = self.shared(parts.groups_of(port.id), &mut firewall.groups);
            firewall.ports.push(PortFirewall {
                port_id: port.id,
                mac: port.mac,
                addresses: addresses(port, parts),
                port_security: port.is_secured,
                ingress,
                egress,
            });
        }
        firewall
    }

    fn shared(&mut self, groups: &[Id], named: &mut BTreeMap<Id, Arc<[IpNet]>>) -> Shared {
        if !self.shared.contains_key(groups) {
            let own = || groups.iter().filter_map(|group| self.by_group.get(group));
            let sorted = |rules: BTreeSet<Rule>| rules.into_iter().collect();
            let shared = Shared {
                ingress: sorted(own().flat_map(|rules| rules.ingress.iter().copied()).collect()),
                egress: sorted(own().flat_map(|rules| rules.egress.iter().copied()).collect()),
            };
            self.shared.insert(groups.to_vec(), shared);
        }
        let shared = &self.shared[groups];
        for rule in shared.ingress.iter().chain(shared.egress.iter()) {
            if let Remote::Group(group) = rule.remote
                && let Some(members) = self.members.get(&group)
            {
                named.entry(group).or_insert_with(|| Arc::clone(members));
            }
        }
        shared.clone()
    }
}

/// Members are all ports of the group, wherever they are: their addresses arrive through routers too. Those that are read
/// already are not read again.
fn members(
    tx: &Tx<'_>,
    groups: &BTreeSet<String>,
    parts: &Parts,
    network_id: Option<&str>,
) -> Result<HashMap<Id, Arc<[IpNet]>>> {
    let mut members: HashMap<Id, Vec<IpNet>> = HashMap::new();
    for group in groups {
        members.insert(super::id(group)?, Vec::new());
    }
    for port in &parts.ports {
        for group in parts.groups_of(port.id) {
            if let Some(nets) = members.get_mut(group) {
                nets.extend(parts.fixed_ips_of(port.id).iter().map(|fixed| IpNet::from(fixed.address)));
                nets.extend(port.pairs.iter().filter_map(|pair| ip::parse_prefix(&pair.ip_address)));
            }
        }
    }
    if let Some(network_id) = network_id {
        let rows = tx.list(
            "SELECT g.security_group_id, f.address, p.allowed_address_pairs FROM network_port_security_group g
             JOIN network_port p ON p.id = g.port_id AND p.network_id <> ?2
             LEFT JOIN network_fixed_ip f ON f.port_id = g.port_id
             WHERE g.security_group_id IN (SELECT value FROM json_each(?1))",
            params![id_list(groups.iter().map(String::as_str)), network_id],
            |row| {
                let address = parsed_if_any::<IpAddr>(row, 1)?;
                Ok((parsed::<Id>(row, 0)?, address, json_list::<AddressPair>(row, 2)?))
            },
        )?;
        for (group, address, pairs) in rows {
            let nets = members.entry(group).or_default();
            nets.extend(address.map(IpNet::from));
            nets.extend(pairs.iter().filter_map(|pair| ip::parse_prefix(&pair.ip_address)));
        }
    }
    let sorted = |mut nets: Vec<IpNet>| {
        nets.sort_unstable();
        nets.dedup();
        nets.into()
    };
    Ok(members.into_iter().map(|(group, nets)| (group, sorted(nets))).collect())
}

fn addresses(port: &Port, parts: &Parts) -> Vec<AllowedAddress> {
    let fixed = parts.fixed_ips_of(port.id).iter();
    let mut addresses: Vec<AllowedAddress> =
        fixed.map(|fixed| AllowedAddress { net: IpNet::from(fixed.address), mac: port.mac }).collect();
    for pair in &port.pairs {
        if let (Some(net), Ok(mac)) = (ip::parse_prefix(&pair.ip_address), pair.mac_address.parse()) {
            addresses.push(AllowedAddress { net, mac });
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn translate(rule: &GroupRule) -> Option<Rule> {
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
        (Some(group), _) => Remote::Group(group.parse().ok()?),
        (None, Some(prefix)) => Remote::Net(ip::parse_prefix(prefix)?),
        (None, None) => Remote::Any,
    };
    Some(Rule { ethertype, protocol, remote })
}
