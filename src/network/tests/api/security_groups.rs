use serde_json::{Value, json};

use crate::kit::{Cloud, id};

async fn rule(cloud: &Cloud, group: &Value, mut attributes: Value) -> crate::kit::Answer {
    attributes["security_group_id"] = group["id"].clone();
    cloud.post("alice", "/security-group-rules", json!({ "security_group_rule": attributes })).await
}

#[tokio::test]
async fn every_project_has_a_default_group_that_stays() {
    let cloud = Cloud::new();
    let groups = cloud.list("alice", "security_groups", "").await;
    assert_eq!(groups.len(), 1);
    let group = &groups[0];
    assert_eq!(group["name"], "default");
    let rules = group["security_group_rules"].as_array().unwrap();
    assert_eq!(rules.len(), 4);
    let within = rules.iter().filter(|rule| rule["direction"] == "ingress");
    assert!(within.clone().count() == 2 && within.clone().all(|rule| rule["remote_group_id"] == group["id"]));
    let path = format!("/security-groups/{}", id(group));
    cloud.delete("alice", &path).await.refused(409, "SecurityGroupCannotRemoveDefault");
    cloud
        .put("alice", &path, json!({"security_group": {"name": "other"}}))
        .await
        .refused(409, "SecurityGroupCannotUpdateDefault");
    let again = json!({"security_group": {"name": "default"}});
    cloud.post("alice", "/security-groups", again).await.refused(409, "SecurityGroupDefaultAlreadyExists");
    assert_eq!(cloud.list("alice", "security_groups", "").await.len(), 1);
    let found = cloud.list("admin", "security_groups", "?project_id=project-a&name=default").await;
    cloud.delete("admin", &format!("/security-groups/{}", id(&found[0]))).await.is(204);
    assert!(cloud.list("admin", "security_groups", "?project_id=nobody").await.is_empty());
}

#[tokio::test]
async fn a_group_is_made_changed_and_deleted_unless_a_port_has_it() {
    let cloud = Cloud::new();
    let group =
        cloud.make("alice", "/security-groups", "security_group", json!({"name": "web", "description": "d"})).await;
    assert_eq!(group["security_group_rules"].as_array().unwrap().len(), 2, "what leaves, may");
    assert_eq!(group["stateful"], true);
    let path = format!("/security-groups/{}", id(&group));
    let changed = cloud.put("alice", &path, json!({"security_group": {"name": "www"}})).await.is(200);
    assert_eq!(changed["security_group"]["name"], "www");
    cloud.get("bob", &path).await.refused(404, "SecurityGroupNotFound");
    cloud
        .put("alice-reader", &path, json!({"security_group": {"name": "x"}}))
        .await
        .refused(403, "PolicyNotAuthorized");
    let (network, _) = cloud.network("alice", "10.1.0.0/24").await;
    let port = json!({"network_id": network["id"], "security_groups": [group["id"]]});
    let port = cloud.make("alice", "/ports", "port", port).await;
    cloud.delete("alice", &path).await.refused(409, "SecurityGroupInUse");
    cloud.delete("alice", &format!("/ports/{}", id(&port))).await.is(204);
    cloud.delete("alice", &path).await.is(204);
    assert!(
        cloud.list("alice", "security_group_rules", &format!("?security_group_id={}", id(&group))).await.is_empty()
    );
}

#[tokio::test]
async fn a_rule_is_made_once_and_deleted() {
    let cloud = Cloud::new();
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    let ssh = json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22});
    let made = rule(&cloud, &group, ssh.clone()).await.is(201);
    let made = &made["security_group_rule"];
    assert_eq!((made["ethertype"].as_str(), made["protocol"].as_str()), (Some("IPv4"), Some("tcp")));
    let told = rule(&cloud, &group, ssh).await.refused(409, "SecurityGroupRuleExists");
    assert!(told.contains(id(made)), "{told}");
    let prefix = rule(&cloud, &group, json!({"direction": "ingress", "remote_ip_prefix": "10.0.0.9/8"})).await.is(201);
    assert_eq!(prefix["security_group_rule"]["normalized_cidr"], "10.0.0.0/8");
    let path = format!("/security-group-rules/{}", id(made));
    cloud.get("bob", &path).await.refused(404, "SecurityGroupRuleNotFound");
    cloud.delete("alice", &path).await.is(204);
    cloud.get("alice", &path).await.refused(404, "SecurityGroupRuleNotFound");
    let nobody = json!({"direction": "ingress", "remote_group_id": "11111111-1111-4111-8111-111111111111"});
    rule(&cloud, &group, nobody).await.refused(404, "SecurityGroupNotFound");
    let foreign = cloud.make("bob", "/security-groups", "security_group", json!({"name": "b"})).await;
    rule(&cloud, &group, json!({"direction": "ingress", "remote_group_id": foreign["id"]}))
        .await
        .refused(404, "SecurityGroupNotFound");
    rule(&cloud, &foreign, json!({"direction": "ingress"})).await.refused(404, "SecurityGroupNotFound");
    rule(&cloud, &group, json!({"direction": "ingress", "ethertype": "fox"}))
        .await
        .refused(400, "SecurityGroupRuleInvalidEtherType");
    rule(&cloud, &group, json!({"direction": "ingress", "protocol": "fox"}))
        .await
        .refused(400, "SecurityGroupRuleInvalidProtocol");
}

#[tokio::test]
async fn many_rules_are_made_at_once() {
    let cloud = Cloud::new();
    let group = cloud.make("alice", "/security-groups", "security_group", json!({"name": "web"})).await;
    let rules: Vec<Value> = (1..=20)
        .map(|port| {
            json!({"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp",
            "port_range_min": port, "port_range_max": port})
        })
        .collect();
    let made = cloud.post("alice", "/security-group-rules", json!({"security_group_rules": rules})).await.is(201);
    assert_eq!(made["security_group_rules"].as_array().unwrap().len(), 20);
}
