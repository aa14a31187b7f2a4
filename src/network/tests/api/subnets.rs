use serde_json::{Value, json};

use crate::kit::{Cloud, id};

async fn refuse(cloud: &Cloud, network: &Value, mut attributes: Value, status: u16, kind: &str) -> String {
    attributes["network_id"] = network["id"].clone();
    attributes["ip_version"] = attributes.get("ip_version").cloned().unwrap_or(json!(4));
    cloud.post("alice", "/subnets", json!({ "subnet": attributes })).await.refused(status, kind)
}

#[tokio::test]
async fn a_subnet_has_a_gateway_and_a_pool_unless_told_otherwise() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    assert_eq!(subnet["gateway_ip"], "10.1.0.1");
    assert_eq!(subnet["allocation_pools"], json!([{"start": "10.1.0.2", "end": "10.1.0.254"}]));
    assert_eq!(subnet["enable_dhcp"], true);
    assert_eq!(subnet["ipv6_ra_mode"], Value::Null);
    let shown = cloud.get("alice", &format!("/networks/{}", id(&network))).await.is(200);
    assert_eq!(shown["network"]["subnets"], json!([subnet["id"]]));
    let other = cloud
        .make(
            "alice",
            "/subnets",
            "subnet",
            json!({
                "network_id": network["id"], "ip_version": 4, "cidr": "10.2.0.0/24", "gateway_ip": null,
                "allocation_pools": [{"start": "10.2.0.10", "end": "10.2.0.20"}], "enable_dhcp": false,
                "dns_nameservers": ["8.8.8.8"], "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.2.0.5"}],
            }),
        )
        .await;
    assert_eq!(other["gateway_ip"], Value::Null);
    assert_eq!(other["host_routes"], json!([{"destination": "10.9.0.0/16", "nexthop": "10.2.0.5"}]));
    let changed = cloud
        .put(
            "alice",
            &format!("/subnets/{}", id(&other)),
            json!({"subnet": {
                "gateway_ip": "10.2.0.1", "dns_nameservers": [], "host_routes": [], "enable_dhcp": true, "name": "late",
            }}),
        )
        .await
        .is(200);
    assert_eq!(changed["subnet"]["gateway_ip"], "10.2.0.1");
    assert_eq!(changed["subnet"]["dns_nameservers"], json!([]));
}

#[tokio::test]
async fn what_no_guest_could_use_is_refused_with_the_reason() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let told = refuse(&cloud, &network, json!({"cidr": "10.1.0.128/25"}), 400, "InvalidInput").await;
    assert!(told.contains("overlaps with another subnet"), "{told}");
    refuse(&cloud, &network, json!({"cidr": "10.2.0.1/24"}), 400, "HTTPBadRequest").await;
    refuse(&cloud, &network, json!({"cidr": "2001:db8::/64"}), 400, "InvalidInput").await;
    refuse(&cloud, &network, json!({"cidr": "10.2.0.0/24", "gateway_ip": "10.3.0.1"}), 400, "InvalidInput").await;
    refuse(&cloud, &network, json!({"cidr": "10.2.0.0/24", "ip_version": 5}), 400, "HTTPBadRequest").await;
    refuse(&cloud, &network, json!({}), 400, "InvalidInput").await;
    let pool =
        |start: &str, end: &str| json!({"cidr": "10.2.0.0/24", "allocation_pools": [{"start": start, "end": end}]});
    refuse(&cloud, &network, pool("10.2.0.9", "10.2.0.3"), 400, "InvalidAllocationPool").await;
    refuse(&cloud, &network, pool("10.2.0.9", "10.2.9.9"), 400, "OutOfBoundsAllocationPool").await;
    refuse(&cloud, &network, pool("10.2.0.1", "10.2.0.9"), 409, "GatewayConflictWithAllocationPools").await;
    refuse(&cloud, &network, json!({"cidr": "10.2.0.0/24", "ipv6_ra_mode": "slaac"}), 400, "InvalidInput").await;
    let dns = json!({"cidr": "10.2.0.0/24", "dns_nameservers": ["1.1.1.1", "1.1.1.1"]});
    refuse(&cloud, &network, dns, 400, "HTTPBadRequest").await;
    let foreign = json!({"subnet": {"network_id": network["id"], "ip_version": 4, "cidr": "10.5.0.0/24"}});
    cloud.post("bob", "/subnets", foreign).await.refused(404, "NetworkNotFound");
}

#[tokio::test]
async fn a_subnet_in_use_stays_and_two_projects_may_use_one_range() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let (_, other) = cloud.network("bob", "10.1.0.0/24").await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    let path = format!("/subnets/{}", id(&subnet));
    cloud.delete("alice", &path).await.refused(409, "SubnetInUse");
    cloud.delete("bob", &path).await.refused(404, "SubnetNotFound");
    cloud.delete("alice", &format!("/ports/{}", id(&port))).await.is(204);
    cloud.delete("alice", &path).await.is(204);
    cloud.delete("bob", &format!("/subnets/{}", id(&other))).await.is(204);
    assert!(cloud.list("admin", "ports", "").await.is_empty(), "no DHCP port without a subnet");
}

#[tokio::test]
async fn guests_of_a_slaac_subnet_have_the_address_of_their_mac() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let mac = "fa:16:3e:01:02:03";
    let before = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    let subnet = cloud
        .make(
            "alice",
            "/subnets",
            "subnet",
            json!({
                "network_id": network["id"], "ip_version": 6, "cidr": "2001:db8::/64",
                "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac",
            }),
        )
        .await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"], "mac_address": mac})).await;
    let has = |port: &Value, address: &str| {
        port["fixed_ips"].as_array().unwrap().iter().any(|fixed| fixed["ip_address"] == address)
    };
    assert!(has(&port, "2001:db8::f816:3eff:fe01:203"), "{port}");
    assert_eq!(port["fixed_ips"].as_array().unwrap().len(), 2, "one of each family");
    let before = cloud.get("alice", &format!("/ports/{}", id(&before))).await.is(200);
    assert_eq!(before["port"]["fixed_ips"].as_array().unwrap().len(), 2, "ports that were there have one too");
    let wish = json!({"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "2001:db8::5"}]}});
    cloud.post("alice", "/ports", wish).await.refused(400, "InvalidInput");
    cloud.delete("alice", &format!("/subnets/{}", id(&subnet))).await.is(204);
}

#[tokio::test]
async fn subnets_are_cut_from_a_pool_without_overlapping() {
    let cloud = Cloud::new();
    let pool = cloud
        .make("alice", "/subnetpools", "subnetpool", json!({
            "name": "p", "prefixes": ["10.10.0.0/23"], "default_prefixlen": 24, "min_prefixlen": 23, "max_prefixlen": 26,
        }))
        .await;
    assert_eq!(pool["default_prefixlen"], "24");
    let network = cloud.make("alice", "/networks", "network", json!({})).await;
    let ask = |extra: Value| {
        let mut subnet = json!({"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"]});
        subnet.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "subnet": subnet })
    };
    let first = cloud.post("alice", "/subnets", ask(json!({}))).await.is(201);
    assert_eq!(first["subnet"]["cidr"], "10.10.0.0/24");
    let second = cloud.post("alice", "/subnets", ask(json!({"prefixlen": 25}))).await.is(201);
    assert_eq!(second["subnet"]["cidr"], "10.10.1.0/25");
    cloud.post("alice", "/subnets", ask(json!({}))).await.refused(409, "SubnetAllocationError");
    cloud.post("alice", "/subnets", ask(json!({"prefixlen": 28}))).await.refused(400, "MaxPrefixSubnetAllocationError");
    let path = format!("/subnetpools/{}", id(&pool));
    cloud.delete("alice", &path).await.refused(409, "SubnetPoolInUse");
    cloud.get("bob", &path).await.refused(404, "SubnetPoolNotFound");
    let grown =
        cloud.put("alice", &path, json!({"subnetpool": {"prefixes": ["10.10.0.0/23", "10.10.2.0/23"]}})).await.is(200);
    assert_eq!(grown["subnetpool"]["prefixes"], json!(["10.10.0.0/22"]));
    cloud.post("alice", "/subnets", ask(json!({}))).await.is(201);
}
