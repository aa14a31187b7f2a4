//! Images of servers: createImage and createBackup. Compute API reference, "Servers - run an action".

use kit::{
    Persona::{self, Admin, Member, Other, Reader},
    TestCloud, wait_for,
};
use serde_json::{Value, json};

use crate::servers::text;

async fn create_image(cloud: &TestCloud, id: &str, body: Value) -> String {
    let made = cloud.as_(Member).at("2.45").action(id, json!({"createImage": body})).await.expect(202);
    text(&made["image_id"]).to_owned()
}

async fn image(cloud: &TestCloud, id: &str) -> Value {
    cloud.as_(Member).get(&format!("/image/v2/images/{id}")).await.expect(200)
}

/// The image, once it is active.
pub async fn active(cloud: &TestCloud, who: Persona, id: &str) -> Value {
    wait_for(&format!("image {id} to be active"), async || {
        let image = cloud.as_(who).get(&format!("/image/v2/images/{id}")).await.expect(200);
        if image["status"] == "active" { Ok(image) } else { Err(image.to_string()) }
    })
    .await
}

async fn gone(cloud: &TestCloud, id: &str) {
    wait_for(&format!("image {id} to be gone"), async || {
        let reply = cloud.as_(Member).get(&format!("/image/v2/images/{id}")).await;
        if reply.status == 404 { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;
}

async fn settled(cloud: &TestCloud, id: &str) -> Value {
    wait_for(&format!("nothing to be done to server {id}"), async || {
        let server = cloud.show(Member, id).await;
        if server["OS-EXT-STS:task_state"].is_null() { Ok(server) } else { Err(server.to_string()) }
    })
    .await
}

/// Why the last thing that was done to the server failed, as an administrator reads it in its events since 2.84.
pub fn reason(cloud: &TestCloud, id: &str) -> String {
    let last = cloud.inner().db.read_blocking(|tx| {
        let sql = "SELECT ifnull(message, '') FROM tasks_log WHERE resource = ?1 ORDER BY generation DESC";
        tx.list(sql, [id], |row| row.get::<_, String>(0))
    });
    last.map_err(|error: db::Error| error).unwrap().swap_remove(0)
}

fn root_disk(cloud: &TestCloud, id: &str) -> std::path::PathBuf {
    cloud.state().join("servers").join(id).join("disk")
}

fn write(path: &std::path::Path, offset: u64, data: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(data, offset).unwrap();
}

fn read(path: &std::path::Path, offset: u64, bytes: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut data = vec![0; bytes];
    std::fs::File::open(path).unwrap().read_exact_at(&mut data, offset).unwrap();
    data
}

#[tokio::test]
async fn an_image_of_a_server_says_what_it_is_of_and_boots() {
    let cloud = TestCloud::start().await;
    let properties = json!({"os_distro": "acme", "hw_qemu_guest_agent": "no", "cache_in_nova": "True"});
    let base = cloud.image_with(Member, properties).await;
    let id = cloud.boot(Member, json!({"imageRef": base})).await;
    write(&root_disk(&cloud, &id), 700 << 20, b"what the guest wrote");
    let reply = cloud.as_(Member).action(&id, json!({"createImage": {"name": "of it", "metadata": {"a": "b"}}})).await;
    let location = reply.header("location").unwrap().to_owned();
    assert!(reply.bytes.is_empty(), "no body before 2.45");
    reply.expect(202);
    let (before, image_id) = location.rsplit_once('/').unwrap();
    assert_eq!(before, "https://cloud.test/image/v2/images");
    let first = image(&cloud, image_id).await;
    assert!(["saving", "active"].contains(&text(&first["status"])), "{first}");

    let made = active(&cloud, Member, image_id).await;
    assert_eq!(settled(&cloud, &id).await["status"], "ACTIVE");
    for (name, value) in [
        ("name", json!("of it")),
        ("a", json!("b")),
        ("image_type", json!("snapshot")),
        ("instance_uuid", json!(id)),
        ("base_image_ref", json!(base)),
        ("image_location", json!("snapshot")),
        ("image_state", json!("available")),
        ("user_id", json!(cloud.user(Member).await)),
        ("owner_id", json!(cloud.project(Member).await)),
        ("owner", json!(cloud.project(Member).await)),
        ("os_distro", json!("acme")),
        ("visibility", json!("private")),
        ("disk_format", json!("qcow2")),
        ("container_format", json!("bare")),
        ("min_disk", json!(1)),
        ("virtual_size", json!(1_u64 << 30)),
        ("cache_in_nova", Value::Null),
    ] {
        assert_eq!(made[name], value, "{name} of {made}");
    }
    assert!(made["size"].as_u64().unwrap() < 1 << 20, "holes take nothing: {made}");
    let files = std::fs::read_dir(cloud.state().join("servers").join(&id)).unwrap();
    let left = files.map(|entry| entry.unwrap().file_name()).filter(|name| name.to_string_lossy().contains("snapshot"));
    assert_eq!(left.count(), 0, "the copy of the disk is gone");

    let second = cloud.boot(Member, json!({"imageRef": image_id})).await;
    assert_eq!(read(&root_disk(&cloud, &second), 700 << 20, 20), b"what the guest wrote");
    let actions = format!("/compute/v2.1/servers/{id}/os-instance-actions");
    let list = cloud.as_(Admin).get(&actions).await.expect(200);
    assert_eq!(list["instanceActions"][0]["action"], "createImage");
    let request = text(&list["instanceActions"][0]["request_id"]);
    let action = cloud.as_(Admin).at("2.51").get(&format!("{actions}/{request}")).await.expect(200);
    assert_eq!(action["instanceAction"]["events"][0]["event"], "compute_snapshot_instance");
    assert_eq!(action["instanceAction"]["events"][0]["result"], "Success");
}

#[tokio::test]
async fn a_server_is_imaged_in_each_state_that_has_a_disk_and_stays_what_it_was() {
    let cloud = TestCloud::start().await;
    for (action, status) in [("os-stop", "SHUTOFF"), ("pause", "PAUSED"), ("suspend", "SUSPENDED")] {
        let id = cloud.boot(Member, json!({})).await;
        cloud.as_(Member).action(&id, json!({ action: null })).await.expect(202);
        cloud.wait_for_status(Member, &id, status).await;
        let image_id = create_image(&cloud, &id, json!({"name": "still"})).await;
        active(&cloud, Member, &image_id).await;
        assert_eq!(settled(&cloud, &id).await["status"], status);
        cloud.delete_server(Member, &id).await;
    }
}

#[tokio::test]
async fn a_guest_with_an_agent_is_frozen_and_one_without_is_paused_while_its_disk_is_copied() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let uuid = id.parse().unwrap();
    cloud.vms().guest_has_agent(uuid);
    let mut events = cloud.inner().compute.driver().events();
    let image_id = create_image(&cloud, &id, json!({"name": "frozen"})).await;
    active(&cloud, Member, &image_id).await;
    assert_eq!(cloud.vms().agent_did(uuid), ["freeze", "thaw"]);
    assert!(events.try_recv().is_err(), "nothing else happened to it");

    let plain = cloud.boot(Member, json!({})).await;
    let mut events = cloud.inner().compute.driver().events();
    let image_id = create_image(&cloud, &plain, json!({"name": "paused"})).await;
    active(&cloud, Member, &image_id).await;
    settled(&cloud, &plain).await;
    let seen: Vec<String> =
        std::iter::from_fn(|| events.try_recv().ok()).map(|event| format!("{:?}", event.kind)).collect();
    assert_eq!(seen, ["Changed(Paused)", "Changed(Resumed)"]);
}

#[tokio::test]
async fn an_image_that_needs_an_agent_is_not_made_without_one_and_the_action_says_so() {
    let cloud = TestCloud::start().await;
    let base = cloud.image_with(Member, json!({"os_require_quiesce": "yes"})).await;
    let id = cloud.boot(Member, json!({"imageRef": base})).await;
    let image_id = create_image(&cloud, &id, json!({"name": "never"})).await;
    gone(&cloud, &image_id).await;
    assert_eq!(settled(&cloud, &id).await["status"], "ACTIVE");
    assert!(reason(&cloud, &id).contains("os_require_quiesce"), "{}", reason(&cloud, &id));
    cloud.vms().guest_has_agent(id.parse().unwrap());
    let image_id = create_image(&cloud, &id, json!({"name": "now"})).await;
    active(&cloud, Member, &image_id).await;
}

#[tokio::test]
async fn one_image_at_a_time_and_one_that_is_deleted_while_it_is_saved_ends_cleanly() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let held = cloud.vms().hold(id.parse().unwrap()).await;
    let image_id = create_image(&cloud, &id, json!({"name": "slow"})).await;
    let state = wait_for("the snapshot to be at work", async || {
        let server = cloud.show(Member, &id).await;
        let state = server["OS-EXT-STS:task_state"].clone();
        if state == "image_snapshot" { Ok(state) } else { Err(server.to_string()) }
    })
    .await;
    assert_eq!(image(&cloud, &image_id).await["status"], "saving");
    for action in [json!({"createImage": {"name": "second"}}), json!({"shelve": null}), json!({"os-stop": null})] {
        let message = cloud.as_(Member).action(&id, action).await.refused(409);
        assert!(message.ends_with(&format!("while it is in task_state {}", text(&state))), "{message}");
    }
    // Its bytes are the server's to give, nobody else's.
    let file = format!("/image/v2/images/{image_id}/file");
    let data = [("content-type", "application/octet-stream")];
    cloud.as_(Member).raw(kit::Method::PUT, &file, &data, vec![1; 10]).await.refused(409);
    cloud.as_(Member).delete(&format!("/image/v2/images/{image_id}")).await.expect(204);
    drop(held);
    assert_eq!(settled(&cloud, &id).await["status"], "ACTIVE");
    gone(&cloud, &image_id).await;
    let image_id = create_image(&cloud, &id, json!({"name": "next"})).await;
    active(&cloud, Member, &image_id).await;
}

#[tokio::test]
async fn a_server_that_is_deleted_while_it_is_imaged_takes_the_image_with_it() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let held = cloud.vms().hold(id.parse().unwrap()).await;
    let image_id = create_image(&cloud, &id, json!({"name": "lost"})).await;
    cloud.as_(Member).delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
    drop(held);
    cloud.wait_until_gone(Member, &id).await;
    gone(&cloud, &image_id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn backups_are_rotated_by_server_and_type() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let backup = async |kind: &str, rotation: Value| {
        cloud.later(std::time::Duration::from_secs(1));
        let body = json!({"createBackup": {"name": kind, "backup_type": kind, "rotation": rotation}});
        let made = cloud.as_(Member).at("2.45").action(&id, body).await.expect(202);
        settled(&cloud, &id).await;
        text(&made["image_id"]).to_owned()
    };
    let (first, second) = (backup("daily", json!(2)).await, backup("daily", json!(2)).await);
    let weekly = backup("weekly", json!("1")).await;
    let third = backup("daily", json!(2)).await;
    gone(&cloud, &first).await;
    for kept in [&second, &weekly, &third] {
        let image = image(&cloud, kept).await;
        assert_eq!((&image["status"], &image["image_type"]), (&json!("active"), &json!("backup")));
    }
    assert_eq!(image(&cloud, &third).await["backup_type"], "daily");
    // What is protected stays, and what is not kept at all is gone when it is made.
    let protect = json!([{"op": "replace", "path": "/protected", "value": true}]);
    let patch = [("content-type", "application/openstack-images-v2.1-json-patch")];
    let path = format!("/image/v2/images/{second}");
    cloud.as_(Member).raw(kit::Method::PATCH, &path, &patch, protect.to_string()).await.expect(200);
    let fourth = backup("daily", json!(0)).await;
    gone(&cloud, &fourth).await;
    gone(&cloud, &third).await;
    assert_eq!(image(&cloud, &second).await["status"], "active");
    let body = json!({"createBackup": {"name": "n", "backup_type": "monthly", "rotation": 0}});
    let reply = cloud.as_(Member).action(&id, body).await;
    assert_eq!(reply.header("location"), None);
    reply.expect(202);
}

#[tokio::test]
async fn what_makes_no_image_is_refused_with_a_reason() {
    let cloud = TestCloud::configured("quota.metadata_items = 2").await;
    let id = cloud.boot(Member, json!({})).await;
    let client = cloud.as_(Member);
    for (body, status) in [
        (json!({"createImage": null}), 400),
        (json!({"createImage": {}}), 400),
        (json!({"createImage": {"name": ""}}), 400),
        (json!({"createImage": {"name": "a".repeat(256)}}), 400),
        (json!({"createImage": {"name": "a", "size": 1}}), 400),
        (json!({"createImage": {"name": "a", "metadata": {"": ""}}}), 400),
        (json!({"createImage": {"name": "a", "metadata": {"a".repeat(256): "b"}}}), 400),
        (json!({"createImage": {"name": "a", "metadata": {"a": "b".repeat(256)}}}), 400),
        (json!({"createImage": {"name": "a", "metadata": {"status": "active"}}}), 400),
        (json!({"createImage": {"name": "a", "metadata": {"a": "1", "b": "2", "c": "3"}}}), 403),
        (json!({"createBackup": {"name": "a"}}), 400),
        (json!({"createBackup": {"name": "a", "backup_type": "daily", "rotation": -1}}), 400),
        (json!({"createBackup": {"name": "a", "backup_type": "daily", "rotation": "x"}}), 400),
        (json!({"createBackup": {"name": "a", "backup_type": "d".repeat(256), "rotation": 1}}), 400),
    ] {
        let message = client.action(&id, body.clone()).await.refused(status);
        assert!(!message.is_empty(), "{body}");
    }
    let good = json!({"createImage": {"name": "a"}});
    cloud.as_(Reader).action(&id, good.clone()).await.refused(403);
    cloud.as_(Other).action(&id, good.clone()).await.refused(404);
    cloud.vms().fail_every_start(Some("no room")).unwrap();
    let failed = cloud.ask_for_server(Member, json!({})).await.expect(202);
    let failed = text(&failed["server"]["id"]);
    cloud.wait_for_status(Member, failed, "ERROR").await;
    let message = client.action(failed, good).await.refused(409);
    assert_eq!(message, format!("Cannot 'createImage' instance {failed} while it is in vm_state error"));
    let list = client.get("/image/v2/images?visibility=private").await.expect(200);
    assert_eq!(list["images"], json!([]), "what was refused left no image");
}
