//! A network's namespace: bridge, taps, the metadata address, on-link routes.

use std::fs::{File, OpenOptions};
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use nix::libc;

use crate::netlink::{Netlink, Route};
use crate::{
    Error, Id, Inner, METADATA_ADDRESS, Mac, NetworkFirewall, NetworkSpec, Result, Traffic, dhcp, firewall, namespace,
    netfilter,
};

pub(crate) const BRIDGE: &str = "br0";
/// On-link routes lose against those that the kernel makes for addresses.
const ON_LINK_METRIC: u32 = 1024;
const METADATA_PORT: u16 = 80;
/// virtio's header since version 1: with the number of buffers.
const VNET_HEADER_BYTES: libc::c_int = 12;

/// The name of a port's tap: `tap` and the first 11 characters of the port's id, as Neutron names it.
pub fn tap_name(port_id: Id) -> String {
    format!("tap{}", port_id.short())
}

/// An address for an interface of ours: locally administered, never a guest's (those of OpenStack begin with fa:16:3e
/// or are given by a user), and always the same for the same id.
pub(crate) fn own_mac(kind: u8, id: Id) -> Mac {
    let [a, b, c, d, e, ..] = *id.as_bytes();
    Mac([kind, a, b, c, d, e])
}

pub(crate) fn bridge_mac(network_id: Id) -> Mac {
    own_mac(0xf6, network_id)
}

pub(crate) fn check_mtu(mtu: u32) -> Result<()> {
    if (576..=65_000).contains(&mtu) { Ok(()) } else { Err(Error::Invalid(format!("an MTU of {mtu}"))) }
}

pub(crate) fn check_mac(mac: Mac) -> Result<()> {
    if mac.is_multicast() || mac.0 == [0; 6] { Err(Error::Invalid(format!("the MAC address {mac}"))) } else { Ok(()) }
}

pub(crate) fn check(spec: &NetworkSpec) -> Result<()> {
    check_mtu(spec.mtu)
}

/// Settings that every namespace gets before anybody can find it.
pub(crate) fn prepare_common() -> Result<()> {
    for (name, value) in [
        // IPv4 settings of a new namespace are copied from the host's, so all that matter are set here.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/arp_announce", "2"),
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_source_route", "0"),
        ("ipv6/conf/all/accept_ra", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/all/autoconf", "0"),
        ("ipv6/conf/default/autoconf", "0"),
        ("ipv6/conf/all/accept_redirects", "0"),
        ("ipv6/conf/default/accept_redirects", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
    ] {
        // The kernel may have IPv6 switched off.
        if name.starts_with("ipv4/") || Path::new("/proc/sys/net/ipv6").exists() {
            namespace::sysctl(name, value)?;
        }
    }
    Ok(())
}

fn prepare(_: &mut Netlink) -> Result<()> {
    prepare_common()?;
    namespace::sysctl("ipv4/ip_forward", "0")?;
    namespace::sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    if Path::new("/proc/sys/net/ipv6").exists() {
        // Bridge ports speak for others; only the bridge itself has addresses.
        namespace::sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        namespace::sysctl("ipv6/conf/all/forwarding", "0")?;
    }
    Ok(())
}

pub(crate) fn ensure(host: &Inner, spec: &NetworkSpec) -> Result<()> {
    let name = namespace::network(spec.id);
    namespace::enter(namespace::ensure(host, &name, prepare)?)?;
    let mut netlink = Netlink::open()?;
    if !namespace::is_ours(host, &mut netlink)? {
        return Err(Error::Invalid(format!("the namespace {name} belongs to another instance")));
    }
    if !has_firewall()? {
        netfilter::forget(host, &name);
        netfilter::apply(host, &name, &firewall::compile(spec.id, &NetworkFirewall::default())?.text)?;
    }
    let bridge = match netlink.find(BRIDGE)? {
        Some(bridge) => bridge,
        None => {
            netlink.add_bridge(BRIDGE, bridge_mac(spec.id), spec.mtu, &namespace::alias(&host.tag))?;
            netlink.get(BRIDGE)?
        }
    };
    for link in netlink.links()? {
        if link.master == Some(bridge.index) && link.kind == "tun" && link.mtu != spec.mtu {
            netlink.adjust(&link, None, spec.mtu, None)?;
        }
    }
    netlink.adjust(&bridge, Some(bridge_mac(spec.id)), spec.mtu, None)?;
    let ipv6 = format!("ipv6/conf/{BRIDGE}/disable_ipv6");
    if Path::new("/proc/sys/net").join(&ipv6).exists() {
        namespace::sysctl(&ipv6, "0")?;
    }
    let metadata = metadata_net();
    if !netlink.addresses(bridge.index)?.contains(&metadata) {
        netlink.add_address(bridge.index, metadata)?;
    }
    let on_link: Vec<Route> = spec
        .subnets
        .iter()
        .map(|net| Route {
            destination: net.trunc(),
            gateway: None,
            link: bridge.index,
            metric: ON_LINK_METRIC,
            is_static: true,
        })
        .collect();
    netlink.set_routes(&on_link, |route| route.gateway.is_none())
}

pub(crate) fn metadata_net() -> IpNet {
    IpNet::from(IpAddr::V4(METADATA_ADDRESS))
}

/// Whether the thread's namespace has our tables. Without them nothing may be connected: no rules means open.
fn has_firewall() -> Result<bool> {
    let tables = netfilter::Netfilter::open()?.tables()?;
    let has = |wanted: &str| tables.iter().any(|(family, name)| *family == wanted && name == firewall::TABLE);
    Ok(has("bridge") && has("inet"))
}

pub(crate) fn remove(host: &Inner, id: Id) -> Result<()> {
    let name = namespace::network(id);
    dhcp::remove(host, id)?;
    namespace::remove(host, &name)?;
    netfilter::forget(host, &name);
    Ok(())
}

nix::ioctl_write_ptr_bad!(
    /// TUNSETIFF
    tun_set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// TUNSETPERSIST
    tun_set_persist,
    nix::request_code_write!(b'T', 203, size_of::<libc::c_int>())
);
nix::ioctl_write_int_bad!(
    /// TUNSETOFFLOAD
    tun_set_offload,
    nix::request_code_write!(b'T', 208, size_of::<libc::c_uint>())
);
nix::ioctl_write_ptr_bad!(
    /// TUNSETVNETHDRSZ
    tun_set_header_size,
    nix::request_code_write!(b'T', 216, size_of::<libc::c_int>()),
    libc::c_int
);

pub(crate) fn ensure_tap(_: &Inner, network_id: Id, port_id: Id, mac: Mac, mtu: u32) -> Result<OwnedFd> {
    let name = tap_name(port_id);
    namespace::enter(namespace::get(&namespace::network(network_id))?)?;
    if !has_firewall()? {
        return Err(Error::NotFound(format!("the firewall of network {network_id}")));
    }
    let mut netlink = Netlink::open()?;
    let bridge = netlink.get(BRIDGE)?;
    let tap = patiently(|| open_tap(&name))?;
    let link = netlink.get(&name)?;
    if link.alias.is_none() {
        netlink.set_alias(link.index, &port_id.to_string())?;
    }
    // The host's end must not have the guest's address: the bridge would keep the guest's packets for itself.
    let own = own_mac(0xfe, port_id);
    let own = if own == mac { own_mac(0xfa, port_id) } else { own };
    netlink.adjust(&link, Some(own), mtu, Some(bridge.index))?;
    Ok(tap)
}

fn open_tap(name: &str) -> Result<OwnedFd> {
    let failed = |e: nix::Error| match e {
        nix::Error::EBUSY => Error::Busy(format!("the tap {name}")),
        e => Error::io(format!("opening the tap {name}"), e),
    };
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|e| Error::io("opening /dev/net/tun", e))?;
    // SAFETY: an ifreq of zeroes is valid: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // Names of ours are shorter than IFNAMSIZ, and the zeroes end the string.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let fd = file.as_raw_fd();
    // SAFETY: a descriptor of the tun device and an ifreq that outlives the call.
    unsafe { tun_set_interface(fd, &request) }.map_err(failed)?;
    // A device that outlived its holder has the holder's settings; the next one starts from known ones.
    // SAFETY: integer arguments on the same descriptor.
    unsafe { tun_set_persist(fd, 1) }.map_err(failed)?;
    // SAFETY: as above.
    unsafe { tun_set_offload(fd, 0) }.map_err(failed)?;
    // SAFETY: a pointer to an integer that outlives the call.
    unsafe { tun_set_header_size(fd, &VNET_HEADER_BYTES) }.map_err(failed)?;
    Ok(file.into())
}

pub(crate) fn tap_traffic(network_id: Id, port_id: Id) -> Result<Traffic> {
    namespace::enter(namespace::get(&namespace::network(network_id))?)?;
    // What comes out of the tap for the host is what the guest has sent.
    let Traffic { received, sent } = Netlink::open()?.get(&tap_name(port_id))?.traffic;
    Ok(Traffic { received: sent, sent: received })
}

pub(crate) fn remove_tap(network_id: Id, port_id: Id) -> Result<()> {
    let Some(namespace) = namespace::find(&namespace::network(network_id))? else { return Ok(()) };
    namespace::enter(namespace)?;
    let mut netlink = Netlink::open()?;
    match netlink.find(&tap_name(port_id))? {
        Some(link) => netlink.remove(link.index),
        None => Ok(()),
    }
}

/// Tries for a moment while something is busy: a holder that was killed lets go a little later, and a process that this
/// one is just starting holds all descriptors for an instant.
fn patiently<T>(act: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..20 {
        match act() {
            Err(Error::Busy(_)) => std::thread::park_timeout(Duration::from_millis(10)),
            other => return other,
        }
    }
    act()
}

pub(crate) fn metadata_listener(network_id: Id) -> Result<TcpListener> {
    namespace::enter(namespace::get(&namespace::network(network_id))?)?;
    patiently(|| listen(network_id))
}

fn listen(network_id: Id) -> Result<TcpListener> {
    let listener = TcpListener::bind((METADATA_ADDRESS, METADATA_PORT))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::Busy(format!("the metadata address of network {network_id}")),
        _ => Error::io(format!("listening for metadata on network {network_id}"), e),
    })
}
