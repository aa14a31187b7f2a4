//! Security groups and anti-spoofing of one network, as one nft transaction.
//!
//! How it is stateful on a bridge, on kernels with and without `nf_conntrack_bridge`: bridge netfilter runs the inet
//! prerouting hooks (and so conntrack) from within bridge prerouting, at priority 0. An inet chain right after conntrack
//! copies the state into the packet's mark. The bridge family, which cannot see conntrack but knows the ports, decides in
//! forward and input by mark and port; what it drops was not confirmed yet, so it leaves no flow behind.
//!
//! ```text
//! tap ─> bridge prerouting -350: anti-spoofing per port, metadata taken aside
//!     ─> inet prerouting -200 conntrack, -150: mark = state
//!     ─> bridge forward 0: egress rules of the sender, ingress rules of the receiver ─> tap, router
//!     └> bridge input 0: egress rules of the sender ─> inet input: DHCP, DNS, metadata, ping
//! ```
//!
//! What must stay true:
//! - A tap that is not named in the rules is closed in both directions.
//! - Ports with the same rules share a chain, and a group is one set per family that all rules name: the text grows with
//!   the ports and with the members, not with their product.
//! - [`allows`] (used to end flows that lost their permission) says the same as the generated rules.
//! - Conntrack's `tcp_loose` is off in these namespaces: the middle of an unknown TCP flow is invalid, never new. Without
//!   that, a flow whose rule was removed would resurrect in the other direction by the server's next packet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::conntrack::{Conntrack, Flow};
use crate::{
    Error, Ethertype, FirewallChange, Id, Inner, METADATA_ADDRESS, NetworkFirewall, PortFirewall, Protocol, Remote,
    Result, Rule, namespace, netfilter, network, tap_name,
};

pub(crate) const TABLE: &str = "solostack";

/// Rules as text, and the ports they were made from.
pub(crate) struct Compiled {
    pub text: String,
    ports: Vec<PortFirewall>,
    groups: Groups,
    refused: Vec<(Id, String)>,
}

/// The members of the groups, ready to be written and asked: by family, sorted, none inside another.
type Groups = BTreeMap<Id, Members>;

#[derive(Default)]
struct Members {
    v4: Vec<IpNet>,
    v6: Vec<IpNet>,
}

impl Members {
    fn of(nets: &[IpNet]) -> Self {
        let (v4, v6) = outermost(nets.iter().copied()).into_iter().partition(|net| net.addr().is_ipv4());
        Self { v4, v6 }
    }

    fn of_family(&self, ethertype: Ethertype) -> &[IpNet] {
        match ethertype {
            Ethertype::Ipv4 => &self.v4,
            Ethertype::Ipv6 => &self.v6,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let nets = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        // None is inside another, so only the last that begins at or before the address can have it.
        let after = nets.partition_point(|net| net.network() <= address);
        after > 0 && nets[after - 1].contains(&address)
    }
}

pub(crate) fn apply(host: &Inner, network_id: Id, rules: Compiled) -> Result<FirewallChange> {
    let name = namespace::network(network_id);
    namespace::enter(namespace::get(&name)?)?;
    let changed = netfilter::apply(host, &name, &rules.text)?;
    let ended_flows = if changed { end_flows(&rules.ports, &rules.groups)? } else { 0 };
    Ok(FirewallChange { changed, ended_flows, refused: rules.refused })
}

/// Why a rule can never match, if so.
fn flaw(rule: &Rule) -> Option<&'static str> {
    match rule.protocol {
        Protocol::Ports { min, max, .. } if min > max => return Some("the port range ends before it begins"),
        Protocol::Ports { number, .. } if !matches!(number, 6 | 17 | 33 | 132 | 136) => {
            return Some("the protocol has no ports");
        }
        Protocol::Icmp { kind: None, code: Some(_) } => return Some("an ICMP code needs a type"),
        _ => {}
    }
    match &rule.remote {
        Remote::Net(net) if net.addr().is_ipv4() != (rule.ethertype == Ethertype::Ipv4) => {
            Some("the remote address is of another family than the rule")
        }
        _ => None,
    }
}

pub(crate) fn compile(network_id: Id, firewall: &NetworkFirewall) -> Result<Compiled> {
    let mut names = BTreeSet::new();
    let mut refused = Vec::new();
    let mut kept = Vec::with_capacity(firewall.ports.len());
    let mut tidied = Tidied::default();
    for port in &firewall.ports {
        if !names.insert(tap_name(port.port_id)) {
            return Err(Error::Invalid(format!("two ports share the interface name of port {}", port.port_id)));
        }
        // One port's nonsense must not keep the others' rules from being applied; not named, it is closed.
        if port.mac.is_multicast() {
            refused.push((port.port_id, "its MAC address is a multicast address".to_owned()));
            continue;
        }
        let mut port = port.clone();
        let pairs = port.addresses.len();
        port.addresses.retain(|address| !address.mac.is_multicast());
        if port.addresses.len() < pairs {
            refused.push((port.port_id, "an allowed address has a multicast MAC address".to_owned()));
        }
        for rules in [&mut port.ingress, &mut port.egress] {
            let (tidy, flaws) = tidied.of(rules);
            refused.extend(flaws.iter().map(|flaw| (port.port_id, (*flaw).to_owned())));
            *rules = tidy;
        }
        kept.push(port);
    }
    kept.sort_by_key(|port| port.port_id);
    let groups: Groups = firewall.groups.iter().map(|(id, nets)| (*id, Members::of(nets))).collect();
    let text = Writer::new(&groups).write(network_id, &kept);
    Ok(Compiled { text, ports: kept, groups, refused })
}

/// Rules without those that can never match, sorted, each once. Rules that ports share are looked at once and stay shared.
#[derive(Default)]
struct Tidied(HashMap<*const Rule, (Arc<[Rule]>, Vec<&'static str>)>);

impl Tidied {
    /// Where the rules are tells which they are: the caller holds all of them until the end.
    fn of(&mut self, rules: &Arc<[Rule]>) -> (Arc<[Rule]>, &[&'static str]) {
        if rules.is_empty() {
            return (Arc::clone(rules), &[]);
        }
        let (tidy, flaws) = self.0.entry(rules.as_ptr()).or_insert_with(|| {
            let mut flaws = Vec::new();
            let mut tidy: Vec<Rule> = rules.to_vec();
            tidy.retain(|rule| {
                let flaw = flaw(rule);
                flaws.extend(flaw);
                flaw.is_none()
            });
            tidy.sort_unstable();
            tidy.dedup();
            let same = tidy == **rules;
            (if same { Arc::clone(rules) } else { tidy.into() }, flaws)
        });
        (Arc::clone(tidy), flaws)
    }
}

struct Writer<'a> {
    groups: &'a Groups,
    /// Chains of rules by what is in them: direction and body.
    chains: BTreeMap<(Direction, Arc<[Rule]>), String>,
    chain_text: String,
    /// The sets of groups that are written already.
    sets: BTreeSet<(Id, Ethertype)>,
    set_text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Ingress,
    Egress,
}

/// Elements of the sets that tell who may send what.
#[derive(Default)]
struct Guards {
    secured: Vec<String>,
    open: Vec<String>,
    macs: BTreeSet<String>,
    exact4: BTreeSet<String>,
    exact6: BTreeSet<String>,
    nets4: BTreeSet<String>,
    nets6: BTreeSet<String>,
    /// IPv6 addresses that neighbour advertisements may be about.
    targets: BTreeSet<String>,
    target_rules: String,
    /// IPv4 sources that ports without port security may ask for metadata from.
    identities: BTreeSet<String>,
    identity_nets: BTreeSet<String>,
    egress: Vec<String>,
    ingress: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(groups: &'a Groups) -> Self {
        Self {
            groups,
            chains: BTreeMap::new(),
            chain_text: String::new(),
            sets: BTreeSet::new(),
            set_text: String::new(),
        }
    }

    fn write(mut self, network_id: Id, ports: &[PortFirewall]) -> String {
        let mut guards = Guards::default();
        for port in ports {
            self.port(port, &mut guards);
        }
        let mut out = String::with_capacity(8192 + ports.len() * 600);
        for family in ["bridge", "inet"] {
            let _ = write!(out, "table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n");
        }
        let _ = writeln!(out, "table bridge {TABLE} {{");
        let known: Vec<String> = guards.secured.iter().chain(&guards.open).cloned().collect();
        set(&mut out, "known", "ifname", "", &known);
        set(&mut out, "secured", "ifname", "", &guards.secured);
        set(&mut out, "open", "ifname", "", &guards.open);
        set(&mut out, "macs", "ifname . ether_addr", "", &guards.macs);
        set(&mut out, "exact4", "ifname . ether_addr . ipv4_addr", "", &guards.exact4);
        set(&mut out, "exact6", "ifname . ether_addr . ipv6_addr", "", &guards.exact6);
        set(&mut out, "nets4", "ifname . ether_addr . ipv4_addr", " flags interval;", &guards.nets4);
        set(&mut out, "nets6", "ifname . ether_addr . ipv6_addr", " flags interval;", &guards.nets6);
        set(&mut out, "identities", "ifname . ipv4_addr", "", &guards.identities);
        set(&mut out, "identity_nets", "ifname . ipv4_addr", " flags interval;", &guards.identity_nets);
        // `typeof`, because the type of a raw expression has no name.
        elements(&mut out, "set", "targets", "typeof iifname . @th,64,128", "", &guards.targets);
        elements(&mut out, "map", "egress", "type ifname : verdict", "", &guards.egress);
        elements(&mut out, "map", "ingress", "type ifname : verdict", "", &guards.ingress);
        out.push_str(&self.set_text);
        out.push_str(&self.chain_text);
        let bridge_mac = network::bridge_mac(network_id);
        let target_rules = &guards.target_rules;
        let _ = write!(
            out,
            "
  chain metadata {{
    ip daddr {METADATA_ADDRESS} tcp dport 80 ether daddr set {bridge_mac} meta pkttype set host
    accept
  }}
  chain guard_arp {{
    arp htype != 1 drop
    arp ptype != 0x0800 drop
    iifname . arp saddr ether . arp saddr ip @exact4 accept
    iifname . arp saddr ether . arp saddr ip @nets4 accept
    arp saddr ip 0.0.0.0 iifname . arp saddr ether @macs accept
    drop
  }}
  chain guard_ip {{
    ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    iifname . ether saddr . ip saddr @exact4 goto metadata
    iifname . ether saddr . ip saddr @nets4 goto metadata
    drop
  }}
  chain guard_ip6 {{
    ip6 saddr :: icmpv6 type {{ 131, 132, 133, 135, 143 }} accept
    iifname . ether saddr . ip6 saddr @exact6 accept
    iifname . ether saddr . ip6 saddr @nets6 accept
    drop
  }}
  chain guard_target {{
{target_rules}    iifname . @th,64,128 != @targets drop
  }}
  chain guard_services {{
    udp sport 67 udp dport 68 drop
    udp sport 547 udp dport 546 drop
    icmpv6 type {{ 134, 137 }} drop
    icmpv6 type 136 jump guard_target
  }}
  chain guard {{
    ether type {{ 0x8100, 0x88a8 }} drop
    iifname . ether saddr != @macs drop
    jump guard_services
    ether type 0x0806 goto guard_arp
    ether type 0x0800 goto guard_ip
    ether type 0x86dd goto guard_ip6
    drop
  }}
  chain identity {{
    iifname . ip saddr @identities goto metadata
    iifname . ip saddr @identity_nets goto metadata
    drop
  }}
  chain prerouting {{
    type filter hook prerouting priority -350; policy accept;
    iifname @secured goto guard
    iifname != \"tap*\" accept
    iifname != @open drop
    ip daddr {METADATA_ADDRESS} goto identity
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname \"tap*\" iifname != @known drop
    oifname \"tap*\" oifname != @known drop
    # Again, now that fragments are put together.
    iifname @secured jump guard_services
    oifname @secured ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 oifname . ether daddr != @macs drop
    oifname @secured ether type {{ 0x8100, 0x88a8 }} drop
    ether type 0x0806 accept
    meta mark 1 accept
    iifname @secured meta mark 3 drop
    oifname @secured meta mark 3 drop
    iifname vmap @egress
    oifname vmap @ingress
  }}
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname != \"tap*\" goto input_foreign
    iifname != @known drop
    iifname @secured jump guard_services
    ether type 0x0806 accept
    ip daddr {METADATA_ADDRESS} tcp dport 80 accept
    meta mark 1 accept
    iifname @secured meta mark 3 drop
    iifname vmap @egress
  }}
  chain input_foreign {{
    ip daddr {METADATA_ADDRESS} drop
    udp dport {{ 53, 67, 547 }} drop
    tcp dport 53 drop
  }}
}}
table inet {TABLE} {{
  chain state {{
    type filter hook prerouting priority -150; policy accept;
    meta mark set ct state map {{ established : 1, related : 1, new : 2, invalid : 3, untracked : 4 }}
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
    ct state invalid drop
    meta l4proto icmpv6 accept
    icmp type echo-request accept
    ip daddr {METADATA_ADDRESS} tcp dport 80 accept
    udp dport {{ 53, 67, 547 }} accept
    tcp dport 53 accept
  }}
}}
"
        );
        out
    }

    fn port(&mut self, port: &PortFirewall, guards: &mut Guards) {
        let tap = tap_name(port.port_id);
        if !port.port_security {
            for net in outermost(port.addresses.iter().map(|a| a.net)) {
                if let IpNet::V4(v4) = net {
                    let elements =
                        if v4.prefix_len() == 32 { &mut guards.identities } else { &mut guards.identity_nets };
                    elements.insert(format!("\"{tap}\" . {}", element(net)));
                }
            }
            guards.open.push(format!("\"{tap}\""));
            return;
        }
        guards.secured.push(format!("\"{tap}\""));
        let mut by_mac: BTreeMap<_, Vec<IpNet>> = BTreeMap::new();
        by_mac.entry(port.mac).or_default();
        for address in &port.addresses {
            by_mac.entry(address.mac).or_default().push(address.net);
        }
        for (mac, mut nets) in by_mac {
            nets.push(IpNet::from(IpAddr::V6(mac.link_local())));
            guards.macs.insert(format!("\"{tap}\" . {mac}"));
            for net in outermost(nets) {
                let entry = format!("\"{tap}\" . {mac} . {}", element(net));
                match net {
                    IpNet::V4(v4) if v4.prefix_len() == 32 => guards.exact4.insert(entry),
                    IpNet::V4(_) => guards.nets4.insert(entry),
                    IpNet::V6(v6) => {
                        let bits = u128::from(v6.network());
                        match v6.prefix_len() {
                            128 => {
                                guards.targets.insert(format!("\"{tap}\" . 0x{bits:032x}"));
                                guards.exact6.insert(entry)
                            }
                            0 => {
                                let _ = writeln!(guards.target_rules, "    iifname \"{tap}\" return");
                                guards.nets6.insert(entry)
                            }
                            length => {
                                let value = bits >> (128 - u32::from(length));
                                let _ = writeln!(
                                    guards.target_rules,
                                    "    iifname \"{tap}\" @th,64,{length} 0x{value:x} return"
                                );
                                guards.nets6.insert(entry)
                            }
                        }
                    }
                };
            }
        }
        guards.egress.push(format!("\"{tap}\" : jump {}", self.chain(Direction::Egress, &port.egress)));
        guards.ingress.push(format!("\"{tap}\" : jump {}", self.chain(Direction::Ingress, &port.ingress)));
    }

    /// The chain that returns what these rules allow and drops the rest.
    fn chain(&mut self, direction: Direction, rules: &Arc<[Rule]>) -> String {
        let key = (direction, Arc::clone(rules));
        if let Some(name) = self.chains.get(&key) {
            return name.clone();
        }
        let number = self.chains.len();
        let (name, always) = match direction {
            Direction::Egress => (
                format!("egress_{number}"),
                "udp sport 68 udp dport 67 return\n    udp sport 546 udp dport 547 return\n    icmpv6 type { 130, 131, \
                 132, 133, 135, 136, 143 } return",
            ),
            Direction::Ingress => (
                format!("ingress_{number}"),
                "udp sport 67 udp dport 68 return\n    udp sport 547 udp dport 546 return\n    icmpv6 type { 130, 134, \
                 135, 136 } return",
            ),
        };
        let mut text = format!("  chain {name} {{\n    {always}\n");
        for rule in rules.iter() {
            if let Some(condition) = self.condition(direction, rule) {
                let _ = writeln!(text, "    {condition} return");
            }
        }
        text.push_str("    drop\n  }\n");
        self.chain_text.push_str(&text);
        self.chains.insert(key, name.clone());
        name
    }

    /// The match of one rule; None if it matches nothing.
    fn condition(&mut self, direction: Direction, rule: &Rule) -> Option<String> {
        let (family, protocol) = match rule.ethertype {
            Ethertype::Ipv4 => ("ip", "0x0800"),
            Ethertype::Ipv6 => ("ip6", "0x86dd"),
        };
        let mut text = format!("meta protocol {protocol}");
        let side = match direction {
            Direction::Ingress => "saddr",
            Direction::Egress => "daddr",
        };
        match &rule.remote {
            Remote::Any => {}
            Remote::Net(net) if net.prefix_len() == 0 => {}
            Remote::Net(net) => {
                let _ = write!(text, " {family} {side} {}", element(*net));
            }
            Remote::Group(group) => {
                let set = self.group_set(*group, rule.ethertype)?;
                let _ = write!(text, " {family} {side} @{set}");
            }
        }
        match rule.protocol {
            Protocol::Any => {}
            Protocol::Number(number) => {
                let _ = write!(text, " meta l4proto {number}");
            }
            Protocol::Ports { number, min, max } => {
                let _ = write!(text, " meta l4proto {number}");
                match (min, max) {
                    (0, u16::MAX) => {}
                    _ if min == max => {
                        let _ = write!(text, " th dport {min}");
                    }
                    _ => {
                        let _ = write!(text, " th dport {min}-{max}");
                    }
                }
            }
            Protocol::Icmp { kind, code } => {
                let (number, name) = match rule.ethertype {
                    Ethertype::Ipv4 => (1, "icmp"),
                    Ethertype::Ipv6 => (58, "icmpv6"),
                };
                let _ = write!(text, " meta l4proto {number}");
                if let Some(kind) = kind {
                    let _ = write!(text, " {name} type {kind}");
                }
                if let Some(code) = code {
                    let _ = write!(text, " {name} code {code}");
                }
            }
        }
        Some(text)
    }

    /// The name of a group's set, which is written when it is first named; None when nobody is in it.
    fn group_set(&mut self, group: Id, ethertype: Ethertype) -> Option<String> {
        let members = self.groups.get(&group)?.of_family(ethertype);
        if members.is_empty() {
            return None;
        }
        let (number, kind) = match ethertype {
            Ethertype::Ipv4 => (4, "ipv4_addr"),
            Ethertype::Ipv6 => (6, "ipv6_addr"),
        };
        let name = format!("sg{number}-{group}");
        if self.sets.insert((group, ethertype)) {
            let is_exact = members.iter().all(|net| net.prefix_len() == net.max_prefix_len());
            let flags = if is_exact { "" } else { " flags interval;" };
            let texts: Vec<String> = members.iter().map(|net| element(*net)).collect();
            set(&mut self.set_text, &name, kind, flags, &texts);
        }
        Some(name)
    }
}

fn set<'a>(out: &mut String, name: &str, kind: &str, flags: &str, members: impl IntoIterator<Item = &'a String>) {
    elements(out, "set", name, &format!("type {kind}"), flags, members);
}

fn elements<'a>(
    out: &mut String,
    what: &str,
    name: &str,
    kind: &str,
    flags: &str,
    members: impl IntoIterator<Item = &'a String>,
) {
    let _ = write!(out, "  {what} {name} {{ {kind};{flags}");
    let mut separator = " elements = { ";
    let mut any = false;
    for member in members {
        out.push_str(separator);
        out.push_str(member);
        separator = ", ";
        any = true;
    }
    out.push_str(if any { " } }\n" } else { " }\n" });
}

/// Without host bits, and a single address without a length: what nft takes in sets of both kinds.
fn element(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.trunc().to_string() }
}

/// The networks that are not inside another of them, sorted. The kernel refuses sets with overlapping members, and two
/// users' innocent entries must not make a whole network's rules fail.
fn outermost(nets: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let sorted: BTreeSet<IpNet> = nets.into_iter().map(|net| net.trunc()).collect();
    let mut kept: Vec<IpNet> = Vec::with_capacity(sorted.len());
    // Sorted by address and then by length, a network comes after all that contain it, and those are a chain whose
    // outermost was kept last.
    for net in sorted {
        if !kept.last().is_some_and(|last| last.contains(&net)) {
            kept.push(net);
        }
    }
    kept
}

/// Ends the flows that the rules no longer allow, judged as the flow's first packet would be. Replies of an ended flow
/// are dropped as invalid, its next packet is judged anew.
fn end_flows(ports: &[PortFirewall], groups: &Groups) -> Result<usize> {
    let mut owners: BTreeMap<IpAddr, Vec<&PortFirewall>> = BTreeMap::new();
    let mut nets: Vec<(IpNet, &PortFirewall)> = Vec::new();
    for port in ports {
        let local = IpNet::from(IpAddr::V6(port.mac.link_local()));
        for net in port.addresses.iter().map(|a| a.net).chain([local]) {
            if net.prefix_len() == net.max_prefix_len() {
                owners.entry(net.addr()).or_default().push(port);
            } else {
                nets.push((net, port));
            }
        }
    }
    let find = |address: IpAddr| -> Vec<&PortFirewall> {
        let exact = owners.get(&address).into_iter().flatten().copied();
        exact.chain(nets.iter().filter(|(net, _)| net.contains(&address)).map(|(_, port)| *port)).collect()
    };
    let mut conntrack = Conntrack::open()?;
    let mut ended = 0;
    for flow in conntrack.flows()? {
        if always_allowed(&flow) {
            continue;
        }
        let allowed = |address: IpAddr, remote: IpAddr, direction: Direction| {
            let ports = find(address);
            ports.is_empty()
                || ports.iter().any(|port| {
                    let rules = match direction {
                        Direction::Ingress => &port.ingress,
                        Direction::Egress => &port.egress,
                    };
                    !port.port_security || rules.iter().any(|rule| allows(rule, groups, &flow, remote))
                })
        };
        let is_allowed = allowed(flow.source, flow.destination, Direction::Egress)
            && allowed(flow.destination, flow.source, Direction::Ingress);
        // A flow of two strangers belongs to a port that is gone, or passes between routers, where its end is not
        // noticed.
        let is_strange = find(flow.source).is_empty() && find(flow.destination).is_empty() && !flow.is_local;
        if !is_allowed || is_strange {
            conntrack.remove(&flow)?;
            ended += 1;
        }
    }
    Ok(ended)
}

fn always_allowed(flow: &Flow) -> bool {
    match flow.protocol {
        6 => flow.destination == IpAddr::V4(METADATA_ADDRESS) && flow.destination_port == 80,
        17 => matches!((flow.source_port, flow.destination_port), (68, 67) | (67, 68) | (546, 547) | (547, 546)),
        58 => matches!(flow.icmp_kind, 130..=137 | 143),
        _ => false,
    }
}

/// Whether the rule allows the first packet of a flow whose other side is `remote`.
fn allows(rule: &Rule, groups: &Groups, flow: &Flow, remote: IpAddr) -> bool {
    if flow.source.is_ipv4() != (rule.ethertype == Ethertype::Ipv4) {
        return false;
    }
    let remote_matches = match &rule.remote {
        Remote::Any => true,
        Remote::Net(net) => net.contains(&remote),
        Remote::Group(group) => groups.get(group).is_some_and(|members| members.contains(remote)),
    };
    remote_matches
        && match rule.protocol {
            Protocol::Any => true,
            Protocol::Number(number) => flow.protocol == number,
            Protocol::Ports { number, min, max } => {
                flow.protocol == number && (min..=max).contains(&flow.destination_port)
            }
            Protocol::Icmp { kind, code } => {
                let number = if rule.ethertype == Ethertype::Ipv4 { 1 } else { 58 };
                flow.protocol == number
                    && kind.is_none_or(|kind| kind == flow.icmp_kind)
                    && code.is_none_or(|code| code == flow.icmp_code)
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nested_networks_only_the_outermost_is_kept() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let kept =
            outermost(nets(&["10.1.2.3/32", "10.0.0.0/8", "10.1.0.0/16", "11.0.0.1/24", "11.0.0.0/24", "fd00::1/128"]));
        assert_eq!(kept, nets(&["10.0.0.0/8", "11.0.0.0/24", "fd00::1/128"]));
        assert_eq!(outermost(nets(&["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8"])), nets(&["0.0.0.0/0", "::/0"]));
    }

    fn shared(ports: u16, members: u16) -> NetworkFirewall {
        let group = Id::random();
        let rule = |remote| Rule { ethertype: Ethertype::Ipv4, protocol: Protocol::TCP, remote };
        let rules: Arc<[Rule]> = [rule(Remote::Group(group)), rule(Remote::Any)].into();
        let address = |n: u16| IpNet::from(IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]));
        let mut firewall = NetworkFirewall::of((0..ports).map(|n| {
            let mac = crate::Mac([2, 0, 0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
            PortFirewall {
                port_id: Id::random(),
                mac,
                addresses: vec![crate::AllowedAddress { net: address(n), mac }],
                port_security: true,
                // Equal, but for every other port not the same.
                ingress: if n % 2 == 0 { Arc::clone(&rules) } else { rules.to_vec().into() },
                egress: [rule(Remote::Group(group))].into(),
            }
        }));
        firewall.groups.insert(group, (0..members).map(address).collect());
        firewall
    }

    #[test]
    fn ports_with_equal_rules_share_them() {
        let text = compile(Id::random(), &shared(99, 99)).unwrap().text;
        assert_eq!(text.matches("set sg4-").count(), 1);
        assert_eq!(text.matches("set sg6-").count(), 0);
        assert_eq!(text.matches("chain ingress_").count(), 1);
        assert_eq!(text.matches("chain egress_").count(), 1);
    }

    #[test]
    fn the_text_grows_with_ports_and_with_members_but_not_with_both_multiplied() {
        let length = |ports, members| compile(Id::random(), &shared(ports, members)).unwrap().text.len();
        let (fixed, ports, members, both) = (length(0, 0), length(400, 0), length(0, 400), length(400, 400));
        assert_eq!(members, fixed, "a group that nobody names is not written");
        assert!(both < ports + 400 * "10.0.255.255, ".len() + 1000, "{fixed} {ports} {both}");
        assert!(length(800, 800) < 2 * both + 1000);
    }

    #[test]
    fn a_group_of_which_nothing_is_known_allows_nobody() {
        let mut firewall = shared(2, 2);
        firewall.groups.clear();
        let compiled = compile(Id::random(), &firewall).unwrap();
        assert!(!compiled.text.contains("sg4-") && compiled.refused.is_empty());
        assert_eq!(compiled.text.matches(" meta l4proto 6 return").count(), 1, "the rule for anybody is left");
    }

    #[test]
    fn a_member_is_told_from_its_neighbours() {
        let nets: Vec<IpNet> = ["10.0.0.8/30", "10.0.0.9/32", "10.0.0.20/32", "fd00::/64", "0.0.0.0/32"]
            .map(|net| net.parse().unwrap())
            .into();
        let members = Members::of(&nets);
        let contains = |text: &str| members.contains(text.parse().unwrap());
        for inside in
            ["0.0.0.0", "10.0.0.8", "10.0.0.9", "10.0.0.11", "10.0.0.20", "fd00::", "fd00::ffff:ffff:ffff:ffff"]
        {
            assert!(contains(inside), "{inside}");
        }
        for outside in
            ["0.0.0.1", "10.0.0.7", "10.0.0.12", "10.0.0.19", "10.0.0.21", "::", "fd00:0:0:1::", "255.255.255.255"]
        {
            assert!(!contains(outside), "{outside}");
        }
        assert!(!Members::default().contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn two_ports_of_one_interface_name_are_refused() {
        let a: Id = "01234567-89ab-4000-8000-000000000001".parse().unwrap();
        let b: Id = "01234567-89ff-4000-8000-000000000002".parse().unwrap();
        let c: Id = "01234567-8aab-4000-8000-000000000001".parse().unwrap();
        let port = |port_id| PortFirewall {
            port_id,
            mac: crate::Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec![],
            port_security: true,
            ingress: [].into(),
            egress: [].into(),
        };
        assert!(compile(Id::random(), &NetworkFirewall::of([port(a), port(b)])).is_err());
        assert!(compile(Id::random(), &NetworkFirewall::of([port(a), port(c)])).is_ok());
    }
}
