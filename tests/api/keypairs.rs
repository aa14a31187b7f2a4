//! Key pairs. Compute API reference, "Keypairs".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::json;

use crate::servers::text;

const KEYS: &str = "/compute/v2.1/os-keypairs";
const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6nFcHJVTk7oL8yNRxFnFVQW6oDM0Eov2kaZ5HHqDcE me@here";

#[tokio::test]
async fn a_key_is_made_or_imported_and_belongs_to_its_user_alone() {
    let cloud = TestCloud::start().await;
    let member = cloud.as_(Member);
    let made = member.post(KEYS, json!({"keypair": {"name": "made"}})).await.expect(200);
    assert!(text(&made["keypair"]["private_key"]).starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert_eq!(text(&made["keypair"]["fingerprint"]).len(), 47);
    let shown = member.get(&format!("{KEYS}/made")).await.expect(200);
    assert!(shown["keypair"]["private_key"].is_null(), "the private key is shown once");
    assert_eq!(shown["keypair"]["public_key"], made["keypair"]["public_key"]);

    let mine = json!({"keypair": {"name": "mine", "public_key": PUBLIC, "type": "ssh"}});
    let imported = member.at("2.2").post(KEYS, mine.clone()).await.expect(201);
    assert!(imported["keypair"]["private_key"].is_null());
    assert_eq!(imported["keypair"]["type"], "ssh");
    member.at("2.2").post(KEYS, mine.clone()).await.refused(409);
    // Another user's name is free: names are per user, also within a project.
    cloud.as_(Reader).at("2.2").post(KEYS, mine).await.expect(201);
    cloud.as_(Other).get(&format!("{KEYS}/made")).await.refused(404);

    let list = member.get(KEYS).await.expect(200);
    let names: Vec<&str> =
        list["keypairs"].as_array().unwrap().iter().map(|one| text(&one["keypair"]["name"])).collect();
    assert_eq!(names, ["made", "mine"]);
    let page = member.at("2.35").get(&format!("{KEYS}?limit=1")).await.expect(200);
    assert_eq!(page["keypairs"][0]["keypair"]["name"], "made");
    assert!(text(&page["keypairs_links"][0]["href"]).contains("marker=made"));

    // 2.10: administrators act for others.
    let user = cloud.user(Member).await;
    let theirs = cloud.as_(Admin).at("2.10").get(&format!("{KEYS}?user_id={user}")).await.expect(200);
    assert_eq!(theirs["keypairs"].as_array().unwrap().len(), 2);
    cloud.as_(Other).at("2.10").get(&format!("{KEYS}?user_id={user}")).await.refused(403);
    member.delete(&format!("{KEYS}/made")).await.expect(202);
    member.at("2.2").delete(&format!("{KEYS}/mine")).await.expect(204);
    member.delete(&format!("{KEYS}/mine")).await.refused(404);
}

#[tokio::test]
async fn what_is_no_key_or_no_name_is_refused() {
    let cloud = TestCloud::start().await;
    for wrong in [
        json!({"name": ""}),
        json!({"name": " x"}),
        json!({"name": "a/b"}),
        json!({"name": "x".repeat(256)}),
        json!({"name": "x", "public_key": "ssh-rsa AAAA"}),
        json!({"name": "x", "public_key": ""}),
        json!({"name": "x", "public_key": format!("{PUBLIC}\nssh-rsa second")}),
        json!({"name": "x", "public_key": 1}),
        json!({"name": "x", "surprise": 1}),
        json!({"public_key": PUBLIC}),
    ] {
        cloud.as_(Member).post(KEYS, json!({ "keypair": wrong })).await.refused(400);
    }
    let kind = json!({"keypair": {"name": "x", "type": "ssh"}});
    cloud.as_(Member).post(KEYS, kind).await.refused(400);
    let kind = json!({"keypair": {"name": "x", "type": "gpg"}});
    cloud.as_(Member).at("2.2").post(KEYS, kind).await.refused(400);
}

#[tokio::test]
async fn the_quota_of_keys_is_kept() {
    let cloud = TestCloud::configured("quota.key_pairs = 1").await;
    cloud.as_(Member).post(KEYS, json!({"keypair": {"name": "one"}})).await.expect(200);
    let message = cloud.as_(Member).post(KEYS, json!({"keypair": {"name": "two"}})).await.refused(403);
    assert!(message.contains("too many key pairs"), "{message}");
}

#[tokio::test]
async fn a_certificate_is_generated_with_its_key() {
    let cloud = TestCloud::start().await;
    let wanted = json!({"keypair": {"name": "windows", "type": "x509"}});
    let made =
        cloud.as_(Member).at("2.2").post("/compute/v2.1/os-keypairs", wanted).await.expect(201)["keypair"].take();
    assert_eq!(made["type"], "x509");
    assert!(made["public_key"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"), "{made}");
    assert!(made["private_key"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    let shown = cloud.as_(Member).at("2.2").get("/compute/v2.1/os-keypairs/windows").await.expect(200);
    assert_eq!(shown["keypair"]["fingerprint"], made["fingerprint"]);
    assert!(shown["keypair"].get("private_key").is_none());
}
