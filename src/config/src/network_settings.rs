//! `[network_settings]`: the NICs of the machine itself, where Solostack is all that is installed (the appliance). A plain
//! host has its own way to say this, and ignores it.
//!
//! Here each value is checked by itself; what they say together is the appliance's to judge (`network check`), which falls
//! back to DHCP on every NIC rather than leave a machine without network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::file::{Member, Members, Values};
use super::keys::{Group, Key, Kind, check_host, check_ip, check_word};

/// What `[network_settings]` says. Nothing: DHCP on every wired NIC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Empty: those that DHCP and router advertisements tell.
    pub dns_servers: Vec<IpAddr>,
    pub search_domains: Vec<String>,
    /// Names or addresses. Empty: those that DHCP tells, or the system's.
    pub ntp_servers: Vec<String>,
    /// By name or MAC, as written.
    pub interfaces: BTreeMap<String, Link>,
    /// By the name of the device.
    pub bonds: BTreeMap<String, Bond>,
    /// By the name of the device.
    pub vlans: BTreeMap<String, Vlan>,
}

/// What every kind of link has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub dhcp: Dhcp,
    /// With the prefix of their network.
    pub addresses: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    /// `None`: the driver's own.
    pub mtu: Option<u16>,
}

/// Who gives addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dhcp {
    /// A server, for each family without an address of its own.
    #[default]
    Auto,
    Yes,
    Ipv4,
    Ipv6,
    No,
}

impl Dhcp {
    const ALL: [(&'static str, Self); 5] =
        [("auto", Self::Auto), ("yes", Self::Yes), ("ipv4", Self::Ipv4), ("ipv6", Self::Ipv6), ("no", Self::No)];

    /// As the file has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("auto", |(text, _)| text)
    }
}

/// Several NICs as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    pub link: Link,
    /// Names or MACs.
    pub members: Vec<String>,
    /// One of [`BOND_MODES`].
    pub mode: &'static str,
    /// `active-backup`, `balance-tlb`, `balance-alb`: the member that is used while it works.
    pub primary: Option<String>,
    /// `slow` or `fast`, for `802.3ad`.
    pub lacp_rate: &'static str,
    /// One of [`HASHES`]: by what traffic is spread.
    pub hash: &'static str,
    /// How often the members' links are looked at.
    pub monitor_ms: u16,
}

/// A tagged network on a NIC or a bond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    pub link: Link,
    /// An interface's name or MAC, or a bond's name.
    pub parent: String,
    pub id: u16,
}

/// As the kernel names them.
pub const BOND_MODES: &[&str] =
    &["active-backup", "802.3ad", "balance-rr", "balance-xor", "broadcast", "balance-tlb", "balance-alb"];
/// As the kernel names them.
pub const HASHES: &[&str] = &["layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac"];
const LACP_RATES: &[&str] = &["slow", "fast"];

const MOST_MTU: u16 = 9216;

pub(crate) const DNS_SERVERS: Key = Key {
    name: "network_settings.dns_servers",
    kind: Kind::List { default: &[], check: check_ip, most: 5 },
    doc: "The appliance's own network; a plain host ignores these sections. Name servers of the machine, instead of \
          those that DHCP tells.",
};
pub(crate) const SEARCH_DOMAINS: Key = Key {
    name: "network_settings.search_domains",
    kind: Kind::List { default: &[], check: check_domain, most: 16 },
    doc: "Domains in which names without a dot are looked for.",
};
pub(crate) const NTP_SERVERS: Key = Key {
    name: "network_settings.ntp_servers",
    kind: Kind::List { default: &[], check: check_host, most: 8 },
    doc: "Time servers by name or address, instead of those that DHCP tells.",
};

const DHCP: Key = Key {
    name: "dhcp",
    kind: Kind::Choice { default: "auto", of: &["auto", "yes", "ipv4", "ipv6", "no"] },
    doc: "auto asks a DHCP server (and for IPv6 listens to routers) for each family that has no address below.",
};
const ADDRESSES: Key = Key {
    name: "addresses",
    kind: Kind::List { default: &[], check: check_address, most: 32 },
    doc: "Fixed addresses, each with the prefix of its network, as in 192.0.2.10/24.",
};
const GATEWAYS: Key = Key {
    name: "gateways",
    kind: Kind::List { default: &[], check: check_ip, most: 2 },
    doc: "The routers to everywhere else, one of each family at most.",
};
const MTU: Key = Key {
    name: "mtu",
    kind: Kind::Int { default: 1500, min: 1280, max: MOST_MTU as i64 },
    doc: "The largest packet in bytes, where it is not the usual.",
};

pub(crate) const INTERFACE: Group = Group {
    name: "network_settings.interface",
    doc: "A wired NIC of the appliance. ID is its name, or its MAC in quotes. NICs without a section use DHCP.",
    keys: &[DHCP, ADDRESSES, GATEWAYS, MTU],
    required: &[],
};

pub(crate) const BOND: Group = Group {
    name: "network_settings.bond",
    doc: "Several NICs of the appliance as one. ID is the new device's name.",
    keys: &[
        Key {
            name: "members",
            kind: Kind::List { default: &[], check: check_word, most: 16 },
            doc: "The NICs, each by name or MAC.",
        },
        Key {
            name: "mode",
            kind: Kind::Choice { default: "active-backup", of: BOND_MODES },
            doc: "How they share the work. 802.3ad (LACP) and the balancing ones need a switch that is set up for it.",
        },
        Key {
            name: "primary",
            kind: Kind::Text { default: None, check: check_word },
            doc: "The member, by name, that is used while it works (active-backup, balance-tlb, balance-alb).",
        },
        Key {
            name: "lacp_rate",
            kind: Kind::Choice { default: "slow", of: LACP_RATES },
            doc: "How often the other side is asked to speak, for 802.3ad.",
        },
        Key {
            name: "hash",
            kind: Kind::Choice { default: "layer2+3", of: HASHES },
            doc: "By what traffic is spread over the members, for 802.3ad, balance-xor and balance-tlb.",
        },
        Key {
            name: "monitor_ms",
            kind: Kind::Int { default: 100, min: 10, max: 10_000 },
            doc: "How often the members' links are looked at, in milliseconds.",
        },
        DHCP,
        ADDRESSES,
        GATEWAYS,
        MTU,
    ],
    required: &["members"],
};

pub(crate) const VLAN: Group = Group {
    name: "network_settings.vlan",
    doc: "A tagged network of the appliance. ID is the new device's name.",
    keys: &[
        Key {
            name: "parent",
            kind: Kind::Text { default: None, check: check_word },
            doc: "The NIC, by name or MAC, or the bond that carries it.",
        },
        Key { name: "id", kind: Kind::Int { default: 1, min: 1, max: 4094 }, doc: "The tag." },
        DHCP,
        ADDRESSES,
        GATEWAYS,
        MTU,
    ],
    required: &["parent", "id"],
};

fn check_domain(text: &str) -> Result<(), &'static str> {
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) && text.parse::<IpAddr>().is_err() {
        Ok(())
    } else {
        Err("is not a domain such as example.org")
    }
}

fn check_address(text: &str) -> Result<(), &'static str> {
    let net: IpNet =
        text.parse().map_err(|_| "is not an address with its prefix, such as 192.0.2.10/24 or 2001:db8::10/64")?;
    let (address, prefix) = (net.addr(), net.prefix_len());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err("is no address that a NIC can have");
    }
    if prefix == 0 {
        return Err("has a prefix of 0: every address would be near");
    }
    match net {
        IpNet::V4(net) if net.addr().is_broadcast() || net.addr().octets()[0] == 0 => {
            Err("is no address that a NIC can have")
        }
        IpNet::V4(net) if prefix < 31 && net.addr() == net.network() => {
            Err("is the address of the network itself; give the machine's own")
        }
        IpNet::V4(net) if prefix < 31 && net.addr() == net.broadcast() => {
            Err("is the broadcast address of its network; give the machine's own")
        }
        _ => Ok(()),
    }
}

pub(crate) fn read(values: &Values) -> NetworkSettings {
    let group = |name: &'static str| members(&values.1, name);
    NetworkSettings {
        dns_servers: super::parsed(&values.list("network_settings.dns_servers")),
        search_domains: values.list("network_settings.search_domains"),
        ntp_servers: values.list("network_settings.ntp_servers"),
        interfaces: group(INTERFACE.name).map(|(id, member)| (id, link(member))).collect(),
        bonds: group(BOND.name).map(|(id, member)| (id, bond(member))).collect(),
        vlans: group(VLAN.name).map(|(id, member)| (id, vlan(member))).collect(),
    }
}

fn members<'a>(all: &'a Members, name: &'static str) -> impl Iterator<Item = (String, &'a Member)> {
    all.iter().filter(move |((group, _), _)| *group == name).map(|((_, id), member)| (id.clone(), member))
}

fn link(member: &Member) -> Link {
    let dhcp = member.text("dhcp").unwrap_or_default();
    Link {
        dhcp: Dhcp::ALL.iter().find(|(text, _)| *text == dhcp).map_or(Dhcp::Auto, |(_, own)| *own),
        addresses: super::parsed(&member.list("addresses")),
        gateways: super::parsed(&member.list("gateways")),
        mtu: member.given("mtu").then(|| member.small("mtu")),
    }
}

fn bond(member: &Member) -> Bond {
    Bond {
        link: link(member),
        members: member.list("members"),
        mode: choice(member, "mode", BOND_MODES, 0),
        primary: member.text("primary"),
        lacp_rate: choice(member, "lacp_rate", LACP_RATES, 0),
        hash: choice(member, "hash", HASHES, 1),
        monitor_ms: member.small("monitor_ms"),
    }
}

fn vlan(member: &Member) -> Vlan {
    Vlan { link: link(member), parent: member.text("parent").unwrap_or_default(), id: member.small("id") }
}

fn choice(member: &Member, name: &str, of: &'static [&'static str], default: usize) -> &'static str {
    let text = member.text(name).unwrap_or_default();
    of.iter().find(|own| **own == text).copied().unwrap_or(of[default])
}
