//! Host aggregates and the zones that follow them. Compute API reference, "Host aggregates" and "Availability zones".

use kit::{
    Persona::{Admin, Member},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

const PATH: &str = "/compute/v2.1/os-aggregates";

async fn made(cloud: &TestCloud, name: &str, zone: Value) -> String {
    let body = json!({"aggregate": {"name": name, "availability_zone": zone}});
    let reply = cloud.as_(Admin).post(PATH, body).await.expect(200);
    format!("{PATH}/{}", reply["aggregate"]["id"])
}

async fn host(cloud: &TestCloud) -> String {
    let services = cloud.as_(Admin).get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
    text(&services["services"][0]["host"]).to_owned()
}

#[tokio::test]
async fn an_aggregate_is_made_shown_changed_and_deleted() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let path = made(&cloud, "fast", Value::Null).await;
    let shown = admin.at("2.41").get(&path).await.expect(200)["aggregate"].take();
    assert_eq!((&shown["hosts"], &shown["metadata"], &shown["updated_at"]), (&json!([]), &json!({}), &Value::Null));
    assert!(rest::is_uuid(text(&shown["uuid"])));
    assert!(admin.get(&path).await.expect(200)["aggregate"].get("uuid").is_none(), "only since 2.41");
    admin.post(PATH, json!({"aggregate": {"name": "fast"}})).await.refused(409);
    for wrong in
        [json!({"name": ""}), json!({"name": "x".repeat(256)}), json!({"name": "a", "availability_zone": "a:b"})]
    {
        admin.post(PATH, json!({"aggregate": wrong})).await.refused(400);
    }
    let renamed = admin.put(&path, json!({"aggregate": {"name": "faster"}})).await.expect(200);
    assert_eq!(renamed["aggregate"]["name"], "faster");
    assert!(!renamed["aggregate"]["updated_at"].is_null());
    let set = json!({"set_metadata": {"metadata": {"ssd": "true", "old": "1"}}});
    admin.post(&format!("{path}/action"), set).await.expect(200);
    let set = json!({"set_metadata": {"metadata": {"old": null}}});
    let left = admin.post(&format!("{path}/action"), set).await.expect(200);
    assert_eq!(left["aggregate"]["metadata"], json!({"ssd": "true"}));
    cloud.as_(Member).get(PATH).await.refused(403);
    cloud.as_(Member).delete(&path).await.refused(403);
    admin.get(&format!("{PATH}/-1")).await.refused(404);
    admin.get(&format!("{PATH}/x")).await.refused(404);
    admin.delete(&path).await.expect(200);
    admin.get(&path).await.refused(404);
}

#[tokio::test]
async fn the_host_is_in_the_zone_of_its_aggregate_and_so_are_its_servers() {
    let cloud = TestCloud::start().await;
    let (admin, host) = (cloud.as_(Admin), host(&cloud).await);
    let before = cloud.boot(Member, json!({})).await;
    let path = made(&cloud, "rack", json!("rack-1")).await;
    let action = format!("{path}/action");
    cloud.ask_for_server(Member, json!({"availability_zone": "rack-1"})).await.refused(400);
    admin.post(&action, json!({"add_host": {"host": "elsewhere"}})).await.refused(404);
    let joined = admin.post(&action, json!({"add_host": {"host": host}})).await.expect(200);
    assert_eq!(joined["aggregate"]["hosts"], json!([host]));
    admin.post(&action, json!({"add_host": {"host": host}})).await.refused(409);

    let zones = cloud.as_(Member).get("/compute/v2.1/os-availability-zone").await.expect(200);
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "rack-1");
    let services = admin.get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
    assert_eq!(services["services"][0]["zone"], "rack-1");
    let server = cloud.as_(Member).get(&format!("/compute/v2.1/servers/{before}")).await.expect(200);
    assert_eq!(server["server"]["OS-EXT-AZ:availability_zone"], "rack-1", "who asked for no zone follows the host");

    // Placement has it too.
    let uuid = admin.at("2.41").get(&path).await.expect(200)["aggregate"]["uuid"].take();
    let providers = admin.at("latest").get("/placement/resource_providers").await.expect(200);
    let provider = text(&providers["resource_providers"][0]["uuid"]).to_owned();
    let aggregates = format!("/placement/resource_providers/{provider}/aggregates");
    assert_eq!(admin.at("latest").get(&aggregates).await.expect(200)["aggregates"], json!([uuid]));

    // A server that asked for the zone keeps the host in it.
    let promised = cloud.boot(Member, json!({"availability_zone": "rack-1"})).await;
    admin.post(&action, json!({"remove_host": {"host": host}})).await.refused(409);
    let moved = json!({"aggregate": {"availability_zone": "rack-2"}});
    admin.put(&path, moved.clone()).await.refused(400);
    cloud.delete_server(Member, &promised).await;
    admin.put(&path, moved).await.expect(200);

    // One host, one zone.
    let other = made(&cloud, "other", json!("rack-3")).await;
    admin.post(&format!("{other}/action"), json!({"add_host": {"host": host}})).await.refused(409);
    admin.delete(&path).await.refused(400);
    admin.post(&action, json!({"remove_host": {"host": host}})).await.expect(200);
    admin.post(&action, json!({"remove_host": {"host": host}})).await.refused(404);
    let zones = cloud.as_(Member).get("/compute/v2.1/os-availability-zone").await.expect(200);
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "nova");
    assert_eq!(admin.at("latest").get(&aggregates).await.expect(200)["aggregates"], json!([]));
}
