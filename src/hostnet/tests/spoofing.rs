//! What a guest must not be able to put on its network, frame by frame, through real taps. Needs root.
//!
//! An observer without port security sees everything that is flooded. After the forged frames the guest sends an honest
//! one with the same shape; when that arrived, the forged ones would have.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};

use hostnet::{AllowedAddress, Id, Mac, PortFirewall};
use support::{BROADCAST, Cloud, Port, Tap, arp, ethernet, icmpv6, ipv4, port, udp, udp6};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const FORGED: &[u8] = b"this is forged";
const HONEST: &[u8] = b"this is honest";
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

struct Scene {
    cloud: Cloud,
    network: Id,
    guest: Port,
    tap: Tap,
    observer: Tap,
    /// The same on a network without port security: there the forged frames must arrive, or they prove nothing.
    free: (Tap, Tap),
}

impl Scene {
    fn new(change: impl FnOnce(&mut PortFirewall)) -> Self {
        let cloud = Cloud::new();
        let network = cloud.network(&["10.0.0.0/24", "fd00::/64"]);
        let (guest, observer) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
        let mut rules = guest.with(vec![]);
        change(&mut rules);
        cloud.apply(network, &[rules, observer.unsecured()]);
        let tap = Tap::open(&cloud, network, &guest);
        let observer = Tap::open(&cloud, network, &observer);
        let open = cloud.network(&["10.0.0.0/24", "fd00::/64"]);
        let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
        cloud.apply(open, &[a.unsecured(), b.unsecured()]);
        let free = (Tap::open(&cloud, open, &a), Tap::open(&cloud, open, &b));
        Self { cloud, network, guest, tap, observer, free }
    }

    fn must_arrive_elsewhere(&self, forged: &[Vec<u8>]) {
        for frame in forged {
            self.free.0.send(frame);
            let seen = self.free.1.receive_until(FORGED);
            assert!(seen.last().is_some_and(|last| last[6..12] == frame[6..12]), "{seen:02x?}");
        }
    }

    /// None of the forged frames may arrive, the honest one must.
    fn judge(&self, forged: &[Vec<u8>], honest: Vec<u8>) {
        self.must_arrive_elsewhere(forged);
        for frame in forged {
            self.tap.send(frame);
        }
        self.tap.send(&[honest.as_slice(), HONEST].concat());
        let own = self.tap.mac.0;
        let seen = self.observer.receive_until(HONEST);
        let leaked: Vec<_> = seen[..seen.len() - 1]
            .iter()
            .filter(|frame| forged.iter().any(|f| frame.starts_with(&f[..f.len().min(60)]) || frame.ends_with(FORGED)))
            .collect();
        assert!(leaked.is_empty(), "a guest with {own:02x?} sent {leaked:02x?}");
    }

    fn udp4(&self, mac: Mac, ip: Ipv4Addr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
        ethernet(BROADCAST, mac, IPV4, &ipv4(ip, Ipv4Addr::BROADCAST, 17, &udp(ports.0, ports.1, data)))
    }
}

fn other() -> Mac {
    Mac([0xfa, 0x16, 0x3e, 9, 9, 9])
}

#[test]
fn a_forged_mac_or_ipv4_address_does_not_leave() {
    let scene = Scene::new(|_| {});
    let (mac, ip) = (scene.guest.mac, scene.guest.ip);
    let stranger: Ipv4Addr = "10.0.0.99".parse().unwrap();
    let forged = [
        scene.udp4(other(), ip, (5, 5), FORGED),
        scene.udp4(mac, stranger, (5, 5), FORGED),
        scene.udp4(mac, Ipv4Addr::UNSPECIFIED, (5, 5), FORGED),
        // A bootp client port does not make a forged source honest.
        scene.udp4(mac, stranger, (68, 67), FORGED),
        // In a VLAN, where the address checks would look at the wrong place.
        {
            let mut tagged = ethernet(BROADCAST, mac, 0x8100, &[0, 5, 8, 0]);
            tagged.extend(ipv4(stranger, Ipv4Addr::BROADCAST, 17, &udp(5, 5, FORGED)));
            tagged
        },
        // Neither IP nor ARP.
        ethernet(BROADCAST, mac, 0x88b5, FORGED),
        ethernet(BROADCAST, mac, 0x8864, FORGED),
    ];
    let mut honest = scene.udp4(mac, ip, (5, 5), HONEST);
    honest.truncate(honest.len() - HONEST.len());
    scene.judge(&forged, honest);
}

#[test]
fn a_forged_arp_sender_does_not_leave() {
    let scene = Scene::new(|_| {});
    let (mac, ip) = (scene.guest.mac, scene.guest.ip);
    let gateway: Ipv4Addr = "10.0.0.1".parse().unwrap();
    let nobody = (Mac([0; 6]), gateway);
    let forged = [
        ethernet(BROADCAST, mac, ARP, &[&arp(2, (mac, gateway), nobody), FORGED].concat()),
        ethernet(BROADCAST, mac, ARP, &[&arp(1, (mac, gateway), nobody), FORGED].concat()),
        ethernet(BROADCAST, mac, ARP, &[&arp(1, (other(), ip), nobody), FORGED].concat()),
        ethernet(BROADCAST, other(), ARP, &[&arp(1, (mac, ip), nobody), FORGED].concat()),
    ];
    scene.judge(&forged, ethernet(BROADCAST, mac, ARP, &arp(1, (mac, ip), nobody)));
}

#[test]
fn a_guest_cannot_play_dhcp_server() {
    let scene = Scene::new(|_| {});
    let (mac, ip) = (scene.guest.mac, scene.guest.ip);
    let local = mac.link_local();
    let forged = [
        scene.udp4(mac, ip, (67, 68), FORGED),
        ethernet(ALL_NODES_MAC, mac, IPV6, &udp6(local, ALL_NODES, (547, 546), FORGED)),
    ];
    let honest = scene.udp4(mac, ip, (5, 5), b"");
    // The length fields must hold the marker.
    let mut whole = scene.udp4(mac, ip, (5, 5), HONEST);
    whole.truncate(honest.len());
    scene.judge(&forged, whole);
}

#[test]
fn forged_ipv6_router_and_neighbour_messages_do_not_leave() {
    let scene = Scene::new(|_| {});
    let mac = scene.guest.mac;
    let local = mac.link_local();
    let stranger: Ipv6Addr = "fe80::1".parse().unwrap();
    let global: Ipv6Addr = "fd00::99".parse().unwrap();
    let packet = |to: Mac, from: Mac, packet: Vec<u8>| ethernet(to, from, IPV6, &packet);
    let advert = |target: Ipv6Addr, marker: &[u8]| {
        let body = [&[0x20, 0, 0, 0], target.octets().as_slice(), &[2, 1], &mac.0, marker].concat();
        icmpv6(local, ALL_NODES, 136, &body)
    };
    let forged = [
        packet(
            ALL_NODES_MAC,
            mac,
            icmpv6(local, ALL_NODES, 134, &[&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], FORGED].concat()),
        ),
        packet(ALL_NODES_MAC, mac, icmpv6(local, ALL_NODES, 137, &[[0; 36].as_slice(), FORGED].concat())),
        packet(ALL_NODES_MAC, mac, advert(stranger, FORGED)),
        packet(ALL_NODES_MAC, mac, advert(global, FORGED)),
        packet(ALL_NODES_MAC, mac, icmpv6(stranger, ALL_NODES, 128, FORGED)),
        packet(ALL_NODES_MAC, mac, icmpv6(global, ALL_NODES, 128, FORGED)),
        packet(ALL_NODES_MAC, other(), icmpv6(local, ALL_NODES, 128, FORGED)),
        packet(ALL_NODES_MAC, mac, icmpv6(Ipv6Addr::UNSPECIFIED, ALL_NODES, 128, FORGED)),
    ];
    let mut honest = packet(ALL_NODES_MAC, mac, advert(local, HONEST));
    honest.truncate(honest.len() - HONEST.len());
    scene.judge(&forged, honest);
}

#[test]
fn a_router_advertisement_in_fragments_does_not_leave_either() {
    let scene = Scene::new(|_| {});
    let mac = scene.guest.mac;
    let local = mac.link_local();
    let whole = icmpv6(
        local,
        ALL_NODES,
        134,
        &[&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], FORGED].concat(),
    );
    let message = &whole[40..];
    let fragment = |offset: u16, more: bool, next: u8, data: &[u8]| {
        let head = [[next, 0], (offset | u16::from(more)).to_be_bytes(), [0, 0], [0, 7]].concat();
        ethernet(ALL_NODES_MAC, mac, IPV6, &support::ipv6(local, ALL_NODES, 44, &[&head, data].concat()))
    };
    let forged = [fragment(0, true, 58, &message[..16]), fragment(16, false, 58, &message[16..])];
    let mut honest = scene.udp4(mac, scene.guest.ip, (5, 5), HONEST);
    honest.truncate(honest.len() - HONEST.len());
    forged.iter().for_each(|frame| scene.free.0.send(frame));
    scene.free.1.receive_until(FORGED);
    scene.judge(&[], honest.clone());
    forged.iter().for_each(|frame| scene.tap.send(frame));
    scene.tap.send(&[honest.as_slice(), HONEST].concat());
    let seen = scene.observer.receive_until(HONEST);
    assert!(!seen.iter().any(|frame| frame.ends_with(FORGED)), "{seen:02x?}");
}

#[test]
fn allowed_address_pairs_widen_what_may_be_sent_and_no_more() {
    let vip = Mac([0, 0, 0x5e, 0, 1, 7]);
    let scene = Scene::new(|rules| {
        let mac = rules.mac;
        rules.addresses.extend([
            AllowedAddress { net: "10.0.0.200/32".parse().unwrap(), mac: vip },
            AllowedAddress { net: "10.7.0.0/16".parse().unwrap(), mac },
            AllowedAddress { net: "10.7.8.0/24".parse().unwrap(), mac },
            AllowedAddress { net: "fd07::/60".parse().unwrap(), mac },
            AllowedAddress { net: "fd08::5/128".parse().unwrap(), mac },
        ]);
    });
    let mac = scene.guest.mac;
    let v4 = |mac: Mac, ip: &str, data: &[u8]| scene.udp4(mac, ip.parse().unwrap(), (5, 5), data);
    let advert = |target: &str, marker: &[u8]| {
        let target: Ipv6Addr = target.parse().unwrap();
        let body = [&[0x20, 0, 0, 0], target.octets().as_slice(), &[2, 1], &mac.0, marker].concat();
        ethernet(ALL_NODES_MAC, mac, IPV6, &icmpv6(mac.link_local(), ALL_NODES, 136, &body))
    };
    for honest in [
        v4(vip, "10.0.0.200", HONEST),
        v4(mac, "10.7.8.9", HONEST),
        v4(mac, "10.7.200.9", HONEST),
        advert("fd07::9", HONEST),
        advert("fd07:0:0:f::9", HONEST),
        advert("fd08::5", HONEST),
    ] {
        let honest = honest[..honest.len() - HONEST.len()].to_vec();
        scene.judge(
            &[
                v4(mac, "10.0.0.200", FORGED),
                v4(vip, "10.0.0.11", FORGED),
                v4(mac, "10.8.0.1", FORGED),
                advert("fd07:0:0:10::9", FORGED),
                advert("fd08::6", FORGED),
            ],
            honest,
        );
    }
}

#[test]
fn frames_for_others_are_not_shown_to_a_guest() {
    let scene = Scene::new(|rules| rules.ingress = [support::rule(hostnet::Protocol::Any)].into());
    // An unknown unicast address floods to all ports of the bridge.
    let packet = |to: Mac, data: &[u8]| {
        let from = scene.observer.mac;
        ethernet(
            to,
            from,
            IPV4,
            &ipv4("10.0.0.12".parse().unwrap(), "10.0.0.11".parse().unwrap(), 17, &udp(5, 5, data)),
        )
    };
    scene.observer.send(&packet(other(), FORGED));
    scene.observer.send(&packet(scene.guest.mac, HONEST));
    let seen = scene.tap.receive_until(HONEST);
    assert!(!seen.iter().any(|frame| frame.ends_with(FORGED)));
}

#[test]
fn metadata_cannot_be_asked_for_in_anothers_name() {
    let scene = Scene::new(|_| {});
    let listener = scene.cloud.wait(scene.cloud.host.metadata_listener(scene.network)).unwrap();
    let victim = scene.guest.ip;
    let syn = |from: &Tap, ip: Ipv4Addr, source: u16| {
        let mut tcp = [source.to_be_bytes(), 80u16.to_be_bytes()].concat();
        tcp.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        let to = hostnet::METADATA_ADDRESS;
        let mut pseudo = [ip.octets(), to.octets()].concat();
        pseudo.extend_from_slice(&[0, 6, 0, 20]);
        pseudo.extend_from_slice(&tcp);
        let sum = support::checksum(&pseudo);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        // To a next hop that does not exist: the destination address alone decides.
        from.send(&ethernet(other(), from.mac, IPV4, &ipv4(ip, to, 6, &tcp)));
    };
    // The observer has no port security, but still its own address only.
    syn(&scene.observer, victim, 1111);
    syn(&scene.tap, "10.0.0.12".parse().unwrap(), 2222);
    syn(&scene.observer, "10.0.0.12".parse().unwrap(), 3333);
    // The answer to the honest one is an ARP question for its address; answer it, then see the SYN-ACK.
    let seen = std::cell::RefCell::new(Vec::new());
    let receive = || {
        let frame = scene.observer.receive()?;
        seen.borrow_mut().push(frame.clone());
        Some(frame)
    };
    let asks_for = |frame: &[u8], ip: Ipv4Addr| frame[12..14] == ARP.to_be_bytes() && frame[38..42] == ip.octets();
    let question = support::wait_for("an ARP question", || {
        receive().filter(|frame| asks_for(frame, "10.0.0.12".parse().unwrap()))
    });
    let asker = Mac(question[22..28].try_into().unwrap());
    let asker_ip = Ipv4Addr::from(<[u8; 4]>::try_from(&question[28..32]).unwrap());
    let own = scene.observer.mac;
    scene.observer.send(&ethernet(asker, own, ARP, &arp(2, (own, "10.0.0.12".parse().unwrap()), (asker, asker_ip))));
    support::wait_for("the SYN-ACK", || {
        receive().filter(|frame| {
            frame[12..14] == IPV4.to_be_bytes() && frame[23] == 6 && frame[36..38] == 3333u16.to_be_bytes()
        })
    });
    assert!(!seen.borrow().iter().any(|frame| asks_for(frame, victim)), "the forged connection was answered");
    assert!(listener.accept().is_err());
}
