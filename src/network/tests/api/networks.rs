use serde_json::json;

use crate::kit::{Cloud, id};

#[tokio::test]
async fn a_member_makes_changes_and_deletes_a_network() {
    let cloud = Cloud::new();
    let network = cloud
        .make("alice", "/networks", "network", json!({"name": "blue", "description": "d", "mtu": 1400, "tags": ["x"]}))
        .await;
    assert_eq!(network["status"], "ACTIVE");
    assert_eq!(network["project_id"], "project-a");
    assert_eq!(network["tenant_id"], "project-a");
    assert_eq!(network["mtu"], 1400);
    assert_eq!(network["tags"], json!(["x"]));
    assert_eq!(network["subnets"], json!([]));
    assert!(network.get("provider:network_type").is_none(), "for administrators only");
    let path = format!("/networks/{}", id(&network));
    let changed =
        cloud.put("alice", &path, json!({"network": {"name": "green", "admin_state_up": false}})).await.is(200);
    assert_eq!(changed["network"]["name"], "green");
    assert_eq!(changed["network"]["admin_state_up"], false);
    assert_eq!(changed["network"]["revision_number"], 2);
    assert_eq!(cloud.get("alice", &path).await.is(200)["network"], changed["network"]);
    cloud.delete("alice", &path).await.is(204);
    cloud.get("alice", &path).await.refused(404, "NetworkNotFound");
    cloud.delete("alice", &path).await.refused(404, "NetworkNotFound");
}

#[tokio::test]
async fn attributes_of_administrators_are_refused_to_members() {
    let cloud = Cloud::new();
    for attributes in [
        json!({"shared": true}),
        json!({"router:external": true}),
        json!({"provider:network_type": "local"}),
        json!({"provider:physical_network": "x"}),
        json!({"project_id": "project-b"}),
    ] {
        let answer = cloud.post("alice", "/networks", json!({"network": attributes})).await;
        answer.refused(403, "PolicyNotAuthorized");
    }
    let network = cloud.make("alice", "/networks", "network", json!({})).await;
    let path = format!("/networks/{}", id(&network));
    for attributes in [json!({"shared": true}), json!({"router:external": true})] {
        cloud.put("alice", &path, json!({"network": attributes})).await.refused(403, "PolicyNotAuthorized");
    }
    let made = cloud
        .make(
            "admin",
            "/networks",
            "network",
            json!({"project_id": "project-a", "shared": true, "router:external": true}),
        )
        .await;
    assert_eq!((made["project_id"].as_str(), made["shared"].as_bool()), (Some("project-a"), Some(true)));
    assert_eq!(made["provider:network_type"], "local");
    // A default value is no wish.
    cloud.make("alice", "/networks", "network", json!({"shared": false, "router:external": false})).await;
}

#[tokio::test]
async fn a_reader_sees_and_changes_nothing() {
    let cloud = Cloud::new();
    let network = cloud.make("alice", "/networks", "network", json!({})).await;
    let path = format!("/networks/{}", id(&network));
    cloud.get("alice-reader", &path).await.is(200);
    cloud.post("alice-reader", "/networks", json!({"network": {}})).await.refused(403, "PolicyNotAuthorized");
    cloud.put("alice-reader", &path, json!({"network": {"name": "x"}})).await.refused(403, "PolicyNotAuthorized");
    cloud.delete("alice-reader", &path).await.refused(403, "PolicyNotAuthorized");
    cloud.get("stranger", &path).await.refused(404, "NetworkNotFound");
    assert!(cloud.list("stranger", "networks", "").await.is_empty());
}

#[tokio::test]
async fn shared_and_external_networks_are_seen_by_all_and_changed_by_their_owner() {
    let cloud = Cloud::new();
    let shared = cloud.make("admin", "/networks", "network", json!({"shared": true})).await;
    let external = cloud.make("admin", "/networks", "network", json!({"router:external": true})).await;
    let private = cloud.make("bob", "/networks", "network", json!({})).await;
    let seen: Vec<_> = cloud.list("alice", "networks", "").await.iter().map(|one| id(one).to_owned()).collect();
    assert!(seen.contains(&id(&shared).to_owned()) && seen.contains(&id(&external).to_owned()));
    assert!(!seen.contains(&id(&private).to_owned()));
    cloud.delete("alice", &format!("/networks/{}", id(&shared))).await.refused(403, "PolicyNotAuthorized");
    cloud.delete("alice", &format!("/networks/{}", id(&private))).await.refused(404, "NetworkNotFound");
    assert_eq!(cloud.list("alice", "networks", "?router:external=True").await.len(), 1);
}

#[tokio::test]
async fn lists_filter_sort_page_and_prune() {
    let cloud = Cloud::new();
    for name in ["c", "a", "b", "d", "e"] {
        cloud.make("alice", "/networks", "network", json!({"name": name})).await;
    }
    let names = |list: Vec<serde_json::Value>| -> Vec<String> {
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(cloud.list("alice", "networks", "?sort_key=name&sort_dir=desc").await), ["e", "d", "c", "b", "a"]);
    assert_eq!(names(cloud.list("alice", "networks", "?name=a&name=e&sort_key=name").await), ["a", "e"]);
    assert!(cloud.list("alice", "networks", "?admin_state_up=false").await.is_empty());
    let pruned = cloud.list("alice", "networks", "?fields=id&fields=name&name=a").await;
    assert_eq!(pruned[0].as_object().unwrap().len(), 2);

    let mut seen = Vec::new();
    let mut next = "/networks?limit=2&sort_key=name".to_owned();
    loop {
        let page = cloud.get("alice", &next).await.is(200);
        seen.extend(names(page["networks"].as_array().unwrap().clone()));
        let links = page["networks_links"].as_array().cloned().unwrap_or_default();
        let Some(link) = links.iter().find(|link| link["rel"] == "next") else { break };
        next = link["href"].as_str().unwrap().strip_prefix("https://cloud.example/network/v2.0").unwrap().to_owned();
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    let last = cloud.list("alice", "networks", "?name=e").await;
    let back =
        cloud.get("alice", &format!("/networks?limit=2&sort_key=name&marker={}&page_reverse=True", id(&last[0]))).await;
    assert_eq!(names(back.is(200)["networks"].as_array().unwrap().clone()), ["c", "d"]);
    assert_eq!(cloud.get("alice", "/networks?limit=two").await.status, 400);
    assert_eq!(cloud.get("alice", "/networks?sort_key=nonsense").await.status, 400);
    assert_eq!(cloud.get("alice", "/networks?marker=nobody&limit=1").await.status, 400);
}

#[tokio::test]
async fn many_networks_are_made_at_once_or_none() {
    let cloud = Cloud::new();
    let made = cloud.post("alice", "/networks", json!({"networks": [{"name": "a"}, {"name": "b"}]})).await.is(201);
    assert_eq!(made["networks"].as_array().unwrap().len(), 2);
    cloud
        .post("alice", "/networks", json!({"networks": [{"name": "c"}, {"mtu": "odd"}]}))
        .await
        .refused(400, "HTTPBadRequest");
    assert_eq!(cloud.list("alice", "networks", "").await.len(), 2);
}

#[tokio::test]
async fn tags_are_set_found_and_removed() {
    let cloud = Cloud::new();
    let one = cloud.make("alice", "/networks", "network", json!({"name": "one"})).await;
    let two = cloud.make("alice", "/networks", "network", json!({"name": "two"})).await;
    let tags = |network: &serde_json::Value| format!("/networks/{}/tags", id(network));
    assert_eq!(
        cloud.put("alice", &tags(&one), json!({"tags": ["red", "blue"]})).await.is(200)["tags"],
        json!(["blue", "red"])
    );
    cloud.put("alice", &format!("{}/green", tags(&two)), json!({})).await.is(201);
    cloud.get("alice", &format!("{}/green", tags(&two))).await.is(204);
    cloud.get("alice", &format!("{}/red", tags(&two))).await.refused(404, "TagNotFound");
    let found = |query: &'static str| async {
        let list = cloud.list("alice", "networks", query).await;
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("?tags=red,blue").await, ["one"]);
    assert!(found("?tags=red,green").await.is_empty());
    assert_eq!(found("?tags-any=red,green").await.len(), 2);
    assert_eq!(found("?not-tags=red,blue").await, ["two"]);
    assert_eq!(found("?not-tags-any=green").await, ["one"]);
    cloud.get("bob", &tags(&one)).await.refused(404, "NetworkNotFound");
    cloud.put("alice-reader", &format!("{}/x", tags(&one)), json!({})).await.refused(403, "PolicyNotAuthorized");
    cloud.delete("alice", &format!("{}/red", tags(&one))).await.is(204);
    cloud.delete("alice", &tags(&one)).await.is(204);
    assert_eq!(cloud.get("alice", &tags(&one)).await.is(200)["tags"], json!([]));
    let long = "x".repeat(256);
    assert_eq!(cloud.put("alice", &tags(&one), json!({"tags": [long]})).await.status, 400);
    cloud.get("alice", "/toys/1/tags").await.is(404);
}

#[tokio::test]
async fn a_network_with_ports_stays_and_one_without_takes_its_subnets_along() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.0.0.0/24").await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    let path = format!("/networks/{}", id(&network));
    cloud.delete("alice", &path).await.refused(409, "NetworkInUse");
    cloud.delete("alice", &format!("/ports/{}", id(&port))).await.is(204);
    cloud.delete("alice", &path).await.is(204);
    cloud.get("alice", &format!("/subnets/{}", id(&subnet))).await.refused(404, "SubnetNotFound");
    assert!(cloud.list("admin", "ports", "").await.is_empty(), "the DHCP port went too");
}

#[tokio::test]
async fn the_mtu_and_type_of_a_network_are_checked() {
    let cloud = Cloud::new();
    for attributes in [
        json!({"mtu": -1}),
        json!({"mtu": 60}),
        json!({"mtu": 100_000}),
        json!({"provider:network_type": "vxlan"}),
        json!({"provider:network_type": "flat"}),
        json!({"provider:segmentation_id": 7}),
        json!({"provider:network_type": "flat", "provider:physical_network": "x"}),
        json!({"dns_domain": "not a domain"}),
        json!({"availability_zone_hints": "nova"}),
    ] {
        let answer = cloud.post("admin", "/networks", json!({"network": attributes})).await;
        assert_eq!(answer.status, 400, "{attributes}: {}", answer.body);
    }
    cloud
        .post("alice", "/networks", json!({"network": {"availability_zone_hints": ["elsewhere"]}}))
        .await
        .refused(404, "AvailabilityZoneNotFound");
    cloud.make("alice", "/networks", "network", json!({"availability_zone_hints": ["nova"]})).await;
    let flat = json!({"provider:network_type": "flat", "provider:physical_network": "lan", "router:external": true});
    cloud.make("admin", "/networks", "network", flat.clone()).await;
    cloud.post("admin", "/networks", json!({"network": flat})).await.refused(409, "FlatNetworkInUse");
}
