//! Interfaces, addresses and routes through rtnetlink, one blocking socket per piece of work. The socket stays in the
//! namespace in which it was opened, whatever its thread does later.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols};

use crate::{Error, Mac, OneWay, Result, Traffic};

/// The kernel answers in microseconds; this only guards against a lost answer.
const TIMEOUT_SECONDS: i64 = 10;

pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// An interface, as far as this crate cares.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge`, `tun`, or empty for what has no kind.
    pub kind: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// Up and connected: packets pass.
    pub running: bool,
    pub master: Option<u32>,
    pub alias: Option<String>,
    pub traffic: Traffic,
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    pub link: u32,
    pub metric: u32,
    /// Made by us, not by the kernel for an address.
    pub is_static: bool,
}

/// One end of a pair of virtual interfaces.
pub(crate) struct VethEnd<'a> {
    pub name: &'a str,
    pub mac: Mac,
    pub mtu: u32,
    pub alias: &'a str,
}

pub(crate) fn open_socket(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let limit = TimeVal::new(TIMEOUT_SECONDS, 0);
    setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &limit)?;
    setsockopt(&socket.as_fd(), sockopt::SendTimeout, &limit)?;
    // Long dumps must fit while they are read; the default may be as low as 208 KiB.
    let _ = socket.set_rx_buf_sz(2u32 << 20);
    Ok(socket)
}

impl Netlink {
    /// A connection to the namespace that the calling thread is in.
    pub fn open() -> Result<Self> {
        let socket = open_socket(protocols::NETLINK_ROUTE).map_err(|e| Error::io("opening netlink", e))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn request(&mut self, what: &str, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, flags).map_err(|e| Error::io(what, e))
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while rest.len() >= 16 {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (answer.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
                rest = &rest[length..];
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Overrun(_) => return Err(io::Error::other("netlink lost messages")),
                    _ => {}
                }
            }
        }
    }

    // -- interfaces --

    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request("listing interfaces", message, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(link).collect())
    }

    pub fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        // The acknowledgement marks the end, whether or not there is an answer.
        match self.exchange(RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
            Ok(answers) => Ok(answers.into_iter().find_map(link)),
            Err(e) if e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            Err(e) => Err(Error::io(format!("looking at the interface {name}"), e)),
        }
    }

    pub fn get(&mut self, name: &str) -> Result<Link> {
        self.find(name)?.ok_or_else(|| Error::NotFound(format!("the interface {name}")))
    }

    /// A bridge that forwards all it gets (no STP, no multicast snooping: there is no querier) and hands IP packets to
    /// conntrack whatever the namespace's default.
    pub fn add_bridge(&mut self, name: &str, mac: Mac, mtu: u32, alias: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![
                    InfoBridge::StpState(BridgeStpState::Disabled),
                    InfoBridge::ForwardDelay(0),
                    InfoBridge::MulticastSnooping(false),
                    InfoBridge::NfCallIpTables(true),
                    InfoBridge::NfCallIp6Tables(true),
                ])),
            ]),
        ];
        self.request(&format!("adding the bridge {name}"), RouteNetlinkMessage::NewLink(message), CREATE)?;
        let index = self.get(name)?.index;
        self.set_alias(index, alias)
    }

    /// A pair, one end here and one in `there`; both down.
    pub fn add_veth(&mut self, here: &VethEnd<'_>, there: BorrowedFd<'_>, peer: &VethEnd<'_>) -> Result<()> {
        let end = |end: &VethEnd<'_>| {
            vec![
                LinkAttribute::IfName(end.name.to_owned()),
                LinkAttribute::Address(end.mac.0.to_vec()),
                LinkAttribute::Mtu(end.mtu),
            ]
        };
        let mut other = LinkMessage::default();
        other.attributes = end(peer);
        other.attributes.push(LinkAttribute::NetNsFd(there.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes = end(here);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        let what = format!("adding the interfaces {} and {}", here.name, peer.name);
        self.request(&what, RouteNetlinkMessage::NewLink(message), CREATE)?;
        let index = self.get(here.name)?.index;
        self.set_alias(index, here.alias)
    }

    fn change(&mut self, index: u32, what: &str, attributes: Vec<LinkAttribute>, up: bool) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes = attributes;
        self.request(what, RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.change(index, "bringing an interface up", Vec::new(), true)
    }

    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        self.change(index, "marking an interface", vec![LinkAttribute::IfAlias(alias.to_owned())], false)
    }

    /// Brings an existing interface to these values, in one message and only if something differs.
    pub fn adjust(&mut self, link: &Link, mac: Option<Mac>, mtu: u32, master: Option<u32>) -> Result<()> {
        let mut attributes = Vec::new();
        if let Some(mac) = mac.filter(|mac| link.mac != Some(*mac)) {
            attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        }
        if link.mtu != mtu {
            attributes.push(LinkAttribute::Mtu(mtu));
        }
        if let Some(master) = master.filter(|master| link.master != Some(*master)) {
            attributes.push(LinkAttribute::Controller(master));
        }
        if attributes.is_empty() && link.up {
            return Ok(());
        }
        self.change(link.index, &format!("setting up the interface {}", link.name), attributes, true)
    }

    /// Removes an interface; gone already is fine.
    pub fn remove(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.exchange(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ENODEV) => Err(Error::io("removing an interface", e)),
            _ => Ok(()),
        }
    }

    /// Removes many interfaces in one go: each removal alone waits for all CPUs to pass a quiet point, some 20 ms.
    pub fn remove_many(&mut self, indices: &[u32]) -> Result<()> {
        if let [one] = indices {
            return self.remove(*one);
        }
        for index in indices {
            let mut message = LinkMessage::default();
            message.header.index = *index;
            message.attributes.push(LinkAttribute::Group(DOOMED));
            match self.exchange(RouteNetlinkMessage::SetLink(message), NLM_F_ACK) {
                Err(e) if e.raw_os_error() != Some(nix::libc::ENODEV) => {
                    return Err(Error::io("gathering interfaces for removal", e));
                }
                _ => {}
            }
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(DOOMED));
        match self.exchange(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ENODEV) => Err(Error::io("removing interfaces", e)),
            _ => Ok(()),
        }
    }

    // -- addresses --

    /// The addresses that somebody set: no link-local ones of the kernel.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request("listing addresses", message, NLM_F_DUMP)?;
        let mut found = Vec::new();
        for answer in answers {
            let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
            if message.header.index != index {
                continue;
            }
            // For IPv4 `Local` is the address (`Address` is the peer); IPv6 has only `Address`.
            let address = message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let address = address.or_else(|| {
                message.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Address(ip) => Some(*ip),
                    _ => None,
                })
            });
            let Some(address) = address else { continue };
            if matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80) {
                continue;
            }
            if let Ok(net) = IpNet::new(address, message.header.prefix_len) {
                found.push(net);
            }
        }
        Ok(found)
    }

    fn address_message(index: u32, address: IpNet) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix_len();
        message.header.family = family(address.addr());
        message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        match address {
            IpNet::V4(v4) if v4.prefix_len() < 31 => {
                message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
            }
            // Addresses are ours by the database; waiting for duplicate detection would only delay every start.
            IpNet::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
            IpNet::V4(_) => {}
        }
        message
    }

    pub fn add_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let message = RouteNetlinkMessage::NewAddress(Self::address_message(index, address));
        self.request(&format!("adding the address {address}"), message, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
    }

    pub fn remove_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let mut message = Self::address_message(index, address);
        message.attributes.retain(|a| !matches!(a, AddressAttribute::Flags(_) | AddressAttribute::Broadcast(_)));
        match self.exchange(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(nix::libc::EADDRNOTAVAIL) => {
                Err(Error::io(format!("removing the address {address}"), e))
            }
            _ => Ok(()),
        }
    }

    /// Makes the interface have exactly these addresses, and says which ones were added.
    pub fn set_addresses(&mut self, index: u32, wanted: &[IpNet]) -> Result<Vec<IpNet>> {
        let present = self.addresses(index)?;
        for address in present.iter().filter(|a| !wanted.contains(a)) {
            self.remove_address(index, *address)?;
        }
        // Removing a primary address takes its secondaries along, so look again before adding.
        let present = if present.iter().all(|a| wanted.contains(a)) { present } else { self.addresses(index)? };
        let mut added = Vec::new();
        for address in wanted.iter().filter(|a| !present.contains(a)) {
            self.add_address(index, *address)?;
            added.push(*address);
        }
        Ok(added)
    }

    // -- routes --

    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.request("listing routes", RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => route(&message),
                _ => None,
            }));
        }
        Ok(found)
    }

    fn route_message(route: &Route) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.destination.addr());
        message.header.destination_prefix_length = route.destination.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = match (route.gateway, route.destination) {
            (None, IpNet::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        message.header.kind = RouteType::Unicast;
        if route.destination.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.network())));
        }
        if let Some(gateway) = route.gateway {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        }
        if route.link != 0 {
            message.attributes.push(RouteAttribute::Oif(route.link));
        }
        if route.metric != 0 {
            message.attributes.push(RouteAttribute::Priority(route.metric));
        }
        message
    }

    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::NewRoute(Self::route_message(route));
        self.request(
            &format!("adding the route to {}", route.destination),
            message,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    pub fn remove_route(&mut self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::DelRoute(Self::route_message(route));
        match self.exchange(message, NLM_F_ACK) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => {
                Err(Error::io(format!("removing the route to {}", route.destination), e))
            }
            _ => Ok(()),
        }
    }

    /// Makes the static routes of the kind that `which` tells exactly these. Routes with a gateway are compared without
    /// their interface, which the kernel finds. One that the kernel refuses does not stop the others; the first error
    /// is returned at the end.
    pub fn set_routes(&mut self, wanted: &[Route], which: fn(&Route) -> bool) -> Result<()> {
        let same = |a: &Route, b: &Route| {
            a.destination.trunc() == b.destination.trunc()
                && a.gateway == b.gateway
                && (a.gateway.is_some() || a.link == b.link)
        };
        let present: Vec<Route> = self.routes()?.into_iter().filter(|route| route.is_static && which(route)).collect();
        let mut first_error = Ok(());
        for route in present.iter().filter(|p| !wanted.iter().any(|w| same(w, p))) {
            self.remove_route(route)?;
        }
        for route in wanted.iter().filter(|w| !present.iter().any(|p| same(w, p))) {
            let added = self.add_route(route);
            if first_error.is_ok() {
                first_error = added;
            }
        }
        first_error
    }
}

/// The interface group of those that are about to be removed together.
const DOOMED: u32 = 0x5010;

const CREATE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Running),
        master: None,
        alias: None,
        traffic: Traffic::default(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Stats64(counted) => {
                let one_way = |bytes, packets, errors, dropped| OneWay { bytes, packets, errors, dropped };
                link.traffic = Traffic {
                    received: one_way(counted.rx_bytes, counted.rx_packets, counted.rx_errors, counted.rx_dropped),
                    sent: one_way(counted.tx_bytes, counted.tx_packets, counted.tx_errors, counted.tx_dropped),
                };
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn route(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
        _ => return None,
    };
    let mut gateway = None;
    let mut link = 0;
    let mut metric = 0;
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = address(to)?,
            RouteAttribute::Gateway(via) => gateway = address(via),
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::Priority(value) => metric = *value,
            _ => {}
        }
    }
    Some(Route {
        destination: IpNet::new(destination, message.header.destination_prefix_length).ok()?,
        gateway,
        link,
        metric,
        is_static: message.header.protocol == RouteProtocol::Static,
    })
}
