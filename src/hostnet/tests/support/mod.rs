//! A little internet inside one test process: the test's thread moves into a namespace of its own, which plays the host,
//! so nothing here can meet a real cloud or the real host's network. Guests are namespaces behind a veth that is named
//! like the port's tap, or plain taps whose frames the test writes and reads.
//!
//! Everything made here ends with the process (namespaces without a name), except what the crate under test names: that
//! is removed when a [`Cloud`] is dropped, also after a panic.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use hostnet::{
    AllowedAddress, Ethertype, Host, Id, Mac, NetworkFirewall, NetworkSpec, PortFirewall, Protocol, Remote, Rule,
    tap_name,
};
use nix::sched::{CloneFlags, setns, unshare};

pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a packet that must not arrive is waited for.
pub const SILENCE: Duration = Duration::from_millis(700);

pub struct Cloud {
    pub host: Host,
    pub directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Cloud {
    /// Moves the calling thread into a fresh "host" namespace. The runtime has only this thread, so all threads of the
    /// crate under test start there too.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let host = runtime.block_on(Host::open(directory.path())).unwrap();
        Self { host, directory, runtime }
    }

    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn network(&self, subnets: &[&str]) -> Id {
        let id = Id::random();
        self.wait(self.host.ensure_network(&network_spec(id, subnets))).unwrap();
        id
    }

    pub fn apply(&self, network: Id, ports: &[PortFirewall]) -> hostnet::FirewallChange {
        self.apply_with(network, ports, [])
    }

    /// The same with groups that rules name.
    pub fn apply_with<'a>(
        &self,
        network: Id,
        ports: &[PortFirewall],
        groups: impl IntoIterator<Item = (Id, &'a [&'a str])>,
    ) -> hostnet::FirewallChange {
        let mut firewall = NetworkFirewall::of(ports.iter().cloned());
        for (group, members) in groups {
            firewall.groups.insert(group, members.iter().map(|net| net.parse().unwrap()).collect());
        }
        self.wait(self.host.apply_firewall(network, &firewall)).unwrap()
    }

    /// A guest with a network stack of its own, plugged in where its tap would be.
    pub fn guest(&self, network: Id, port: &Port) -> Space {
        let space = Space::new();
        let tap = tap_name(port.id);
        space.run(|| {
            run("ip link set lo up");
            run(&format!("ip link add eth0 address {} type veth peer name {tap} netns net-{network}", port.mac));
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").unwrap();
            run("ip link set eth0 up");
        });
        run(&format!("ip -n net-{network} link set {tap} master br0 up"));
        space
    }

    /// The same with an address and a default route.
    pub fn guest_at(&self, network: Id, port: &Port, gateway: Option<&str>) -> Space {
        let space = self.guest(network, port);
        space.run(|| {
            run(&format!("ip addr add {}/24 dev eth0", port.ip));
            if let Some(gateway) = gateway {
                run(&format!("ip route add default via {gateway}"));
            }
        });
        space
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let removed = self.runtime.block_on(self.host.remove_all());
        if !std::thread::panicking() {
            removed.unwrap();
            let left = self.runtime.block_on(self.host.observe()).unwrap();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

pub fn network_spec(id: Id, subnets: &[&str]) -> NetworkSpec {
    NetworkSpec { id, mtu: 1500, subnets: subnets.iter().map(|net| net.parse().unwrap()).collect() }
}

#[derive(Clone)]
pub struct Port {
    pub id: Id,
    pub mac: Mac,
    pub ip: Ipv4Addr,
}

pub fn port(last_byte: u8, ip: &str) -> Port {
    Port { id: Id::random(), mac: Mac([0xfa, 0x16, 0x3e, 0, 0, last_byte]), ip: ip.parse().unwrap() }
}

impl Port {
    /// Everything out, this in.
    pub fn with(&self, ingress: Vec<Rule>) -> PortFirewall {
        PortFirewall {
            port_id: self.id,
            mac: self.mac,
            addresses: vec![AllowedAddress { net: IpAddr::V4(self.ip).into(), mac: self.mac }],
            port_security: true,
            ingress: ingress.into(),
            egress: [rule(Protocol::Any), rule6(Protocol::Any)].into(),
        }
    }

    pub fn unsecured(&self) -> PortFirewall {
        PortFirewall { port_security: false, egress: [].into(), ..self.with(vec![]) }
    }
}

pub fn rule(protocol: Protocol) -> Rule {
    Rule { ethertype: Ethertype::Ipv4, protocol, remote: Remote::Any }
}

pub fn rule6(protocol: Protocol) -> Rule {
    Rule { ethertype: Ethertype::Ipv6, protocol, remote: Remote::Any }
}

pub fn from(remote: Remote, protocol: Protocol) -> Rule {
    Rule { ethertype: Ethertype::Ipv4, protocol, remote }
}

/// Runs a command in the calling thread's namespace.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A network namespace without a name.
pub struct Space(OwnedFd);

impl Space {
    pub fn new() -> Self {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self::here()
        })
        .join()
        .unwrap()
    }

    pub fn here() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap().into())
    }

    pub fn named(name: &str) -> Self {
        Self(File::open(format!("/run/netns/{name}")).unwrap().into())
    }

    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves an interface of the calling thread's namespace into this one.
    pub fn take(&self, link: &str) {
        use std::os::fd::AsRawFd;
        run(&format!("ip link set {link} netns /proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()));
    }

    pub fn listen(&self, port: u16) -> TcpListener {
        let listener = self.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    pub fn connect(&self, address: &str) -> io::Result<TcpStream> {
        self.connect_within(address, SILENCE)
    }

    fn connect_within(&self, address: &str, limit: Duration) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        let stream = self.run(|| TcpStream::connect_timeout(&address, limit))?;
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        stream.set_write_timeout(Some(SILENCE)).unwrap();
        Ok(stream)
    }

    /// Connects, trying again until it works: for what takes a moment to come up.
    pub fn connect_soon(&self, address: &str) -> TcpStream {
        wait_for(address, || self.connect(address).ok())
    }

    pub fn udp(&self, port: u16) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(("0.0.0.0", port))).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket
    }

    pub fn pings(&self, address: &str) -> bool {
        self.run(|| ping(address))
    }

    pub fn pings_soon(&self, address: &str) {
        wait_for(&format!("ping {address}"), || self.pings(address).then_some(()));
    }
}

/// One ICMP echo through a raw socket.
pub fn ping(address: &str) -> bool {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
        sockopt,
    };
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp).unwrap();
    let step = nix::sys::time::TimeVal::new(0, 100_000);
    setsockopt(&socket, sockopt::ReceiveTimeout, &step).unwrap();
    let id = (std::process::id() as u16 ^ rand_u16()).to_be_bytes();
    let mut packet = vec![8, 0, 0, 0, id[0], id[1], 0, 1, b'h', b'i'];
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    let SocketAddr::V4(to) = format!("{address}:0").parse().unwrap() else { panic!("{address} is not IPv4") };
    if sendto(socket.as_raw_fd(), &packet, &SockaddrIn::from(to), MsgFlags::empty()).is_err() {
        return false;
    }
    let end = Instant::now() + SILENCE;
    let mut buffer = [0; 256];
    while Instant::now() < end {
        if let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
            && length >= 28
            && buffer[20] == 0
            && buffer[24..26] == id
        {
            return true;
        }
    }
    false
}

/// One ICMPv6 echo; the kernel fills in the checksum.
pub fn ping6(address: &str) -> bool {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recv, sendto, setsockopt, socket,
        sockopt,
    };
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::IcmpV6).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(0, 100_000)).unwrap();
    let id = rand_u16().to_be_bytes();
    let packet = [128, 0, 0, 0, id[0], id[1], 0, 1, b'h', b'i'];
    let to = std::net::SocketAddrV6::new(address.parse().unwrap(), 0, 0, 0);
    if sendto(socket.as_raw_fd(), &packet, &SockaddrIn6::from(to), MsgFlags::empty()).is_err() {
        return false;
    }
    let end = Instant::now() + SILENCE;
    let mut buffer = [0; 256];
    while Instant::now() < end {
        if let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
            && length >= 8
            && buffer[0] == 129
            && buffer[4..6] == id
        {
            return true;
        }
    }
    false
}

pub fn rand_u16() -> u16 {
    let bytes = *Id::random().as_bytes();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The server's side of a connection.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = wait_for("a connection", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream
}

/// Whether a word passes from one end of a connection to the other.
pub fn passes(mut from: &TcpStream, mut to: &TcpStream) -> bool {
    let mut buffer = [0; 4];
    from.write_all(b"word").is_ok() && to.read_exact(&mut buffer).is_ok() && &buffer == b"word"
}

/// A tap as a virtual machine holds it: whole frames in and out, each behind a virtio header.
pub struct Tap {
    file: File,
    pub mac: Mac,
}

const VNET_HEADER: usize = 12;

impl Tap {
    pub fn open(cloud: &Cloud, network: Id, port: &Port) -> Self {
        let fd = cloud.wait(cloud.host.ensure_tap(network, port.id, port.mac, 1500)).unwrap();
        Self { file: fd.into(), mac: port.mac }
    }

    pub fn send(&self, frame: &[u8]) {
        let mut bytes = vec![0; VNET_HEADER];
        bytes.extend_from_slice(frame);
        (&self.file).write_all(&bytes).unwrap();
    }

    /// The next frame, or None when none is there.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let length = (&self.file).read(&mut bytes).ok()?;
        Some(bytes[VNET_HEADER..length].to_vec())
    }

    /// All frames up to and including the first that ends with `marker`.
    pub fn receive_until(&self, marker: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        wait_for("a marked frame", || {
            while let Some(frame) = self.receive() {
                let is_last = frame.ends_with(marker);
                frames.push(frame);
                if is_last {
                    return Some(());
                }
            }
            None
        });
        frames
    }
}

pub const BROADCAST: Mac = Mac([0xff; 6]);

pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, ip) in [sender, target] {
        packet.extend_from_slice(&mac.0);
        packet.extend_from_slice(&ip.octets());
    }
    packet
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// UDP over IPv4 without a checksum.
pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes(), ((8 + data.len()) as u16).to_be_bytes(), [0; 2]].concat();
    packet.extend_from_slice(data);
    packet
}

pub fn ipv6(from: std::net::Ipv6Addr, to: std::net::Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, 255]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(payload);
    packet
}

/// ICMPv6 with its checksum, as a whole IPv6 packet.
pub fn icmpv6(from: std::net::Ipv6Addr, to: std::net::Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(body);
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend_from_slice(&(message.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, 58]);
    pseudo.extend_from_slice(&message);
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(from, to, 58, &message)
}

pub fn udp6(from: std::net::Ipv6Addr, to: std::net::Ipv6Addr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut message = udp(ports.0, ports.1, data);
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend_from_slice(&(message.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, 17]);
    pseudo.extend_from_slice(&message);
    let sum = checksum(&pseudo);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv6(from, to, 17, &message)
}
