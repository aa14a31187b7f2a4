//! Shelve, offload, unshelve. Compute API reference, "Servers - run an action".

use std::time::Duration;

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud, wait_for,
};
use serde_json::{Value, json};

use crate::{servers::text, snapshots::reason};

async fn act(cloud: &TestCloud, id: &str, action: &str, status: &str) -> Value {
    cloud.as_(Admin).action(id, json!({ action: null })).await.expect(202);
    cloud.wait_for_status(Member, id, status).await
}

async fn images(cloud: &TestCloud) -> Vec<String> {
    let list = cloud.as_(Member).get("/image/v2/images?visibility=private").await.expect(200);
    list["images"].as_array().unwrap().iter().map(|image| text(&image["name"]).to_owned()).collect()
}

async fn allocations(cloud: &TestCloud, id: &str) -> usize {
    let held = cloud.as_(Admin).get(&format!("/placement/allocations/{id}")).await.expect(200);
    held["allocations"].as_object().unwrap().len()
}

fn disk(cloud: &TestCloud, id: &str) -> std::path::PathBuf {
    cloud.state().join("servers").join(id).join("disk")
}

#[tokio::test]
async fn a_shelved_server_is_an_image_and_its_ports_until_it_is_unshelved() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({"name": "web", "config_drive": true})).await;
    let before = cloud.show(Admin, &id).await;
    {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new().write(true).open(disk(&cloud, &id)).unwrap();
        file.write_all_at(b"what the guest wrote", 500 << 20).unwrap();
    }
    let server = act(&cloud, &id, "shelve", "SHELVED_OFFLOADED").await;
    assert_eq!(server["OS-EXT-STS:vm_state"], "shelved_offloaded");
    assert_eq!(server["OS-EXT-STS:power_state"], 4);
    assert_eq!(server["hostId"], "");
    assert_eq!(cloud.show(Admin, &id).await["OS-EXT-SRV-ATTR:host"], Value::Null);
    assert_eq!(server["addresses"], before["addresses"]);
    assert_eq!(images(&cloud).await, ["web-shelved"]);
    assert_eq!(allocations(&cloud, &id).await, 0);
    assert!(cloud.host().state().taps.is_empty());
    assert!(!cloud.state().join("servers").join(&id).exists());
    for action in ["os-start", "os-stop", "pause", "shelve", "rescue"] {
        cloud.as_(Member).action(&id, json!({ action: null })).await.refused(409);
    }
    cloud.as_(Member).action(&id, json!({"os-getConsoleOutput": {}})).await.refused(409);
    cloud.as_(Admin).action(&id, json!({"shelveOffload": null})).await.refused(409);

    let server = act(&cloud, &id, "unshelve", "ACTIVE").await;
    assert_eq!(server["addresses"], before["addresses"]);
    assert_eq!(server["image"], before["image"]);
    assert_eq!(server["hostId"], before["hostId"]);
    assert_eq!(images(&cloud).await, [""; 0]);
    assert_eq!(allocations(&cloud, &id).await, 1);
    assert_eq!(cloud.host().state().taps.len(), 1);
    let mut wrote = [0; 20];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(disk(&cloud, &id)).unwrap(), &mut wrote, 500 << 20)
        .unwrap();
    assert_eq!(&wrote, b"what the guest wrote");
    let list = cloud.as_(Admin).get(&format!("/compute/v2.1/servers/{id}/os-instance-actions")).await.expect(200);
    let actions: Vec<&str> =
        list["instanceActions"].as_array().unwrap().iter().map(|one| text(&one["action"])).collect();
    assert_eq!(actions, ["unshelve", "shelve", "create"]);
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn servers_are_shelved_from_each_state_and_start_when_they_come_back() {
    let cloud = TestCloud::start().await;
    for (action, status) in [("os-stop", "SHUTOFF"), ("pause", "PAUSED"), ("suspend", "SUSPENDED")] {
        let id = cloud.boot(Member, json!({})).await;
        act(&cloud, &id, action, status).await;
        act(&cloud, &id, "shelve", "SHELVED_OFFLOADED").await;
        act(&cloud, &id, "unshelve", "ACTIVE").await;
        cloud.delete_server(Member, &id).await;
    }
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_server_may_stay_on_its_host_until_somebody_offloads_it_or_its_time_is_up() {
    let cloud = TestCloud::configured("shelved_offload_time = -1").await;
    let id = cloud.boot(Member, json!({})).await;
    let server = act(&cloud, &id, "shelve", "SHELVED").await;
    assert_eq!((&server["OS-EXT-STS:vm_state"], &server["OS-EXT-STS:power_state"]), (&json!("shelved"), &json!(4)));
    assert_eq!(allocations(&cloud, &id).await, 1);
    act(&cloud, &id, "unshelve", "ACTIVE").await;
    assert_eq!(images(&cloud).await, [""; 0]);
    act(&cloud, &id, "shelve", "SHELVED").await;
    cloud.as_(Member).action(&id, json!({"shelveOffload": null})).await.refused(403);
    act(&cloud, &id, "shelveOffload", "SHELVED_OFFLOADED").await;
    assert_eq!(allocations(&cloud, &id).await, 0);
    act(&cloud, &id, "unshelve", "ACTIVE").await;

    let mut cloud = TestCloud::configured("shelved_offload_time = 3600").await;
    let id = cloud.boot(Member, json!({})).await;
    act(&cloud, &id, "shelve", "SHELVED").await;
    cloud.restart().await;
    assert_eq!(cloud.show(Member, &id).await["status"], "SHELVED");
    cloud.later(Duration::from_secs(3601));
    // Reconcilers run once at start.
    cloud.restart().await;
    cloud.wait_for_status(Member, &id, "SHELVED_OFFLOADED").await;
}

#[tokio::test]
async fn a_shelved_server_that_is_deleted_takes_its_image_with_it() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    act(&cloud, &id, "shelve", "SHELVED_OFFLOADED").await;
    cloud.delete_server(Member, &id).await;
    assert_eq!(images(&cloud).await, [""; 0]);
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_server_that_does_not_fit_any_more_stays_shelved_and_says_what_is_short() {
    let cloud = TestCloud::configured("scheduling.ram_allocation_ratio = 1.0").await;
    let providers = cloud.as_(Admin).get("/placement/resource_providers").await.expect(200);
    let node = text(&providers["resource_providers"][0]["uuid"]).to_owned();
    let path = format!("/placement/resource_providers/{node}/inventories");
    let stock = cloud.as_(Admin).get(&path).await.expect(200);
    let mib = stock["inventories"]["MEMORY_MB"]["total"].as_i64().unwrap();
    cloud
        .as_(Admin)
        .put(&format!("/compute/v2.1/os-quota-sets/{}", cloud.project(Member).await), json!({"quota_set": {"ram": -1}}))
        .await
        .expect(200);
    let large = cloud.flavor(json!({"ram": mib * 2 / 3})).await;
    let first = cloud.boot(Member, json!({"flavorRef": large})).await;
    act(&cloud, &first, "shelve", "SHELVED_OFFLOADED").await;
    let second = cloud.boot(Member, json!({"flavorRef": large})).await;
    cloud.as_(Member).action(&first, json!({"unshelve": null})).await.expect(202);
    let server = cloud.wait_for_status(Member, &first, "SHELVED_OFFLOADED").await;
    assert_eq!(server["OS-EXT-STS:task_state"], Value::Null);
    let reason = reason(&cloud, &first);
    assert!(reason.starts_with("No valid host was found:"), "{reason}");
    cloud.delete_server(Member, &second).await;
    act(&cloud, &first, "unshelve", "ACTIVE").await;
}

#[tokio::test]
async fn a_shelved_server_whose_image_is_gone_is_in_error_and_says_so() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    act(&cloud, &id, "shelve", "SHELVED_OFFLOADED").await;
    let list = cloud.as_(Member).get("/image/v2/images?visibility=private").await.expect(200);
    let image = text(&list["images"][0]["id"]);
    cloud.as_(Member).delete(&format!("/image/v2/images/{image}")).await.expect(204);
    cloud.as_(Member).action(&id, json!({"unshelve": null})).await.expect(202);
    let server = cloud.wait_for_status(Member, &id, "ERROR").await;
    assert!(text(&server["fault"]["message"]).contains("the image was deleted"), "{server}");
    assert_eq!(allocations(&cloud, &id).await, 0);
    cloud.delete_server(Member, &id).await;
}

#[tokio::test]
async fn a_snapshot_that_fails_leaves_the_server_off_and_no_image() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let held = cloud.vms().hold(id.parse().unwrap()).await;
    cloud.as_(Member).action(&id, json!({"shelve": null})).await.expect(202);
    let list = cloud.as_(Member).get("/image/v2/images?visibility=private").await.expect(200);
    let image = text(&list["images"][0]["id"]);
    cloud.as_(Member).delete(&format!("/image/v2/images/{image}")).await.expect(204);
    drop(held);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    wait_for("the image to be gone", async || {
        let left = images(&cloud).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    act(&cloud, &id, "os-start", "ACTIVE").await;
}

#[tokio::test]
async fn shelving_has_its_rules() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    for action in ["shelve", "unshelve"] {
        cloud.as_(Reader).action(&id, json!({ action: null })).await.refused(403);
        cloud.as_(Other).action(&id, json!({ action: null })).await.refused(404);
    }
    let message = cloud.as_(Member).action(&id, json!({"unshelve": null})).await.refused(409);
    assert_eq!(message, format!("Cannot 'unshelve' instance {id} while it is in vm_state active"));
    cloud.as_(Member).action(&id, json!({"lock": null})).await.expect(202);
    assert_eq!(
        cloud.as_(Member).action(&id, json!({"shelve": null})).await.refused(409),
        format!("Instance {id} is locked")
    );
}
