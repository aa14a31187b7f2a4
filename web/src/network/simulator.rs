//! What security groups let through, decided as the firewall decides it: what no rule allows is denied, answers to what was
//! allowed come back, and addressing itself (DHCP, neighbours) always works.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{addresses::range, model::Rule};

/// Names of protocols that rules may have, with their numbers.
const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

/// A protocol by name or number.
pub(super) fn protocol(text: &str) -> Option<u8> {
    let text = text.trim().to_ascii_lowercase();
    PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number).or_else(|| text.parse().ok())
}

pub(super) fn has_ports(number: u8) -> bool {
    matches!(number, 6 | 17 | 33 | 132 | 136)
}

pub(super) fn is_icmp(number: u8) -> bool {
    matches!(number, 1 | 58)
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub is_in: bool,
    /// The other end.
    pub remote: IpAddr,
    pub protocol: u8,
    /// The port it goes to, or the ICMP type.
    pub port: Option<u16>,
}

/// Addresses of the members of groups, by group.
pub(super) type Members = HashMap<String, Vec<IpNet>>;

/// Whether the rule lets the packet through.
pub(super) fn allows(rule: &Rule, packet: &Packet, members: &Members) -> bool {
    (rule.direction == "ingress") == packet.is_in
        && (rule.ethertype == "IPv4") == packet.remote.is_ipv4()
        && fits_protocol(rule, packet)
        && fits_remote(rule, packet.remote, members)
}

fn fits_protocol(rule: &Rule, packet: &Packet) -> bool {
    let Some(text) = &rule.protocol else { return true };
    let Some(number) = protocol(text) else { return false };
    // "ip" and 0 stand for any, and ICMP in a rule for IPv6 is ICMPv6.
    if number == 0 {
        return true;
    }
    let meant = if is_icmp(number) { if packet.remote.is_ipv4() { 1 } else { 58 } } else { number };
    if meant != packet.protocol {
        return false;
    }
    match (rule.port_range_min, rule.port_range_max) {
        (Some(min), Some(max)) if has_ports(number) => {
            packet.port.is_some_and(|port| (min..=max).contains(&i64::from(port)))
        }
        (Some(kind), _) if is_icmp(number) => packet.port.is_some_and(|port| i64::from(port) == kind),
        _ => true,
    }
}

fn fits_remote(rule: &Rule, remote: IpAddr, members: &Members) -> bool {
    match (&rule.remote_group_id, &rule.remote_ip_prefix) {
        (Some(group), _) => members.get(group).is_some_and(|nets| nets.iter().any(|net| net.contains(&remote))),
        (None, Some(prefix)) => range(prefix).is_some_and(|net| net.contains(&remote)),
        (None, None) => true,
    }
}

/// What passes whatever the rules say.
pub(super) fn always(packet: &Packet) -> bool {
    let port = packet.port.unwrap_or_default();
    match (packet.protocol, packet.is_in) {
        (17, true) => (packet.remote.is_ipv4() && port == 68) || (packet.remote.is_ipv6() && port == 546),
        (17, false) => (packet.remote.is_ipv4() && port == 67) || (packet.remote.is_ipv6() && port == 547),
        (58, true) => matches!(packet.port, Some(130 | 134 | 135 | 136)),
        (58, false) => matches!(packet.port, Some(130..=133 | 135 | 136 | 143)),
        _ => false,
    }
}

/// Groups that these rules name as the other end.
pub(super) fn named(rules: &[Rule]) -> HashSet<&str> {
    rules.iter().filter_map(|rule| rule.remote_group_id.as_deref()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ethertype: &str, protocol: Option<&str>, ports: Option<(i64, i64)>) -> Rule {
        Rule {
            direction: "ingress".into(),
            ethertype: ethertype.into(),
            protocol: protocol.map(str::to_owned),
            port_range_min: ports.map(|(min, _)| min),
            port_range_max: ports.map(|(_, max)| max),
            ..Rule::default()
        }
    }

    fn packet(remote: &str, protocol: u8, port: Option<u16>) -> Packet {
        Packet { is_in: true, remote: remote.parse().unwrap(), protocol, port }
    }

    #[test]
    fn a_rule_allows_what_fits_all_of_it() {
        let none = Members::new();
        let ssh = rule("IPv4", Some("tcp"), Some((22, 22)));
        assert!(allows(&ssh, &packet("192.0.2.1", 6, Some(22)), &none));
        assert!(!allows(&ssh, &packet("192.0.2.1", 6, Some(23)), &none));
        assert!(!allows(&ssh, &packet("192.0.2.1", 17, Some(22)), &none));
        assert!(!allows(&ssh, &packet("2001:db8::1", 6, Some(22)), &none));
        assert!(!allows(&ssh, &Packet { is_in: false, ..packet("192.0.2.1", 6, Some(22)) }, &none));
        let near = Rule { remote_ip_prefix: Some("10.0.0.0/8".into()), ..rule("IPv4", None, None) };
        assert!(allows(&near, &packet("10.9.9.9", 47, None), &none));
        assert!(!allows(&near, &packet("11.0.0.1", 47, None), &none));
        let one = Rule { remote_ip_prefix: Some("10.0.0.1".into()), ..near };
        assert!(
            allows(&one, &packet("10.0.0.1", 6, Some(1)), &none)
                && !allows(&one, &packet("10.0.0.2", 6, Some(1)), &none)
        );
    }

    #[test]
    fn a_group_as_the_other_end_means_its_members() {
        let members = Members::from([("g".to_owned(), vec!["10.0.0.5/32".parse().unwrap()])]);
        let from = Rule { remote_group_id: Some("g".into()), ..rule("IPv4", None, None) };
        assert!(allows(&from, &packet("10.0.0.5", 6, Some(80)), &members));
        assert!(!allows(&from, &packet("10.0.0.6", 6, Some(80)), &members));
        assert!(!allows(&from, &packet("10.0.0.5", 6, Some(80)), &Members::new()));
    }

    #[test]
    fn ping_is_an_icmp_type_and_any_protocol_is_any() {
        let none = Members::new();
        let ping = rule("IPv4", Some("icmp"), Some((8, 0)));
        assert!(allows(&ping, &packet("192.0.2.1", 1, Some(8)), &none));
        assert!(!allows(&ping, &packet("192.0.2.1", 1, Some(3)), &none));
        assert!(allows(&rule("IPv6", Some("icmp"), None), &packet("2001:db8::1", 58, Some(128)), &none));
        assert!(allows(&rule("IPv4", Some("0"), None), &packet("192.0.2.1", 17, Some(53)), &none));
        assert!(!allows(&rule("IPv4", Some("nonsense"), None), &packet("192.0.2.1", 17, Some(53)), &none));
        assert!(always(&packet("10.0.0.2", 17, Some(68))) && !always(&packet("10.0.0.2", 17, Some(53))));
    }
}
