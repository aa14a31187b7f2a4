//! The bodies of server actions, all in one way.

use kit::Persona::Member;
use serde_json::{Value, json};

/// Every action that takes fields, with the fields as a list in the order that the program happens to know them in.
#[tokio::test]
async fn an_action_takes_an_object_and_no_list_of_its_values() {
    let cloud = kit::TestCloud::start().await;
    let server = cloud.boot(Member, json!({})).await;
    let image = cloud.image().await;
    let path = format!("/compute/v2.1/servers/{server}/action");
    for (version, action, values) in [
        ("2.1", "createImage", json!(["name", {}])),
        ("2.1", "createBackup", json!(["name", "daily", 1, {}])),
        ("2.1", "os-getSerialConsole", json!(["serial"])),
        ("2.1", "rescue", json!(["password", image])),
        ("2.91", "unshelve", json!(["nova", null])),
        ("2.1", "resize", json!(["1", "AUTO"])),
        ("2.1", "rebuild", json!([image])),
        ("2.1", "changePassword", json!(["password"])),
        ("2.73", "lock", json!(["reason"])),
        ("2.1", "reboot", json!(["SOFT"])),
        ("2.1", "addSecurityGroup", json!(["default"])),
    ] {
        for wrong in [values, json!([]), json!("text"), json!(7), json!(true)] {
            let body = json!({action: wrong});
            let answer = cloud.as_(Member).at(version).post(&path, body.clone()).await;
            assert_eq!(answer.status, 400, "{body} at {version}: {answer}");
        }
    }
    let seen = cloud.as_(Member).get(&format!("/compute/v2.1/servers/{server}")).await.expect(200);
    assert_eq!((&seen["server"]["status"], &seen["server"]["OS-EXT-STS:task_state"]), (&json!("ACTIVE"), &Value::Null));
}

#[tokio::test]
async fn an_aggregates_action_takes_an_object_and_no_list_of_its_values() {
    let cloud = kit::TestCloud::start().await;
    let admin = cloud.as_(kit::Persona::Admin);
    let made = admin.post("/compute/v2.1/os-aggregates", json!({"aggregate": {"name": "one"}})).await.expect(200);
    let path = format!("/compute/v2.1/os-aggregates/{}/action", made["aggregate"]["id"]);
    for (action, values) in [("add_host", json!(["host"])), ("set_metadata", json!([{"a": "b"}]))] {
        admin.post(&path, json!({action: values})).await.expect(400);
    }
}
