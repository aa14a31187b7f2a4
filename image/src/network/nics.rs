//! The wired NICs of this machine, and the bonds and VLANs on them: what the kernel says.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::{NicId, Places};

/// More are not shown.
const MOST: usize = 256;

/// One network device that is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    /// The one it was made with.
    pub mac: [u8; 6],
    /// Hardware, and not a bond or VLAN.
    pub physical: bool,
    /// A cable with somebody at its other end.
    pub has_link: bool,
    pub speed_mbps: Option<u32>,
    /// The bond it is a member of.
    pub bond: Option<String>,
    /// In the order of the kernel.
    pub addresses: Vec<IpNet>,
}

impl Nic {
    /// As people write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        NicId::Mac(self.mac).to_string()
    }

    /// Addresses by which others than neighbours reach it.
    pub fn routable(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr).filter(|address| !is_link_local(*address))
    }
}

/// Valid only between neighbours.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Every wired NIC, by name, then bonds and VLANs by the names in `more`.
#[must_use]
pub fn nics(places: &Places, more: &[&str]) -> Vec<Nic> {
    let addresses = if places.is_real() { all_addresses() } else { Vec::new() };
    let Ok(entries) = std::fs::read_dir(places.sys_net()) else { return Vec::new() };
    let mut found: Vec<Nic> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| read(&places.sys_net().join(&name), name, more, &addresses))
        .collect();
    found.sort_by(|a, b| (!a.physical, &a.name).cmp(&(!b.physical, &b.name)));
    found.truncate(MOST);
    found
}

fn read(folder: &Path, name: String, more: &[&str], addresses: &[(String, IpNet)]) -> Option<Nic> {
    let text = |file: &str| Some(std::fs::read_to_string(folder.join(file)).ok()?.trim().to_owned());
    const ETHERNET: &str = "1";
    let wireless = folder.join("wireless").exists() || folder.join("phy80211").exists();
    let physical = folder.join("device").exists() && !wireless && text("type").as_deref() == Some(ETHERNET);
    if !physical && !more.contains(&name.as_str()) {
        return None;
    }
    let own = text("bonding_slave/perm_hwaddr").or_else(|| text("address")).unwrap_or_default();
    let mac = match NicId::parse(&own) {
        Ok(NicId::Mac(mac)) => mac,
        _ => [0; 6],
    };
    let bond = std::fs::read_link(folder.join("master")).ok();
    let bond = bond.filter(|_| folder.join("bonding_slave").exists());
    let bond = bond.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    // A device that is down has no such value.
    let has_link = text("carrier").as_deref() == Some("1");
    let speed_mbps = text("speed").and_then(|text| text.parse().ok()).filter(|speed| has_link && *speed > 0);
    let addresses = addresses.iter().filter(|(of, _)| *of == name).map(|(_, net)| *net).collect();
    Some(Nic { name, mac, physical, has_link, speed_mbps, bond, addresses })
}

fn all_addresses() -> Vec<(String, IpNet)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|one| {
        let (address, mask) = (one.address?, one.netmask?);
        let (address, prefix): (IpAddr, u32) =
            if let (Some(v4), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
                (v4.ip().into(), mask.ip().to_bits().count_ones())
            } else if let (Some(v6), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
                (v6.ip().into(), mask.ip().to_bits().count_ones())
            } else {
                return None;
            };
        Some((one.interface_name, IpNet::new(address, u8::try_from(prefix).ok()?).ok()?))
    })
    .collect()
}
