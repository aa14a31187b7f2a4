//! What was done to a server. Compute API reference, "Servers actions".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

#[tokio::test]
async fn every_action_is_listed_with_its_events_and_outlives_the_server() {
    let cloud = TestCloud::start().await;
    let reply = cloud.ask_for_server(Member, json!({})).await;
    let request_id = reply.header("x-openstack-request-id").unwrap().to_owned();
    let id = text(&reply.expect(202)["server"]["id"]).to_owned();
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    cloud.as_(Member).action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    let path = format!("/compute/v2.1/servers/{id}/os-instance-actions");
    let list = cloud.as_(Reader).get(&path).await.expect(200);
    let actions: Vec<&Value> = list["instanceActions"].as_array().unwrap().iter().collect();
    let words: Vec<&str> = actions.iter().map(|one| text(&one["action"])).collect();
    assert_eq!(words, ["stop", "create"], "newest first");
    assert_eq!(actions[1]["request_id"], request_id);
    assert_eq!(actions[1]["user_id"], cloud.user(Member).await);
    assert_eq!(actions[1]["message"], Value::Null);
    assert!(actions[1].get("updated_at").is_none());

    let one = format!("{path}/{request_id}");
    let seen = cloud.as_(Reader).get(&one).await.expect(200);
    assert!(seen["instanceAction"].get("events").is_none(), "events are for administrators before 2.51");
    let seen = cloud.as_(Reader).at("2.51").get(&one).await.expect(200);
    let event = &seen["instanceAction"]["events"][0];
    assert!(text(&event["event"]).starts_with("compute_"), "{event}");
    assert_eq!(event["result"], "Success");
    assert!(event.get("traceback").is_none());
    let seen = cloud.as_(Admin).get(&one).await.expect(200);
    assert!(seen["instanceAction"]["events"][0].get("traceback").is_some());
    cloud.as_(Reader).get(&format!("{path}/req-unknown")).await.refused(404);
    cloud.as_(Other).get(&path).await.refused(404);

    let page = cloud.as_(Member).at("2.58").get(&format!("{path}?limit=1")).await.expect(200);
    assert_eq!(page["instanceActions"].as_array().unwrap().len(), 1);
    let next = text(&page["links"][0]["href"]).strip_prefix("https://cloud.test").unwrap().to_owned();
    let rest = cloud.as_(Member).at("2.58").get(&next).await.expect(200);
    assert_eq!(rest["instanceActions"][0]["action"], "create");
    for wrong in ["limit=x", "limit=-1", "marker=req-unknown", "changes-since=yesterday"] {
        cloud.as_(Member).at("2.58").get(&format!("{path}?{wrong}")).await.refused(400);
    }

    cloud.delete_server(Member, &id).await;
    cloud.as_(Member).get(&path).await.refused(404);
    let gone = cloud.as_(Member).at("2.21").get(&path).await.expect(200);
    assert_eq!(gone["instanceActions"][0]["action"], "delete");
    cloud.as_(Other).at("2.21").get(&path).await.refused(404);
}

#[tokio::test]
async fn a_failed_action_says_so_without_inner_details() {
    let cloud = TestCloud::start().await;
    for _ in 0..20 {
        cloud.vms().fail_next_start("no power");
    }
    let reply = cloud.ask_for_server(Member, json!({})).await;
    let request_id = reply.header("x-openstack-request-id").unwrap().to_owned();
    let id = text(&reply.expect(202)["server"]["id"]).to_owned();
    cloud.wait_for_status(Member, &id, "ERROR").await;
    let path = format!("/compute/v2.1/servers/{id}/os-instance-actions/{request_id}");
    let seen = cloud.as_(Member).at("2.51").get(&path).await.expect(200);
    assert_eq!(seen["instanceAction"]["message"], "Error");
    let events = seen["instanceAction"]["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["result"] == "Error"), "{seen}");
}
