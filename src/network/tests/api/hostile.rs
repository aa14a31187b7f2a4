//! Bodies and queries that nobody should send: a clear 4xx each, never a 500.

use serde_json::{Value, json};

use crate::kit::{Cloud, id};

fn nasty() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("x".repeat(5000)),
        json!("'; DROP TABLE network_port; --"),
        json!("\u{0}"),
        json!("../../etc/passwd"),
        json!("💥"),
        json!([]),
        json!([[[]]]),
        json!([null]),
        json!([{"a": 1}]),
        json!({}),
        json!({"id": {"id": {}}}),
        json!("255.255.255.255/0"),
        json!("::/0"),
        json!(["0.0.0.0"]),
        json!([{"ip_address": "::"}]),
        json!([{"start": "0.0.0.0", "end": "255.255.255.255"}]),
        json!([{"destination": "0.0.0.0/0", "nexthop": "::"}]),
        json!([{"opt_name": "\n", "opt_value": "\n"}]),
    ]
}

const RESOURCES: &[(&str, &str, &[&str])] = &[
    (
        "/networks",
        "network",
        &[
            "name",
            "description",
            "admin_state_up",
            "shared",
            "router:external",
            "mtu",
            "port_security_enabled",
            "tags",
            "provider:network_type",
            "provider:physical_network",
            "provider:segmentation_id",
            "is_default",
            "dns_domain",
            "availability_zone_hints",
            "project_id",
            "id",
            "nonsense",
        ],
    ),
    (
        "/subnets",
        "subnet",
        &[
            "name",
            "cidr",
            "ip_version",
            "gateway_ip",
            "enable_dhcp",
            "allocation_pools",
            "dns_nameservers",
            "host_routes",
            "ipv6_ra_mode",
            "ipv6_address_mode",
            "network_id",
            "subnetpool_id",
            "prefixlen",
            "service_types",
            "segment_id",
            "use_default_subnetpool",
            "project_id",
            "nonsense",
        ],
    ),
    (
        "/ports",
        "port",
        &[
            "name",
            "network_id",
            "mac_address",
            "fixed_ips",
            "security_groups",
            "device_id",
            "device_owner",
            "admin_state_up",
            "allowed_address_pairs",
            "extra_dhcp_opts",
            "port_security_enabled",
            "binding:host_id",
            "binding:profile",
            "binding:vnic_type",
            "dns_name",
            "tags",
            "project_id",
            "nonsense",
        ],
    ),
    (
        "/routers",
        "router",
        &[
            "name",
            "admin_state_up",
            "external_gateway_info",
            "distributed",
            "ha",
            "routes",
            "tags",
            "project_id",
            "nonsense",
        ],
    ),
    (
        "/floatingips",
        "floatingip",
        &[
            "floating_network_id",
            "port_id",
            "fixed_ip_address",
            "floating_ip_address",
            "subnet_id",
            "description",
            "dns_name",
            "dns_domain",
            "tags",
            "nonsense",
        ],
    ),
    ("/security-groups", "security_group", &["name", "description", "stateful", "tags", "project_id", "nonsense"]),
    (
        "/security-group-rules",
        "security_group_rule",
        &[
            "security_group_id",
            "direction",
            "ethertype",
            "protocol",
            "port_range_min",
            "port_range_max",
            "remote_ip_prefix",
            "remote_group_id",
            "description",
            "nonsense",
        ],
    ),
    (
        "/subnetpools",
        "subnetpool",
        &[
            "name",
            "prefixes",
            "default_prefixlen",
            "min_prefixlen",
            "max_prefixlen",
            "default_quota",
            "shared",
            "is_default",
            "address_scope_id",
            "nonsense",
        ],
    ),
];

/// A body that is right but for what a test changes.
fn right(singular: &str, network: &Value, public: &Value, group: &Value) -> Value {
    match singular {
        "subnet" => json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.77.0.0/24"}),
        "port" => json!({"network_id": network["id"]}),
        "floatingip" => json!({"floating_network_id": public["id"]}),
        "security_group_rule" => json!({"security_group_id": group["id"], "direction": "ingress"}),
        "subnetpool" => json!({"name": "p", "prefixes": ["10.0.0.0/8"]}),
        _ => json!({"name": "n"}),
    }
}

#[tokio::test]
async fn no_value_of_any_attribute_is_a_500() {
    let options = network::Options {
        quotas: ["network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule"]
            .map(|name| (name.to_owned(), -1))
            .into(),
        ..network::Options::default()
    };
    let cloud = Cloud::with(options);
    cloud.app.bootstrap("project-root").await.unwrap();
    let public = cloud.list("admin", "networks", "?name=public").await[0].clone();
    let group = cloud.make("admin", "/security-groups", "security_group", json!({"name": "g"})).await;
    for (path, singular, attributes) in RESOURCES {
        let (network, _) = cloud.network("admin", "10.1.0.0/24").await;
        let body = right(singular, &network, &public, &group);
        let made = cloud.post("admin", path, json!({ *singular: body })).await.is(201);
        let own = format!("{path}/{}", id(&made[*singular]));
        for attribute in *attributes {
            for value in nasty() {
                let mut body = right(singular, &network, &public, &group);
                body[*attribute] = value.clone();
                let shown: String = value.to_string().chars().take(60).collect();
                let answer = cloud.post("admin", path, json!({ *singular: body })).await;
                assert!(answer.status < 500, "POST {path} {attribute}={shown}: {}", answer.body);
                if answer.status >= 400 {
                    assert!(
                        answer.body["NeutronError"]["message"].is_string(),
                        "{path} {attribute}={shown}: {}",
                        answer.body
                    );
                }
                let answer = cloud.put("admin", &own, json!({ *singular: {*attribute: value} })).await;
                assert!(answer.status < 500, "PUT {own} {attribute}={shown}: {}", answer.body);
            }
        }
        for body in nasty() {
            for text in [body.to_string(), json!({ *singular: body }).to_string()] {
                for (method, path) in [("POST", *path), ("PUT", own.as_str())] {
                    let answer = cloud.send("admin", method, &format!("/v2.0{path}"), &text).await;
                    assert!(answer.status < 500, "{method} {path} {text:.60}: {}", answer.body);
                }
            }
        }
        assert_eq!(cloud.send("admin", "POST", &format!("/v2.0{path}"), "{").await.status, 400);
    }
    cloud.reconcile().await;
}

#[tokio::test]
async fn no_query_is_a_500() {
    let cloud = Cloud::bootstrapped().await;
    for collection in [
        "networks",
        "subnets",
        "ports",
        "routers",
        "floatingips",
        "security-groups",
        "security-group-rules",
        "subnetpools",
        "agents",
        "extensions",
        "quotas",
        "network-ip-availabilities",
        "availability_zones",
        "service-providers",
    ] {
        for query in [
            "limit=-1",
            "limit=99999999999999999999",
            "limit=0",
            "marker=%00",
            "sort_key=%27",
            "sort_dir=up&sort_key=id",
            "fields=%00",
            "fields=",
            "id=",
            "name=%25",
            "name=x&name=y",
            "admin_state_up=perhaps",
            "tags=",
            "tags=a,,b",
            "not-tags=a&not-tags=b",
            "tags-any=%F0%9F%92%A5",
            "fixed_ips=a=b=c",
            "fixed_ips=ip_address",
            "ip_version=four",
            "mtu=1e9",
            "page_reverse=x",
            "changed_since=yesterday",
            "a[]=1",
            "%ff=%fe",
            "router:external=2",
        ] {
            let answer = cloud.get("admin", &format!("/{collection}?{query}")).await;
            assert!(answer.status < 500, "{collection}?{query}: {}", answer.body);
        }
    }
    for path in [
        "/networks/%00",
        "/networks/x%2fy",
        "/ports/..",
        "/routers/x/add_router_interface",
        "/quotas/%20",
        "/nothing",
        "/networks/x/y/z",
        "/auto-allocated-topology/%00",
    ] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let answer = cloud.send("admin", method, &format!("/v2.0{path}"), "{}").await;
            assert!(answer.status < 500, "{method} {path}: {}", answer.body);
        }
    }
}
