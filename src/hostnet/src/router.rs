//! A router's namespace: interfaces into networks, the gateway, NAT, floating IPs.
//!
//! What must stay true:
//! - The rules are in place before the first interface is.
//! - A floating IP is an address of the gateway interface, so it answers ARP; it reaches its guest from the outside, from
//!   the host, and from guests behind the same router (hairpin), and the guest leaves with it.
//! - With SNAT on, nothing new comes in from outside except to floating IPs.
//! - A flow whose translation is gone ends at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use nix::libc;

use crate::conntrack::Conntrack;
use crate::netlink::{Link, Netlink, Route, VethEnd};
use crate::worker::on_own_thread;
use crate::{Error, Id, Inner, Mac, Result, RouterSpec, dhcp, firewall, namespace, netfilter, network};

fn interface_name(port_id: Id) -> String {
    format!("qr-{}", port_id.short())
}

fn gateway_name(port_id: Id) -> String {
    format!("qg-{}", port_id.short())
}

/// The other end of a router's interface, in the network's namespace.
fn peer_name(port_id: Id) -> String {
    format!("vr-{}", port_id.short())
}

pub(crate) fn check(spec: &RouterSpec) -> Result<()> {
    let mut ports = BTreeSet::new();
    let interfaces = spec.interfaces.iter().map(|i| (i.port_id, i.mac, i.mtu));
    for (port_id, mac, mtu) in interfaces.chain(spec.gateway.iter().map(|g| (g.port_id, g.mac, g.mtu))) {
        network::check_mac(mac)?;
        network::check_mtu(mtu)?;
        if !ports.insert(port_id.short()) {
            return Err(Error::Invalid(format!("router {} has port {port_id} twice", spec.id)));
        }
    }
    let mut seen = BTreeSet::new();
    for floating in &spec.floating_ips {
        if spec.gateway.is_none() {
            return Err(Error::Invalid(format!("router {} has floating IPs and no gateway", spec.id)));
        }
        if !seen.insert(floating.floating) {
            return Err(Error::Invalid(format!("router {} has the floating IP {} twice", spec.id, floating.floating)));
        }
    }
    Ok(())
}

/// One veth that the router must have.
struct Wanted {
    name: String,
    network_id: Id,
    port_id: Id,
    mac: Mac,
    mtu: u32,
    addresses: Vec<IpNet>,
}

fn wanted(spec: &RouterSpec) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = spec
        .interfaces
        .iter()
        .map(|interface| Wanted {
            name: interface_name(interface.port_id),
            network_id: interface.network_id,
            port_id: interface.port_id,
            mac: interface.mac,
            mtu: interface.mtu,
            addresses: interface.addresses.clone(),
        })
        .collect();
    if let Some(gateway) = &spec.gateway {
        let mut addresses = gateway.addresses.clone();
        for floating in &spec.floating_ips {
            let address = IpAddr::V4(floating.floating);
            if !addresses.iter().any(|net| net.addr() == address) {
                addresses.push(IpNet::from(address));
            }
        }
        all.push(Wanted {
            name: gateway_name(gateway.port_id),
            network_id: gateway.network_id,
            port_id: gateway.port_id,
            mac: gateway.mac,
            mtu: gateway.mtu,
            addresses,
        });
    }
    all
}

fn prepare(_: &mut Netlink) -> Result<()> {
    network::prepare_common()?;
    namespace::sysctl("ipv4/ip_forward", "1")?;
    if Path::new("/proc/sys/net/ipv6").exists() {
        namespace::sysctl("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

pub(crate) fn apply(host: &Inner, spec: &RouterSpec) -> Result<()> {
    let name = namespace::router(spec.id);
    let wanted = wanted(spec);
    // Look for all networks first: an unknown one must not leave half a router.
    let mut networks = BTreeMap::new();
    for interface in &wanted {
        networks.insert(interface.network_id, namespace::get(&namespace::network(interface.network_id))?);
    }
    let is_new = namespace::find(&name)?.is_none();
    namespace::enter(namespace::ensure(host, &name, prepare)?)?;
    let mut netlink = Netlink::open()?;
    if !namespace::is_ours(host, &mut netlink)? {
        return Err(Error::Invalid(format!("the namespace {name} belongs to another instance")));
    }
    if is_new {
        netfilter::forget(host, &name);
    }
    let rules_changed = netfilter::apply(host, &name, &rules(spec))?;

    let present = netlink.links()?;
    for link in present.iter().filter(|link| link.kind == "veth" && wanted.iter().all(|w| w.name != link.name)) {
        netlink.remove(link.index)?;
    }
    for interface in &wanted {
        let Some(there) = networks.get(&interface.network_id) else { continue };
        let link = present.iter().find(|link| link.name == interface.name);
        let link = connect(host, &mut netlink, link, interface, there)?;
        wait_until_running(&mut netlink, &link)?;
        for added in netlink.set_addresses(link.index, &interface.addresses)? {
            if let IpAddr::V4(address) = added.addr() {
                announce(link.index, interface.mac, address)?;
            }
        }
    }
    netlink.set_routes(&routes(spec), |route| route.gateway.is_some())?;
    if rules_changed {
        end_flows(spec)?;
    }
    dhcp::advertise(host, spec, interface_name)
}

/// Makes sure of both ends of a veth. The network's end is looked at even when ours exists: it may have been made
/// without being connected.
fn connect(
    host: &Inner,
    netlink: &mut Netlink,
    present: Option<&Link>,
    interface: &Wanted,
    there: &OwnedFd,
) -> Result<Link> {
    let peer = peer_name(interface.port_id);
    let mut link = present.cloned();
    for attempt in 0..2 {
        let here = match link.take() {
            Some(link) => link,
            None => {
                let alias = namespace::alias(&host.tag);
                let end = |name, mac| VethEnd { name, mac, mtu: interface.mtu, alias: &alias };
                netlink.add_veth(
                    &end(&interface.name, interface.mac),
                    there.as_fd(),
                    &end(&peer, network::own_mac(0xf2, interface.port_id)),
                )?;
                netlink.get(&interface.name)?
            }
        };
        let connected = on_own_thread("connecting a router", || {
            namespace::enter(there)?;
            let mut netlink = Netlink::open()?;
            let bridge = netlink.get(network::BRIDGE)?;
            let Some(end) = netlink.find(&peer)? else { return Ok(false) };
            netlink.adjust(&end, None, interface.mtu, Some(bridge.index))?;
            Ok(true)
        })?;
        if connected {
            netlink.adjust(&here, Some(interface.mac), interface.mtu, None)?;
            return Ok(here);
        }
        // Its other end is in some other namespace: the port moved to another network.
        netlink.remove(here.index)?;
        if attempt == 1 {
            break;
        }
    }
    Err(Error::NotFound(format!("the interface {peer}")))
}

/// A new veth carries packets a moment after both ends are up; announcements before that would be lost, and neighbours
/// that know a moved floating IP would go on sending to the old place.
fn wait_until_running(netlink: &mut Netlink, link: &Link) -> Result<()> {
    for _ in 0..50 {
        if netlink.find(&link.name)?.is_none_or(|link| link.running) {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    tracing::warn!(interface = link.name, "the interface has no carrier yet");
    Ok(())
}

fn routes(spec: &RouterSpec) -> Vec<Route> {
    let route = |destination: IpNet, gateway: IpAddr| Route {
        destination: destination.trunc(),
        gateway: Some(gateway),
        link: 0,
        metric: 0,
        is_static: true,
    };
    let any = |ip: &IpAddr| if ip.is_ipv4() { IpAddr::from([0u8; 4]) } else { IpAddr::from([0u8; 16]) };
    let mut routes: Vec<Route> = Vec::new();
    let defaults = spec.gateway.iter().flat_map(|gateway| &gateway.next_hops);
    for next_hop in defaults {
        if let Ok(net) = IpNet::new(any(next_hop), 0) {
            routes.push(route(net, *next_hop));
        }
    }
    routes.extend(spec.routes.iter().map(|r| route(r.destination, r.next_hop)));
    // One route per destination: a user's default route wins over the gateway's.
    let mut kept: BTreeMap<IpNet, Route> = BTreeMap::new();
    for route in routes {
        kept.insert(route.destination, route);
    }
    kept.into_values().collect()
}

fn outside_address(spec: &RouterSpec) -> Option<Ipv4Addr> {
    spec.gateway.as_ref()?.addresses.iter().find_map(|net| match net.addr() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    })
}

fn rules(spec: &RouterSpec) -> String {
    const TABLE: &str = firewall::TABLE;
    let mut out = String::new();
    for family in ["ip", "inet"] {
        let _ = write!(out, "table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n");
    }
    // An address inside leaves with one floating IP only: the first, so that it stays the same.
    let mut leaving = BTreeMap::new();
    let mut floating: Vec<_> = spec.floating_ips.clone();
    floating.sort();
    for pair in &floating {
        leaving.entry(pair.fixed).or_insert(pair.floating);
    }
    let map = |pairs: Vec<String>| {
        if pairs.is_empty() { String::new() } else { format!(" elements = {{ {} }}", pairs.join(", ")) }
    };
    let inward = map(floating.iter().map(|pair| format!("{} : {}", pair.floating, pair.fixed)).collect());
    let outward = map(leaving.iter().map(|(fixed, floating)| format!("{fixed} : {floating}")).collect());
    let _ = write!(
        out,
        "table ip {TABLE} {{
  map inward {{ type ipv4_addr : ipv4_addr;{inward} }}
  map outward {{ type ipv4_addr : ipv4_addr;{outward} }}
  chain origin {{
    type filter hook prerouting priority -150; policy accept;
    iifname \"qr-*\" meta mark set 1
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    dnat to ip daddr map @inward
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname \"qg-*\" snat to ip saddr map @outward
    meta mark 1 ct status dnat snat to ip saddr map @outward
"
    );
    if let Some(address) = outside_address(spec) {
        let is_snat = spec.gateway.as_ref().is_some_and(|gateway| gateway.snat);
        if is_snat {
            let _ = writeln!(out, "    oifname \"qg-*\" meta mark 1 snat to {address}");
        }
        let _ = writeln!(out, "    meta mark 1 ct status dnat snat to {address}");
    }
    out.push_str("  }\n}\n");
    let inbound = if spec.gateway.as_ref().is_some_and(|gateway| gateway.snat) {
        "    iifname \"qg-*\" meta protocol ip ct state new ct status & dnat == 0 drop\n"
    } else {
        ""
    };
    let _ = write!(
        out,
        "table inet {TABLE} {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
    # Untranslatable: it would leave with its inside address.
    oifname \"qg-*\" ct state invalid drop
    ip daddr 169.254.0.0/16 drop
{inbound}  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
    meta l4proto {{ icmp, icmpv6 }} accept
  }}
}}
"
    );
    out
}

/// Ends flows that are translated in a way that the router no longer translates.
fn end_flows(spec: &RouterSpec) -> Result<()> {
    let outside = outside_address(spec).map(IpAddr::V4);
    let has = |floating: IpAddr, fixed: IpAddr| {
        spec.floating_ips.iter().any(|pair| IpAddr::V4(pair.floating) == floating && IpAddr::V4(pair.fixed) == fixed)
    };
    let mut conntrack = Conntrack::open()?;
    for flow in conntrack.flows()? {
        let inward_ok = flow.destination == flow.reply_source || has(flow.destination, flow.reply_source);
        let outward_ok = flow.source == flow.reply_destination
            || Some(flow.reply_destination) == outside
            || has(flow.reply_destination, flow.source);
        if !(inward_ok && outward_ok) {
            conntrack.remove(&flow)?;
        }
    }
    Ok(())
}

/// Tells the neighbours where the address is now (RFC 5227, section 3: an ARP announcement).
fn announce(index: u32, mac: Mac, address: Ipv4Addr) -> Result<()> {
    let failed = |what: &str| Error::io(format!("{what} for {address}"), std::io::Error::last_os_error());
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&[0xff; 6]);
    frame.extend_from_slice(&mac.0);
    // ARP: Ethernet, IPv4, lengths 6 and 4, request.
    frame.extend_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&address.octets());
    // SAFETY: socket takes integers and returns a new descriptor or an error.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(failed("opening a packet socket"));
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a sockaddr_ll of zeroes is valid.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    to.sll_ifindex = index as i32;
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&[0xff; 6]);
    // SAFETY: pointer and length of a live buffer, and of a live address of the family it says.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(failed("announcing an address")) } else { Ok(()) }
}

pub(crate) fn remove(host: &Inner, id: Id) -> Result<()> {
    let name = namespace::router(id);
    dhcp::stop(host, id)?;
    namespace::remove(host, &name)?;
    netfilter::forget(host, &name);
    Ok(())
}
