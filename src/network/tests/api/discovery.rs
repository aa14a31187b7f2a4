use serde_json::json;

use crate::kit::{Cloud, id};

#[tokio::test]
async fn versions_and_resources_are_listed_without_a_token() {
    let cloud = Cloud::new();
    let body = cloud.send("", "GET", "/", "").await.is(200);
    assert_eq!(body["versions"][0]["id"], "v2.0");
    assert_eq!(body["versions"][0]["links"][0]["href"], "https://cloud.example/network/v2.0/");
    let body = cloud.send("", "GET", "/v2.0/", "").await.is(200);
    let resources = body["resources"].as_array().unwrap();
    let network = resources.iter().find(|one| one["name"] == "network").unwrap();
    assert_eq!(network["collection"], "networks");
    assert_eq!(network["links"][0]["href"], "https://cloud.example/network/v2.0/networks");
}

#[tokio::test]
async fn extensions_are_listed_and_shown_one_by_one() {
    let cloud = Cloud::new();
    let all = cloud.list("alice", "extensions", "").await;
    let aliases: Vec<&str> = all.iter().map(|one| one["alias"].as_str().unwrap()).collect();
    for alias in ["router", "security-group", "external-net", "port-security", "extra_dhcp_opt", "standard-attr-tag"] {
        assert!(aliases.contains(&alias), "{alias}");
        let one = cloud.get("alice", &format!("/extensions/{alias}")).await.is(200);
        assert_eq!(one["extension"]["alias"], alias);
        assert!(one["extension"]["links"].is_array() && one["extension"]["updated"].is_string());
    }
    for absent in ["qos", "metering", "trunk", "dvr", "l3-ha", "dhcp_agent_scheduler"] {
        assert!(!aliases.contains(&absent), "{absent} is not served and must not be listed");
    }
    cloud.get("alice", "/extensions/qos").await.refused(404, "ExtensionNotFound");
    cloud.get("", "/extensions").await.is(401);
}

#[tokio::test]
async fn the_agents_of_this_process_are_alive_and_only_an_administrator_sees_them() {
    let cloud = Cloud::new();
    let agents = cloud.list("admin", "agents", "").await;
    for kind in ["DHCP agent", "L3 agent", "Metadata agent"] {
        let agent = agents.iter().find(|agent| agent["agent_type"] == kind).unwrap();
        assert_eq!(agent["alive"], true);
        let shown = cloud.get("admin", &format!("/agents/{}", id(agent))).await.is(200);
        assert_eq!(shown["agent"]["binary"], agent["binary"]);
    }
    assert_eq!(cloud.list("admin", "agents", "?binary=neutron-l3-agent").await.len(), 1);
    cloud.get("alice", "/agents").await.refused(403, "PolicyNotAuthorized");
    cloud.get("admin", "/agents/nobody").await.refused(404, "AgentNotFound");
}

#[tokio::test]
async fn there_is_one_zone_and_no_service_provider() {
    let cloud = Cloud::new();
    let zones = cloud.list("alice", "availability_zones", "").await;
    assert_eq!(zones.len(), 2);
    assert!(zones.iter().all(|zone| zone["name"] == "nova" && zone["state"] == "available"));
    assert!(cloud.list("alice", "service_providers", "").await.is_empty());
}

#[tokio::test]
async fn addresses_in_use_are_counted() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.0.0.0/24").await;
    cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    let all = cloud.list("admin", "network_ip_availabilities", &format!("?network_id={}", id(&network))).await;
    assert_eq!((all[0]["total_ips"].as_i64(), all[0]["used_ips"].as_i64()), (Some(253), Some(2)));
    let one = cloud.get("admin", &format!("/network-ip-availabilities/{}", id(&network))).await.is(200);
    assert_eq!(one["network_ip_availability"]["subnet_ip_availability"][0]["cidr"], "10.0.0.0/24");
    cloud.get("alice", "/network-ip-availabilities").await.refused(403, "PolicyNotAuthorized");
}
