//! Routers, floating IPs and the way out, with a host and an outside of their own. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::net::IpAddr;

use hostnet::{Error, ExternalSpec, FloatingIp, Id, Mac, Protocol, RouterGateway, RouterInterface, RouterSpec};
use support::{Cloud, Port, Space, accept, from, passes, port, rule, run, wait_for};

/// The host, its external network 172.24.4.0/24, and a machine outside at 192.0.2.1 that knows only the host's address.
struct Scene {
    external: Id,
    outside: Space,
    cloud: Cloud,
}

impl Scene {
    fn new() -> Self {
        let cloud = Cloud::new();
        let outside = Space::new();
        outside.run(|| {
            run("ip link set lo up");
        });
        run("ip link add up0 type veth peer name tmp0");
        run("ip addr add 192.0.2.2/24 dev up0");
        run("ip link set up0 up");
        outside.take("tmp0");
        outside.run(|| {
            run("ip addr add 192.0.2.1/24 dev tmp0");
            run("ip link set tmp0 up");
        });
        let external = cloud.network(&["172.24.4.0/24"]);
        let spec = external_spec(external);
        cloud.wait(cloud.host.apply_external(&spec)).unwrap();
        cloud.wait(cloud.host.apply_external(&spec)).unwrap();
        Self { external, outside, cloud }
    }

    fn router(&self, id: Id, network: Id, gateway: &str, floating: &[(&str, &str)]) -> RouterSpec {
        let bytes = *id.as_bytes();
        RouterSpec {
            id,
            interfaces: vec![RouterInterface {
                network_id: network,
                port_id: derived(id, 1),
                mac: Mac([0xfa, 0x16, 0x3e, 1, bytes[0], bytes[1]]),
                addresses: vec!["10.0.0.1/24".parse().unwrap()],
                mtu: 1500,
                advertise: vec![],
            }],
            gateway: Some(RouterGateway {
                network_id: self.external,
                port_id: derived(id, 2),
                mac: Mac([0xfa, 0x16, 0x3e, 2, bytes[0], bytes[1]]),
                addresses: vec![format!("{gateway}/24").parse().unwrap()],
                next_hops: vec!["172.24.4.1".parse().unwrap()],
                snat: true,
                mtu: 1500,
            }),
            floating_ips: floating
                .iter()
                .map(|(floating, fixed)| FloatingIp {
                    floating: floating.parse().unwrap(),
                    fixed: fixed.parse().unwrap(),
                })
                .collect(),
            routes: vec![],
        }
    }

    fn apply(&self, spec: &RouterSpec) {
        self.cloud.wait(self.cloud.host.apply_router(spec)).unwrap();
    }
}

fn external_spec(id: Id) -> ExternalSpec {
    ExternalSpec { id, mtu: 1500, host_addresses: vec!["172.24.4.1/24".parse().unwrap()] }
}

/// An id that depends on another, so that a router made again has the same ports.
fn derived(id: Id, number: u8) -> Id {
    let mut text = id.to_string();
    text.replace_range(0..1, &format!("{number:x}"));
    text.parse().unwrap()
}

fn open_guest(scene: &Scene, network: Id, ports: &[&Port]) -> Vec<Space> {
    let rules: Vec<_> = ports.iter().map(|p| p.with(vec![rule(Protocol::tcp(22, 22)), rule(Protocol::ICMP)])).collect();
    scene.cloud.apply(network, &rules);
    ports.iter().map(|p| scene.cloud.guest_at(network, p, Some("10.0.0.1"))).collect()
}

#[test]
fn a_guest_reaches_the_outside_with_the_hosts_address() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let guests = open_guest(&scene, network, &[&a]);
    let router = scene.router(Id::random(), network, "172.24.4.10", &[]);
    scene.apply(&router);
    let listener = scene.outside.listen(80);

    let client = guests[0].connect_soon("192.0.2.1:80");
    let (server, peer) = wait_for("the connection", || listener.accept().ok());
    assert_eq!(peer.ip().to_string(), "192.0.2.2", "masqueraded by the host");
    server.set_nonblocking(false).unwrap();
    server.set_read_timeout(Some(support::SILENCE)).unwrap();
    assert!(passes(&client, &server) && passes(&server, &client));

    let at_host = Space::here().listen(8080);
    guests[0].connect_soon("172.24.4.1:8080");
    let (_, peer) = wait_for("the connection", || at_host.accept().ok());
    assert_eq!(peer.ip().to_string(), "172.24.4.10", "the router's address towards the host");

    run("ip route add 10.0.0.0/24 via 172.24.4.10");
    scene.cloud.apply(network, &[a.with(vec![rule(Protocol::UDP)])]);
    let socket = guests[0].udp(5000);
    for _ in 0..3 {
        Space::here().udp(0).send_to(b"hello", "10.0.0.11:5000").unwrap();
    }
    assert!(socket.recv(&mut [0; 16]).is_err(), "from outside only floating IPs are reached");
}

#[test]
fn a_floating_ip_is_reached_from_the_host_and_leaves_with_its_address() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let guests = open_guest(&scene, network, &[&a]);
    let id = Id::random();
    scene.apply(&scene.router(id, network, "172.24.4.10", &[]));
    let listener = guests[0].listen(22);
    let host = Space::here();
    assert!(host.connect("172.24.4.20:22").is_err());

    let with = scene.router(id, network, "172.24.4.10", &[("172.24.4.20", "10.0.0.11")]);
    scene.apply(&with);
    let client = host.connect_soon("172.24.4.20:22");
    let server = accept(&listener);
    assert!(passes(&client, &server) && passes(&server, &client));
    assert!(host.connect("172.24.4.20:23").is_err(), "security groups hold for floating IPs");

    let at_host = host.listen(8080);
    guests[0].connect_soon("172.24.4.1:8080");
    let (_, peer) = wait_for("the connection", || at_host.accept().ok());
    assert_eq!(peer.ip().to_string(), "172.24.4.20");

    scene.apply(&with);
    assert!(passes(&client, &server), "applying the same again disturbs nothing");

    scene.apply(&scene.router(id, network, "172.24.4.10", &[]));
    assert!(!passes(&client, &server), "the flow ends with the floating IP");
    assert!(host.connect("172.24.4.20:22").is_err());
}

#[test]
fn a_flow_from_outside_ends_with_its_rule_and_the_guest_cannot_revive_it() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let guest = open_guest(&scene, network, &[&a]).remove(0);
    let listener = guest.listen(22);
    scene.apply(&scene.router(Id::random(), network, "172.24.4.10", &[("172.24.4.20", "10.0.0.11")]));
    let client = Space::here().connect_soon("172.24.4.20:22");
    let server = accept(&listener);
    assert!(passes(&client, &server));

    scene.cloud.apply(network, &[a.with(vec![])]);
    // The guest may send anything out, and nothing filters at the other end.
    assert!(!passes(&server, &client));
    assert!(!passes(&client, &server));
}

#[test]
fn guests_of_one_network_reach_each_other_by_floating_ip() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guests = open_guest(&scene, network, &[&a, &b]);
    scene.apply(&scene.router(Id::random(), network, "172.24.4.10", &[("172.24.4.21", "10.0.0.12")]));
    let listener = guests[1].listen(22);

    let client = guests[0].connect_soon("172.24.4.21:22");
    let server = accept(&listener);
    assert!(passes(&client, &server) && passes(&server, &client));
    assert_eq!(server.peer_addr().unwrap().ip().to_string(), "172.24.4.10", "or the answer would go past the router");
}

#[test]
fn two_projects_with_the_same_addresses_meet_only_by_floating_ip() {
    let scene = Scene::new();
    let mut sides = Vec::new();
    for (gateway, floating) in [("172.24.4.10", "172.24.4.31"), ("172.24.4.11", "172.24.4.32")] {
        let network = scene.cloud.network(&["10.0.0.0/24"]);
        let a = port(1, "10.0.0.11");
        let guest = open_guest(&scene, network, &[&a]).remove(0);
        scene.apply(&scene.router(Id::random(), network, gateway, &[(floating, "10.0.0.11")]));
        let listener = guest.listen(22);
        sides.push((guest, listener, floating));
    }
    let client = sides[0].0.connect_soon(&format!("{}:22", sides[1].2));
    let server = accept(&sides[1].1);
    assert!(passes(&client, &server));
    assert_eq!(server.peer_addr().unwrap().ip().to_string(), sides[0].2);
    let host = Space::here();
    host.connect_soon("172.24.4.31:22");
    host.connect_soon("172.24.4.32:22");
}

#[test]
fn a_rule_by_remote_address_holds_through_the_router() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let only = |net: &str| vec![from(hostnet::Remote::Net(net.parse().unwrap()), Protocol::ICMP)];
    scene.cloud.apply(network, &[a.with(only("192.0.2.0/24"))]);
    let _guest = scene.cloud.guest_at(network, &a, Some("10.0.0.1"));
    scene.apply(&scene.router(Id::random(), network, "172.24.4.10", &[("172.24.4.20", "10.0.0.11")]));
    scene.outside.run(|| run("ip route add 172.24.4.0/24 via 192.0.2.2"));
    scene.outside.pings_soon("172.24.4.20");
    assert!(!support::ping("172.24.4.20"), "the host's own address is not in the rule");
}

#[test]
fn a_router_loses_what_is_no_longer_in_its_specification() {
    let scene = Scene::new();
    let networks = [scene.cloud.network(&["10.0.0.0/24"]), scene.cloud.network(&["10.1.0.0/24"])];
    let a = port(1, "10.0.0.11");
    let guest = open_guest(&scene, networks[0], &[&a]).remove(0);
    let mut spec = scene.router(Id::random(), networks[0], "172.24.4.10", &[("172.24.4.20", "10.0.0.11")]);
    spec.interfaces.push(RouterInterface {
        network_id: networks[1],
        port_id: Id::random(),
        mac: Mac([0xfa, 0x16, 0x3e, 3, 3, 3]),
        addresses: vec!["10.1.0.1/24".parse().unwrap()],
        mtu: 1400,
        advertise: vec![],
    });
    spec.routes = vec![hostnet::StaticRoute {
        destination: "10.9.0.0/16".parse().unwrap(),
        next_hop: "10.0.0.11".parse().unwrap(),
    }];
    scene.apply(&spec);
    guest.pings_soon("10.1.0.1");
    let state = || {
        let name = format!("rtr-{}", spec.id);
        run(&format!("ip -n {name} -4 -o addr")) + &run(&format!("ip -n {name} route"))
    };
    let before = state();
    assert!(before.contains("10.9.0.0/16 via 10.0.0.11") && before.contains("172.24.4.20/32"), "{before}");
    scene.apply(&spec);
    assert_eq!(state(), before);

    let mut less = spec.clone();
    less.interfaces.pop();
    less.routes.clear();
    less.floating_ips.clear();
    scene.apply(&less);
    let after = state();
    assert!(!after.contains("10.1.0.1") && !after.contains("10.9.0.0") && !after.contains("172.24.4.20"), "{after}");
    assert!(scene.cloud.wait(scene.cloud.host.observe()).unwrap().networks[&networks[1]].veths.is_empty());

    less.gateway = None;
    scene.apply(&less);
    assert!(!state().contains("default"), "{}", state());
    for _ in 0..2 {
        scene.cloud.wait(scene.cloud.host.remove_router(spec.id)).unwrap();
    }
    let left = &scene.cloud.wait(scene.cloud.host.observe()).unwrap().networks[&networks[0]].veths;
    assert!(!left.iter().any(|name| name.starts_with("vr-")), "{left:?}");
}

#[test]
fn a_router_into_an_unknown_network_is_refused_whole() {
    let scene = Scene::new();
    let spec = scene.router(Id::random(), Id::random(), "172.24.4.10", &[]);
    let result = scene.cloud.wait(scene.cloud.host.apply_router(&spec));
    assert!(matches!(result, Err(Error::NotFound(_))), "{result:?}");
    assert!(scene.cloud.wait(scene.cloud.host.observe()).unwrap().routers.is_empty());
}

#[test]
fn an_external_network_passes_a_firewall_that_drops_by_default_and_leaves_it_as_it_was() {
    let scene = Scene::new();
    scene.cloud.wait(scene.cloud.host.remove_external(scene.external)).unwrap();
    let theirs = "table ip filter {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n }\n}\n";
    let file = scene.cloud.directory.path().join("theirs.nft");
    std::fs::write(&file, theirs).unwrap();
    run(&format!("nft -f {}", file.display()));
    let before = run("nft list table ip filter");
    let spec = external_spec(scene.external);
    for _ in 0..2 {
        scene.cloud.wait(scene.cloud.host.apply_external(&spec)).unwrap();
    }
    assert_eq!(run("nft list table ip filter").matches("counter").count(), 2, "one rule each way");
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let guest = open_guest(&scene, network, &[&a]).remove(0);
    scene.apply(&scene.router(Id::random(), network, "172.24.4.10", &[]));
    guest.pings_soon("192.0.2.1");

    for _ in 0..2 {
        scene.cloud.wait(scene.cloud.host.remove_external(scene.external)).unwrap();
    }
    assert_eq!(run("nft list table ip filter"), before);
    let seen = scene.cloud.wait(scene.cloud.host.observe()).unwrap();
    assert!(seen.host_links.is_empty() && seen.host_tables.is_empty(), "{seen:?}");
}

#[test]
fn an_external_range_that_the_host_uses_already_is_refused() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["192.0.2.0/24"]);
    let spec = ExternalSpec { id: network, mtu: 1500, host_addresses: vec!["192.0.2.7/24".parse().unwrap()] };
    let result = scene.cloud.wait(scene.cloud.host.apply_external(&spec));
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

#[test]
fn a_guest_may_live_on_the_external_network_itself() {
    let scene = Scene::new();
    let a = port(1, "172.24.4.50");
    scene.cloud.apply(scene.external, &[a.with(vec![rule(Protocol::ICMP)])]);
    let guest = scene.cloud.guest_at(scene.external, &a, Some("172.24.4.1"));
    guest.pings_soon("192.0.2.1");
    Space::here().pings_soon("172.24.4.50");
    let listener = scene.cloud.wait(scene.cloud.host.metadata_listener(scene.external)).unwrap();
    guest.connect_soon("169.254.169.254:80");
    assert_eq!(wait_for("the caller", || listener.accept().ok()).1.ip(), IpAddr::V4(a.ip));
}

#[test]
fn a_floating_ip_that_moves_is_found_at_its_new_place_at_once() {
    let scene = Scene::new();
    let mut sides = Vec::new();
    for gateway in ["172.24.4.10", "172.24.4.11"] {
        let network = scene.cloud.network(&["10.0.0.0/24"]);
        let a = port(1, "10.0.0.11");
        let guest = open_guest(&scene, network, &[&a]).remove(0);
        let spec = scene.router(Id::random(), network, gateway, &[]);
        scene.apply(&spec);
        sides.push((guest.listen(22), spec, guest));
    }
    let host = Space::here();
    let mut with = sides[0].1.clone();
    with.floating_ips =
        vec![FloatingIp { floating: "172.24.4.20".parse().unwrap(), fixed: "10.0.0.11".parse().unwrap() }];
    scene.apply(&with);
    drop(host.connect_soon("172.24.4.20:22"));
    accept(&sides[0].0);
    // The host's neighbour table may ignore a change within a second of the last one.
    std::thread::park_timeout(std::time::Duration::from_millis(1100));

    scene.apply(&sides[0].1);
    let mut moved = sides[1].1.clone();
    moved.floating_ips = with.floating_ips;
    scene.apply(&moved);
    host.connect("172.24.4.20:22").expect("the first attempt");
    accept(&sides[1].0);
}

#[test]
fn guests_resolve_foreign_names_through_their_network_and_router() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24"]);
    let a = port(1, "10.0.0.11");
    let guest = open_guest(&scene, network, &[&a]).remove(0);
    scene.apply(&scene.router(Id::random(), network, "172.24.4.10", &[]));
    let spec = hostnet::DhcpSpec {
        network_id: network,
        subnets: vec![hostnet::DhcpSubnet {
            cidr: "10.0.0.0/24".parse().unwrap(),
            server: "10.0.0.2".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            dns: vec![],
            routes: vec![],
            mode: None,
        }],
        hosts: vec![],
        mtu: 1500,
        domain: "openstacklocal".to_owned(),
        upstream_dns: vec!["192.0.2.1".parse().unwrap()],
        lease_seconds: 3600,
    };
    scene.cloud.wait(scene.cloud.host.apply_dhcp(&spec)).unwrap();
    let upstream = scene.outside.udp(53);
    let client = guest.udp(0);
    let question = [
        0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 3, b'o', b'r', b'g', 0,
        0, 1, 0, 1,
    ];
    let mut buffer = [0; 512];
    let from = wait_for("the question at the upstream server", || {
        client.send_to(&question, "10.0.0.2:53").unwrap();
        let (length, from) = upstream.recv_from(&mut buffer).ok()?;
        buffer[..length].windows(11).any(|w| w == b"example\x03org").then_some(from)
    });
    assert_eq!(from.ip().to_string(), "192.0.2.2", "through the router and the host");
}

#[test]
fn ipv6_guests_configure_themselves_by_the_routers_advertisements() {
    let scene = Scene::new();
    let network = scene.cloud.network(&["10.0.0.0/24", "fd00:7::/64"]);
    let a = port(1, "10.0.0.11");
    let mut rules = a.with(vec![]);
    let global: IpAddr = "fd00:7::f816:3eff:fe00:1".parse().unwrap();
    rules.addresses.push(hostnet::AllowedAddress { net: global.into(), mac: a.mac });
    scene.cloud.apply(network, &[rules]);
    let guest = scene.cloud.guest(network, &a);
    let mut spec = scene.router(Id::random(), network, "172.24.4.10", &[]);
    spec.interfaces[0].addresses.push("fd00:7::1/64".parse().unwrap());
    spec.interfaces[0].advertise = vec![hostnet::Advertised {
        prefix: "fd00:7::/64".parse().unwrap(),
        mode: hostnet::AddressMode::Slaac,
        dns: vec!["fd00:7::2".parse().unwrap()],
    }];
    scene.apply(&spec);
    wait_for("the address of the advertised prefix", || {
        let text = guest.run(|| run("ip -6 addr show dev eth0") + &run("ip -6 route"));
        (text.contains(&global.to_string()) && text.contains("default via fe80::")).then_some(())
    });
    wait_for("an answer of the router", || guest.run(|| support::ping6("fd00:7::1")).then_some(()));
    for mode in [hostnet::AddressMode::DhcpStateful, hostnet::AddressMode::DhcpStateless] {
        spec.interfaces[0].advertise[0].mode = mode;
        scene.apply(&spec);
        assert_eq!(scene.cloud.wait(scene.cloud.host.observe()).unwrap().dnsmasq.len(), 1, "{mode:?}");
    }
    // Gone with the advertisements.
    spec.interfaces[0].advertise.clear();
    scene.apply(&spec);
    assert!(scene.cloud.wait(scene.cloud.host.observe()).unwrap().dnsmasq.is_empty());
}
