//! What a running server uses, and what other services tell about it. Compute API reference, "Servers diagnostics" and
//! "Create external events".

use kit::{
    Persona::{Admin, Member},
    TestCloud,
};
use serde_json::json;

#[tokio::test]
async fn diagnostics_are_the_administrators_and_of_what_runs() {
    let cloud = TestCloud::start().await;
    let (network, _) = cloud.network(Member, "private", "10.0.0.0/24").await;
    let id = cloud.boot(Member, json!({"networks": [{"uuid": network}]})).await;
    let path = format!("/compute/v2.1/servers/{id}/diagnostics");
    cloud.as_(Member).get(&path).await.refused(403);
    let free = cloud.as_(Admin).get(&path).await.expect(200);
    assert_eq!(free["memory"], 128 * 1024);
    let standard = cloud.as_(Admin).at("2.48").get(&path).await.expect(200);
    assert_eq!((&standard["state"], &standard["num_cpus"]), (&json!("running"), &json!(1)));
    assert_eq!(standard["memory_details"]["maximum"], 128);
    assert_eq!(standard["disk_details"].as_array().map(Vec::len).map(|n| json!(n)).unwrap(), standard["num_disks"]);
    let card = &standard["nic_details"][0];
    assert!(card["mac_address"].is_string() && card["rx_octets"] == 0 && card["tx_packets"] == 0, "{card}");
    assert!(free.as_object().unwrap().keys().any(|key| key.starts_with("tap") && key.ends_with("_rx")), "{free}");
    assert!(standard["uptime"].is_u64(), "{}", standard["uptime"]);
    let action = format!("/compute/v2.1/servers/{id}/action");
    cloud.as_(Member).post(&action, json!({"pause": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "PAUSED").await;
    cloud.as_(Admin).get(&path).await.refused(409);
    cloud.as_(Member).post(&action, json!({"unpause": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    cloud.as_(Member).post(&action, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    cloud.as_(Admin).get(&path).await.refused(409);
    cloud.as_(Admin).get("/compute/v2.1/servers/0abcdef0-0000-4000-8000-000000000000/diagnostics").await.refused(404);
}

#[tokio::test]
async fn each_external_event_has_its_own_answer() {
    let cloud = TestCloud::start().await;
    let path = "/compute/v2.1/os-server-external-events";
    let id = cloud.boot(Member, json!({})).await;
    let absent = "0abcdef0-0000-4000-8000-000000000000";
    let event = |name: &str, id: &str| json!({"name": name, "server_uuid": id});
    let admin = cloud.as_(Admin);
    cloud.as_(Member).post(path, json!({"events": [event("network-changed", &id)]})).await.refused(403);
    let all = admin.post(path, json!({"events": [event("network-changed", &id)]})).await.expect(200);
    assert_eq!(all["events"][0]["code"], 200);
    let some = json!({"events": [event("network-changed", &id), event("network-changed", absent)]});
    let some = admin.post(path, some).await.expect(207);
    assert_eq!((&some["events"][0]["code"], &some["events"][1]["code"]), (&json!(200), &json!(404)));
    assert_eq!(some["events"][1]["status"], "failed");
    admin.post(path, json!({"events": [event("network-changed", absent)]})).await.refused(404);
    let untagged = admin.at("2.51").post(path, json!({"events": [event("volume-extended", &id)]})).await.expect(207);
    assert_eq!(untagged["events"][0]["code"], 400);
    for wrong in [
        json!({"events": []}),
        json!({"events": [event("surprise", &id)]}),
        json!({"events": [event("volume-extended", &id)]}),
        json!({"events": [event("network-changed", "x")]}),
        json!({"events": [{"name": "network-changed", "server_uuid": id, "status": "odd"}]}),
    ] {
        admin.post(path, wrong).await.refused(400);
    }
}
