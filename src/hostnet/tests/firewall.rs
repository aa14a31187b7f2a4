//! Security groups between guests with real network stacks. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::net::IpAddr;

use hostnet::{Ethertype, Id, Protocol, Remote, Rule};
use support::{Cloud, accept, from, passes, port, rule, wait_for};

#[test]
fn a_port_is_closed_until_a_rule_opens_it_and_its_removal_ends_the_flow() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let listener = guest_b.listen(8000);

    assert!(guest_a.connect("10.0.0.12:8000").is_err(), "a tap without any rules must be closed");

    let closed = [a.with(vec![]), b.with(vec![])];
    assert!(cloud.apply(network, &closed).changed);
    assert!(guest_a.connect("10.0.0.12:8000").is_err(), "a port without ingress rules must be closed");
    assert!(!guest_a.pings("10.0.0.12"));

    let open = [a.with(vec![]), b.with(vec![rule(Protocol::tcp(8000, 8010))])];
    assert!(cloud.apply(network, &open).changed);
    let client = guest_a.connect_soon("10.0.0.12:8000");
    let server = accept(&listener);
    assert!(passes(&client, &server), "the opened direction");
    assert!(passes(&server, &client), "replies come back without a rule of their own");
    assert!(guest_b.connect("10.0.0.11:8000").is_err(), "the other direction stays closed");
    assert!(!guest_a.pings("10.0.0.12"), "other protocols stay closed");

    let again = cloud.apply(network, &open);
    assert!(!again.changed, "the same rules again change nothing");
    assert!(passes(&client, &server));

    let change = cloud.apply(network, &closed);
    assert!(change.ended_flows >= 1, "{change:?}");
    assert!(!passes(&client, &server), "the flow must end with its rule");
    assert!(!passes(&server, &client), "and the server's next words must not revive it");
    assert!(!passes(&client, &server), "in no direction");
}

#[test]
fn a_change_of_other_rules_leaves_flows_alone() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let listener = guest_b.listen(8000);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![rule(Protocol::tcp(8000, 8000)), rule(Protocol::ICMP)])]);
    let client = guest_a.connect_soon("10.0.0.12:8000");
    let server = accept(&listener);
    assert!(guest_a.pings("10.0.0.12"));

    let change = cloud.apply(network, &[a.with(vec![]), b.with(vec![rule(Protocol::tcp(1, 65535))])]);

    assert!(passes(&server, &client), "a download must survive: {change:?}");
    assert!(!guest_a.pings("10.0.0.12"));
}

#[test]
fn remote_groups_networks_and_icmp_kinds_are_told_apart() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b, c) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"), port(3, "10.0.0.13"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let _listener = guest_b.listen(80);
    let guest_c = cloud.guest_at(network, &c, None);
    let (some, empty, unknown) = (Id::random(), Id::random(), Id::random());

    cloud.apply_with(
        network,
        &[
            a.with(vec![]),
            b.with(vec![
                // Overlapping members must not make the whole network's rules fail.
                from(Remote::Group(some), Protocol::TCP),
                from(Remote::Net("10.0.0.13/32".parse().unwrap()), Protocol::Icmp { kind: Some(8), code: Some(0) }),
                from(Remote::Group(empty), Protocol::Any),
                from(Remote::Group(unknown), Protocol::Any),
            ]),
            c.with(vec![rule(Protocol::Icmp { kind: Some(13), code: None })]),
        ],
        [(some, ["10.0.0.11/32", "10.0.0.8/30", "10.0.0.10/32", "fd00::/64"].as_slice()), (empty, &[])],
    );

    guest_a.connect_soon("10.0.0.12:80");
    assert!(guest_c.connect("10.0.0.12:80").is_err(), "not a member");
    assert!(guest_c.pings("10.0.0.12"), "echo from the allowed address");
    assert!(!guest_a.pings("10.0.0.12"), "echo from another");
    assert!(!guest_a.pings("10.0.0.13"), "another kind of ICMP");
}

#[test]
fn egress_is_closed_too_except_for_the_cloud_itself() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let _listeners = [guest_b.listen(80), guest_b.listen(81)];
    let mut sender = a.with(vec![]);
    sender.egress = [rule(Protocol::tcp(80, 80))].into();
    cloud.apply(network, &[sender, b.with(vec![rule(Protocol::Any)])]);

    guest_a.connect_soon("10.0.0.12:80");
    assert!(guest_a.connect("10.0.0.12:81").is_err());
    assert!(!guest_a.pings("10.0.0.12"));
    let metadata = cloud.wait(cloud.host.metadata_listener(network)).unwrap();
    guest_a.run(|| support::run("ip route add 169.254.169.254 dev eth0"));
    guest_a.connect_soon("169.254.169.254:80");
    assert_eq!(wait_for("the caller", || metadata.accept().ok()).1.ip(), IpAddr::V4(a.ip));
}

#[test]
fn errors_of_icmp_about_an_allowed_flow_come_back() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest_at(network, &a, None);
    let _guest_b = cloud.guest_at(network, &b, None);
    cloud.apply(network, &[a.with(vec![]), b.with(vec![rule(Protocol::UDP)])]);

    // Nobody listens: the error is the only answer, and A has no ingress rule.
    wait_for("an ICMP error", || {
        let socket = guest_a.udp(0);
        socket.connect("10.0.0.12:9").unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn a_rule_that_cannot_match_is_reported_and_the_others_are_in_force() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let _listener = guest_b.listen(80);
    let strange =
        Rule { ethertype: Ethertype::Ipv4, protocol: Protocol::Any, remote: Remote::Net("fd00::/64".parse().unwrap()) };

    let change = cloud.apply(
        network,
        &[
            a.with(vec![]),
            b.with(vec![
                strange,
                rule(Protocol::tcp(90, 80)),
                rule(Protocol::Icmp { kind: None, code: Some(1) }),
                rule(Protocol::tcp(80, 80)),
            ]),
        ],
    );

    assert_eq!(change.refused.len(), 3, "{change:?}");
    assert!(change.refused.iter().all(|(port_id, _)| *port_id == b.id));
    guest_a.connect_soon("10.0.0.12:80");
}

#[test]
fn two_networks_with_the_same_addresses_do_not_meet() {
    let cloud = Cloud::new();
    let networks = [cloud.network(&["10.0.0.0/24"]), cloud.network(&["10.0.0.0/24"])];
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let mut guests = Vec::new();
    for network in networks {
        let guest_a = cloud.guest_at(network, &a, None);
        let guest_b = cloud.guest_at(network, &b, None);
        guests.push((guest_a, guest_b.listen(8000), guest_b));
        cloud.apply(network, &[a.with(vec![]), b.with(vec![rule(Protocol::TCP)])]);
    }
    for (number, (guest, _, _)) in guests.iter().enumerate() {
        let client = guest.connect_soon("10.0.0.12:8000");
        let server = accept(&guests[number].1);
        assert!(passes(&client, &server), "network {number}");
    }
    assert!(guests.iter().all(|(_, listener, _)| listener.accept().is_err()), "one connection each");
}

#[test]
fn a_member_that_leaves_a_group_loses_its_flows_and_the_others_keep_theirs() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b, c) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"), port(3, "10.0.0.13"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let guest_c = cloud.guest_at(network, &c, None);
    let listener = guest_b.listen(80);
    let group = Id::random();
    let rules = [a.with(vec![]), b.with(vec![from(Remote::Group(group), Protocol::Any)]), c.with(vec![])];
    cloud.apply_with(network, &rules, [(group, ["10.0.0.11/32", "10.0.0.13/32"].as_slice())]);
    let leaving = (guest_a.connect_soon("10.0.0.12:80"), accept(&listener));
    let staying = (guest_c.connect_soon("10.0.0.12:80"), accept(&listener));
    // A flow of datagrams, answered and so established.
    let server = guest_b.udp(5000);
    let client = guest_a.udp(6000);
    client.send_to(b"hello", "10.0.0.12:5000").unwrap();
    let mut buffer = [0; 16];
    let (_, peer) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"hello", peer).unwrap();
    client.recv_from(&mut buffer).unwrap();

    let change = cloud.apply_with(network, &rules, [(group, ["10.0.0.13/32"].as_slice())]);

    assert_eq!(change.ended_flows, 2, "{change:?}");
    assert!(!passes(&leaving.0, &leaving.1));
    assert!(passes(&staying.0, &staying.1) && passes(&staying.1, &staying.0));
    client.send_to(b"hello", "10.0.0.12:5000").unwrap();
    assert!(server.recv_from(&mut buffer).is_err());
}

#[test]
fn ipv6_is_filtered_like_ipv4() {
    let cloud = Cloud::new();
    let network = cloud.network(&["fd00::/64"]);
    let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
    let guests: Vec<_> = [(&a, "fd00::a"), (&b, "fd00::b")]
        .into_iter()
        .map(|(port, ip)| {
            let guest = cloud.guest(network, port);
            guest.run(|| support::run(&format!("ip addr add {ip}/64 dev eth0 nodad")));
            guest
        })
        .collect();
    let listener = guests[1].run(|| std::net::TcpListener::bind("[::]:80")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let rules = |ingress: Vec<Rule>| {
        [(&a, "fd00::a", vec![]), (&b, "fd00::b", ingress)].map(|(port, ip, ingress)| {
            let mut rules = port.with(ingress);
            rules.addresses.push(hostnet::AllowedAddress { net: ip.parse::<IpAddr>().unwrap().into(), mac: port.mac });
            rules
        })
    };
    cloud.apply(network, &rules(vec![rule(Protocol::Any)]));
    assert!(guests[0].connect("[fd00::b]:80").is_err(), "an IPv4 rule says nothing about IPv6");

    cloud.apply(network, &rules(vec![support::rule6(Protocol::tcp(80, 80))]));
    let client = guests[0].connect_soon("[fd00::b]:80");
    let server = accept(&listener);
    assert!(passes(&client, &server) && passes(&server, &client));
    assert!(!guests[0].run(|| support::ping6("fd00::b")));

    cloud.apply(network, &rules(vec![support::rule6(Protocol::Icmp { kind: Some(128), code: None })]));
    assert!(!passes(&client, &server));
    assert!(guests[0].run(|| support::ping6("fd00::b")));
    // The guest took another address: it is not its own.
    guests[0].run(|| support::run("ip addr replace fd00::c/64 dev eth0 nodad"));
    guests[0].run(|| support::run("ip addr del fd00::a/64 dev eth0"));
    assert!(!guests[0].run(|| support::ping6("fd00::b")));
}

#[test]
fn the_kernel_takes_whatever_a_user_may_write() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let nets = |mac: hostnet::Mac| {
        let v6 = (0..=128).map(|length| format!("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/{length}"));
        let v4 = (0..=32).map(|length| format!("203.0.113.255/{length}"));
        let all = v6.chain(v4).map(move |net| hostnet::AllowedAddress { net: net.parse().unwrap(), mac });
        all.collect::<Vec<_>>()
    };
    let mut ports = Vec::new();
    let mut groups = Vec::new();
    // Each pair on a port of its own (or the widest would swallow the others), and all of them on one.
    let all = port(255, "10.0.0.255");
    let mut everything = all.with(vec![]);
    everything.addresses = nets(all.mac);
    for (number, pair) in everything.addresses.iter().enumerate() {
        let own = port(number as u8, "10.0.0.1");
        let remote = if pair.net.addr().is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
        let rule = Rule { ethertype: remote, protocol: Protocol::Any, remote: Remote::Net(pair.net) };
        let id = Id::random();
        groups.push((id, pair.net.to_string()));
        let mut rules = own.with(vec![rule, Rule { remote: Remote::Group(id), ..rule }]);
        rules.addresses = vec![hostnet::AllowedAddress { net: pair.net, mac: own.mac }];
        ports.push(rules);
    }
    let mut odd = port(254, "10.0.0.254").unsecured();
    odd.addresses = nets(odd.mac);
    ports.push(odd);
    let (mut ingress, mut egress) = (everything.ingress.to_vec(), everything.egress.to_vec());
    for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
        for number in 0..=255 {
            let with = |protocol| Rule { ethertype, protocol, remote: Remote::Any };
            ingress.push(with(Protocol::Number(number)));
            egress.push(with(Protocol::Icmp { kind: Some(number), code: Some(number) }));
        }
        for number in [6, 17, 33, 132, 136] {
            for (min, max) in [(0, 0), (0, 65535), (1, 65535), (65535, 65535), (5, 6)] {
                let protocol = Protocol::Ports { number, min, max };
                ingress.push(Rule { ethertype, protocol, remote: Remote::Any });
            }
        }
    }
    (everything.ingress, everything.egress) = (ingress.into(), egress.into());
    ports.push(everything);
    let members: Vec<_> = groups.iter().map(|(id, net)| (*id, [net.as_str()])).collect();
    let apply = || cloud.apply_with(network, &ports, members.iter().map(|(id, nets)| (*id, nets.as_slice())));

    let change = apply();

    assert!(change.changed && change.refused.is_empty(), "{change:?}");
    assert!(!apply().changed);
}

#[test]
fn one_ports_impossible_address_does_not_stop_the_others() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24"]);
    let (a, b, c) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"), port(3, "10.0.0.13"));
    let guest_a = cloud.guest_at(network, &a, None);
    let guest_b = cloud.guest_at(network, &b, None);
    let _listener = guest_b.listen(80);
    let mut pair = a.with(vec![]);
    pair.addresses.push(hostnet::AllowedAddress { net: "10.0.0.99/32".parse().unwrap(), mac: support::BROADCAST });
    let mut impossible = c.with(vec![]);
    impossible.mac = support::BROADCAST;

    let change = cloud.apply(network, &[pair, b.with(vec![rule(Protocol::TCP)]), impossible]);

    let refused: Vec<_> = change.refused.iter().map(|(id, _)| *id).collect();
    assert_eq!(refused, [a.id, c.id]);
    guest_a.connect_soon("10.0.0.12:80");
}
