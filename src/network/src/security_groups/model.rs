//! What a rule may say. A rule that could never be applied is refused here, where its author can be told: one odd rule
//! must not keep the others from the kernel (OSSA-2019-001, OSSA-2019-002 upstream).

use rest::Result;
use serde_json::Value;

use crate::{
    attributes::Attributes,
    errors::{bad, invalid},
    ip,
};

/// Protocols by name, as Neutron knows them.
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

/// A rule without ids and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub direction: &'static str,
    pub ethertype: &'static str,
    pub protocol: Option<String>,
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    pub remote_ip_prefix: Option<String>,
    pub remote_group_id: Option<String>,
}

impl Terms {
    pub(crate) fn any(direction: &'static str, ethertype: &'static str, remote_group_id: Option<String>) -> Self {
        Self {
            direction,
            ethertype,
            protocol: None,
            port_min: None,
            port_max: None,
            remote_ip_prefix: None,
            remote_group_id,
        }
    }
}

/// The number of a protocol, given by name or number.
pub(crate) fn protocol_number(text: &str) -> Option<u8> {
    match PROTOCOLS.iter().find(|(name, _)| *name == text) {
        Some((_, number)) => Some(*number),
        None => text.parse().ok(),
    }
}

pub(crate) fn has_ports(number: u8) -> bool {
    matches!(number, 6 | 17 | 33 | 132 | 136)
}

pub(crate) fn is_icmp(number: u8) -> bool {
    matches!(number, 1 | 58)
}

fn read_protocol(attributes: &mut Attributes) -> Result<Option<String>> {
    let text = match attributes.take("protocol") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.to_ascii_lowercase(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(invalid("protocol", "it is neither a name nor a number")),
    };
    if text == "any" {
        return Ok(None);
    }
    if protocol_number(&text).is_none() || (text.starts_with('0') && text != "0") || text.starts_with('+') {
        let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(bad(
            "SecurityGroupRuleInvalidProtocol",
            format!(
                "Security group rule protocol {shown} not supported. Only protocol values {names:?} and integer \
                 representations [0 to 255] are supported."
            ),
        ));
    }
    Ok(Some(text))
}

/// Reads a rule's terms and refuses what does not fit together.
pub(crate) fn read(attributes: &mut Attributes) -> Result<Terms> {
    let direction = Attributes::required(attributes.one_of("direction", &["ingress", "egress"])?, "direction")?;
    let ethertype = match attributes.text_or_null("ethertype", 16)?.flatten() {
        None => "IPv4",
        Some(text) if text.eq_ignore_ascii_case("ipv4") => "IPv4",
        Some(text) if text.eq_ignore_ascii_case("ipv6") => "IPv6",
        Some(text) => {
            return Err(bad(
                "SecurityGroupRuleInvalidEtherType",
                format!(
                    "Security group rule for ethertype '{text}' not supported. Allowed values are ['IPv4', 'IPv6']."
                ),
            ));
        }
    };
    let protocol = read_protocol(attributes)?;
    let port_min = read_port(attributes, "port_range_min")?;
    let port_max = read_port(attributes, "port_range_max")?;
    // What is no id names no group, which is "not found" like any other id that names none.
    let remote_group_id = attributes.text_or_null("remote_group_id", 255)?.flatten();
    if attributes.uuid_or_null("remote_address_group_id")?.flatten().is_some() {
        return Err(invalid("remote_address_group_id", "this cloud has no address groups"));
    }
    let remote_ip_prefix = match attributes.text_or_null("remote_ip_prefix", 64)?.flatten() {
        None => None,
        Some(text) => Some(read_prefix(&text, ethertype)?),
    };
    if remote_ip_prefix.is_some() && remote_group_id.is_some() {
        return Err(bad(
            "SecurityGroupMultipleRemoteEntites",
            "Only remote_ip_prefix or remote_group_id may be provided.",
        ));
    }
    check_ports(protocol.as_deref(), ethertype, port_min, port_max)?;
    Ok(Terms { direction, ethertype, protocol, port_min, port_max, remote_ip_prefix, remote_group_id })
}

/// A port, or an ICMP type or code.
fn read_port(attributes: &mut Attributes, name: &str) -> Result<Option<u16>> {
    let Some(number) = attributes.integer_or_null(name, i64::MIN..=i64::MAX)?.flatten() else { return Ok(None) };
    match u16::try_from(number) {
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(bad("SecurityGroupInvalidPortValue", format!("Invalid value for port {number}"))),
    }
}

fn read_prefix(text: &str, ethertype: &str) -> Result<String> {
    let Some(net) = ip::parse_prefix(text) else {
        return Err(invalid("remote_ip_prefix", format!("'{text}' is not a valid CIDR")));
    };
    if net.addr().is_ipv4() != (ethertype == "IPv4") {
        return Err(bad(
            "SecurityGroupRuleParameterConflict",
            format!("Conflicting value ethertype {ethertype} for CIDR {text}"),
        ));
    }
    Ok(text.to_owned())
}

fn check_ports(protocol: Option<&str>, ethertype: &str, min: Option<u16>, max: Option<u16>) -> Result<()> {
    let is_ranged = min.is_some() || max.is_some();
    let Some(number) = protocol.and_then(protocol_number) else {
        if is_ranged {
            return Err(bad(
                "SecurityGroupProtocolRequiredWithPorts",
                "Must also specify protocol if port range is given.",
            ));
        }
        return Ok(());
    };
    if protocol.is_some_and(|name| name.parse::<u8>().is_err()) && number == 58 && ethertype == "IPv4" {
        return Err(bad(
            "SecurityGroupEthertypeConflictWithProtocol",
            format!("Invalid ethertype {ethertype} for protocol {}.", protocol.unwrap_or_default()),
        ));
    }
    if has_ports(number) {
        return match (min, max) {
            (None, None) => Ok(()),
            (Some(0), _) | (_, Some(0)) => Err(bad("SecurityGroupInvalidPortValue", "Invalid value for port 0")),
            (Some(min), Some(max)) if min <= max => Ok(()),
            _ => Err(bad(
                "SecurityGroupInvalidPortRange",
                "For TCP/UDP protocols, port_range_min must be <= port_range_max",
            )),
        };
    }
    if is_icmp(number) {
        for (name, value) in [("type", min), ("code", max)] {
            if let Some(value) = value.filter(|value| *value > 255) {
                return Err(bad(
                    "SecurityGroupInvalidIcmpValue",
                    format!("Invalid value for ICMP {name} (port_range) {value}. It must be 0 to 255."),
                ));
            }
        }
        if min.is_none()
            && let Some(code) = max
        {
            return Err(bad(
                "SecurityGroupMissingIcmpType",
                format!("ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing."),
            ));
        }
        return Ok(());
    }
    if is_ranged {
        return Err(bad(
            "SecurityGroupInvalidProtocolForPort",
            format!("Ports cannot be specified with protocol {}.", protocol.unwrap_or_default()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_value(value: Value) -> Result<Terms> {
        read(&mut Attributes::bare(value)?)
    }

    #[test]
    fn rules_that_make_sense_are_read() {
        for rule in [
            json!({"direction": "ingress"}),
            json!({"direction": "egress", "ethertype": "ipv6", "protocol": "icmpv6"}),
            json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}),
            json!({"direction": "ingress", "protocol": 6, "port_range_min": "1", "port_range_max": 65535}),
            json!({"direction": "ingress", "protocol": "icmp", "port_range_min": 8, "port_range_max": 0}),
            json!({"direction": "ingress", "protocol": "icmp", "port_range_min": 0}),
            json!({"direction": "ingress", "protocol": "47"}),
            json!({"direction": "ingress", "remote_ip_prefix": "10.0.0.1"}),
            json!({"direction": "ingress", "remote_ip_prefix": "0.0.0.0/0", "protocol": "any"}),
        ] {
            read_value(rule.clone()).unwrap_or_else(|error| panic!("{rule}: {error:?}"));
        }
    }

    #[test]
    fn rules_that_could_never_be_applied_are_refused() {
        for rule in [
            json!({}),
            json!({"direction": "sideways"}),
            json!({"direction": "ingress", "ethertype": "ARP"}),
            json!({"direction": "ingress", "protocol": "bad"}),
            json!({"direction": "ingress", "protocol": 256}),
            json!({"direction": "ingress", "protocol": -1}),
            json!({"direction": "ingress", "protocol": "+6"}),
            json!({"direction": "ingress", "port_range_min": 1, "port_range_max": 2}),
            json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 79}),
            json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 80}),
            json!({"direction": "ingress", "protocol": "tcp", "port_range_max": 80}),
            json!({"direction": "ingress", "protocol": "tcp", "port_range_min": -16384, "port_range_max": 80}),
            json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 65536}),
            json!({"direction": "ingress", "protocol": "icmp", "port_range_min": 256}),
            json!({"direction": "ingress", "protocol": "icmp", "port_range_max": 2}),
            json!({"direction": "ingress", "protocol": "gre", "port_range_min": 1, "port_range_max": 2}),
            json!({"direction": "ingress", "protocol": "icmpv6", "ethertype": "IPv4"}),
            json!({"direction": "ingress", "remote_ip_prefix": "bad_prefix"}),
            json!({"direction": "ingress", "remote_ip_prefix": "2001:db8::/64"}),
            json!({"direction": "ingress", "remote_ip_prefix": "10.0.0.0/33"}),
            json!({"direction": "ingress", "remote_ip_prefix": "10.0.0.0/8", "remote_group_id":
                "11111111-1111-4111-8111-111111111111"}),
        ] {
            assert!(read_value(rule.clone()).is_err(), "{rule}");
        }
    }
}
