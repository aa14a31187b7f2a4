use serde_json::{Value, json};

use crate::kit::{Cloud, id};

/// A port of alice's behind a router of hers.
async fn reachable(cloud: &Cloud) -> (Value, Value, Value, Value) {
    let public = cloud.list("alice", "networks", "?name=public").await[0].clone();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let gateway = json!({"external_gateway_info": {"network_id": public["id"]}});
    let router = cloud.make("alice", "/routers", "router", gateway).await;
    let path = format!("/routers/{}/add_router_interface", id(&router));
    cloud.put("alice", &path, json!({"subnet_id": subnet["id"]})).await.is(200);
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    (public, router, subnet, port)
}

#[tokio::test]
async fn a_floating_ip_leads_to_a_port_and_elsewhere_and_nowhere() {
    let cloud = Cloud::bootstrapped().await;
    let (public, router, subnet, port) = reachable(&cloud).await;
    let floating =
        cloud.make("alice", "/floatingips", "floatingip", json!({"floating_network_id": public["id"]})).await;
    assert_eq!(floating["status"], "DOWN");
    assert_eq!(floating["port_id"], Value::Null);
    assert!(floating["floating_ip_address"].as_str().unwrap().starts_with("172.24.4."));
    let path = format!("/floatingips/{}", id(&floating));
    let led = cloud.put("alice", &path, json!({"floatingip": {"port_id": port["id"]}})).await.is(200);
    assert_eq!(led["floatingip"]["router_id"], router["id"]);
    assert_eq!(led["floatingip"]["fixed_ip_address"], port["fixed_ips"][0]["ip_address"]);
    assert_eq!(led["floatingip"]["port_details"]["mac_address"], port["mac_address"]);
    cloud.reconcile().await;
    assert_eq!(cloud.get("alice", &path).await.is(200)["floatingip"]["status"], "ACTIVE");
    cloud.reconcile().await;

    let interface = format!("/routers/{}/remove_router_interface", id(&router));
    let told = cloud.put("alice", &interface, json!({"subnet_id": subnet["id"]})).await;
    told.refused(409, "RouterInterfaceInUseByFloatingIP");
    let clear = json!({"router": {"external_gateway_info": null}});
    let told = cloud.put("alice", &format!("/routers/{}", id(&router)), clear).await;
    told.refused(409, "RouterExternalGatewayInUseByFloatingIp");
    let second = json!({"floatingip": {"floating_network_id": public["id"], "port_id": port["id"]}});
    cloud.post("alice", "/floatingips", second).await.refused(409, "FloatingIPPortAlreadyAssociated");

    cloud.delete("alice", &format!("/ports/{}", id(&port))).await.is(204);
    let left = cloud.get("alice", &path).await.is(200);
    assert_eq!(
        (left["floatingip"]["port_id"].clone(), left["floatingip"]["status"].clone()),
        (Value::Null, json!("DOWN"))
    );
    cloud.delete("alice", &path).await.is(204);
    cloud.get("alice", &path).await.refused(404, "FloatingIPNotFound");
    assert!(cloud.list("admin", "ports", "?device_owner=network:floatingip").await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_reached_is_refused_with_the_reason() {
    let cloud = Cloud::bootstrapped().await;
    let public = cloud.list("alice", "networks", "?name=public").await[0].clone();
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    let ask = |extra: Value| {
        let mut body = json!({"floating_network_id": public["id"]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "floatingip": body })
    };
    let told = cloud.post("alice", "/floatingips", ask(json!({"port_id": port["id"]}))).await;
    told.refused(404, "ExternalGatewayForFloatingIPNotFound");
    cloud
        .post("alice", "/floatingips", json!({"floatingip": {"floating_network_id": network["id"]}}))
        .await
        .refused(400, "BadRequest");
    cloud
        .post("alice", "/floatingips", ask(json!({"floating_ip_address": "172.24.4.50"})))
        .await
        .refused(403, "PolicyNotAuthorized");
    cloud.post("alice", "/floatingips", ask(json!({"fixed_ip_address": "10.1.0.2"}))).await.refused(400, "BadRequest");
    cloud.post("bob", "/floatingips", ask(json!({"port_id": port["id"]}))).await.refused(404, "PortNotFound");
    assert!(cloud.list("admin", "floatingips", "").await.is_empty(), "nothing was left behind");
    let made = cloud.post("admin", "/floatingips", ask(json!({"floating_ip_address": "172.24.4.50"}))).await.is(201);
    assert_eq!(made["floatingip"]["floating_ip_address"], "172.24.4.50");
    cloud
        .post("admin", "/floatingips", ask(json!({"floating_ip_address": "172.24.4.50"})))
        .await
        .refused(409, "IpAddressAlreadyAllocated");
    cloud.get("alice", &format!("/floatingips/{}", id(&made["floatingip"]))).await.refused(404, "FloatingIPNotFound");
}

#[tokio::test]
async fn one_of_several_addresses_must_be_named() {
    let cloud = Cloud::bootstrapped().await;
    let (public, _, subnet, port) = reachable(&cloud).await;
    let two = json!({"port": {"fixed_ips": [{"ip_address": "10.1.0.40"}, {"ip_address": "10.1.0.41"}]}});
    cloud.put("alice", &format!("/ports/{}", id(&port)), two).await.is(200);
    let floating =
        cloud.make("alice", "/floatingips", "floatingip", json!({"floating_network_id": public["id"]})).await;
    let path = format!("/floatingips/{}", id(&floating));
    cloud.put("alice", &path, json!({"floatingip": {"port_id": port["id"]}})).await.refused(400, "BadRequest");
    let ask = json!({"floatingip": {"port_id": port["id"], "fixed_ip_address": "10.1.0.41"}});
    assert_eq!(cloud.put("alice", &path, ask).await.is(200)["floatingip"]["fixed_ip_address"], "10.1.0.41");
    let lose = json!({"port": {"fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "10.1.0.40"}]}});
    cloud.put("alice", &format!("/ports/{}", id(&port)), lose).await.refused(400, "InvalidInput");
    let other = json!({"floatingip": {"fixed_ip_address": "10.1.0.40"}});
    assert_eq!(cloud.put("alice", &path, other).await.is(200)["floatingip"]["fixed_ip_address"], "10.1.0.40");
    let nowhere = cloud.put("alice", &path, json!({"floatingip": {"port_id": null}})).await.is(200);
    assert_eq!(nowhere["floatingip"]["router_id"], Value::Null);
}
