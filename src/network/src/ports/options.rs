//! Extra DHCP options of a port. Each known option has a number and a type; nothing a user wrote ever reaches the DHCP
//! server's configuration as free text (CVE-2021-40085 upstream).

use std::net::IpAddr;

use hostnet::OptionValue;
use rest::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{attributes::Attributes, errors::invalid};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DhcpOpt {
    pub opt_name: String,
    pub opt_value: String,
    pub ip_version: u8,
}

#[derive(Clone, Copy)]
enum Kind {
    Addresses,
    Text,
    U8,
    U16,
    U32,
    Flag,
}

/// Names of DHCPv4 options (RFC 2132 and later) as dnsmasq and Neutron's users write them.
const V4: &[(&str, u16, Kind)] = &[
    ("netmask", 1, Kind::Addresses),
    ("time-offset", 2, Kind::U32),
    ("router", 3, Kind::Addresses),
    ("dns-server", 6, Kind::Addresses),
    ("log-server", 7, Kind::Addresses),
    ("lpr-server", 9, Kind::Addresses),
    ("hostname", 12, Kind::Text),
    ("boot-file-size", 13, Kind::U16),
    ("domain-name", 15, Kind::Text),
    ("swap-server", 16, Kind::Addresses),
    ("root-path", 17, Kind::Text),
    ("extension-path", 18, Kind::Text),
    ("ip-forward-enable", 19, Kind::Flag),
    ("default-ttl", 23, Kind::U8),
    ("mtu", 26, Kind::U16),
    ("broadcast", 28, Kind::Addresses),
    ("nis-domain", 40, Kind::Text),
    ("nis-server", 41, Kind::Addresses),
    ("ntp-server", 42, Kind::Addresses),
    ("netbios-ns", 44, Kind::Addresses),
    ("netbios-nodetype", 46, Kind::U8),
    ("x-windows-fs", 48, Kind::Addresses),
    ("T1", 58, Kind::U32),
    ("T2", 59, Kind::U32),
    ("vendor-class", 60, Kind::Text),
    ("tftp-server", 66, Kind::Text),
    ("tftp-server-name", 66, Kind::Text),
    ("bootfile-name", 67, Kind::Text),
    ("smtp-server", 69, Kind::Addresses),
    ("pop3-server", 70, Kind::Addresses),
    ("posix-timezone", 100, Kind::Text),
    ("tzdb-timezone", 101, Kind::Text),
    ("domain-search", 119, Kind::Text),
    ("tftp-server-address", 150, Kind::Addresses),
    ("server-ip-address", 150, Kind::Addresses),
    ("path-prefix", 210, Kind::Text),
];

const V6: &[(&str, u16, Kind)] = &[
    ("dns-server", 23, Kind::Addresses),
    ("domain-search", 24, Kind::Text),
    ("ntp-server", 31, Kind::Addresses),
    ("sntp-server", 31, Kind::Addresses),
    ("information-refresh-time", 32, Kind::U32),
    ("bootfile-name", 59, Kind::Text),
    ("bootfile-url", 59, Kind::Text),
    ("tftp-server", 59, Kind::Text),
    ("server-ip-address", 23, Kind::Addresses),
];

const OPTIONS_MAX: usize = 32;

/// Reads `extra_dhcp_opts`; a null value takes the option away (in updates).
pub(crate) fn read(attributes: &mut Attributes) -> Result<Option<Vec<(DhcpOpt, bool)>>> {
    const NAME: &str = "extra_dhcp_opts";
    let Some(list) = attributes.list(NAME, OPTIONS_MAX)? else { return Ok(None) };
    let mut options: Vec<(DhcpOpt, bool)> = Vec::with_capacity(list.len());
    for value in list {
        let mut item = Attributes::nested(NAME, value)?;
        let name = Attributes::required(item.text("opt_name", 64)?, "opt_name")?;
        let value = match item.take("opt_value") {
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::String(text)) => Some(text),
            Some(Value::Null) | None => None,
            Some(_) => return Err(invalid(NAME, "'opt_value' is not a string")),
        };
        let version = item.integer("ip_version", 4..=6)?.unwrap_or_else(|| match &value {
            // The documented default is 4, but no DHCPv4 option can carry an IPv6 address: who writes one means DHCPv6.
            Some(text) if addresses_of(text).is_some_and(|all| all.iter().all(IpAddr::is_ipv6)) => 6,
            _ => 4,
        });
        item.finish()?;
        let ip_version = match version {
            4 => 4,
            6 => 6,
            _ => return Err(invalid(NAME, "'ip_version' is neither 4 nor 6")),
        };
        let is_removal = value.is_none();
        let option = DhcpOpt { opt_name: name, opt_value: value.unwrap_or_default(), ip_version };
        // An unknown name or a value of the wrong type is refused here, where the user can be told.
        lookup(&option)?;
        if !is_removal {
            typed(&option)?;
        }
        if options.iter().any(|(other, _)| other.opt_name == option.opt_name && other.ip_version == ip_version) {
            return Err(invalid(NAME, format!("Duplicate items in the list: '{}'", option.opt_name)));
        }
        options.push((option, is_removal));
    }
    Ok(Some(options))
}

fn lookup(option: &DhcpOpt) -> Result<(u16, Option<Kind>)> {
    let table = if option.ip_version == 4 { V4 } else { V6 };
    // dnsmasq's own prefix for "this name is one of yours".
    let name = option.opt_name.strip_prefix("option:").or_else(|| option.opt_name.strip_prefix("option6:"));
    let name = name.unwrap_or(&option.opt_name);
    if let Some((_, code, kind)) = table.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name)) {
        return Ok((*code, Some(*kind)));
    }
    let highest = if option.ip_version == 4 { 254 } else { u16::MAX };
    match name.parse::<u16>() {
        Ok(code) if (1..=highest).contains(&code) => {
            let kind = table.iter().find(|(_, known, _)| *known == code).map(|(_, _, kind)| *kind);
            Ok((code, kind))
        }
        _ => {
            let shown: String = option.opt_name.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(invalid(
                "extra_dhcp_opts",
                format!("'{shown}' is no known DHCP option; unknown ones go by their number"),
            ))
        }
    }
}

/// A comma separated list of addresses, each perhaps in brackets.
fn addresses_of(text: &str) -> Option<Vec<IpAddr>> {
    let all: Vec<IpAddr> = text
        .split(',')
        .map(|part| part.trim().trim_matches(['[', ']']).parse())
        .collect::<std::result::Result<_, _>>()
        .ok()?;
    (!all.is_empty() && all.len() <= 16).then_some(all)
}

/// The option as the host's side takes it: a number and a typed value.
pub(crate) fn typed(option: &DhcpOpt) -> Result<hostnet::DhcpOption> {
    let (code, kind) = lookup(option)?;
    let value = option.opt_value.trim();
    let refused = |want: &str| invalid("extra_dhcp_opts", format!("the value of '{}' is not {want}", option.opt_name));
    let number = |max: u32| -> Result<u32> {
        value.parse().ok().filter(|number| *number <= max).ok_or_else(|| refused(&format!("a number up to {max}")))
    };
    let addresses = || -> Option<Vec<IpAddr>> {
        addresses_of(value).filter(|all| all.iter().all(|one| one.is_ipv4() == (option.ip_version == 4)))
    };
    let text = || -> Result<OptionValue> {
        if value.is_empty() || value.len() > 255 || !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(refused("plain text of 1 to 255 characters"));
        }
        Ok(OptionValue::Text(value.to_owned()))
    };
    let value = match kind {
        Some(Kind::Addresses) => OptionValue::Addresses(addresses().ok_or_else(|| refused("a list of IP addresses"))?),
        Some(Kind::U8) => OptionValue::U8(u8::try_from(number(255)?).unwrap_or(u8::MAX)),
        Some(Kind::U16) => OptionValue::U16(u16::try_from(number(65_535)?).unwrap_or(u16::MAX)),
        Some(Kind::U32) => OptionValue::U32(number(u32::MAX)?),
        Some(Kind::Flag) => OptionValue::U8(match value {
            "0" | "false" => 0,
            "1" | "true" => 1,
            _ => return Err(refused("0 or 1")),
        }),
        Some(Kind::Text) => text()?,
        None => match addresses() {
            Some(addresses) => OptionValue::Addresses(addresses),
            None => text()?,
        },
    };
    Ok(hostnet::DhcpOption { ip_version: option.ip_version, code, value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_one(name: &str, value: &str) -> Result<hostnet::DhcpOption> {
        let body = json!({"extra_dhcp_opts": [{"opt_name": name, "opt_value": value}]});
        let options = read(&mut Attributes::bare(body)?)?.unwrap_or_default();
        typed(&options[0].0)
    }

    #[test]
    fn options_become_numbers_and_typed_values() {
        let option = read_one("bootfile-name", "pxelinux.0").unwrap();
        assert_eq!((option.code, option.value), (67, OptionValue::Text("pxelinux.0".into())));
        let option = read_one("server-ip-address", "123.123.123.45").unwrap();
        assert_eq!(option.value, OptionValue::Addresses(vec!["123.123.123.45".parse().unwrap()]));
        let option = read_one("server-ip-address", "2001:db8::1").unwrap();
        assert_eq!(option.ip_version, 6, "an address tells its version");
        assert_eq!(read_one("26", "1400").unwrap().value, OptionValue::U16(1400));
        assert_eq!(read_one("224", "anything").unwrap().code, 224);
    }

    #[test]
    fn an_ipv6_address_makes_the_option_one_of_dhcpv6_unless_the_version_is_said() {
        let option = read_one("server-ip-address", "2015::badd").unwrap();
        assert_eq!((option.ip_version, option.value), (6, OptionValue::Addresses(vec!["2015::badd".parse().unwrap()])));
        let said = json!({"extra_dhcp_opts": [{"opt_name": "dns-server", "opt_value": "2015::1", "ip_version": 4}]});
        assert!(read(&mut Attributes::bare(said).unwrap()).is_err());
    }

    #[test]
    fn what_could_reach_a_configuration_file_is_refused() {
        for (name, value) in [
            ("bootfile-name", "a\ndhcp-script=/bin/sh"),
            ("bootfile-name", "a\0b"),
            ("bootfile-name\ndhcp-script=/x", "a"),
            ("tag:evil,6", "1.1.1.1"),
            ("mtu", "seventy"),
            ("mtu", "70000"),
            ("router", "1.2.3.4,evil"),
            ("router", "2001:db8::1,1.2.3.4"),
            ("0", "x"),
            ("255", "x"),
            ("bootfile-name", ""),
        ] {
            assert!(read_one(name, value).is_err(), "{name:?} {value:?}");
        }
    }
}
