//! Leases, names and metadata by a real dnsmasq. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use hostnet::{DhcpChange, DhcpHost, DhcpOption, DhcpSpec, DhcpSubnet, Host, Id, Mac, OptionValue, StaticRoute};
use nix::sys::socket::{setsockopt, sockopt};
use support::{Cloud, Port, SILENCE, Space, port, run, wait_for};

fn spec(network_id: Id, hosts: Vec<DhcpHost>) -> DhcpSpec {
    DhcpSpec {
        network_id,
        subnets: vec![DhcpSubnet {
            cidr: "10.0.0.0/24".parse().unwrap(),
            server: "10.0.0.2".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            dns: vec![],
            routes: vec![StaticRoute {
                destination: "192.168.7.0/24".parse().unwrap(),
                next_hop: "10.0.0.9".parse().unwrap(),
            }],
            mode: None,
        }],
        hosts,
        mtu: 1442,
        domain: "openstacklocal".to_owned(),
        upstream_dns: vec![],
        lease_seconds: 3600,
    }
}

fn host(port: &Port, hostname: &str) -> DhcpHost {
    DhcpHost {
        port_id: port.id,
        mac: port.mac,
        addresses: vec![IpAddr::V4(port.ip)],
        hostname: hostname.to_owned(),
        options: vec![],
    }
}

#[derive(Debug)]
struct Answer {
    kind: u8,
    address: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

/// One message of a client and the server's answer (RFC 2131), from a guest that has no address yet.
fn ask(guest: &Space, mac: Mac, kind: u8, requested: Option<Ipv4Addr>) -> Option<Answer> {
    guest.run(|| {
        // Another test's thread may just be starting a process, which holds the last socket for a moment.
        let socket = wait_for("port 68", || UdpSocket::bind("0.0.0.0:68").ok());
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        setsockopt(&socket.as_fd(), sockopt::BindToDevice, &"eth0".into()).unwrap();
        let id: [u8; 4] = Id::random().as_bytes()[..4].try_into().unwrap();
        let mut message = vec![0u8; 236];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(&id);
        message[10] = 0x80;
        message[28..34].copy_from_slice(&mac.0);
        message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
        if let Some(ip) = requested {
            message.extend([50, 4]);
            message.extend(ip.octets());
        }
        message.extend([55, 13, 1, 3, 6, 12, 15, 26, 42, 43, 66, 67, 121, 150, 249, 255]);
        socket.send_to(&message, "255.255.255.255:67").unwrap();
        let mut buffer = [0; 1500];
        loop {
            let (length, _) = socket.recv_from(&mut buffer).ok()?;
            if buffer[4..8] != id {
                continue;
            }
            let mut options = BTreeMap::new();
            let mut rest = &buffer[240..length];
            while let [code, rest_of @ ..] = rest {
                match code {
                    0 => rest = rest_of,
                    255 => break,
                    _ => {
                        let length = usize::from(rest_of[0]);
                        options.insert(*code, rest_of[1..=length].to_vec());
                        rest = &rest_of[1 + length..];
                    }
                }
            }
            let address = Ipv4Addr::from(<[u8; 4]>::try_from(&buffer[16..20]).unwrap());
            return Some(Answer { kind: options[&53][0], address, options });
        }
    })
}

fn lease(guest: &Space, port: &Port) -> Answer {
    let offer = wait_for("an offer", || ask(guest, port.mac, 1, None));
    assert_eq!((offer.kind, offer.address), (2, port.ip), "{offer:?}");
    let ack = wait_for("an acknowledgement", || ask(guest, port.mac, 3, Some(offer.address)));
    assert_eq!((ack.kind, ack.address), (5, port.ip), "{ack:?}");
    ack
}

fn dnsmasq(cloud: &Cloud) -> Vec<i32> {
    cloud.wait(cloud.host.observe()).unwrap().dnsmasq.into_iter().map(|(_, pid)| pid).collect()
}

#[test]
fn a_guest_gets_its_own_address_with_all_options() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest(network, &a);
    let guest_b = cloud.guest(network, &b);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![])]);
    let mut first = host(&a, "first");
    let option = |code, value| DhcpOption { ip_version: 4, code, value };
    first.options = vec![
        option(67, OptionValue::Text("http://boot/a,b \\\"c\" #d".to_owned())),
        option(43, OptionValue::Text("vendor\ndhcp-script=/bin/sh,\0\"".to_owned())),
        option(66, OptionValue::Text("line\ndhcp-script=/bin/sh".to_owned())),
        option(3, OptionValue::U8(1)),
        option(150, OptionValue::Addresses(vec!["10.0.0.4".parse().unwrap()])),
        option(42, OptionValue::Addresses(vec!["10.0.0.3".parse().unwrap()])),
        option(53, OptionValue::U8(6)),
    ];
    let change = cloud.wait(cloud.host.apply_dhcp(&spec(network, vec![first]))).unwrap();
    assert_eq!(change, DhcpChange::Started);

    let ack = lease(&guest_a, &a);
    let option = |code: u8| ack.options.get(&code).map(Vec::as_slice).unwrap_or_default();
    assert_eq!(option(1), [255, 255, 255, 0]);
    assert_eq!(option(3), [10, 0, 0, 1]);
    assert_eq!(option(6), [10, 0, 0, 2]);
    assert_eq!(option(12), b"first");
    assert_eq!(option(15), b"openstacklocal");
    assert_eq!(option(26), 1442u16.to_be_bytes());
    assert_eq!(option(42), [10, 0, 0, 3]);
    // dnsmasq ends text with a zero for clients that may want one.
    assert_eq!(option(67).trim_ascii_end().strip_suffix(&[0]).unwrap_or(option(67)), b"http://boot/a,b \\\"c\" #d");
    assert_eq!(option(43), b"vendor\ndhcp-script=/bin/sh,\0\"", "hostile text is only ever data");
    assert_eq!(option(150), [10, 0, 0, 4]);
    assert_eq!(option(66), b"", "what cannot be written safely is left out");
    let routes = [[32, 169, 254, 169, 254, 10, 0, 0, 2].as_slice(), &[24, 192, 168, 7, 10, 0, 0, 9], &[0, 10, 0, 0, 1]];
    assert_eq!(option(121), routes.concat());
    assert_eq!(option(249), routes.concat());

    assert!(ask(&guest_b, b.mac, 1, None).is_none(), "a port without DHCP gets nothing");
}

#[test]
fn a_changed_host_is_told_without_a_restart_and_a_changed_subnet_with_one() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_b = cloud.guest(network, &b);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![])]);
    let apply = |spec: &DhcpSpec| cloud.wait(cloud.host.apply_dhcp(spec)).unwrap();
    assert_eq!(apply(&spec(network, vec![host(&a, "a")])), DhcpChange::Started);
    let before = dnsmasq(&cloud);
    assert_eq!(before.len(), 1);

    let both = spec(network, vec![host(&a, "a"), host(&b, "b")]);
    assert_eq!(apply(&both), DhcpChange::Reloaded);
    assert_eq!(apply(&both), DhcpChange::Unchanged);
    lease(&guest_b, &b);
    assert_eq!(dnsmasq(&cloud), before);

    let mut longer = both.clone();
    longer.lease_seconds = 7200;
    assert_eq!(apply(&longer), DhcpChange::Restarted);
    assert_eq!(dnsmasq(&cloud).len(), 1);
    assert_eq!(lease(&guest_b, &b).options[&51], 7200u32.to_be_bytes());

    // The supervisor died and started again: the server is found, not doubled.
    let running = dnsmasq(&cloud);
    let restarted = cloud.wait(Host::open(cloud.directory.path())).unwrap();
    assert_eq!(cloud.wait(restarted.apply_dhcp(&longer)).unwrap(), DhcpChange::Unchanged);
    assert_eq!(dnsmasq(&cloud), running);

    // The server died.
    run(&format!("kill -9 {}", running[0]));
    wait_for("its end", || dnsmasq(&cloud).is_empty().then_some(()));
    assert_eq!(apply(&longer), DhcpChange::Started);
    lease(&guest_b, &b);

    let none = DhcpSpec { subnets: vec![], ..longer };
    assert_eq!(apply(&none), DhcpChange::Stopped);
    assert_eq!(apply(&none), DhcpChange::Unchanged);
    assert!(dnsmasq(&cloud).is_empty());
}

#[test]
fn a_server_that_has_given_leases_survives_changes_of_hosts() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let (guest_a, guest_b) = (cloud.guest(network, &a), cloud.guest(network, &b));
    cloud.apply(network, &[a.with(vec![]), b.with(vec![])]);
    let apply = |hosts: Vec<DhcpHost>| cloud.wait(cloud.host.apply_dhcp(&spec(network, hosts))).unwrap();
    let with_option = DhcpHost {
        options: vec![DhcpOption { ip_version: 4, code: 67, value: OptionValue::Text("boot".to_owned()) }],
        ..host(&b, "b")
    };
    for second in [host(&b, "b"), with_option] {
        apply(vec![host(&a, "a"), second.clone()]);
        let running = dnsmasq(&cloud);
        let ack = lease(&guest_b, &b);
        assert_eq!(ack.options.contains_key(&67), !second.options.is_empty(), "{ack:?}");
        lease(&guest_a, &a);
        // Read again while both hold leases, with one that is gone, and with it back under another name.
        for hosts in [vec![host(&a, "c"), second.clone()], vec![second.clone()], vec![host(&a, "a"), second.clone()]] {
            assert_eq!(apply(hosts), DhcpChange::Reloaded);
            lease(&guest_b, &b);
            assert_eq!(dnsmasq(&cloud), running, "the server that was told is the one that answers");
        }
        lease(&guest_a, &a);
    }
}

#[test]
fn an_address_that_a_deleted_port_had_leased_is_given_to_the_next_port() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (old, other) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let next = port(3, "10.0.0.11");
    let (guest_old, guest_other) = (cloud.guest(network, &old), cloud.guest(network, &other));
    let guest_next = cloud.guest(network, &next);
    cloud.apply(network, &[old.with(vec![]), other.with(vec![]), next.with(vec![])]);
    let apply = |hosts: Vec<DhcpHost>| cloud.wait(cloud.host.apply_dhcp(&spec(network, hosts))).unwrap();
    apply(vec![host(&old, "old"), host(&other, "other")]);
    lease(&guest_old, &old);
    lease(&guest_other, &other);

    // A guest whose server is deleted gives nothing back.
    assert_eq!(apply(vec![host(&other, "other")]), DhcpChange::Reloaded);
    assert_eq!(apply(vec![host(&other, "other"), host(&next, "next")]), DhcpChange::Restarted);
    lease(&guest_next, &next);
    let renewed = ask(&guest_other, other.mac, 3, Some(other.ip)).unwrap();
    assert_eq!((renewed.kind, renewed.address), (5, other.ip), "a lease of before the restart goes on");
    assert!(ask(&guest_old, old.mac, 3, Some(old.ip)).is_none_or(|answer| answer.kind != 5));
    let both = vec![host(&other, "other"), host(&next, "next")];
    assert_eq!(
        apply(both.iter().cloned().chain([host(&port(4, "10.0.0.13"), "more")]).collect()),
        DhcpChange::Reloaded
    );
    assert_eq!(apply(both), DhcpChange::Reloaded, "what nobody else has takes no restart");
}

#[test]
fn the_server_does_not_run_as_root() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    cloud.wait(cloud.host.apply_dhcp(&spec(network, vec![]))).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", dnsmasq(&cloud)[0])).unwrap();
    let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(!uid.contains("\t0"), "{uid}");
}

/// An A question over UDP; the first address of the answer.
fn resolve(guest: &Space, server: &str, name: &str) -> Option<Ipv4Addr> {
    let socket = guest.udp(0);
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send_to(&question, format!("{server}:53")).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    (answer[7] > 0).then(|| Ipv4Addr::from(<[u8; 4]>::try_from(&answer[length - 4..length]).unwrap()))
}

#[test]
fn guests_find_each_other_by_name() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest = cloud.guest_at(network, &a, None);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![])]);
    cloud
        .wait(cloud.host.apply_dhcp(&spec(network, vec![host(&a, "a"), host(&b, "Web-1"), host(&b, "bad\nname")])))
        .unwrap();

    let found = wait_for("an answer", || resolve(&guest, "10.0.0.2", "web-1.openstacklocal"));
    assert_eq!(found, b.ip);
    assert_eq!(resolve(&guest, "10.0.0.2", "web-1"), Some(b.ip));
    assert_eq!(resolve(&guest, "10.0.0.2", "nobody.openstacklocal"), None);
}

#[test]
fn metadata_knows_its_caller_with_and_without_a_router() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let isolated = cloud.guest_at(network, &a, None);
    let routed = cloud.guest_at(network, &b, None);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![])]);
    cloud.wait(cloud.host.apply_dhcp(&spec(network, vec![host(&a, "a"), host(&b, "b")]))).unwrap();
    let listener = cloud.wait(cloud.host.metadata_listener(network)).unwrap();
    // As option 121 says.
    isolated.run(|| run("ip route add 169.254.169.254 via 10.0.0.2"));
    // As a guest that knows only its default route; the gateway need not even forward.
    routed.run(|| {
        run("ip route add default via 10.0.0.1");
        run("ip neigh replace 10.0.0.1 lladdr fa:16:3e:77:77:77 dev eth0");
    });
    for (guest, port) in [(&isolated, &a), (&routed, &b)] {
        let client = guest.connect_soon("169.254.169.254:80");
        let (server, peer) = wait_for("the caller", || listener.accept().ok());
        server.set_nonblocking(false).unwrap();
        server.set_read_timeout(Some(SILENCE)).unwrap();
        assert_eq!(peer.ip(), IpAddr::V4(port.ip));
        assert!(support::passes(&client, &server) && support::passes(&server, &client));
    }
}

#[test]
fn a_dual_stack_network_starts_and_serves_both() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24", "fd00::/64", "10.1.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let guest = cloud.guest(network, &a);
    cloud.apply(network, &[a.with(vec![])]);
    let mut both = host(&a, "a");
    both.addresses.extend(["fd00::11".parse::<IpAddr>().unwrap(), "10.1.0.11".parse().unwrap()]);
    let mut spec = spec(network, vec![both]);
    let second = DhcpSubnet {
        cidr: "fd00::/64".parse().unwrap(),
        server: "fd00::2".parse().unwrap(),
        gateway: None,
        dns: vec![],
        routes: vec![],
        mode: None,
    };
    spec.subnets.push(second.clone());
    spec.subnets.push(DhcpSubnet {
        cidr: "10.1.0.0/24".parse().unwrap(),
        server: "10.1.0.2".parse().unwrap(),
        ..second
    });
    cloud.wait(cloud.host.apply_dhcp(&spec)).unwrap();
    lease(&guest, &a);
}

/// A DHCPv6 solicitation (RFC 8415) and the address in the server's advertisement.
fn solicit(guest: &Space, mac: Mac) -> Option<std::net::Ipv6Addr> {
    guest.run(|| {
        let scope = run("ip -o link show eth0").split(':').next().unwrap().trim().parse().unwrap();
        let local = std::net::SocketAddrV6::new(mac.link_local(), 546, 0, scope);
        let socket = wait_for("port 546", || UdpSocket::bind(local).ok());
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let mut message = vec![1, 7, 7, 7];
        message.extend([0, 1, 0, 10, 0, 3, 0, 1]);
        message.extend(mac.0);
        message.extend([0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        message.extend([0, 8, 0, 2, 0, 0]);
        let servers = std::net::SocketAddrV6::new("ff02::1:2".parse().unwrap(), 547, 0, scope);
        socket.send_to(&message, servers).unwrap();
        let mut answer = [0; 1500];
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        assert_eq!(answer[0], 2, "an advertisement");
        // An address option: code 5, length at least 24.
        let at = answer[..length].windows(4).position(|w| w[..3] == [0, 5, 0] && w[3] >= 24)?;
        Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&answer[at + 4..at + 20]).unwrap()))
    })
}

#[test]
fn an_ipv6_guest_gets_its_own_address() {
    let cloud = Cloud::new();
    let network = cloud.network(&["fd00::/64"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest(network, &a);
    let guest_b = cloud.guest(network, &b);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![])]);
    let at = |port: &Port, ip: &str| DhcpHost { addresses: vec![ip.parse().unwrap()], ..host(port, "six") };
    let mut spec = spec(network, vec![at(&a, "fd00::a:1"), at(&b, "fd00::b:1")]);
    spec.subnets = vec![DhcpSubnet {
        cidr: "fd00::/64".parse().unwrap(),
        server: "fd00::2".parse().unwrap(),
        gateway: None,
        dns: vec![],
        routes: vec![],
        mode: Some(hostnet::AddressMode::DhcpStateful),
    }];
    cloud.wait(cloud.host.apply_dhcp(&spec)).unwrap();
    let address = |guest: &Space, port: &Port| wait_for("an IPv6 address", || solicit(guest, port.mac)).to_string();
    assert_eq!(address(&guest_a, &a), "fd00::a:1");
    assert_eq!(address(&guest_b, &b), "fd00::b:1");
}
