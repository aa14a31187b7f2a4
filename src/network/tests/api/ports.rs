use serde_json::{Value, json};

use crate::kit::{Cloud, id};

async fn port(cloud: &Cloud, network: &Value, mut attributes: Value) -> Value {
    attributes["network_id"] = network["id"].clone();
    cloud.make("alice", "/ports", "port", attributes).await
}

async fn refuse(cloud: &Cloud, who: &str, network: &Value, mut attributes: Value, status: u16, kind: &str) -> String {
    attributes["network_id"] = network["id"].clone();
    cloud.post(who, "/ports", json!({ "port": attributes })).await.refused(status, kind)
}

#[tokio::test]
async fn a_port_gets_a_mac_an_address_and_the_default_group() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let made = port(&cloud, &network, json!({"name": "p"})).await;
    assert_eq!(made["status"], "DOWN");
    assert_eq!(made["fixed_ips"], json!([{"subnet_id": subnet["id"], "ip_address": "10.1.0.2"}]));
    assert!(made["mac_address"].as_str().unwrap().starts_with("fa:16:3e:"));
    let groups = cloud.list("alice", "security_groups", "?name=default").await;
    assert_eq!(made["security_groups"], json!([groups[0]["id"]]));
    assert!(made.get("binding:host_id").is_none(), "for administrators only");
    let seen = cloud.get("admin", &format!("/ports/{}", id(&made))).await.is(200);
    assert_eq!(seen["port"]["binding:vif_type"], "unbound");
    let dhcp = cloud.list("admin", "ports", "?device_owner=network:dhcp").await;
    assert_eq!(dhcp[0]["fixed_ips"][0]["ip_address"], "10.1.0.254", "the first port brings the DHCP server along");
}

#[tokio::test]
async fn addresses_are_chosen_checked_and_unique() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let made = port(&cloud, &network, json!({"fixed_ips": [{"ip_address": "10.1.0.77"}]})).await;
    assert_eq!(made["fixed_ips"][0]["ip_address"], "10.1.0.77");
    let fixed = |value: Value| json!({ "fixed_ips": value });
    refuse(&cloud, "alice", &network, fixed(json!([{"ip_address": "10.1.0.77"}])), 409, "IpAddressAlreadyAllocated")
        .await;
    refuse(&cloud, "alice", &network, fixed(json!([{"ip_address": "10.2.0.1"}])), 400, "InvalidIpForNetwork").await;
    let outside = json!([{"ip_address": "10.2.0.1", "subnet_id": subnet["id"]}]);
    refuse(&cloud, "alice", &network, fixed(outside), 400, "InvalidIpForSubnet").await;
    refuse(&cloud, "alice", &network, fixed(json!([{"ip_address": "10.1.0.255"}])), 400, "InvalidIpForSubnet").await;
    let strange = json!([{"subnet_id": "11111111-1111-4111-8111-111111111111"}]);
    refuse(&cloud, "alice", &network, fixed(strange), 400, "InvalidInput").await;
    refuse(&cloud, "alice", &network, fixed(json!([{}])), 400, "HTTPBadRequest").await;
    let two = port(&cloud, &network, fixed(json!([{"subnet_id": subnet["id"]}, {"subnet_id": subnet["id"]}]))).await;
    let addresses = two["fixed_ips"].as_array().unwrap();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0]["ip_address"], addresses[1]["ip_address"]);
    let none = port(&cloud, &network, fixed(json!([]))).await;
    assert_eq!(none["fixed_ips"], json!([]));
}

#[tokio::test]
async fn a_mac_is_unique_in_its_network() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let (other, _) = cloud.network("alice", "10.1.0.0/24").await;
    let mac = json!({"mac_address": "fa:16:3e:00:00:01"});
    port(&cloud, &network, mac.clone()).await;
    refuse(&cloud, "alice", &network, mac.clone(), 409, "MacAddressInUse").await;
    port(&cloud, &other, mac).await;
    for bad in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00", "fa:16", "x"] {
        refuse(&cloud, "alice", &network, json!({"mac_address": bad}), 400, "HTTPBadRequest").await;
    }
}

#[tokio::test]
async fn a_full_subnet_says_so_and_a_freed_address_comes_back() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/29").await;
    let mut ports = Vec::new();
    // Five addresses: one is the DHCP server's.
    for _ in 0..4 {
        ports.push(port(&cloud, &network, json!({})).await);
    }
    refuse(&cloud, "alice", &network, json!({}), 409, "IpAddressGenerationFailure").await;
    cloud.delete("alice", &format!("/ports/{}", id(&ports[1]))).await.is(204);
    let again = port(&cloud, &network, json!({})).await;
    assert_eq!(again["fixed_ips"], ports[1]["fixed_ips"]);
}

#[tokio::test]
async fn many_ports_are_made_at_once() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.0.0.0/16").await;
    let one = json!({"network_id": network["id"]});
    let body = json!({"ports": vec![one; 200]});
    let made = cloud.post("alice", "/ports", body).await.is(201);
    let ports = made["ports"].as_array().unwrap();
    let addresses: std::collections::BTreeSet<_> =
        ports.iter().map(|port| port["fixed_ips"][0]["ip_address"].as_str().unwrap()).collect();
    assert_eq!(addresses.len(), 200);
    let over = json!({"ports": vec![json!({"network_id": network["id"]}); 400]});
    cloud.post("alice", "/ports", over).await.refused(409, "OverQuota");
    assert_eq!(cloud.list("alice", "ports", "?device_owner=").await.len(), 200, "none of them was made");
}

#[tokio::test]
async fn a_port_changes_its_name_addresses_groups_and_options() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let made = port(&cloud, &network, json!({"extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400"}]})).await;
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    let path = format!("/ports/{}", id(&made));
    let changed = cloud
        .put("alice", &path, json!({"port": {
            "name": "n", "admin_state_up": false, "security_groups": [group["id"]], "device_id": "thing",
            "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "10.1.0.50"}, {"subnet_id": subnet["id"]}],
            "extra_dhcp_opts": [{"opt_name": "bootfile-name", "opt_value": "x"}, {"opt_name": "mtu", "opt_value": null}],
            "allowed_address_pairs": [{"ip_address": "10.1.0.99"}],
        }}))
        .await
        .is(200);
    let port = &changed["port"];
    assert_eq!(port["security_groups"], json!([group["id"]]));
    assert_eq!(port["fixed_ips"][0]["ip_address"], "10.1.0.50");
    assert_eq!(port["fixed_ips"][1], made["fixed_ips"][0], "it keeps the address that it had");
    assert_eq!(port["extra_dhcp_opts"], json!([{"opt_name": "bootfile-name", "opt_value": "x", "ip_version": 4}]));
    assert_eq!(port["allowed_address_pairs"], json!([{"mac_address": made["mac_address"], "ip_address": "10.1.0.99"}]));
    for bad in [
        json!({"extra_dhcp_opts": [{"opt_name": "bootfile-name", "opt_value": "a\nb"}]}),
        json!({"network_id": network["id"]}),
        json!({"status": "ACTIVE"}),
        json!({"allowed_address_pairs": [{"mac_address": "fa:16:3e:00:00:01"}]}),
        json!({"allowed_address_pairs": [{"ip_address": "10.0.0.0/99"}]}),
        json!({"fixed_ips": "10.1.0.3"}),
    ] {
        assert_eq!(cloud.put("alice", &path, json!({ "port": bad })).await.status, 400, "{bad}");
    }
    cloud
        .put("alice", &path, json!({"port": {"security_groups": ["11111111-1111-4111-8111-111111111111"]}}))
        .await
        .refused(404, "SecurityGroupNotFound");
    cloud
        .put("alice", &path, json!({"port": {"mac_address": "fa:16:3e:00:00:09"}}))
        .await
        .refused(403, "PolicyNotAuthorized");
}

#[tokio::test]
async fn ports_are_found_by_address_device_and_group() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let one = port(&cloud, &network, json!({"fixed_ips": [{"ip_address": "10.1.0.40"}], "device_id": "d1"})).await;
    port(&cloud, &network, json!({"fixed_ips": [{"ip_address": "10.1.0.41"}]})).await;
    port(&cloud, &network, json!({"fixed_ips": [{"ip_address": "10.1.0.50"}]})).await;
    let count = async |query: String| {
        let list = cloud.list("alice", "ports", &query).await;
        list.len()
    };
    assert_eq!(count("?fixed_ips=ip_address%3D10.1.0.40".into()).await, 1);
    assert_eq!(count("?fixed_ips=ip_address%3D10.1.0.40&fixed_ips=ip_address%3D10.1.0.50".into()).await, 2);
    assert_eq!(count("?fixed_ips=ip_address_substr%3D.4".into()).await, 2);
    assert_eq!(count(format!("?fixed_ips=subnet_id%3D{}&device_owner=", id(&subnet))).await, 3);
    assert_eq!(count("?device_id=d1".into()).await, 1);
    assert_eq!(count(format!("?security_groups={}", one["security_groups"][0].as_str().unwrap())).await, 3);
    assert_eq!(count("?mac_address=nothing".into()).await, 0);
    assert_eq!(cloud.get("alice", "/ports?fixed_ips=nonsense").await.status, 400);
}

#[tokio::test]
async fn port_security_and_groups_go_together() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let open = port(&cloud, &network, json!({"port_security_enabled": false})).await;
    assert_eq!(open["security_groups"], json!([]));
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "g"})).await;
    let both = json!({"port_security_enabled": false, "security_groups": [group["id"]]});
    refuse(&cloud, "alice", &network, both, 400, "PortSecurityAndIPRequiredForSecurityGroups").await;
    let closed = port(&cloud, &network, json!({})).await;
    let path = format!("/ports/{}", id(&closed));
    let off = json!({"port": {"port_security_enabled": false}});
    cloud.put("alice", &path, off).await.refused(409, "PortSecurityPortHasSecurityGroup");
    let off = json!({"port": {"port_security_enabled": false, "security_groups": []}});
    cloud.put("alice", &path, off).await.is(200);
    let plain = cloud.make("alice", "/networks", "network", json!({"port_security_enabled": false})).await;
    assert_eq!(port(&cloud, &plain, json!({})).await["port_security_enabled"], false);
}

#[tokio::test]
async fn nobody_takes_a_router_s_or_another_project_s_place() {
    let cloud = Cloud::new();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let router = cloud.make("bob", "/routers", "router", json!({"name": "r"})).await;
    let spoof = json!({"device_owner": "network:router_interface", "device_id": router["id"]});
    refuse(&cloud, "alice", &network, spoof.clone(), 409, "DeviceIDNotOwnedByTenant").await;
    let mine = port(&cloud, &network, json!({})).await;
    cloud
        .put("alice", &format!("/ports/{}", id(&mine)), json!({ "port": spoof }))
        .await
        .refused(409, "DeviceIDNotOwnedByTenant");
    let bind = json!({"binding:host_id": "somewhere"});
    refuse(&cloud, "alice", &network, bind, 403, "PolicyNotAuthorized").await;
    refuse(&cloud, "bob", &network, json!({}), 404, "NetworkNotFound").await;
    let shared = cloud.make("admin", "/networks", "network", json!({"shared": true})).await;
    refuse(&cloud, "bob", &shared, json!({"device_owner": "network:dhcp"}), 403, "PolicyNotAuthorized").await;
    refuse(&cloud, "bob", &shared, json!({"mac_address": "fa:16:3e:00:00:01"}), 403, "PolicyNotAuthorized").await;
    refuse(&cloud, "bob", &shared, json!({"port_security_enabled": false}), 403, "PolicyNotAuthorized").await;
    let pair = json!({"allowed_address_pairs": [{"ip_address": "10.0.0.1"}]});
    refuse(&cloud, "bob", &shared, pair, 403, "PolicyNotAuthorized").await;
    let external = cloud.make("admin", "/networks", "network", json!({"router:external": true})).await;
    refuse(&cloud, "bob", &external, json!({}), 403, "PolicyNotAuthorized").await;
    cloud.get("bob", &format!("/ports/{}", id(&mine))).await.refused(404, "PortNotFound");
    cloud.delete("bob", &format!("/ports/{}", id(&mine))).await.refused(404, "PortNotFound");
}

#[tokio::test]
async fn the_owner_of_a_network_sees_the_ports_of_others_on_it() {
    let cloud = Cloud::new();
    let shared = cloud.make("admin", "/networks", "network", json!({"shared": true, "project_id": "project-a"})).await;
    let port = cloud.make("bob", "/ports", "port", json!({"network_id": shared["id"]})).await;
    assert_eq!(cloud.list("alice", "ports", "").await.len(), 1);
    cloud.get("alice", &format!("/ports/{}", id(&port))).await.is(200);
    cloud
        .put("alice", &format!("/ports/{}", id(&port)), json!({"port": {"name": "x"}}))
        .await
        .refused(403, "PolicyNotAuthorized");
    let path = format!("/networks/{}", id(&shared));
    cloud.put("admin", &path, json!({"network": {"shared": false}})).await.refused(409, "InvalidSharedSetting");
    cloud.delete("alice", &format!("/ports/{}", id(&port))).await.is(204);
    cloud.put("admin", &path, json!({"network": {"shared": false}})).await.is(200);
    assert!(cloud.list("bob", "networks", "").await.is_empty());
}
