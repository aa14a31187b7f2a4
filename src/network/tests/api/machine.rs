//! From rows to the machine: what comes, what changes, what goes, and what is put right.

use hostnet::{Protocol, Remote};
use network::peer::{self, PortRequest, Requester, Wanted};
use serde_json::{Value, json};

use crate::kit::{Cloud, id, wait_for};

async fn server(cloud: &Cloud, server_id: &'static str, network: &Value, groups: &[&str]) -> peer::PortInfo {
    let app = cloud.app.clone();
    let wanted = Wanted::Network { network_id: id(network).to_owned(), fixed_ip: None };
    let groups: Vec<String> = groups.iter().map(|name| (*name).to_owned()).collect();
    let port = cloud
        .db
        .write(move |tx| {
            let requester = Requester { project_id: "project-a", is_admin: false };
            let request = PortRequest {
                requester,
                server_id,
                server_name: server_id,
                zone: "nova",
                wanted: &wanted,
                security_groups: &groups,
            };
            peer::create_port(tx, &app, &request)
        })
        .await
        .unwrap();
    peer::plug(&cloud.app, &port.id).await.unwrap();
    port
}

/// The groups that a port's ingress rules name.
fn named_groups(port: &hostnet::PortFirewall) -> Vec<hostnet::Id> {
    let group = |rule: &hostnet::Rule| match rule.remote {
        Remote::Group(group) => Some(group),
        _ => None,
    };
    port.ingress.iter().filter_map(group).collect()
}

fn rules_of(cloud: &Cloud, port: &peer::PortInfo) -> hostnet::PortFirewall {
    let state = cloud.host.state();
    let mut all = state.firewalls.values().flatten();
    all.find(|one| one.port_id.to_string() == port.id).cloned().unwrap()
}

#[tokio::test]
async fn the_first_networks_are_brought_to_the_machine_and_stay_as_they_are() {
    let cloud = Cloud::bootstrapped().await;
    cloud.reconcile().await;
    let state = cloud.host.state();
    assert_eq!(state.networks.len(), 2);
    assert_eq!(state.externals.values().next().unwrap().host_addresses[0].to_string(), "172.24.4.1/24");
    let router = state.routers.values().next().unwrap();
    assert_eq!(router.interfaces[0].addresses[0].to_string(), "10.0.0.1/24");
    let gateway = router.gateway.as_ref().unwrap();
    assert!(gateway.snat && gateway.next_hops[0].to_string() == "172.24.4.1");
    let dhcp = state.dhcp.values().next().unwrap();
    assert_eq!(dhcp.subnets[0].gateway.unwrap().to_string(), "10.0.0.1");
    assert!(cloud.list("admin", "ports", "").await.iter().all(|port| port["status"] == "ACTIVE"));
    let generation = cloud.db.generation("network").get();
    cloud.reconcile().await;
    assert_eq!(cloud.db.generation("network").get(), generation, "a round that finds nothing to do writes nothing");
    assert_eq!(cloud.host.state(), state);
}

#[tokio::test]
async fn a_rule_reaches_a_running_server_without_being_asked_for() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    let port = server(&cloud, "s1", &network, &["web"]).await;
    assert!(rules_of(&cloud, &port).ingress.is_empty(), "closed");
    let app = cloud.app.clone();
    let mut changes = cloud.db.changes("network");
    let rounds = tokio::spawn(async move {
        loop {
            changes.changed().await;
            app.reconcile().await.unwrap();
        }
    });
    let open = json!({"security_group_rule": {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp",
        "port_range_min": 22, "port_range_max": 22}});
    let made = cloud.post("alice", "/security-group-rules", open).await.is(201);
    wait_for("the rule", async || {
        rules_of(&cloud, &port).ingress.iter().any(|rule| rule.protocol == Protocol::tcp(22, 22))
    })
    .await;
    cloud.delete("alice", &format!("/security-group-rules/{}", id(&made["security_group_rule"]))).await.is(204);
    wait_for("the rule's end", async || rules_of(&cloud, &port).ingress.is_empty()).await;
    rounds.abort();
}

#[tokio::test]
async fn members_of_a_group_are_the_addresses_of_its_ports() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let (other, _) = cloud.network("alice", "10.2.0.0/24").await;
    let first = server(&cloud, "s1", &network, &[]).await;
    server(&cloud, "s2", &other, &[]).await;
    cloud.reconcile().await;
    let named = named_groups(&rules_of(&cloud, &first));
    assert_eq!(named.len(), 2, "IPv4 and IPv6");
    assert_eq!(named[0], named[1]);
    let members = || {
        let state = cloud.host.state();
        let walls = state.firewalls.values().filter(|wall| !wall.ports.is_empty());
        walls.map(|wall| wall.groups[&named[0]].iter().map(ToString::to_string).collect()).collect::<Vec<Vec<_>>>()
    };
    assert_eq!(members(), vec![["10.1.0.2/32", "10.2.0.2/32"]; 2], "on both networks");
    cloud
        .db
        .write({
            let app = cloud.app.clone();
            move |tx| peer::release_ports(tx, &app, "s2")
        })
        .await
        .unwrap();
    cloud.reconcile().await;
    assert_eq!(members(), [["10.1.0.2/32"]]);
}

#[tokio::test]
async fn a_failing_firewall_keeps_the_old_rules_and_marks_the_port_until_it_works() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    let port = server(&cloud, "s1", &network, &["web"]).await;
    cloud.reconcile().await;
    let before = rules_of(&cloud, &port);
    cloud.host.fail_firewall(true);
    let open = json!({"security_group_rule": {"security_group_id": group["id"], "direction": "ingress"}});
    cloud.post("alice", "/security-group-rules", open).await.is(201);
    assert!(cloud.app.reconcile().await.is_err());
    let path = format!("/ports/{}", port.id);
    assert_eq!(cloud.get("alice", &path).await.is(200)["port"]["status"], "ERROR");
    assert_eq!(rules_of(&cloud, &port), before);
    let generation = cloud.db.generation("network").get();
    assert!(cloud.app.reconcile().await.is_err());
    assert_eq!(cloud.db.generation("network").get(), generation, "a failure that stays wakes nobody");
    cloud.host.fail_firewall(false);
    cloud.reconcile().await;
    assert_eq!(cloud.get("alice", &path).await.is(200)["port"]["status"], "ACTIVE");
    assert_eq!(rules_of(&cloud, &port).ingress.len(), 1);
}

#[tokio::test]
async fn closed_ports_and_networks_are_closed() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let port = server(&cloud, "s1", &network, &[]).await;
    let path = format!("/ports/{}", port.id);
    cloud.put("alice", &path, json!({"port": {"admin_state_up": false}})).await.is(200);
    cloud.reconcile().await;
    assert!(cloud.host.state().firewalls.values().all(|wall| wall.ports.is_empty()));
    assert_eq!(cloud.get("alice", &path).await.is(200)["port"]["status"], "DOWN");
    cloud.put("alice", &path, json!({"port": {"admin_state_up": true}})).await.is(200);
    cloud
        .put("alice", &format!("/networks/{}", id(&network)), json!({"network": {"admin_state_up": false}}))
        .await
        .is(200);
    cloud.reconcile().await;
    assert!(cloud.host.state().firewalls.values().all(|wall| wall.ports.is_empty()));
    assert!(cloud.host.state().dhcp.is_empty());
}

#[tokio::test]
async fn what_a_reboot_took_comes_back() {
    let cloud = Cloud::bootstrapped().await;
    cloud.reconcile().await;
    let before = cloud.host.state();
    cloud.host.reboot();
    // A new process looks first.
    let again = network::App::new(
        cloud.db.clone(),
        db::Clock::default(),
        network::Options::default(),
        network::HostSide::Fake(cloud.host.clone()),
    );
    again.reconcile().await.unwrap();
    assert_eq!(cloud.host.state(), before);
}

#[tokio::test]
async fn what_no_row_wants_goes_also_when_nobody_remembers_it() {
    let cloud = Cloud::bootstrapped().await;
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let port = server(&cloud, "s1", &network, &[]).await;
    let router = cloud.make("alice", "/routers", "router", json!({})).await;
    let interface = json!({"subnet_id": cloud.list("alice", "subnets", "").await[0]["id"]});
    cloud.put("alice", &format!("/routers/{}/add_router_interface", id(&router)), interface.clone()).await.is(200);
    cloud.reconcile().await;
    assert_eq!((cloud.host.state().networks.len(), cloud.host.state().routers.len()), (3, 2));
    cloud
        .db
        .write({
            let app = cloud.app.clone();
            move |tx| peer::release_ports(tx, &app, "s1")
        })
        .await
        .unwrap();
    cloud.put("alice", &format!("/routers/{}/remove_router_interface", id(&router)), interface).await.is(200);
    cloud.delete("alice", &format!("/routers/{}", id(&router))).await.is(204);
    cloud.delete("alice", &format!("/networks/{}", id(&network))).await.is(204);
    let again = network::App::new(
        cloud.db.clone(),
        db::Clock::default(),
        network::Options::default(),
        network::HostSide::Fake(cloud.host.clone()),
    );
    again.reconcile().await.unwrap();
    let state = cloud.host.state();
    assert_eq!((state.networks.len(), state.routers.len(), state.taps.len()), (2, 1, 0), "{port:?}");
    again.host().remove_all().await.unwrap();
    assert!(again.host().observe().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_router_that_is_switched_off_is_not_there() {
    let cloud = Cloud::bootstrapped().await;
    cloud.reconcile().await;
    let router = cloud.list("admin", "routers", "").await[0].clone();
    let path = format!("/routers/{}", id(&router));
    cloud.put("admin", &path, json!({"router": {"admin_state_up": false}})).await.is(200);
    cloud.reconcile().await;
    assert!(cloud.host.state().routers.is_empty());
    let fresh = cloud.make("admin", "/routers", "router", json!({"admin_state_up": false})).await;
    let (_, subnet) = cloud.network("admin", "10.8.0.0/24").await;
    let interface = json!({"subnet_id": subnet["id"]});
    let added = cloud.put("admin", &format!("/routers/{}/add_router_interface", id(&fresh)), interface).await.is(200);
    cloud.reconcile().await;
    let port = cloud.get("admin", &format!("/ports/{}", added["port_id"].as_str().unwrap())).await.is(200);
    assert_eq!(port["port"]["status"], "ACTIVE", "there is nothing left to do for it");
    cloud.put("admin", &path, json!({"router": {"admin_state_up": true}})).await.is(200);
    cloud.reconcile().await;
    assert_eq!(cloud.host.state().routers.len(), 1);
    assert!(
        cloud
            .list("admin", "ports", &format!("?device_id={}", id(&router)))
            .await
            .iter()
            .all(|port| port["status"] == "ACTIVE")
    );
}

#[tokio::test]
async fn two_external_networks_with_one_range_do_not_fight_for_the_host() {
    let cloud = Cloud::bootstrapped().await;
    let second = cloud.make("admin", "/networks", "network", json!({"router:external": true})).await;
    let subnet = json!({"network_id": second["id"], "ip_version": 4, "cidr": "172.24.4.0/25"});
    cloud.make("admin", "/subnets", "subnet", subnet).await;
    cloud.reconcile().await;
    let state = cloud.host.state();
    assert_eq!(state.externals.len(), 1);
    assert_ne!(state.externals.keys().next().unwrap().to_string(), id(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_are_all_served_with_what_they_wrote() {
    let cloud = std::sync::Arc::new(Cloud::new());
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let mut servers = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (cloud, network) = (std::sync::Arc::clone(&cloud), network.clone());
        servers.spawn(async move {
            let id: &'static str = Box::leak(format!("s{number}").into_boxed_str());
            let port = server(&cloud, id, &network, &[]).await;
            let rules = rules_of(&cloud, &port);
            let group = named_groups(&rules)[0];
            let state = cloud.host.state();
            let wall = state.firewalls.values().find(|wall| wall.ports.contains(&rules)).unwrap();
            assert!(
                wall.groups[&group].contains(&rules.addresses[0].net),
                "a member of its own group once it is plugged"
            );
        });
    }
    while let Some(done) = servers.join_next().await {
        done.unwrap();
    }
    cloud.reconcile().await;
    let state = cloud.host.state();
    let wall = state.firewalls.values().next().unwrap();
    assert_eq!((wall.ports.len(), wall.groups.len()), (40, 1));
    assert!(wall.groups.values().all(|members| members.len() == 40));
    assert!(wall.ports.iter().all(|port| std::sync::Arc::ptr_eq(&port.ingress, &wall.ports[0].ingress)), "shared");
}

#[tokio::test]
async fn what_another_took_from_the_machine_comes_back_with_the_next_plug() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let port = server(&cloud, "s1", &network, &[]).await;
    cloud.reconcile().await;
    cloud.reconcile().await;
    let before = cloud.host.state();
    cloud.host.reboot();
    peer::plug(&cloud.app, &port.id).await.unwrap();
    cloud.reconcile().await;
    assert_eq!(cloud.host.state(), before);
}
