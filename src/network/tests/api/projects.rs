//! What one project can learn of another, quotas, and the networks of a first start.

use serde_json::json;

use crate::kit::{Cloud, id};

#[tokio::test]
async fn nothing_of_another_project_is_seen_by_any_list_show_or_filter() {
    let cloud = Cloud::bootstrapped().await;
    let public = cloud.list("alice", "networks", "?name=public").await[0].clone();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"], "name": "secret"})).await;
    let router = cloud.make("alice", "/routers", "router", json!({"name": "secret"})).await;
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "secret"})).await;
    let floating =
        cloud.make("alice", "/floatingips", "floatingip", json!({"floating_network_id": public["id"]})).await;
    let pool =
        cloud.make("alice", "/subnetpools", "subnetpool", json!({"name": "secret", "prefixes": ["10.0.0.0/8"]})).await;
    for (collection, thing) in [
        ("networks", &network),
        ("subnets", &subnet),
        ("ports", &port),
        ("routers", &router),
        ("security-groups", &group),
        ("floatingips", &floating),
        ("subnetpools", &pool),
    ] {
        let path = format!("/{collection}/{}", id(thing));
        let absent = format!("/{collection}/11111111-1111-4111-8111-111111111111");
        for method in ["GET", "DELETE"] {
            let foreign = cloud.send("bob", method, &format!("/v2.0{path}"), "").await;
            let nothing = cloud.send("bob", method, &format!("/v2.0{absent}"), "").await;
            assert_eq!((foreign.status, nothing.status), (404, 404), "{method} {path}");
            assert_eq!(foreign.body["NeutronError"]["type"], nothing.body["NeutronError"]["type"], "{path}");
        }
        let singular = collection.trim_end_matches('s').replace('-', "_");
        let foreign = cloud.put("bob", &path, json!({ singular: {"description": "x"} })).await;
        assert_eq!(foreign.status, 404, "{path}: {}", foreign.body);
        assert_eq!(cloud.get("bob", &format!("{path}/tags")).await.status, 404, "{path}");
        for query in ["", "?project_id=project-a", "?name=secret", &format!("?id={}", id(thing))] {
            let body = cloud.get("bob", &format!("/{collection}{query}")).await.is(200);
            assert!(!body.to_string().contains("project-a"), "{collection}{query}: {body}");
        }
        assert!(cloud.get("admin", &path).await.status == 200);
    }
}

#[tokio::test]
async fn quotas_are_shown_set_enforced_and_reset() {
    let cloud = Cloud::new();
    let quota = cloud.get("alice", "/quotas/project-a").await.is(200);
    assert_eq!(quota["quota"]["network"], 100);
    cloud.get("bob", "/quotas/project-a").await.refused(403, "PolicyNotAuthorized");
    cloud
        .put("alice", "/quotas/project-a", json!({"quota": {"network": 1000}}))
        .await
        .refused(403, "PolicyNotAuthorized");
    let set = cloud.put("admin", "/quotas/project-a", json!({"quota": {"network": 1, "port": -1}})).await.is(200);
    assert_eq!((set["quota"]["network"].as_i64(), set["quota"]["port"].as_i64()), (Some(1), Some(-1)));
    cloud.make("alice", "/networks", "network", json!({})).await;
    let told = cloud.post("alice", "/networks", json!({"network": {}})).await.refused(409, "OverQuota");
    assert!(told.contains("network"), "{told}");
    let details = cloud.get("alice", "/quotas/project-a/details").await.is(200);
    assert_eq!(details["quota"]["network"], json!({"limit": 1, "used": 1, "reserved": 0}));
    assert_eq!(cloud.list("admin", "quotas", "").await[0]["project_id"], "project-a");
    for bad in [json!({"network": -2}), json!({"network": "many"}), json!({"unicorn": 1})] {
        assert_eq!(cloud.put("admin", "/quotas/project-a", json!({ "quota": bad })).await.status, 400, "{bad}");
    }
    cloud.delete("admin", "/quotas/project-a").await.is(204);
    cloud.delete("admin", "/quotas/project-a").await.refused(404, "TenantQuotaNotFound");
    assert_eq!(cloud.get("alice", "/quotas/project-a/default").await.is(200)["quota"]["network"], 100);
    assert_eq!(cloud.get("alice", "/quotas/tenant").await.is(200)["tenant"]["tenant_id"], "project-a");
}

#[tokio::test]
async fn the_first_start_makes_networks_once() {
    let cloud = Cloud::bootstrapped().await;
    cloud.app.bootstrap("project-root").await.unwrap();
    let networks = cloud.list("admin", "networks", "?sort_key=name").await;
    let names: Vec<_> = networks.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["private", "public"]);
    assert_eq!((networks[1]["router:external"].as_bool(), networks[1]["shared"].as_bool()), (Some(true), Some(false)));
    assert_eq!(networks[1]["provider:network_type"], "flat");
    let router = &cloud.list("admin", "routers", "?name=router1").await[0];
    assert_eq!(router["external_gateway_info"]["network_id"], networks[1]["id"]);
    let subnets = cloud.list("admin", "subnets", "?name=public-subnet").await;
    assert_eq!(
        (subnets[0]["cidr"].as_str(), subnets[0]["enable_dhcp"].as_bool()),
        (Some("172.24.4.0/24"), Some(false))
    );
    assert_eq!(subnets[0]["gateway_ip"], "172.24.4.1");
    // Whoever does not want them is not given them again.
    let port = cloud.list("admin", "ports", "?device_owner=network:router_interface").await[0].clone();
    let path = format!("/routers/{}", id(router));
    cloud.put("admin", &format!("{path}/remove_router_interface"), json!({"port_id": port["id"]})).await.is(200);
    cloud.delete("admin", &path).await.is(204);
    cloud.delete("admin", &format!("/networks/{}", id(&networks[0]))).await.is(204);
    cloud.app.bootstrap("project-root").await.unwrap();
    assert_eq!(cloud.list("admin", "networks", "").await.len(), 1);
}

#[tokio::test]
async fn a_project_without_a_network_is_given_one() {
    let cloud = Cloud::bootstrapped().await;
    let path = "/auto-allocated-topology/project-a";
    cloud.get("alice", &format!("{path}?fields=dry-run")).await.is(200);
    assert!(cloud.list("alice", "networks", "?router:external=false").await.is_empty());
    let made = cloud.get("alice", path).await.is(200);
    assert_eq!(cloud.get("alice", path).await.is(200), made, "the same again");
    let network = cloud.get("alice", &format!("/networks/{}", id(&made["auto_allocated_topology"]))).await.is(200);
    assert_eq!(network["network"]["subnets"].as_array().unwrap().len(), 1);
    cloud.get("bob", path).await.is(404);
    cloud.delete("alice", path).await.is(204);
    assert!(cloud.list("alice", "networks", "?router:external=false").await.is_empty());
    assert!(cloud.list("alice", "routers", "").await.is_empty());
    let bare = Cloud::new();
    bare.get("alice", path).await.refused(409, "AutoAllocationFailure");
}
