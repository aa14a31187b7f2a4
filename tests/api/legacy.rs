//! What Compute passes on to other services, where a microversion still has it, and the version before 2.1.

use http::Method;
use kit::{
    Persona::{Admin, Anonymous, Member, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

#[tokio::test]
async fn networks_are_passed_on_until_2_35() {
    let cloud = TestCloud::start().await;
    let (id, _) = cloud.network(Member, "mine", "192.0.2.0/24").await;
    let of = |list: &Value| -> Vec<String> {
        list["networks"].as_array().unwrap().iter().map(|one| text(&one["label"]).to_owned()).collect()
    };
    for kind in ["os-networks", "os-tenant-networks"] {
        let path = format!("/compute/v2.1/{kind}");
        assert!(of(&cloud.as_(Reader).get(&path).await.expect(200)).contains(&"mine".to_owned()));
        assert!(!of(&cloud.as_(Other).get(&path).await.expect(200)).contains(&"mine".to_owned()));
        let one = cloud.as_(Reader).get(&format!("{path}/{id}")).await.expect(200);
        assert_eq!((&one["network"]["label"], &one["network"]["cidr"]), (&json!("mine"), &json!("192.0.2.0/24")));
        cloud.as_(Other).get(&format!("{path}/{id}")).await.refused(404);
        cloud.as_(Reader).at("2.36").get(&path).await.refused(404);
        cloud.as_(Admin).post(&path, json!({})).await.refused(410);
    }
}

#[tokio::test]
async fn floating_ips_come_from_pools_and_lead_to_servers() {
    let cloud = TestCloud::start().await;
    let member = cloud.as_(Member);
    let pools = member.get("/compute/v2.1/os-floating-ip-pools").await.expect(200);
    let pool = text(&pools["floating_ip_pools"][0]["name"]).to_owned();
    let path = "/compute/v2.1/os-floating-ips";
    let made = member.post(path, json!({"pool": pool})).await.expect(200)["floating_ip"].take();
    assert_eq!((&made["pool"], &made["instance_id"]), (&json!(pool), &Value::Null));
    member.post(path, json!({"pool": "nowhere"})).await.refused(404);
    let one = format!("{path}/{}", text(&made["id"]));
    assert_eq!(member.get(&one).await.expect(200)["floating_ip"], made);
    assert_eq!(member.get(path).await.expect(200)["floating_ips"], json!([made]));
    cloud.as_(Other).get(&one).await.refused(404);
    cloud.as_(Reader).post(path, json!({"pool": pool})).await.refused(403);

    let (network, subnet) = cloud.network(Member, "mine", "192.0.2.0/24").await;
    let networks = member.get("/network/v2.0/networks?router:external=true").await.expect(200);
    let gateway = json!({"network_id": networks["networks"][0]["id"]});
    let router = json!({"router": {"name": "out", "external_gateway_info": gateway}});
    let router = member.post("/network/v2.0/routers", router).await.expect(201);
    let add = format!("/network/v2.0/routers/{}/add_router_interface", text(&router["router"]["id"]));
    member.put(&add, json!({"subnet_id": subnet})).await.expect(200);
    let server = cloud.boot(Member, json!({"networks": [{"uuid": network}]})).await;
    let action = format!("/compute/v2.1/servers/{server}/action");
    let address = text(&made["ip"]);
    member.post(&action, json!({"addFloatingIp": {"address": address}})).await.expect(202);
    assert_eq!(member.get(&one).await.expect(200)["floating_ip"]["instance_id"], json!(server));
    let second = member.post(path, json!({"pool": pool})).await.expect(200)["floating_ip"].take();
    member.post(&action, json!({"addFloatingIp": {"address": second["ip"]}})).await.refused(400);
    member.post(&action, json!({"removeFloatingIp": {"address": second["ip"]}})).await.refused(409);
    for (body, status) in [(json!({"address": "0.0.0.0"}), 404), (json!({"address": ""}), 400), (json!({}), 400)] {
        member.post(&action, json!({"addFloatingIp": body})).await.refused(status);
    }
    member.at("2.44").post(&action, json!({"addFloatingIp": {"address": address}})).await.refused(404);
    member.post(&action, json!({"removeFloatingIp": {"address": address}})).await.expect(202);
    assert!(member.get(&one).await.expect(200)["floating_ip"]["instance_id"].is_null());
    member.delete(&one).await.expect(202);
    member.get(&one).await.refused(404);
    member.at("2.36").get(path).await.refused(404);
}

#[tokio::test]
async fn security_groups_and_their_rules_are_passed_on() {
    let cloud = TestCloud::start().await;
    let member = cloud.as_(Member);
    let path = "/compute/v2.1/os-security-groups";
    let default = member.get(path).await.expect(200)["security_groups"][0].take();
    assert_eq!(default["name"], "default");
    let wanted = json!({"security_group": {"name": "web", "description": "what the web needs"}});
    let web = member.post(path, wanted).await.expect(200)["security_group"].take();
    assert_eq!((&web["rules"], &web["tenant_id"]), (&json!([]), &json!(cloud.project(Member).await)));
    let one = format!("{path}/{}", text(&web["id"]));
    let rules = "/compute/v2.1/os-security-group-rules";
    let rule = |changes: Value| {
        let mut rule = json!({"parent_group_id": web["id"], "ip_protocol": "tcp", "from_port": 22, "to_port": 22});
        rule.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"security_group_rule": rule})
    };
    let made =
        member.post(rules, rule(json!({"cidr": "10.2.3.124/24"}))).await.expect(200)["security_group_rule"].take();
    assert_eq!((&made["ip_range"], &made["from_port"]), (&json!({"cidr": "10.2.3.124/24"}), &json!(22)));
    let peer = member.post(rules, rule(json!({"group_id": web["id"]}))).await.expect(200);
    assert_eq!(peer["security_group_rule"]["group"]["name"], "web");
    let ping = rule(json!({"ip_protocol": "icmp", "from_port": -1, "to_port": -1}));
    let ping = member.post(rules, ping).await.expect(200)["security_group_rule"].take();
    assert_eq!((&ping["from_port"], &ping["ip_range"]["cidr"]), (&json!(-1), &json!("0.0.0.0/0")));
    for wrong in [
        json!({"cidr": "10.2.3.124/24"}),
        json!({"parent_group_id": "x"}),
        json!({"ip_protocol": "999"}),
        json!({"from_port": 65536}),
        json!({"from_port": 22, "to_port": 21}),
        json!({"cidr": "nowhere"}),
    ] {
        member.post(rules, rule(wrong)).await.refused(400);
    }
    member.post(rules, rule(json!({"parent_group_id": "0abcdef0-0000-4000-8000-000000000000"}))).await.refused(404);
    assert_eq!(member.get(&one).await.expect(200)["security_group"]["rules"].as_array().unwrap().len(), 3);
    let renamed = json!({"security_group": {"name": "www", "description": "x"}});
    assert_eq!(member.put(&one, renamed).await.expect(200)["security_group"]["name"], "www");
    cloud.as_(Other).get(&one).await.refused(404);
    cloud.as_(Other).delete(&format!("{rules}/{}", text(&made["id"]))).await.refused(404);
    member.delete(&format!("{rules}/{}", text(&made["id"]))).await.expect(202);

    let (network, _) = cloud.network(Member, "mine", "192.0.2.0/24").await;
    let server = json!({"networks": [{"uuid": network}], "security_groups": [{"name": "www"}]});
    let server = cloud.boot(Member, server).await;
    let of_server =
        member.at("2.60").get(&format!("/compute/v2.1/servers/{server}/os-security-groups")).await.expect(200);
    assert_eq!(of_server["security_groups"][0]["rules"].as_array().unwrap().len(), 2);
    member.delete(&one).await.refused(400);
    cloud.delete_server(Member, &server).await;
    member.delete(&one).await.expect(202);
    member.delete(&format!("{path}/{}", text(&default["id"]))).await.refused(400);
    let everybodys = cloud.as_(Admin).get(&format!("{path}?all_tenants=true")).await.expect(200);
    assert!(everybodys["security_groups"].as_array().unwrap().iter().any(|one| one["id"] == default["id"]));
    let mine = cloud.as_(Other).get(&format!("{path}?all_tenants=true")).await.expect(200);
    assert!(mine["security_groups"].as_array().unwrap().iter().all(|one| one["id"] != default["id"]));
    member.at("2.36").get(path).await.refused(404);
}

#[tokio::test]
async fn images_and_their_metadata_are_passed_on() {
    let cloud = TestCloud::start().await;
    let member = cloud.as_(Member);
    let mine = cloud.image_with(Member, json!({"name": "mine", "visibility": "private", "os_distro": "x"})).await;
    let public = cloud.image().await;
    let path = "/compute/v2.1/images";
    let of = |list: &Value| -> Vec<String> {
        list["images"].as_array().unwrap().iter().map(|one| text(&one["id"]).to_owned()).collect()
    };
    assert_eq!(of(&member.get(path).await.expect(200)), [public.clone(), mine.clone()]);
    assert_eq!(of(&member.get(&format!("{path}?name=mine")).await.expect(200)), std::slice::from_ref(&mine));
    assert_eq!(
        of(&member.get(&format!("{path}?status=ACTIVE&limit=1")).await.expect(200)),
        std::slice::from_ref(&public)
    );
    assert!(of(&member.get(&format!("{path}?type=snapshot")).await.expect(200)).is_empty());
    assert!(of(&member.get(&format!("{path}/detail?changes-since=2999-01-01T00:00:00Z")).await.expect(200)).is_empty());
    assert_eq!(of(&cloud.as_(Other).get(path).await.expect(200)), std::slice::from_ref(&public));
    let one = member.get(&format!("{path}/{mine}")).await.expect(200)["image"].take();
    assert_eq!((&one["status"], &one["progress"]), (&json!("ACTIVE"), &json!(100)));
    assert_eq!((&one["metadata"], &one["OS-EXT-IMG-SIZE:size"]), (&json!({"os_distro": "x"}), &json!(64 << 10)));

    let metadata = format!("{path}/{mine}/metadata");
    let set = |value: Value| json!({ "metadata": value });
    let merged = member.post(&metadata, set(json!({"a": "1"}))).await.expect(200);
    assert_eq!(merged["metadata"], json!({"a": "1", "os_distro": "x"}));
    member.put(&metadata, set(json!({"b": "2"}))).await.expect(200);
    assert_eq!(member.get(&metadata).await.expect(200), set(json!({"b": "2"})));
    let item = format!("{metadata}/b");
    member.put(&item, json!({"meta": {"b": "3"}})).await.expect(200);
    assert_eq!(member.get(&item).await.expect(200), json!({"meta": {"b": "3"}}));
    member.put(&item, json!({"meta": {"c": "3"}})).await.refused(400);
    member.post(&metadata, set(json!({"min_ram": "3"}))).await.refused(400);
    member.delete(&item).await.expect(204);
    member.get(&item).await.refused(404);
    member.post(&format!("{path}/{public}/metadata"), set(json!({"a": "1"}))).await.refused(403);
    cloud.as_(Other).get(&metadata).await.refused(404);
    cloud.as_(Reader).post(&metadata, set(json!({"a": "1"}))).await.refused(403);
    member.at("2.36").get(&format!("{path}/{mine}")).await.refused(404);
    member.at("2.38").get(&metadata).await.expect(200);
    member.at("2.39").get(&metadata).await.refused(404);
    cloud.as_(Other).delete(&format!("{path}/{mine}")).await.refused(404);
    member.delete(&format!("{path}/")).await.refused(404);
    member.delete(&format!("{path}/{mine}")).await.expect(204);
    member.get(&format!("{path}/{mine}")).await.refused(404);
}

#[tokio::test]
async fn version_2_0_is_listed_first_and_serves_2_1_without_microversions() {
    let cloud = TestCloud::start().await;
    let versions = cloud.as_(Anonymous).get("/compute/").await.expect(200);
    let ids: Vec<&str> = versions["versions"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
    assert_eq!(ids, ["v2.0", "v2.1"]);
    assert_eq!(
        (&versions["versions"][0]["status"], &versions["versions"][0]["version"]),
        (&json!("SUPPORTED"), &json!(""))
    );
    assert_eq!(cloud.as_(Anonymous).get("/compute/v2/").await.expect(200)["version"]["id"], "v2.0");
    let id = cloud.boot(Member, json!({})).await;
    // A microversion is not heard here: `locked` comes with 2.9.
    let headers = [("openstack-api-version", "compute 2.60")];
    let reply = cloud.as_(Member).raw(Method::GET, &format!("/compute/v2/servers/{id}"), &headers, "").await;
    assert!(reply.header("openstack-api-version").is_none());
    let server = reply.expect(200)["server"].take();
    assert!(server["id"] == json!(id) && server.get("locked").is_none(), "{server}");
    cloud.as_(Anonymous).get(&format!("/compute/v2/servers/{id}")).await.refused(401);
    cloud.as_(Member).get("/compute/v2.0/servers").await.refused(404);
}
