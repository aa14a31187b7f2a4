//! Networks and taps: made, made again, held, removed. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use hostnet::{Error, Host, Id};
use support::{Cloud, Tap, network_spec, port, run};

#[test]
fn a_network_made_twice_is_the_same_and_removed_twice_is_gone() {
    let cloud = Cloud::new();
    let network = cloud.network(&["10.0.0.0/24", "fd00::/64"]);
    let state = || run(&format!("ip -n net-{network} -o addr")) + &run(&format!("ip -n net-{network} route"));
    let before = state();
    cloud.wait(cloud.host.ensure_network(&network_spec(network, &["10.0.0.0/24", "fd00::/64"]))).unwrap();
    assert_eq!(state(), before);
    assert!(before.contains("10.0.0.0/24 dev br0"), "{before}");

    cloud.wait(cloud.host.ensure_network(&network_spec(network, &["10.1.0.0/24"]))).unwrap();
    assert!(state().contains("10.1.0.0/24 dev br0") && !state().contains("10.0.0.0/24"), "{}", state());

    for _ in 0..2 {
        cloud.wait(cloud.host.remove_network(network)).unwrap();
    }
    assert!(cloud.wait(cloud.host.observe()).unwrap().networks.is_empty());
    assert!(!run("ip netns").contains(&network.to_string()));
}

#[test]
fn a_tap_is_busy_while_it_is_held_and_opens_again_afterwards() {
    let cloud = Cloud::new();
    let network = cloud.network(&[]);
    let guest = port(1, "10.0.0.11");
    let first = Tap::open(&cloud, network, &guest);
    let second = cloud.wait(cloud.host.ensure_tap(network, guest.id, guest.mac, 1400));
    assert!(matches!(second, Err(Error::Busy(_))), "{second:?}");
    drop(first);
    let again = cloud.wait(cloud.host.ensure_tap(network, guest.id, guest.mac, 1400)).unwrap();
    let link = run(&format!("ip -n net-{network} link show {}", hostnet::tap_name(guest.id)));
    assert!(link.contains("mtu 1400") && link.contains("master br0") && link.contains("UP"), "{link}");

    // Removed while it is held, as when a server is deleted under its running process.
    for _ in 0..2 {
        cloud.wait(cloud.host.remove_tap(network, guest.id)).unwrap();
    }
    assert!(cloud.wait(cloud.host.observe()).unwrap().networks[&network].taps.is_empty());
    drop(again);
}

#[test]
fn a_tap_on_an_unknown_network_is_refused() {
    let cloud = Cloud::new();
    let guest = port(1, "10.0.0.11");
    let result = cloud.wait(cloud.host.ensure_tap(Id::random(), guest.id, guest.mac, 1500));
    assert!(matches!(result, Err(Error::NotFound(_))), "{result:?}");
    let result = cloud.wait(cloud.host.ensure_tap(Id::random(), guest.id, support::BROADCAST, 1500));
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

#[test]
fn another_instance_sees_and_removes_nothing_of_ours() {
    let cloud = Cloud::new();
    let network = cloud.network(&[]);
    let directory = tempfile::tempdir().unwrap();
    let stranger = cloud.wait(Host::open(directory.path())).unwrap();
    assert_ne!(stranger.tag(), cloud.host.tag());
    assert!(cloud.wait(stranger.observe()).unwrap().is_empty());
    assert!(cloud.wait(stranger.remove_network(network)).is_err());
    assert!(cloud.wait(stranger.ensure_network(&network_spec(network, &[]))).is_err());
    cloud.wait(stranger.remove_all()).unwrap();
    assert!(cloud.wait(cloud.host.observe()).unwrap().networks.contains_key(&network));
}

#[test]
fn a_namespace_cut_short_in_the_making_is_found_and_removed() {
    let cloud = Cloud::new();
    let id = Id::random();
    // What a crash between naming and mounting leaves.
    let path = format!("/run/netns/net-{id}");
    std::fs::create_dir_all("/run/netns").unwrap();
    std::fs::write(&path, format!("solostack {}", cloud.host.tag())).unwrap();
    assert_eq!(cloud.wait(cloud.host.observe()).unwrap().remains, [format!("net-{id}")]);
    cloud.wait(cloud.host.ensure_network(&network_spec(id, &[]))).unwrap();
    assert!(cloud.wait(cloud.host.observe()).unwrap().networks.contains_key(&id));
    cloud.wait(cloud.host.remove_all()).unwrap();
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn the_callers_threads_stay_in_their_namespace() {
    let cloud = Cloud::new();
    let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = own();
    let network = cloud.network(&[]);
    let guest = port(1, "10.0.0.11");
    let _tap = Tap::open(&cloud, network, &guest);
    let _listener = cloud.wait(cloud.host.metadata_listener(network)).unwrap();
    cloud.apply(network, &[guest.with(vec![])]);
    assert_eq!(own(), before);
}

#[test]
fn many_networks_come_and_go_at_once() {
    let cloud = Cloud::new();
    let ids: Vec<Id> = (0..24).map(|_| Id::random()).collect();
    cloud.wait(async {
        let mut work = tokio::task::JoinSet::new();
        for id in ids.clone() {
            let host = cloud.host.clone();
            work.spawn(async move {
                host.ensure_network(&network_spec(id, &["10.0.0.0/24"])).await.unwrap();
                let (a, b) = (port(1, "10.0.0.11"), port(2, "10.0.0.12"));
                let rules = hostnet::NetworkFirewall::of([a.with(vec![]), b.with(vec![])]);
                let (firewall, first, second) = tokio::join!(
                    host.apply_firewall(id, &rules),
                    host.ensure_tap(id, a.id, a.mac, 1500),
                    host.ensure_tap(id, b.id, b.mac, 1500)
                );
                assert!(firewall.unwrap().changed);
                (first.unwrap(), second.unwrap())
            });
        }
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
    });
    let seen = cloud.wait(cloud.host.observe()).unwrap();
    assert_eq!(seen.networks.len(), ids.len());
    assert!(seen.networks.values().all(|network| network.taps.len() == 2 && network.tables.len() == 2), "{seen:?}");
    cloud.wait(cloud.host.remove_all()).unwrap();
    assert!(cloud.wait(cloud.host.observe()).unwrap().is_empty());
}
