//! Rescue and the way back. Compute API reference, "Rescue Server (rescue Action)".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};
use vmspec::{DiskKind, VmSpec};

use crate::servers::text;

/// What the server's machine was last started with.
fn spec(cloud: &TestCloud, id: &str) -> VmSpec {
    let path = cloud.state().join("servers").join(id).join("spec.json");
    VmSpec::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// Kinds and read-only marks of its disks, by slot.
fn disks(cloud: &TestCloud, id: &str) -> Vec<(DiskKind, bool)> {
    spec(cloud, id).disks.iter().map(|disk| (disk.kind, disk.read_only)).collect()
}

fn files(cloud: &TestCloud, id: &str) -> Vec<String> {
    let entries = std::fs::read_dir(cloud.state().join("servers").join(id)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("disk")).collect();
    names.sort();
    names
}

async fn rescue(cloud: &TestCloud, id: &str, body: Value) -> Value {
    let answer = cloud.as_(Member).action(id, json!({"rescue": body})).await.expect(200);
    cloud.wait_for_status(Member, id, "RESCUE").await;
    answer
}

async fn unrescue(cloud: &TestCloud, id: &str) {
    cloud.as_(Member).action(id, json!({"unrescue": null})).await.expect(202);
    cloud.wait_for_status(Member, id, "ACTIVE").await;
}

#[tokio::test]
async fn a_rescued_server_boots_another_disk_and_has_its_own_behind_it() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let flavor = cloud.flavor(json!({"OS-FLV-EXT-DATA:ephemeral": 1})).await;
    let id = cloud.boot(Member, json!({"config_drive": true, "flavorRef": flavor})).await;
    use DiskKind::{ConfigDrive, Ephemeral, Root};
    let own = [(Root, false), (Ephemeral, false), (ConfigDrive, true)];
    assert_eq!(disks(&cloud, &id), own);
    let answer = rescue(&cloud, &id, json!({"adminPass": "let me in"})).await;
    assert_eq!(answer["adminPass"], "let me in");
    assert_eq!(disks(&cloud, &id), [(Root, false), (Ephemeral, false), (ConfigDrive, true)]);
    assert_eq!(spec(&cloud, &id).disks[1].size_bytes, 1 << 30, "its own root disk comes second");
    assert_eq!(spec(&cloud, &id).disks[0].size_bytes, 64 << 10, "the rescue disk is as large as its image");
    let server = cloud.show(Member, &id).await;
    assert_eq!(server["OS-EXT-STS:vm_state"], "rescued");
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(cloud.host().state().taps.len(), 1, "it is connected");
    let listed = cloud.as_(Member).get("/compute/v2.1/servers?status=RESCUE").await.expect(200);
    assert_eq!(listed["servers"][0]["id"], *id);

    unrescue(&cloud, &id).await;
    assert_eq!(disks(&cloud, &id), own);
    assert_eq!(files(&cloud, &id), ["disk", "disk.config", "disk.eph0"]);
    let list = cloud.as_(Admin).get(&format!("/compute/v2.1/servers/{id}/os-instance-actions")).await.expect(200);
    let actions: Vec<&str> =
        list["instanceActions"].as_array().unwrap().iter().map(|one| text(&one["action"])).collect();
    assert_eq!(actions, ["unrescue", "rescue", "create"]);
}

#[tokio::test]
async fn a_stable_rescue_leaves_the_servers_own_disks_where_they_are() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({"config_drive": true})).await;
    use DiskKind::{ConfigDrive, Ephemeral, Root};
    for properties in [
        json!({"hw_rescue_bus": "virtio", "hw_rescue_device": "disk"}),
        json!({"hw_rescue_bus": "scsi"}),
        json!({"hw_rescue_device": "cdrom"}),
    ] {
        let image = cloud.image_with(Member, properties).await;
        rescue(&cloud, &id, json!({"rescue_image_ref": image})).await;
        assert_eq!(disks(&cloud, &id), [(Ephemeral, false), (ConfigDrive, true), (Root, false)]);
        unrescue(&cloud, &id).await;
        assert_eq!(disks(&cloud, &id), [(Root, false), (ConfigDrive, true)]);
    }
}

#[tokio::test]
async fn a_rescue_boots_as_its_image_says_and_a_stable_one_as_the_server_does() {
    let cloud = TestCloud::start().await;
    let uefi = cloud.image_with(Member, json!({"hw_firmware_type": "uefi"})).await;
    let bios = cloud.image_with(Member, json!({"name": "bios"})).await;
    let stable = cloud.image_with(Member, json!({"name": "stable", "hw_rescue_device": "disk"})).await;
    let id = cloud.boot(Member, json!({"imageRef": uefi})).await;
    use vmspec::Firmware::{Bios, Uefi};
    for (image, firmware) in [(&bios, Bios), (&uefi, Uefi), (&stable, Uefi)] {
        assert_eq!(spec(&cloud, &id).firmware, Uefi);
        rescue(&cloud, &id, json!({"rescue_image_ref": image})).await;
        assert_eq!(spec(&cloud, &id).firmware, firmware);
        unrescue(&cloud, &id).await;
    }
    let other = cloud.boot(Member, json!({"imageRef": bios})).await;
    rescue(&cloud, &other, json!({"rescue_image_ref": uefi})).await;
    assert_eq!(spec(&cloud, &other).firmware, Uefi);
    unrescue(&cloud, &other).await;
    assert_eq!(spec(&cloud, &other).firmware, Bios);

    let impossible = cloud.image_with(Member, json!({"name": "signed", "os_secure_boot": "required"})).await;
    let body = json!({"rescue": {"rescue_image_ref": impossible}});
    let message = cloud.as_(Member).action(&id, body).await.refused(400);
    assert!(message.contains("hw_firmware_type=uefi"), "{message}");
}

#[tokio::test]
async fn a_rescued_server_allows_little_and_is_deleted_whole() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let answer = rescue(&cloud, &id, Value::Null).await;
    assert!(text(&answer["adminPass"]).len() >= 12, "{answer}");
    for (name, body) in [
        ("rescue", json!({"rescue": null})),
        ("start", json!({"os-start": null})),
        ("pause", json!({"pause": null})),
        ("suspend", json!({"suspend": null})),
        ("shelve", json!({"shelve": null})),
        ("createImage", json!({"createImage": {"name": "a"}})),
        ("reboot", json!({"reboot": {"type": "HARD"}})),
        ("reboot", json!({"reboot": {"type": "SOFT"}})),
    ] {
        let message = cloud.as_(Member).action(&id, body).await.refused(409);
        assert_eq!(message, format!("Cannot '{name}' instance {id} while it is in vm_state rescued"));
    }
    cloud.vms().guest_powers_off(id.parse().unwrap()).await.unwrap();
    kit::wait_for("the power state to be seen", async || {
        let server = cloud.show(Member, &id).await;
        if server["OS-EXT-STS:power_state"] == 4 { Ok(()) } else { Err(server.to_string()) }
    })
    .await;
    assert_eq!(cloud.show(Member, &id).await["status"], "RESCUE");
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_rescue_outlives_the_program_and_one_that_fails_says_why() {
    let mut cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    rescue(&cloud, &id, Value::Null).await;
    cloud.restart().await;
    assert_eq!(cloud.show(Member, &id).await["status"], "RESCUE");
    unrescue(&cloud, &id).await;

    cloud.vms().fail_every_start(Some("the machine has no room")).unwrap();
    cloud.as_(Member).action(&id, json!({"rescue": null})).await.expect(200);
    kit::wait_for("the rescue to fail", async || {
        cloud.later(std::time::Duration::from_secs(60));
        cloud.inner().db.generation("tasks").bump();
        let server = cloud.show(Member, &id).await;
        if server["status"] == "ERROR" { Ok(()) } else { Err(server.to_string()) }
    })
    .await;
    let server = cloud.show(Member, &id).await;
    assert!(text(&server["fault"]["message"]).contains("the machine has no room"), "{server}");
    assert_eq!(files(&cloud, &id), ["disk"]);
    cloud.vms().fail_every_start(None).unwrap();
    cloud.as_(Member).action(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(disks(&cloud, &id), [(DiskKind::Root, false)]);
}

#[tokio::test]
async fn what_cannot_rescue_is_refused_with_a_reason() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let strange = cloud.image_with(Member, json!({"hw_rescue_bus": "parallel"})).await;
    let queued = json!({"name": "empty", "disk_format": "raw", "container_format": "bare"});
    let queued = cloud.as_(Member).post("/image/v2/images", queued).await.expect(201);
    for body in [
        json!({"adminPass": 5}),
        json!({"adminPass": "x".repeat(256)}),
        json!({"rescue_image_ref": "no-uuid"}),
        json!({"rescue_image_ref": "0abcdef0-0000-4000-8000-000000000000"}),
        json!({"rescue_image_ref": queued["id"]}),
        json!({"rescue_image_ref": strange}),
        json!({"unknown": 1}),
    ] {
        let message = cloud.as_(Member).action(&id, json!({"rescue": body})).await.refused(400);
        assert!(!message.is_empty(), "{body}");
    }
    let message = cloud.as_(Member).action(&id, json!({"unrescue": null})).await.refused(409);
    assert_eq!(message, format!("Cannot 'unrescue' instance {id} while it is in vm_state active"));
    cloud.as_(Reader).action(&id, json!({"rescue": null})).await.refused(403);
    cloud.as_(Other).action(&id, json!({"rescue": null})).await.refused(404);
    cloud.as_(Member).action(&id, json!({"pause": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "PAUSED").await;
    cloud.as_(Member).action(&id, json!({"rescue": null})).await.refused(409);
    cloud.as_(Member).action(&id, json!({"lock": null})).await.expect(202);
    assert_eq!(
        cloud.as_(Member).action(&id, json!({"rescue": null})).await.refused(409),
        format!("Instance {id} is locked")
    );
}
