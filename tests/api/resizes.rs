//! `resize`, `confirmResize`, `revertResize`, and what `os-migrations` says of them.

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud, wait_for,
};
use serde_json::{Value, json};

use crate::servers::text;

const MIGRATIONS: &str = "/compute/v2.1/os-migrations";

async fn larger(cloud: &TestCloud) -> String {
    cloud.flavor(json!({"vcpus": 2, "ram": 256, "disk": 2})).await
}

async fn resize(cloud: &TestCloud, id: &str, flavor: &str) {
    cloud.as_(Member).action(id, json!({"resize": {"flavorRef": flavor}})).await.expect(202);
    cloud.wait_for_status(Member, id, "VERIFY_RESIZE").await;
}

async fn status_of(cloud: &TestCloud, id: &str) -> Value {
    let list = cloud.as_(Admin).get(&format!("{MIGRATIONS}?instance_uuid={id}")).await.expect(200);
    list["migrations"][0]["status"].clone()
}

/// VCPUs and memory that servers and resizes have of this machine.
async fn taken(cloud: &TestCloud) -> (i64, i64) {
    let admin = cloud.as_(Admin).at("latest");
    let host = admin.get("/placement/resource_providers").await.expect(200);
    let host = text(&host["resource_providers"][0]["uuid"]).to_owned();
    let usages = admin.get(&format!("/placement/resource_providers/{host}/usages")).await.expect(200);
    (usages["usages"]["VCPU"].as_i64().unwrap(), usages["usages"]["MEMORY_MB"].as_i64().unwrap())
}

async fn counted(cloud: &TestCloud) -> (i64, i64) {
    let limits = cloud.as_(Member).get("/compute/v2.1/limits").await.expect(200);
    let used = |name: &str| limits["limits"]["absolute"][name].as_i64().unwrap();
    (used("totalCoresUsed"), used("totalRAMUsed"))
}

fn disk_path(cloud: &TestCloud, id: &str, name: &str) -> std::path::PathBuf {
    cloud.state().join("servers").join(id).join(name)
}

fn write(cloud: &TestCloud, id: &str, words: &str) {
    let file = std::fs::OpenOptions::new().write(true).open(disk_path(cloud, id, "disk")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, words.as_bytes(), 0).unwrap();
}

fn disk_begins(cloud: &TestCloud, id: &str, words: &str) -> bool {
    let mut start = vec![0; words.len()];
    let file = std::fs::File::open(disk_path(cloud, id, "disk")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).unwrap();
    start == words.as_bytes()
}

fn disk_gib(cloud: &TestCloud, id: &str) -> u64 {
    std::fs::metadata(disk_path(cloud, id, "disk")).unwrap().len() >> 30
}

#[tokio::test]
async fn a_resize_holds_both_sizes_until_it_is_confirmed() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let addresses = cloud.show(Member, &id).await["addresses"].clone();
    write(&cloud, &id, "before");
    let flavor = larger(&cloud).await;
    let asked = json!({"resize": {"flavorRef": flavor, "OS-DCF:diskConfig": "AUTO"}});
    cloud.as_(Member).action(&id, asked).await.expect(202);
    let server = cloud.wait_for_status(Member, &id, "VERIFY_RESIZE").await;
    assert_eq!(server["flavor"]["id"], flavor);
    assert_eq!(server["OS-DCF:diskConfig"], "AUTO");
    assert_eq!(server["OS-EXT-STS:vm_state"], "resized");
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(server["addresses"], addresses);
    assert_eq!((disk_gib(&cloud, &id), disk_begins(&cloud, &id, "before")), (2, true));
    assert_eq!(taken(&cloud).await, (3, 384), "the old size is held, too");
    assert_eq!(counted(&cloud).await, (2, 256), "the larger size counts");
    for status in ["VERIFY_RESIZE", "resized"] {
        let list = cloud.as_(Member).get(&format!("/compute/v2.1/servers?status={status}")).await.expect(200);
        assert_eq!(list["servers"][0]["id"], *id);
    }
    assert_eq!(status_of(&cloud, &id).await, "finished");

    cloud.as_(Member).action(&id, json!({"confirmResize": null})).await.expect(204);
    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["flavor"]["id"], flavor);
    assert_eq!((taken(&cloud).await, counted(&cloud).await), ((2, 256), (2, 256)));
    assert!(!disk_path(&cloud, &id, "disk.before").exists());
    assert_eq!(status_of(&cloud, &id).await, "confirmed");
    let message = cloud.as_(Member).action(&id, json!({"confirmResize": null})).await.refused(409);
    assert_eq!(message, format!("Cannot 'confirmResize' instance {id} while it is in vm_state active"));
    let actions = cloud.as_(Admin).get(&format!("/compute/v2.1/servers/{id}/os-instance-actions")).await.expect(200);
    let names: Vec<&str> =
        actions["instanceActions"].as_array().unwrap().iter().map(|one| text(&one["action"])).collect();
    assert_eq!(names, ["confirmResize", "resize", "create"]);
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_resize_that_is_taken_back_leaves_what_was() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let before = cloud.show(Member, &id).await;
    write(&cloud, &id, "before");
    resize(&cloud, &id, &larger(&cloud).await).await;
    write(&cloud, &id, "since!");
    cloud.as_(Member).action(&id, json!({"revertResize": null})).await.expect(202);
    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!((&server["flavor"], &server["addresses"]), (&before["flavor"], &before["addresses"]));
    assert_eq!((disk_gib(&cloud, &id), disk_begins(&cloud, &id, "before")), (1, true));
    assert_eq!((taken(&cloud).await, counted(&cloud).await), ((1, 128), (1, 128)));
    assert_eq!(status_of(&cloud, &id).await, "reverted");
    assert!(!disk_path(&cloud, &id, "disk.before").exists());
}

#[tokio::test]
async fn a_stopped_server_is_resized_without_being_started() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    cloud.as_(Member).action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    for (action, status, gib) in [("revertResize", 202, 1), ("confirmResize", 204, 2)] {
        let flavor = cloud.flavor(json!({"disk": 2, "swap": 64, "OS-FLV-EXT-DATA:ephemeral": 1})).await;
        resize(&cloud, &id, &flavor).await;
        assert_eq!(cloud.show(Member, &id).await["OS-EXT-STS:power_state"], 4);
        assert!(disk_path(&cloud, &id, "disk.swap").exists() && disk_path(&cloud, &id, "disk.eph0").exists());
        cloud.as_(Member).action(&id, json!({ action: null })).await.expect(status);
        cloud.wait_for_status(Member, &id, "SHUTOFF").await;
        assert_eq!(disk_gib(&cloud, &id), gib);
        assert_eq!(disk_path(&cloud, &id, "disk.eph0").exists(), gib == 2);
        assert_eq!(disk_path(&cloud, &id, "disk.swap").exists(), gib == 2);
    }
    cloud.as_(Member).action(&id, json!({"os-start": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
}

#[tokio::test]
async fn a_resize_that_does_not_start_leaves_the_server_as_it_was() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    write(&cloud, &id, "before");
    for _ in 0..3 {
        cloud.vms().fail_next_start("the machine has no room");
    }
    let flavor = larger(&cloud).await;
    cloud.as_(Member).action(&id, json!({"resize": {"flavorRef": flavor}})).await.expect(202);
    wait_for("the resize to be given up", async || {
        cloud.later(std::time::Duration::from_secs(60));
        let status = status_of(&cloud, &id).await;
        if status == "error" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["flavor"]["id"], "42");
    assert_eq!((disk_gib(&cloud, &id), disk_begins(&cloud, &id, "before")), (1, true));
    assert_eq!((taken(&cloud).await, counted(&cloud).await), ((1, 128), (1, 128)));
    let path = format!("/compute/v2.1/servers/{id}/os-instance-actions");
    let actions = cloud.as_(Admin).get(&path).await.expect(200);
    assert_eq!(actions["instanceActions"][0]["message"], "Error");
}

#[tokio::test]
async fn a_resize_is_refused_with_a_reason() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({"flavorRef": cloud.flavor(json!({"disk": 2})).await})).await;
    let member = cloud.as_(Member);
    let ask = async |flavor: Value| member.action(&id, json!({"resize": {"flavorRef": flavor}})).await;
    assert_eq!(ask(json!("no such")).await.refused(400), "Flavor no such could not be found.");
    ask(json!("")).await.refused(400);
    ask(Value::Null).await.refused(400);
    let message = ask(json!(42)).await.refused(400);
    assert!(message.contains("Unable to resize disk down"), "{message}");
    let zero = cloud.flavor(json!({"disk": 0})).await;
    let message = ask(json!(zero)).await.refused(400);
    assert!(message.contains("Resize to zero disk flavor is not allowed."), "{message}");
    let same = cloud.show(Member, &id).await["flavor"]["id"].clone();
    assert_eq!(ask(same).await.refused(400), "When resizing, instances must change flavor!");
    let huge = cloud.flavor(json!({"disk": 2, "vcpus": 21})).await;
    let message = ask(json!(huge)).await.refused(403);
    assert!(message.starts_with("Quota exceeded for cores: Requested 20, but already used 1 of 20"), "{message}");
    let wide = cloud.flavor(json!({"disk": 1_000_000})).await;
    let message = ask(json!(wide)).await.refused(400);
    assert!(message.starts_with("No valid host was found"), "{message}");
    for action in ["confirmResize", "revertResize"] {
        let message = member.action(&id, json!({ action: null })).await.refused(409);
        assert_eq!(message, format!("Cannot '{action}' instance {id} while it is in vm_state active"));
    }
    let flavor = json!({"resize": {"flavorRef": cloud.flavor(json!({"disk": 2, "vcpus": 2})).await}});
    cloud.as_(Reader).action(&id, flavor.clone()).await.refused(403);
    cloud.as_(Other).action(&id, flavor.clone()).await.refused(404);
    assert_eq!(taken(&cloud).await, (1, 128), "what was refused took nothing");
    member.action(&id, json!({"lock": null})).await.expect(202);
    member.action(&id, flavor).await.refused(409);
}

#[tokio::test]
async fn a_resize_that_nobody_confirms_is_confirmed_in_time() {
    let cloud = TestCloud::configured("resize_confirm_window_s = 1\n").await;
    let id = cloud.boot(Member, json!({})).await;
    let flavor = larger(&cloud).await;
    cloud.as_(Member).action(&id, json!({"resize": {"flavorRef": flavor}})).await.expect(202);
    let server = wait_for("the resize to be confirmed", async || {
        cloud.later(std::time::Duration::from_secs(60));
        let server = cloud.show(Member, &id).await;
        if server["status"] == "ACTIVE" && server["flavor"]["id"] == *flavor {
            Ok(server)
        } else {
            Err(server.to_string())
        }
    });
    assert_eq!(server.await["OS-EXT-STS:task_state"], Value::Null);
    assert_eq!(status_of(&cloud, &id).await, "confirmed");
}

#[tokio::test]
async fn a_server_that_waits_to_be_confirmed_can_be_deleted_or_set_active() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    resize(&cloud, &id, &larger(&cloud).await).await;
    cloud.as_(Admin).action(&id, json!({"os-resetState": {"state": "active"}})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(taken(&cloud).await, (2, 256), "nothing is held for a resize that cannot be taken back any more");
    resize(&cloud, &id, &cloud.flavor(json!({"disk": 3})).await).await;
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
    assert_eq!(status_of(&cloud, &id).await, "confirmed");
}

#[tokio::test]
async fn migrations_are_listed_by_filter_page_and_microversion() {
    let cloud = TestCloud::start().await;
    let mut servers = Vec::new();
    for _ in 0..2 {
        let id = cloud.boot(Member, json!({})).await;
        resize(&cloud, &id, &larger(&cloud).await).await;
        servers.push(id);
    }
    let old = cloud.as_(Admin).get(MIGRATIONS).await.expect(200);
    let old = &old["migrations"][0];
    assert_eq!(old["instance_uuid"], servers[1]);
    assert!(old["id"].is_i64() && old["new_instance_type_id"].is_i64(), "{old}");
    assert_eq!(old["source_compute"], old["dest_compute"]);
    for absent in ["migration_type", "uuid", "project_id"] {
        assert_eq!(old.get(absent), None);
    }
    let admin = cloud.as_(Admin).at("2.59");
    let page = admin.get(&format!("{MIGRATIONS}?limit=1")).await.expect(200);
    assert_eq!(page["migrations"].as_array().unwrap().len(), 1);
    assert_eq!(page["migrations"][0]["migration_type"], "resize");
    let marker = text(&page["migrations"][0]["uuid"]).to_owned();
    assert!(text(&page["migrations_links"][0]["href"]).ends_with(&format!("limit=1&marker={marker}")));
    let rest = admin.get(&format!("{MIGRATIONS}?marker={marker}")).await.expect(200);
    assert_eq!(rest["migrations"][0]["instance_uuid"], servers[0]);
    assert_eq!(rest.get("migrations_links"), None);
    for (query, count) in [
        ("migration_type=live-migration", 0),
        ("migration_type=resize&status=finished", 2),
        ("status=confirmed", 0),
        ("host=elsewhere", 0),
        ("changes-since=2999-01-01T00:00:00Z", 0),
        ("changes-since=2000-01-01T00:00:00Z", 2),
    ] {
        let list = admin.get(&format!("{MIGRATIONS}?{query}")).await.expect(200);
        assert_eq!(list["migrations"].as_array().unwrap().len(), count, "{query}");
    }
    for wrong in ["surprise=1", "changes-before=2000-01-01T00:00:00Z", "limit=-1", "marker=x", "project_id=x"] {
        admin.get(&format!("{MIGRATIONS}?{wrong}")).await.refused(400);
    }
    cloud.as_(Admin).get(&format!("{MIGRATIONS}?surprise=1")).await.expect(200);
    cloud.as_(Member).get(MIGRATIONS).await.refused(403);

    let of_server = format!("/compute/v2.1/servers/{}/migrations", servers[0]);
    let admin = cloud.as_(Admin).at("2.24");
    assert_eq!(admin.get(&of_server).await.expect(200)["migrations"], json!([]));
    let number = rest["migrations"][0]["id"].as_i64().unwrap();
    let message = admin.get(&format!("{of_server}/{number}")).await.refused(404);
    assert_eq!(message, format!("Migration {number} for server {} is not live-migration.", servers[0]));
    admin.get(&format!("{of_server}/999")).await.refused(404);
    admin.delete(&format!("{of_server}/{number}")).await.refused(404);
}
