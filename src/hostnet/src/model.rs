//! What callers say: plain data, serialisable, free of kernel handles.
//!
//! Every name in the kernel derives from the ids here, so an object can be found again after any crash.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;

/// The id of a network, port or router: a UUID, written with dashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Id(Uuid);

impl Id {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The first 11 characters: what fits behind a prefix of up to 4 in an interface name.
    pub(crate) fn short(&self) -> String {
        self.to_string().chars().take(11).collect()
    }
}

impl From<Uuid> for Id {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::parse_str(text).map(Self).map_err(|_| Error::Invalid("an id that is not a UUID".to_owned()))
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet address, written `02:00:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The link-local address that a guest makes out of this address (RFC 4291, appendix A).
    pub fn link_local(&self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Invalid("a MAC address that is not six hexadecimal pairs".to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A network: a namespace `net-<id>` with the bridge `br0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetworkSpec {
    pub id: Id,
    pub mtu: u32,
    /// The CIDRs of all its subnets, with or without DHCP. They become on-link routes of the namespace, so that the
    /// metadata listener can answer every guest.
    pub subnets: Vec<IpNet>,
}

/// An external network in `nat` mode. Its namespace and bridge are those of [`NetworkSpec`] with the same id (call
/// `ensure_network` first); this adds a link to the host, the host's address on it, and masquerading to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExternalSpec {
    pub id: Id,
    pub mtu: u32,
    /// The host's address in every subnet, with the subnet's prefix length: the gateway of routers and guests there.
    pub host_addresses: Vec<IpNet>,
}

/// A router: a namespace `rtr-<id>` with a veth `qr-<port>` per interface and `qg-<port>` for its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterSpec {
    pub id: Id,
    pub interfaces: Vec<RouterInterface>,
    pub gateway: Option<RouterGateway>,
    pub floating_ips: Vec<FloatingIp>,
    pub routes: Vec<StaticRoute>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterInterface {
    pub network_id: Id,
    pub port_id: Id,
    pub mac: Mac,
    /// The router's addresses with the prefix lengths of their subnets.
    pub addresses: Vec<IpNet>,
    pub mtu: u32,
    /// IPv6 prefixes to announce. Empty: no router advertisements.
    pub advertise: Vec<Advertised>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    pub prefix: ipnet::Ipv6Net,
    pub mode: AddressMode,
    pub dns: Vec<std::net::Ipv6Addr>,
}

/// Neutron's `ipv6_address_mode` / `ipv6_ra_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressMode {
    Slaac,
    DhcpStateful,
    DhcpStateless,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterGateway {
    /// The external network; its namespace must exist.
    pub network_id: Id,
    pub port_id: Id,
    pub mac: Mac,
    pub addresses: Vec<IpNet>,
    /// Default routes, at most one per family (`gateway_ip` of the external subnets).
    pub next_hops: Vec<IpAddr>,
    /// Rewrite the source of IPv4 traffic that leaves, and let nothing new in except to floating IPs.
    pub snat: bool,
    pub mtu: u32,
}

/// One address outside stands for one address inside, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FloatingIp {
    pub floating: Ipv4Addr,
    pub fixed: Ipv4Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StaticRoute {
    pub destination: IpNet,
    pub next_hop: IpAddr,
}

/// All rules of a network. Ports name groups, whose members are here once: what this takes grows with the ports and
/// with the members, never with both multiplied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkFirewall {
    pub ports: Vec<PortFirewall>,
    /// The members of the groups that rules name, of both families: one set per group and family in the kernel, however
    /// many rules name it. A group that is not here has no members.
    pub groups: BTreeMap<Id, Arc<[IpNet]>>,
}

impl NetworkFirewall {
    /// Rules that name no group.
    pub fn of(ports: impl IntoIterator<Item = PortFirewall>) -> Self {
        Self { ports: ports.into_iter().collect(), groups: BTreeMap::new() }
    }
}

impl<'a> IntoIterator for &'a NetworkFirewall {
    type Item = &'a PortFirewall;
    type IntoIter = std::slice::Iter<'a, PortFirewall>;

    fn into_iter(self) -> Self::IntoIter {
        self.ports.iter()
    }
}

/// Everything that one port may send and receive. Ports with the same rules may share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortFirewall {
    pub port_id: Id,
    pub mac: Mac,
    /// The port's fixed IPs and its allowed address pairs. The port's own MAC and its link-local address are always
    /// allowed. With `port_security` off they still decide who may ask for metadata.
    pub addresses: Vec<AllowedAddress>,
    /// Off: no filtering and no anti-spoofing (except towards the metadata service).
    pub port_security: bool,
    pub ingress: Arc<[Rule]>,
    pub egress: Arc<[Rule]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AllowedAddress {
    /// An address (`/32`, `/128`) or a whole CIDR.
    pub net: IpNet,
    pub mac: Mac,
}

/// Allows the packets that match all of it. There are no denying rules; what no rule allows is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub ethertype: Ethertype,
    pub protocol: Protocol,
    /// The other side: the source of ingress, the destination of egress.
    pub remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ethertype {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Any,
    /// A protocol number without ports; 1 with IPv6 means what it says, not ICMPv6.
    Number(u8),
    /// Destination ports from `min` to `max` of TCP (6), UDP (17), DCCP (33), SCTP (132) or UDP-Lite (136).
    Ports {
        number: u8,
        min: u16,
        max: u16,
    },
    /// ICMP, or ICMPv6 in IPv6 rules. A code needs a type.
    Icmp {
        kind: Option<u8>,
        code: Option<u8>,
    },
}

impl Protocol {
    pub const TCP: Self = Self::Number(6);
    pub const UDP: Self = Self::Number(17);
    pub const ICMP: Self = Self::Icmp { kind: None, code: None };

    pub fn tcp(min: u16, max: u16) -> Self {
        Self::Ports { number: 6, min, max }
    }

    pub fn udp(min: u16, max: u16) -> Self {
        Self::Ports { number: 17, min, max }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remote {
    Any,
    Net(IpNet),
    /// The members of a group, which [`NetworkFirewall::groups`] lists. None: nobody. Those of the other family are
    /// ignored.
    Group(Id),
}

/// What applying a firewall did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallChange {
    /// Rules were replaced; `false` when the kernel already had exactly these.
    pub changed: bool,
    /// Established flows that the new rules no longer allow, ended.
    pub ended_flows: usize,
    /// Rules that can never match (a remote of the other family, ports the wrong way round, a code without a type) and
    /// addresses that cannot be (a multicast MAC), with the reason. They allow nothing; all others are in force.
    pub refused: Vec<(Id, String)>,
}

/// DHCP and DNS of one network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DhcpSpec {
    pub network_id: Id,
    /// Only subnets with DHCP enabled. None: the server is stopped.
    pub subnets: Vec<DhcpSubnet>,
    pub hosts: Vec<DhcpHost>,
    /// Option 26.
    pub mtu: u32,
    /// The domain that guests are told and that their names resolve in, for example `openstacklocal`.
    pub domain: String,
    /// Where names outside the domain are asked. Empty: they are not answered. Reached through the network's router.
    pub upstream_dns: Vec<IpAddr>,
    pub lease_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DhcpSubnet {
    pub cidr: IpNet,
    /// The address of the DHCP port: the server listens there, and metadata is reached through it.
    pub server: IpAddr,
    pub gateway: Option<IpAddr>,
    /// Name servers that guests are told. Empty: `server`.
    pub dns: Vec<IpAddr>,
    /// The subnet's host routes, told by options 121 and 249. The route to 169.254.169.254 is added by itself.
    pub routes: Vec<StaticRoute>,
    /// IPv6 only: `None` is stateful.
    pub mode: Option<AddressMode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DhcpHost {
    pub port_id: Id,
    pub mac: Mac,
    pub addresses: Vec<IpAddr>,
    /// The name told to the guest and served by DNS: one DNS label.
    pub hostname: String,
    pub options: Vec<DhcpOption>,
}

/// A typed extra option of one port. There is no free text that could reach the server's configuration: everything is
/// written as numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DhcpOption {
    /// 6 for DHCPv6.
    pub ip_version: u8,
    pub code: u16,
    pub value: OptionValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionValue {
    Addresses(Vec<IpAddr>),
    Text(String),
    Bytes(Vec<u8>),
    U8(u8),
    U16(u16),
    U32(u32),
}

/// What applying DHCP did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpChange {
    Unchanged,
    Reloaded,
    Started,
    Restarted,
    Stopped,
}

/// What has gone through an interface since it was made, seen from the interface itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received: OneWay,
    pub sent: OneWay,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneWay {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// What of this instance exists in the kernel, for reconcilers and for the check that nothing leaked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    pub networks: BTreeMap<Id, ObservedNamespace>,
    pub routers: BTreeMap<Id, ObservedNamespace>,
    /// Interfaces in the host's namespace.
    pub host_links: Vec<String>,
    /// nft tables in the host's namespace, as `family name`.
    pub host_tables: Vec<String>,
    /// dnsmasq processes of this instance: (network or router id, process id).
    pub dnsmasq: Vec<(Id, i32)>,
    /// Half-made namespace files and run-time directories without their namespace.
    pub remains: Vec<String>,
}

impl Observed {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObservedNamespace {
    /// Taps: interface names. [`crate::tap_name`] derives them from port ids.
    pub taps: Vec<String>,
    pub veths: Vec<String>,
    pub bridges: Vec<String>,
    /// nft tables as `family name`.
    pub tables: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_macs_survive_their_text_and_nothing_else_does() {
        let id = Id::random();
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        let mac: Mac = "fa:16:3E:00:01:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:01:ff");
        assert_eq!(mac.link_local().to_string(), "fe80::f816:3eff:fe00:1ff");
        for bad in
            ["", "fa:16:3e:00:01", "fa:16:3e:00:01:ff:00", "fa:16:3e:00:01:+f", "fa16:3e:00:01:ff", "fa:16:3e:00:01:fg"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        for bad in ["", "../../etc", "net-x", "0123"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
