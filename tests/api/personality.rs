//! Files that servers are given. Compute API reference, "Create Server", `personality`; before 2.57.

use kit::{
    Persona::{Admin, Member},
    TestCloud, base64,
};
use serde_json::{Value, json};

fn file(path: &str, contents: &str) -> Value {
    json!({"path": path, "contents": base64(contents)})
}

/// Whether its config drive has these words in it.
fn on_drive(cloud: &TestCloud, id: &str, words: &str) -> bool {
    let drive = std::fs::read(cloud.state().join("servers").join(id).join("disk.config")).unwrap();
    drive.windows(words.len()).any(|window| window == words.as_bytes())
}

#[tokio::test]
async fn files_come_with_a_config_drive_and_go_with_a_rebuild() {
    let cloud = TestCloud::start().await;
    let files = [file("/etc/first", "what the first says"), file("second.txt", "what the second says")];
    let id = cloud.boot(Member, json!({"personality": files})).await;
    assert_eq!(cloud.show(Member, &id).await["config_drive"], "True");
    for words in ["what the first says", "what the second says", "\"/content/0001\"", "\"/etc/first\""] {
        assert!(on_drive(&cloud, &id, words), "{words}");
    }

    let image = cloud.image().await;
    let again = json!({"rebuild": {"imageRef": image, "personality": [file("/etc/third", "what the third says")]}});
    cloud.as_(Member).action(&id, again).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert!(on_drive(&cloud, &id, "what the third says") && !on_drive(&cloud, &id, "what the first says"));
    cloud.as_(Member).action(&id, json!({"rebuild": {"imageRef": image}})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert!(!on_drive(&cloud, &id, "what the third says") && !on_drive(&cloud, &id, "content_path"));
}

#[tokio::test]
async fn files_are_as_many_and_as_large_as_the_quota_says() {
    let cloud = TestCloud::start().await;
    let limits = cloud.as_(Member).get("/compute/v2.1/limits").await.expect(200);
    let absolute = &limits["limits"]["absolute"];
    assert_eq!((&absolute["maxPersonality"], &absolute["maxPersonalitySize"]), (&json!(5), &json!(10_240)));
    let ask = async |files: Vec<Value>| cloud.ask_for_server(Member, json!({"personality": files})).await;
    let long = "x".repeat(255);
    ask(vec![file("a", ""); 6]).await.refused(403);
    ask(vec![file(&format!("{long}x"), "")]).await.refused(403);
    ask(vec![file("a", &"x".repeat(10_241))]).await.refused(403);
    ask(vec![file(&long, &"x".repeat(10_240)); 5]).await.expect(202);

    let quota = format!("/compute/v2.1/os-quota-sets/{}", cloud.project(Member).await);
    let body = json!({"quota_set": {"injected_files": 1, "injected_file_content_bytes": -1}});
    cloud.as_(Admin).put(&quota, body).await.expect(200);
    ask(vec![file("a", ""); 2]).await.refused(403);
    ask(vec![file("a", &"x".repeat(20_000))]).await.expect(202);
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let cloud = TestCloud::start().await;
    for bad in [
        json!("text"),
        json!({"path": "/a"}),
        json!({"path": "/a", "contents": "This is not encoded."}),
        json!({"path": "/a", "contents": 1}),
        json!({"path": "", "contents": ""}),
        json!({"path": "/a\u{0}", "contents": ""}),
        json!({"path": "/a", "contents": "", "mode": "0600"}),
    ] {
        cloud.ask_for_server(Member, json!({"personality": [bad]})).await.refused(400);
    }
}
