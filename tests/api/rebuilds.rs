//! `rebuild`: the same server from another image. Compute API reference, "Servers - run an action".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud, base64, merged,
};
use serde_json::{Value, json};

use crate::servers::text;

async fn image(cloud: &TestCloud, changes: Value) -> String {
    cloud.image_with(Admin, merged(json!({"visibility": "public"}), changes)).await
}

fn disk(cloud: &TestCloud, id: &str) -> Vec<u8> {
    std::fs::read(cloud.state().join("servers").join(id).join("disk")).unwrap()[..1024].to_vec()
}

fn scribble(cloud: &TestCloud, id: &str, name: &str) {
    let path = cloud.state().join("servers").join(id).join(name);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"what the guest wrote", 0).unwrap();
}

#[tokio::test]
async fn a_rebuilt_server_is_the_same_with_other_disks() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({"metadata": {"old": "1"}, "config_drive": true})).await;
    let before = cloud.show(Member, &id).await;
    scribble(&cloud, &id, "disk");
    let other = image(&cloud, json!({"name": "other"})).await;
    let asked = json!({"rebuild": {
        "imageRef": other, "name": "anew", "metadata": {"new": "2"}, "adminPass": "pass-word", "accessIPv4": "192.0.2.99",
        "OS-DCF:diskConfig": "AUTO",
    }});
    let reply = cloud.as_(Member).action(&id, asked).await;
    let location = reply.header("location").unwrap().to_owned();
    assert!(location.ends_with(&format!("/v2.1/servers/{id}")), "{location}");
    let answer = reply.expect(202)["server"].take();
    assert_eq!(answer["adminPass"], "pass-word");
    assert_eq!((&answer["id"], &answer["name"], &answer["status"]), (&json!(id), &json!("anew"), &json!("REBUILD")));
    assert_eq!(answer["image"]["id"], other);
    assert_eq!(answer["metadata"], json!({"new": "2"}));
    assert_eq!(answer["accessIPv4"], "192.0.2.99");
    assert_eq!(answer["OS-DCF:diskConfig"], "AUTO");
    for absent in ["key_name", "user_data", "config_drive", "OS-EXT-STS:vm_state"] {
        assert_eq!(answer.get(absent), None, "{absent} is not in this answer at 2.1");
    }

    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["addresses"], before["addresses"]);
    assert_eq!(server["created"], before["created"]);
    assert_eq!(server["image"]["id"], other);
    assert!(!disk(&cloud, &id).starts_with(b"what the guest wrote"));
    let drive = std::fs::read(cloud.state().join("servers").join(&id).join("disk.config")).unwrap();
    assert!(drive.windows(9).any(|part| part == b"pass-word"), "the config drive has the new password");
    let actions = cloud.as_(Admin).get(&format!("/compute/v2.1/servers/{id}/os-instance-actions")).await.expect(200);
    assert_eq!(actions["instanceActions"][0]["action"], "rebuild");
    assert_eq!(actions["instanceActions"][0]["message"], Value::Null);
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_stopped_server_stays_stopped_and_one_in_error_runs_again() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let again = json!({"rebuild": {"imageRef": cloud.image().await}});
    cloud.as_(Member).action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    scribble(&cloud, &id, "disk");
    cloud.as_(Member).action(&id, again.clone()).await.expect(202);
    let server = cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    assert_eq!(server["OS-EXT-STS:power_state"], 4);
    assert!(!disk(&cloud, &id).starts_with(b"what the guest wrote"));

    cloud.vms().fail_every_start(Some("the machine has no room")).unwrap();
    let failed = text(&cloud.ask_for_server(Member, json!({})).await.expect(202)["server"]["id"]).to_owned();
    kit::wait_for("the server to fail", async || {
        cloud.later(std::time::Duration::from_secs(60));
        let server = cloud.show(Member, &failed).await;
        if server["status"] == "ERROR" { Ok(()) } else { Err(server.to_string()) }
    })
    .await;
    cloud.vms().fail_every_start(None).unwrap();
    cloud.as_(Member).action(&failed, again).await.expect(202);
    let server = cloud.wait_for_status(Member, &failed, "ACTIVE").await;
    assert_eq!(server.get("fault"), None);
    for id in [&id, &failed] {
        cloud.delete_server(Member, id).await;
    }
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn an_ephemeral_disk_is_kept_where_that_is_asked_for() {
    let cloud = TestCloud::start().await;
    let flavor = cloud.flavor(json!({"OS-FLV-EXT-DATA:ephemeral": 1})).await;
    let id = cloud.boot(Member, json!({"flavorRef": flavor})).await;
    let image_id = cloud.image().await;
    let ephemeral = cloud.state().join("servers").join(&id).join("disk.eph0");
    for (preserve, kept) in [(true, true), (false, false)] {
        scribble(&cloud, &id, "disk.eph0");
        let body = json!({"rebuild": {"imageRef": image_id, "preserve_ephemeral": preserve}});
        cloud.as_(Member).action(&id, body).await.expect(202);
        cloud.wait_for_status(Member, &id, "ACTIVE").await;
        assert_eq!(std::fs::read(&ephemeral).unwrap().starts_with(b"what the guest wrote"), kept);
    }
}

#[tokio::test]
async fn what_a_rebuild_may_change_grows_with_the_microversion() {
    let cloud = TestCloud::start().await;
    let key = json!({"keypair": {"name": "mine"}});
    cloud.as_(Member).post("/compute/v2.1/os-keypairs", key).await.expect(200);
    let id = cloud.boot(Member, json!({})).await;
    let image_id = cloud.image().await;
    for (field, value, since, before) in [
        ("description", json!("d"), "2.19", "2.18"),
        ("key_name", json!("mine"), "2.54", "2.53"),
        ("user_data", json!(base64("x")), "2.57", "2.56"),
    ] {
        let body = json!({"rebuild": {"imageRef": image_id, field: value}});
        let message = cloud.as_(Member).at(before).action(&id, body.clone()).await.refused(400);
        assert!(message.contains(field), "{message}");
        let answer = cloud.as_(Member).at(since).action(&id, body).await.expect(202);
        assert_eq!(answer["server"][field], value);
        cloud.wait_for_status(Member, &id, "ACTIVE").await;
    }
    let member = cloud.as_(Member).at("2.57");
    let answer =
        member.action(&id, json!({"rebuild": {"imageRef": image_id, "key_name": null, "user_data": null}})).await;
    let answer = answer.expect(202);
    assert_eq!((&answer["server"]["key_name"], &answer["server"]["user_data"]), (&Value::Null, &Value::Null));
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    for (wrong, word) in [
        (json!({"personality": []}), "personality"),
        (json!({"key_name": "no such"}), "key_name"),
        (json!({"hostname": "x"}), "hostname"),
        (json!({"trusted_image_certificates": ["a"]}), "trusted_image_certificates"),
        (json!({"user_data": "no base64!"}), "user_data"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"name": " "}), "name"),
        (json!({"imageRef": "x"}), "imageRef"),
        (json!({"surprise": 1}), "surprise"),
    ] {
        let body = merged(json!({"imageRef": image_id}), wrong);
        let message = member.action(&id, json!({ "rebuild": body })).await.refused(400);
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn a_rebuild_is_refused_as_upstream_refuses_it() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let image_id = cloud.image().await;
    let body = json!({"rebuild": {"imageRef": image_id}});
    cloud.as_(Reader).action(&id, body.clone()).await.refused(403);
    cloud.as_(Other).action(&id, body.clone()).await.refused(404);
    cloud.as_(Member).action(&id, json!({"rebuild": {}})).await.refused(400);
    let absent = "0abcdef0-0000-4000-8000-000000000000";
    cloud.as_(Member).action(&id, json!({"rebuild": {"imageRef": absent}})).await.refused(400);
    let large = image(&cloud, json!({"min_disk": 2})).await;
    let message = cloud.as_(Member).action(&id, json!({"rebuild": {"imageRef": large}})).await.refused(400);
    assert_eq!(message, "Flavor's disk is too small for requested image.");
    let hungry = image(&cloud, json!({"min_ram": 4096})).await;
    let message = cloud.as_(Member).action(&id, json!({"rebuild": {"imageRef": hungry}})).await.refused(400);
    assert_eq!(message, "Flavor's memory is too small for requested image.");
    let quota = format!("/compute/v2.1/os-quota-sets/{}", cloud.project(Member).await);
    cloud.as_(Admin).put(&quota, json!({"quota_set": {"metadata_items": 1}})).await.expect(200);
    let much = json!({"rebuild": {"imageRef": image_id, "metadata": {"a": "1", "b": "2"}}});
    cloud.as_(Member).action(&id, much).await.refused(403);
    cloud.as_(Member).action(&id, json!({"pause": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "PAUSED").await;
    let message = cloud.as_(Member).action(&id, body.clone()).await.refused(409);
    assert_eq!(message, format!("Cannot 'rebuild' instance {id} while it is in vm_state paused"));
    cloud.as_(Member).action(&id, json!({"unpause": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    cloud.as_(Member).action(&id, json!({"lock": null})).await.expect(202);
    cloud.as_(Member).action(&id, body).await.refused(409);
}
