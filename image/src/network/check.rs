//! What the keys say together, and what only this machine's NICs can say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use config::{Config, Dhcp, Link, NetworkSettings};
use ipnet::IpNet;

use super::Nic;

/// More sections of one kind help nobody.
const MOST_SECTIONS: usize = 128;
/// With the NUL at its end, what the kernel has room for.
const NAME_MAX: usize = 15;
/// Names that the cloud gives to its own devices begin so (`hostnet`).
const OF_THE_CLOUD: &[&str] = &["ext-", "vx-", "vr-", "qr-", "qg-", "tap", "net-", "rtr-"];
/// The kernel or systemd-networkd mean something else by these.
const TAKEN: &[&str] = &["lo", "all", "default", "none", "any", ".", "..", "bonding_masters"];

/// Settings without a mistake: all that is ever written for systemd-networkd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked(NetworkSettings);

impl Checked {
    /// DHCP on every wired NIC.
    #[must_use]
    pub fn default_settings() -> Self {
        Self(NetworkSettings::default())
    }

    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.0
    }
}

/// How a NIC is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NicId {
    Name(String),
    Mac([u8; 6]),
}

impl fmt::Display for NicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
        }
    }
}

impl NicId {
    /// # Errors
    /// What is wrong with the text, as the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(mac) = mac(text) {
            if mac[0] & 1 != 0 {
                return Err("is the MAC of a group, not of a NIC");
            }
            return if mac == [0; 6] { Err("is no NIC's MAC") } else { Ok(Self::Mac(mac)) };
        }
        device_name(text)?;
        Ok(Self::Name(text.to_owned()))
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// A name that a network device may have, and that means nothing else in a file of systemd-networkd.
fn device_name(text: &str) -> Result<(), &'static str> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(fits) || text.starts_with('-') {
        return Err("is no device's name (1 to 15 letters, digits, dots, hyphens, underscores) and no MAC");
    }
    if text.bytes().all(|c| c.is_ascii_digit()) {
        return Err("is a number, not a device's name");
    }
    if TAKEN.contains(&text) {
        return Err("is a name that the system has for something else");
    }
    if OF_THE_CLOUD.iter().any(|prefix| text.starts_with(prefix)) {
        return Err("begins as the cloud's own devices do");
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

/// # Errors
/// Everything that is wrong, each with its key.
pub fn check(config: &Config) -> Result<Checked, Vec<String>> {
    let settings = &config.network_settings;
    let mut problems = Problems::default();
    for (what, count) in
        [("interface", settings.interfaces.len()), ("bond", settings.bonds.len()), ("vlan", settings.vlans.len())]
    {
        if count > MOST_SECTIONS {
            problems.add(what, format!("there are {count} sections, at most {MOST_SECTIONS} are allowed"));
        }
    }
    let interfaces = interfaces(settings, &mut problems);
    let members = bonds(settings, &interfaces, &mut problems);
    vlans(settings, &members, &mut problems);
    links(config, &mut problems);
    if problems.0.is_empty() { Ok(Checked(settings.clone())) } else { Err(problems.0) }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    /// `key` without the section that all have in common.
    fn add(&mut self, key: &str, text: impl fmt::Display) {
        self.0.push(format!("network_settings.{key}: {text}"));
    }
}

fn interfaces(settings: &NetworkSettings, problems: &mut Problems) -> BTreeSet<NicId> {
    let mut known = BTreeSet::new();
    for id in settings.interfaces.keys() {
        let key = format!("interface.{}", shown(id));
        match NicId::parse(id) {
            Err(reason) => problems.add(&key, format!("{} {reason}", quoted(id))),
            Ok(_) if settings.bonds.contains_key(id) => problems.add(&key, format!("{id} is a bond too")),
            Ok(_) if settings.vlans.contains_key(id) => problems.add(&key, format!("{id} is a VLAN too")),
            Ok(nic) => {
                let name = nic.to_string();
                if !known.insert(nic) {
                    problems.add(&key, format!("there is another section for {name}"));
                }
            }
        }
    }
    known
}

/// Members of bonds, and whose they are.
fn bonds(settings: &NetworkSettings, interfaces: &BTreeSet<NicId>, problems: &mut Problems) -> BTreeMap<NicId, String> {
    const WITH_PRIMARY: [&str; 3] = ["active-backup", "balance-tlb", "balance-alb"];
    let mut members = BTreeMap::<NicId, String>::new();
    for (id, bond) in &settings.bonds {
        let key = format!("bond.{}", shown(id));
        if let Err(reason) = device_name(id) {
            problems.add(&key, format!("{} {reason}", quoted(id)));
        }
        if settings.vlans.contains_key(id) {
            problems.add(&key, format!("{id} is a VLAN too"));
        }
        let key = format!("{key}.members");
        if bond.members.is_empty() {
            problems.add(&key, "a bond needs at least one NIC");
        }
        for member in &bond.members {
            if member == id {
                problems.add(&key, format!("{member} cannot be a member of itself"));
                continue;
            }
            if settings.bonds.contains_key(member) || settings.vlans.contains_key(member) {
                problems.add(&key, format!("{} is no NIC: a bond is made of NICs alone", quoted(member)));
                continue;
            }
            match NicId::parse(member) {
                Err(reason) => problems.add(&key, format!("{} {reason}", quoted(member))),
                Ok(nic) => {
                    if interfaces.contains(&nic) {
                        problems.add(&key, format!("{member} has a section of its own; what it says belongs to {id}"));
                    }
                    match members.insert(nic, id.clone()) {
                        Some(other) if other == *id => problems.add(&key, format!("{member} is there twice")),
                        Some(other) => problems.add(&key, format!("{member} is a member of {other} too")),
                        None => (),
                    }
                }
            }
        }
        if let Some(primary) = &bond.primary {
            let key = format!("bond.{}.primary", shown(id));
            let own = |member: &&String| NicId::parse(member).ok() == NicId::parse(primary).ok();
            if !bond.members.iter().any(|member| own(&member)) {
                problems.add(&key, format!("{} is not among the members", quoted(primary)));
            }
            if !WITH_PRIMARY.contains(&bond.mode) {
                problems.add(&key, format!("the mode {} has no primary member", bond.mode));
            }
        }
    }
    members
}

fn vlans(settings: &NetworkSettings, members: &BTreeMap<NicId, String>, problems: &mut Problems) {
    let mut tags = BTreeMap::new();
    for (id, vlan) in &settings.vlans {
        let key = format!("vlan.{}", shown(id));
        if let Err(reason) = device_name(id) {
            problems.add(&key, format!("{} {reason}", quoted(id)));
        }
        let parent = &vlan.parent;
        let parent_key = format!("{key}.parent");
        if parent == id {
            problems.add(&parent_key, format!("{parent} cannot carry itself"));
        } else if settings.vlans.contains_key(parent) {
            problems.add(&parent_key, format!("{parent} is a VLAN itself; a NIC or a bond carries VLANs"));
        }
        let carrier = match NicId::parse(parent) {
            Err(reason) => {
                problems.add(&parent_key, format!("{} {reason}", quoted(parent)));
                continue;
            }
            Ok(nic) => nic,
        };
        if let Some(bond) = members.get(&carrier) {
            problems.add(&parent_key, format!("{parent} is a member of {bond}; put the VLAN on {bond}"));
        }
        if let Some(other) = tags.insert((carrier.clone(), vlan.id), id.clone()) {
            problems.add(&format!("{key}.id"), format!("{other} has the tag {} on {parent} already", vlan.id));
        }
        let below = settings.bonds.get(parent).map(|bond| &bond.link).or_else(|| {
            let own = |id: &str| NicId::parse(id).is_ok_and(|nic| nic == carrier);
            settings.interfaces.iter().find(|(id, _)| own(id)).map(|(_, link)| link)
        });
        let room = below.and_then(|link| link.mtu).unwrap_or(1500);
        if let Some(mtu) = vlan.link.mtu.filter(|mtu| *mtu > room) {
            problems.add(&format!("{key}.mtu"), format!("{mtu} does not fit through {parent}, whose mtu is {room}"));
        }
    }
}

/// Everything that has addresses, with its key.
fn all_links(settings: &NetworkSettings) -> impl Iterator<Item = (String, &Link)> {
    let interfaces = settings.interfaces.iter().map(|(id, link)| (format!("interface.{}", shown(id)), link));
    let bonds = settings.bonds.iter().map(|(id, bond)| (format!("bond.{}", shown(id)), &bond.link));
    let vlans = settings.vlans.iter().map(|(id, vlan)| (format!("vlan.{}", shown(id)), &vlan.link));
    interfaces.chain(bonds).chain(vlans)
}

fn links(config: &Config, problems: &mut Problems) {
    let settings = &config.network_settings;
    let mut addresses = BTreeMap::<IpAddr, String>::new();
    let mut gateways = BTreeMap::<bool, String>::new();
    let of_the_cloud = IpNet::V4(config.network.external_subnet);
    for (key, link) in all_links(settings) {
        let address_key = format!("{key}.addresses");
        for net in &link.addresses {
            if let Some(other) = addresses.insert(net.addr(), key.clone()) {
                let there = if other == key { "twice".to_owned() } else { format!("of {other} too") };
                problems.add(&address_key, format!("{} is there {there}", net.addr()));
            }
            if net.contains(&of_the_cloud) || of_the_cloud.contains(net) {
                let text = format!("{net} and network.external_subnet {of_the_cloud}, the cloud's own, overlap");
                problems.add(&address_key, text);
            }
        }
        let key = format!("{key}.gateways");
        for gateway in &link.gateways {
            if let Some(other) = gateways.insert(gateway.is_ipv4(), key.clone()) {
                let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
                let there = if other == key { "here".to_owned() } else { format!("network_settings.{other}") };
                problems.add(&key, format!("{gateway} is a second gateway for {family}; the other is {there}"));
            }
            if let Some(reason) = gateway_problem(*gateway, link) {
                problems.add(&key, format!("{gateway} {reason}"));
            }
        }
    }
}

fn gateway_problem(gateway: IpAddr, link: &Link) -> Option<String> {
    if gateway.is_unspecified() || gateway.is_loopback() || gateway.is_multicast() {
        return Some("is no router's address".into());
    }
    if link.addresses.iter().any(|net| net.addr() == gateway) {
        return Some("is the machine's own address".into());
    }
    let near = |net: &&IpNet| net.contains(&gateway);
    match (gateway, link.addresses.iter().find(near)) {
        (IpAddr::V6(gateway), None) if is_link_local(gateway) => None,
        (_, None) => {
            let own: Vec<_> = link.addresses.iter().filter(|net| net.addr().is_ipv4() == gateway.is_ipv4()).collect();
            Some(match own.as_slice() {
                [] => "is on no link: there is no address of its family".into(),
                own => {
                    let own: Vec<_> = own.iter().map(ToString::to_string).collect();
                    format!("is not on this link: it is in none of {}", own.join(", "))
                }
            })
        }
        (IpAddr::V4(gateway), Some(IpNet::V4(net))) if net.prefix_len() < 31 => {
            if gateway == net.network() {
                Some(format!("is the address of the network {} itself", net.trunc()))
            } else if gateway == net.broadcast() {
                Some(format!("is the broadcast address of {}", net.trunc()))
            } else {
                None
            }
        }
        _ => None,
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// An id as it stands in a header of the file.
fn shown(id: &str) -> String {
    let bare = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    if !id.is_empty() && id.bytes().all(bare) { id.to_owned() } else { quoted(id) }
}

/// What this machine's NICs say to settings: problems, and notes of what is merely not there.
#[must_use]
pub fn check_here(checked: &Checked, nics: &[Nic]) -> (Vec<String>, Vec<String>) {
    let settings = checked.settings();
    let (mut problems, mut notes) = (Problems::default(), Vec::new());
    let mut first = BTreeMap::<&str, (NicId, String)>::new();
    let named = settings.interfaces.keys().map(|id| (format!("interface.{}", shown(id)), id));
    let members = settings
        .bonds
        .iter()
        .flat_map(|(id, bond)| bond.members.iter().map(move |member| (format!("bond.{}.members", shown(id)), member)));
    let parents = settings.vlans.iter().map(|(id, vlan)| (format!("vlan.{}.parent", shown(id)), &vlan.parent));
    for (key, text) in named.chain(members).chain(parents) {
        if settings.bonds.contains_key(text) {
            continue;
        }
        let Ok(id) = NicId::parse(text) else { continue };
        let is_it = |nic: &&Nic| match &id {
            NicId::Name(name) => nic.name == *name,
            NicId::Mac(mac) => nic.mac == *mac,
        };
        let Some(nic) = nics.iter().find(is_it) else {
            notes.push(format!("network_settings.{key}: there is no wired NIC {text} here now"));
            continue;
        };
        match first.get(nic.name.as_str()) {
            Some((other, _)) if *other == id => (),
            Some((other, before)) => {
                let text =
                    format!("{text} is the NIC that network_settings.{before} calls {other}; name it the same way");
                problems.add(&key, text);
            }
            None => {
                first.insert(&nic.name, (id, key));
            }
        }
    }
    for id in settings.bonds.keys().chain(settings.vlans.keys()) {
        if nics.iter().any(|nic| nic.name == *id) {
            problems.add(&shown(id), "a NIC of this machine has that name");
        }
    }
    (problems.0, notes)
}

/// Whether a link asks for IPv4 and for IPv6.
#[must_use]
pub(crate) fn asks(link: &Link) -> (bool, bool) {
    let has = |v4: bool| link.addresses.iter().any(|net| net.addr().is_ipv4() == v4);
    match link.dhcp {
        Dhcp::Auto => (!has(true), !has(false)),
        Dhcp::Yes => (true, true),
        Dhcp::Ipv4 => (true, false),
        Dhcp::Ipv6 => (false, true),
        Dhcp::No => (false, false),
    }
}

pub(crate) fn asks_for_ipv4(link: &Link) -> bool {
    asks(link).0
}
