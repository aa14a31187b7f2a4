//! What Compute calls.

use network::peer::{self, PortRequest, Requester, Wanted};
use serde_json::json;

use crate::kit::{Cloud, id};

const SERVER: &str = "5e4e4e4e-0000-4000-8000-000000000001";
const ALICE: Requester<'static> = Requester { project_id: "project-a", is_admin: false };

async fn create(cloud: &Cloud, wanted: Wanted, groups: Vec<String>) -> rest::Result<peer::PortInfo> {
    let app = cloud.app.clone();
    cloud
        .db
        .write(move |tx| {
            let request = PortRequest {
                requester: ALICE,
                server_id: SERVER,
                server_name: "Web Server_1",
                zone: "nova",
                wanted: &wanted,
                security_groups: &groups,
            };
            peer::create_port(tx, &app, &request)
        })
        .await
}

fn on(network: &serde_json::Value) -> Wanted {
    Wanted::Network { network_id: id(network).to_owned(), fixed_ip: None }
}

#[tokio::test]
async fn a_server_s_port_is_made_plugged_and_released() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    let port = create(&cloud, on(&network), vec!["web".into(), "default".into()]).await.unwrap();
    assert!(port.is_owned);
    assert_eq!(port.fixed_ips[0].address.to_string(), "10.1.0.2");
    assert_eq!(port.fixed_ips[0].subnet.gateway.unwrap().to_string(), "10.1.0.1");
    assert_eq!(port.network_name, "n");
    let mut names: Vec<&str> = port.security_groups.iter().map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["default", "web"]);
    let plug = peer::plug(&cloud.app, &port.id).await.unwrap();
    assert_eq!((plug.mac.as_str(), plug.mtu), (port.mac.as_str(), 1500));
    peer::plug(&cloud.app, &port.id).await.unwrap();
    let path = format!("/ports/{}", port.id);
    let seen = cloud.get("admin", &path).await.is(200);
    assert_eq!(
        (seen["port"]["status"].as_str(), seen["port"]["device_owner"].as_str()),
        (Some("ACTIVE"), Some("compute:nova"))
    );
    assert_eq!(seen["port"]["dns_name"], "web-server-1");
    let state = cloud.host.state();
    assert_eq!(state.taps.len(), 1);
    let firewall = state.firewalls.values().next().unwrap();
    assert_eq!(firewall.ports.len(), 1, "the rules were there before the tap was handed out");
    assert!(state.dhcp.values().next().unwrap().hosts.iter().any(|host| host.hostname == "web-server-1"));

    peer::unplug(&cloud.app, &port.id).await.unwrap();
    peer::unplug(&cloud.app, &port.id).await.unwrap();
    assert_eq!(cloud.get("alice", &path).await.is(200)["port"]["status"], "DOWN");
    assert!(cloud.host.state().taps.is_empty());
    let app = cloud.app.clone();
    cloud.db.write(move |tx| peer::release_ports(tx, &app, SERVER)).await.unwrap();
    cloud.get("alice", &path).await.refused(404, "PortNotFound");
    peer::unplug(&cloud.app, &port.id).await.unwrap();
}

#[tokio::test]
async fn a_user_s_own_port_is_taken_and_given_back() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let own = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"], "name": "mine"})).await;
    let wanted = Wanted::Port { port_id: id(&own).to_owned() };
    let port = create(&cloud, wanted.clone(), vec![]).await.unwrap();
    assert!(!port.is_owned);
    peer::plug(&cloud.app, &port.id).await.unwrap();
    let infos = cloud.db.read(|tx| peer::ports_of(tx, SERVER)).await.unwrap();
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].status, "ACTIVE");
    let app = cloud.app.clone();
    cloud.db.write(move |tx| peer::release_ports(tx, &app, SERVER)).await.unwrap();
    let seen = cloud.get("admin", &format!("/ports/{}", id(&own))).await.is(200);
    assert_eq!((seen["port"]["device_id"].as_str(), seen["port"]["binding:host_id"].as_str()), (Some(""), Some("")));
    assert_eq!(seen["port"]["status"], "DOWN");
    cloud.reconcile().await;
    assert!(cloud.host.state().taps.is_empty(), "the reconciler takes the tap of a port that nobody has");
    create(&cloud, wanted, vec![]).await.unwrap();
}

#[tokio::test]
async fn refusals_are_in_compute_s_words() {
    let cloud = Cloud::bootstrapped().await;
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let bare = cloud.make("alice", "/networks", "network", json!({})).await;
    let foreign = cloud.make("bob", "/networks", "network", json!({})).await;
    let public = cloud.list("alice", "networks", "?name=public").await[0].clone();
    let code = |error: rest::Error| error.code().unwrap_or_default().to_owned();
    let kind = async |wanted: Wanted| create(&cloud, wanted, vec![]).await.unwrap_err();
    assert_eq!(code(kind(on(&bare)).await), "NetworkRequiresSubnet");
    assert_eq!(code(kind(on(&foreign)).await), "NetworkNotFound");
    assert_eq!(kind(on(&public)).await.kind(), rest::Kind::Forbidden);
    let at =
        |text: &str| Wanted::Network { network_id: id(&network).to_owned(), fixed_ip: Some(text.parse().unwrap()) };
    assert_eq!(code(kind(at("10.9.0.1")).await), "FixedIpNotFoundForNetwork");
    create(&cloud, at("10.1.0.9"), vec![]).await.unwrap();
    let taken = kind(at("10.1.0.9")).await;
    assert_eq!((taken.kind(), code(taken)), (rest::Kind::Conflict, "FixedIpAlreadyInUse".to_owned()));
    let nobody = Wanted::Port { port_id: "11111111-1111-4111-8111-111111111111".into() };
    assert_eq!(code(kind(nobody).await), "PortNotFound");
    let used = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"], "device_id": "other"})).await;
    assert_eq!(code(kind(Wanted::Port { port_id: id(&used).into() }).await), "PortInUse");
    let error = create(&cloud, on(&network), vec!["nonesuch".into()]).await.unwrap_err();
    assert_eq!(code(error), "SecurityGroupNotFound");
    for _ in 0..2 {
        cloud.make("alice", "/security-groups", "security_group", json!({"name": "twin"})).await;
    }
    let error = create(&cloud, on(&network), vec!["twin".into()]).await.unwrap_err();
    assert_eq!(code(error), "NoUniqueMatch");
    cloud.put("admin", "/quotas/project-a", json!({"quota": {"port": 0}})).await.is(200);
    assert_eq!(code(kind(on(&network)).await), "PortLimitExceeded");
}

#[tokio::test]
async fn available_networks_are_one_s_own_and_shared_ones() {
    let cloud = Cloud::bootstrapped().await;
    let names = async |project: &'static str| {
        let networks = cloud.db.read(move |tx| peer::available_networks(tx, project)).await.unwrap();
        networks.into_iter().map(|network| network.name).collect::<Vec<_>>()
    };
    assert_eq!(names("project-root").await, ["private"]);
    assert!(names("project-a").await.is_empty());
    cloud.make("admin", "/networks", "network", json!({"name": "common", "shared": true})).await;
    assert_eq!(names("project-a").await, ["common"]);
    let app = cloud.app.clone();
    let made = cloud.db.write(move |tx| peer::auto_allocate(tx, &app, "project-b")).await.unwrap();
    assert_eq!(
        cloud.get("bob", &format!("/networks/{made}")).await.is(200)["network"]["name"],
        "auto_allocated_network"
    );
}

#[tokio::test]
async fn groups_and_addresses_of_a_server_change() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    create(&cloud, on(&network), vec![]).await.unwrap();
    let app = cloud.app.clone();
    let network_id = id(&network).to_owned();
    cloud
        .db
        .write(move |tx| {
            peer::add_security_group(tx, &app, SERVER, "project-a", "web")?;
            assert_eq!(peer::ports_of(tx, SERVER)?[0].security_groups.len(), 2);
            peer::remove_security_group(tx, &app, SERVER, "project-a", "default")?;
            let groups = peer::ports_of(tx, SERVER)?.remove(0).security_groups;
            assert!(matches!(groups.as_slice(), [(_, name)] if name == "web"), "{groups:?}");
            assert!(peer::remove_security_group(tx, &app, SERVER, "project-a", "default").is_err());
            assert!(peer::add_security_group(tx, &app, SERVER, "project-a", "none").is_err());
            peer::add_fixed_ip(tx, &app, SERVER, &network_id)?;
            let ports = peer::ports_of(tx, SERVER)?;
            assert_eq!(ports[0].fixed_ips.len(), 2);
            peer::remove_fixed_ip(tx, &app, SERVER, ports[0].fixed_ips[0].address)?;
            assert_eq!(peer::ports_of(tx, SERVER)?[0].fixed_ips.len(), 1);
            Ok::<_, rest::Error>(())
        })
        .await
        .unwrap();
}

#[test]
fn a_server_s_name_becomes_a_host_name() {
    for (name, host) in
        [("Web Server_1", "web-server-1"), ("a.b", "a-b"), ("--x--", "x"), ("中文", ""), ("", ""), ("é1", "1")]
    {
        assert_eq!(peer::host_name(name), host, "{name}");
    }
    assert_eq!(peer::host_name(&"x".repeat(300)).len(), 63);
}
