use serde_json::{Value, json};

use crate::kit::{Cloud, id};

async fn add(cloud: &Cloud, router: &Value, body: Value) -> crate::kit::Answer {
    cloud.put("alice", &format!("/routers/{}/add_router_interface", id(router)), body).await
}

async fn remove(cloud: &Cloud, router: &Value, body: Value) -> crate::kit::Answer {
    cloud.put("alice", &format!("/routers/{}/remove_router_interface", id(router)), body).await
}

#[tokio::test]
async fn a_router_connects_a_project_s_network_with_the_outside() {
    let cloud = Cloud::bootstrapped().await;
    let public = &cloud.list("alice", "networks", "?name=public").await[0];
    let (_, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let router = cloud
        .make(
            "alice",
            "/routers",
            "router",
            json!({
                "name": "r", "external_gateway_info": {"network_id": public["id"]}, "tags": ["t"],
            }),
        )
        .await;
    assert_eq!(router["status"], "ACTIVE");
    let info = &router["external_gateway_info"];
    assert_eq!((info["network_id"].clone(), info["enable_snat"].as_bool()), (public["id"].clone(), Some(true)));
    assert!(info["external_fixed_ips"][0]["ip_address"].as_str().unwrap().starts_with("172.24.4."));
    let added = add(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.is(200);
    assert_eq!(added["subnet_id"], subnet["id"]);
    assert_eq!(added["id"], router["id"]);
    let port = cloud.get("alice", &format!("/ports/{}", added["port_id"].as_str().unwrap())).await.is(200);
    assert_eq!(port["port"]["fixed_ips"][0]["ip_address"], "10.1.0.1");
    assert_eq!(port["port"]["device_owner"], "network:router_interface");
    cloud.delete("alice", &format!("/ports/{}", id(&port["port"]))).await.refused(409, "ServicePortInUse");
    let path = format!("/routers/{}", id(&router));
    cloud.delete("alice", &path).await.refused(409, "RouterInUse");
    add(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.refused(400, "BadRequest");
    remove(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.is(200);
    remove(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.refused(404, "RouterInterfaceNotFoundForSubnet");
    let cleared = cloud.put("alice", &path, json!({"router": {"external_gateway_info": {}}})).await.is(200);
    assert_eq!(cleared["router"]["external_gateway_info"], Value::Null);
    cloud.delete("alice", &path).await.is(204);
    cloud.get("alice", &path).await.refused(404, "RouterNotFound");
    assert!(cloud.list("admin", "ports", &format!("?device_id={}", id(&router))).await.is_empty());
}

#[tokio::test]
async fn an_interface_may_be_a_port_of_one_s_own() {
    let cloud = Cloud::new();
    let (network, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    let router = cloud.make("alice", "/routers", "router", json!({})).await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    add(&cloud, &router, json!({"port_id": port["id"]})).await.is(200);
    add(&cloud, &router, json!({"port_id": port["id"]})).await.refused(409, "PortInUse");
    add(&cloud, &router, json!({})).await.refused(400, "BadRequest");
    add(&cloud, &router, json!({"subnet_id": subnet["id"], "port_id": port["id"]})).await.refused(400, "BadRequest");
    let seen = cloud.get("alice", &format!("/ports/{}", id(&port))).await.is(200);
    assert_eq!(seen["port"]["device_id"], router["id"]);
    assert_eq!(seen["port"]["security_groups"], json!([]));
    let foreign = cloud.make("bob", "/networks", "network", json!({})).await;
    let foreign = cloud.make("bob", "/ports", "port", json!({"network_id": foreign["id"]})).await;
    add(&cloud, &router, json!({"port_id": foreign["id"]})).await.refused(404, "PortNotFound");
    remove(&cloud, &router, json!({"port_id": foreign["id"]})).await.refused(404, "RouterInterfaceNotFound");
    remove(&cloud, &router, json!({"port_id": port["id"]})).await.is(200);
    cloud.get("alice", &format!("/ports/{}", id(&port))).await.refused(404, "PortNotFound");
}

#[tokio::test]
async fn overlapping_and_gatewayless_subnets_are_refused() {
    let cloud = Cloud::new();
    let router = cloud.make("alice", "/routers", "router", json!({})).await;
    let (_, one) = cloud.network("alice", "10.1.0.0/24").await;
    let (_, two) = cloud.network("alice", "10.1.0.0/16").await;
    add(&cloud, &router, json!({"subnet_id": one["id"]})).await.is(200);
    add(&cloud, &router, json!({"subnet_id": two["id"]})).await.refused(400, "BadRequest");
    let network = cloud.make("alice", "/networks", "network", json!({})).await;
    let without = cloud
        .make(
            "alice",
            "/subnets",
            "subnet",
            json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.7.0.0/24", "gateway_ip": null}),
        )
        .await;
    add(&cloud, &router, json!({"subnet_id": without["id"]})).await.refused(400, "BadRequest");
    add(&cloud, &router, json!({"subnet_id": "11111111-1111-4111-8111-111111111111"}))
        .await
        .refused(404, "SubnetNotFound");
    let gateway = json!({"subnet": {"gateway_ip": "10.1.0.9"}});
    cloud.put("alice", &format!("/subnets/{}", id(&one)), gateway).await.refused(409, "GatewayIpInUse");
}

#[tokio::test]
async fn a_gateway_leads_outside_and_its_details_are_the_administrator_s() {
    let cloud = Cloud::bootstrapped().await;
    let public = cloud.list("alice", "networks", "?name=public").await[0].clone();
    let inside = cloud.make("alice", "/networks", "network", json!({})).await;
    let gateway = |info: Value| json!({"router": {"external_gateway_info": info}});
    cloud.post("alice", "/routers", gateway(json!({"network_id": inside["id"]}))).await.refused(400, "BadRequest");
    let nobody = "11111111-1111-4111-8111-111111111111";
    cloud.post("alice", "/routers", gateway(json!({"network_id": nobody}))).await.refused(404, "NetworkNotFound");
    for info in [
        json!({"network_id": public["id"], "enable_snat": false}),
        json!({"network_id": public["id"], "external_fixed_ips": [{"ip_address": "172.24.4.99"}]}),
    ] {
        cloud.post("alice", "/routers", gateway(info.clone())).await.refused(403, "PolicyNotAuthorized");
        cloud.post("admin", "/routers", gateway(info)).await.is(201);
    }
    let used = json!({"network_id": public["id"], "external_fixed_ips": [{"ip_address": "172.24.4.99"}]});
    cloud.post("admin", "/routers", gateway(used)).await.refused(409, "IpAddressAlreadyAllocated");
    cloud.post("alice", "/routers", json!({"router": {"distributed": true}})).await.refused(403, "PolicyNotAuthorized");
    cloud.post("alice", "/routers", gateway(json!([]))).await.refused(400, "HTTPBadRequest");
}

#[tokio::test]
async fn routes_lead_to_connected_subnets() {
    let cloud = Cloud::new();
    let router = cloud.make("alice", "/routers", "router", json!({})).await;
    let (_, subnet) = cloud.network("alice", "10.1.0.0/24").await;
    add(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.is(200);
    let path = format!("/routers/{}", id(&router));
    let routes = |hop: &str| json!({"router": {"routes": [{"destination": "192.168.0.0/16", "nexthop": hop}]}});
    let set = cloud.put("alice", &path, routes("10.1.0.7")).await.is(200);
    assert_eq!(set["router"]["routes"], json!([{"destination": "192.168.0.0/16", "nexthop": "10.1.0.7"}]));
    cloud.put("alice", &path, routes("10.9.0.7")).await.refused(400, "InvalidRoutes");
    cloud.put("alice", &path, routes("10.1.0.1")).await.refused(400, "InvalidRoutes");
    remove(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.refused(409, "RouterInterfaceInUseByRoute");
    let more = json!({"router": {"routes": [{"destination": "172.16.0.0/12", "nexthop": "10.1.0.8"}]}});
    let added = cloud.put("alice", &format!("{path}/add_extraroutes"), more.clone()).await.is(200);
    assert_eq!(added["router"]["routes"].as_array().unwrap().len(), 2);
    let less = cloud.put("alice", &format!("{path}/remove_extraroutes"), more).await.is(200);
    assert_eq!(less["router"]["routes"].as_array().unwrap().len(), 1);
    cloud.put("alice", &path, json!({"router": {"routes": []}})).await.is(200);
    remove(&cloud, &router, json!({"subnet_id": subnet["id"]})).await.is(200);
}
