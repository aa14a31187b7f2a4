//! Settings as files of systemd-networkd.
//!
//! The order of the files decides which one a NIC gets: those that name it come before the one for all the rest, which
//! matches hardware alone (`Kind=!*`): bridges, taps and pairs of the cloud are of a kind. That one has the name of the file that
//! the image brings, and takes its place.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use config::{Bond, Link, NetworkSettings, Vlan};

use super::check::asks;
use super::{Checked, NicId};

/// Of every file that is ours to change and to remove.
pub(crate) const OURS: &str = "-solostack-";

/// One file in the folder of systemd-networkd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    pub name: String,
    pub content: String,
    /// For a file that makes a device: which one.
    pub device: Option<String>,
}

/// All files, by name.
#[must_use]
pub fn render(checked: &Checked) -> Vec<File> {
    let settings = checked.settings();
    let mut files = Vec::new();
    let mut carried = BTreeMap::<String, Vec<&str>>::new();
    for (id, vlan) in &settings.vlans {
        files.push(vlan_device(id, vlan));
        carried.entry(normal(&vlan.parent)).or_default().push(id);
    }
    for (id, vlan) in &settings.vlans {
        let mut file = Ini::default();
        file.section("Match").set("Name", id).set("Kind", "vlan");
        rest(&mut file, &vlan.link, settings, &[]);
        files.push(file.named(format!("30-solostack-{id}.network")));
    }
    for (id, bond) in &settings.bonds {
        files.push(bond_device(id, bond));
        let mut file = Ini::default();
        file.section("Match").set("Name", id).set("Kind", "bond");
        rest(&mut file, &bond.link, settings, &carried.remove(id).unwrap_or_default());
        files.push(file.named(format!("30-solostack-{id}.network")));
        for member in &bond.members {
            let mut file = Ini::default();
            matching(&mut file, member);
            file.section("Network").set("Bond", id).set("LinkLocalAddressing", "no");
            let primary = bond.primary.as_ref().is_some_and(|primary| normal(primary) == normal(member));
            if primary {
                file.set("PrimarySlave", "yes");
            }
            files.push(file.named(format!("20-solostack-{}.network", in_a_name(member))));
        }
    }
    let mut links: BTreeMap<String, Link> =
        settings.interfaces.iter().map(|(id, link)| (normal(id), link.clone())).collect();
    for parent in carried.keys() {
        links.entry(parent.clone()).or_default();
    }
    for (id, link) in &links {
        let mut file = Ini::default();
        matching(&mut file, id);
        rest(&mut file, link, settings, carried.get(id).map(Vec::as_slice).unwrap_or_default());
        files.push(file.named(format!("20-solostack-{}.network", in_a_name(id))));
    }
    let mut file = Ini::default();
    file.section("Match").set("Type", "ether").set("Kind", "!*");
    rest(&mut file, &Link::default(), settings, &[]);
    files.push(file.named("89-solostack-wired.network".into()));
    files.sort();
    files
}

/// One spelling for each NIC.
fn normal(id: &str) -> String {
    NicId::parse(id).map_or_else(|_| id.to_owned(), |nic| nic.to_string())
}

fn in_a_name(id: &str) -> String {
    normal(id).replace(':', "")
}

fn matching(file: &mut Ini, id: &str) {
    file.section("Match");
    match NicId::parse(id) {
        // A member of a bond takes on the bond's MAC; the one it was made with stays.
        Ok(nic @ NicId::Mac(_)) => file.set("PermanentMACAddress", nic),
        _ => file.set("Name", id),
    };
    file.set("Type", "ether").set("Kind", "!*");
}

fn rest(file: &mut Ini, link: &Link, settings: &NetworkSettings, vlans: &[&str]) {
    // A NIC without a cable keeps nobody waiting.
    file.section("Link").set("RequiredForOnline", "no");
    if let Some(mtu) = link.mtu {
        file.set("MTUBytes", mtu);
    }
    let (v4, v6) = asks(link);
    let dhcp = match (v4, v6) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    file.section("Network").set("DHCP", dhcp).set("IPv6AcceptRA", if v6 { "yes" } else { "no" });
    // With DHCP for IPv4 the link-local address comes only while no server answers.
    file.set("LinkLocalAddressing", if v4 { "yes" } else { "ipv6" }).set("MulticastDNS", "yes").set("LLMNR", "no");
    if v4 || v6 {
        file.set("KeepConfiguration", "dhcp-on-stop");
    }
    for address in &link.addresses {
        file.set("Address", address);
    }
    for gateway in &link.gateways {
        file.set("Gateway", gateway);
    }
    for server in &settings.dns_servers {
        file.set("DNS", server);
    }
    if !settings.search_domains.is_empty() {
        file.set("Domains", settings.search_domains.join(" "));
    }
    if !settings.ntp_servers.is_empty() {
        file.set("NTP", settings.ntp_servers.join(" "));
    }
    for vlan in vlans {
        file.set("VLAN", vlan);
    }
    let own_dns = !settings.dns_servers.is_empty();
    let own_ntp = !settings.ntp_servers.is_empty();
    let told = |file: &mut Ini, ntp: bool| {
        if own_dns {
            file.set("UseDNS", "no");
        }
        if own_ntp && ntp {
            file.set("UseNTP", "no");
        }
    };
    if v4 {
        // The address follows the NIC, not an identity that a new installation would change.
        file.section("DHCPv4").set("ClientIdentifier", "mac").set("UseHostname", "no");
        told(file, true);
    }
    if v6 {
        file.section("DHCPv6").set("DUIDType", "link-layer").set("UseHostname", "no");
        told(file, true);
        if own_dns {
            file.section("IPv6AcceptRA");
            told(file, false);
        }
    }
}

fn bond_device(id: &str, bond: &Bond) -> File {
    let mut file = Ini::default();
    file.section("NetDev").set("Name", id).set("Kind", "bond");
    if let Some(mtu) = bond.link.mtu {
        file.set("MTUBytes", mtu);
    }
    file.section("Bond").set("Mode", bond.mode).set("MIIMonitorSec", format!("{}ms", bond.monitor_ms));
    if bond.mode == "802.3ad" {
        file.set("LACPTransmitRate", bond.lacp_rate);
    }
    if matches!(bond.mode, "802.3ad" | "balance-xor" | "balance-tlb") {
        file.set("TransmitHashPolicy", bond.hash);
    }
    File { device: Some(id.to_owned()), ..file.named(format!("10-solostack-{id}.netdev")) }
}

fn vlan_device(id: &str, vlan: &Vlan) -> File {
    let mut file = Ini::default();
    file.section("NetDev").set("Name", id).set("Kind", "vlan");
    if let Some(mtu) = vlan.link.mtu {
        file.set("MTUBytes", mtu);
    }
    file.section("VLAN").set("Id", vlan.id);
    File { device: Some(id.to_owned()), ..file.named(format!("10-solostack-{id}.netdev")) }
}

#[derive(Default)]
struct Ini(String);

impl Ini {
    fn section(&mut self, name: &str) -> &mut Self {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}[{name}]");
        self
    }

    /// What would begin another line or another key was refused before; it is left out here all the same.
    fn set(&mut self, key: &str, value: impl Display) -> &mut Self {
        let value = value.to_string();
        if !value.chars().any(|c| c.is_control() || "[]\\#;=".contains(c)) {
            let _ = writeln!(self.0, "{key}={value}");
        }
        self
    }

    fn named(self, name: String) -> File {
        File { name, content: self.0, device: None }
    }
}
