//! Every operation, death at every point, in process.
//!
//! A story runs once undisturbed and says how many points it passes and what it ends with. Then it runs once for each
//! point, with everything stopped there and a new process on what was left, and must end with the very same.

use std::collections::BTreeSet;

use kit::{Method, Persona::Admin, Reply, TestCloud, wait_for};
use serde_json::{Value, json};
use tasks::Faults;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    Create,
    CreateWithConfigDrive,
    CreateThatFails,
    CreateThenDeleteAtOnce,
    /// The delete comes to the process after the one that died.
    CreateThenDeleteAfterDeath,
    Start,
    Stop,
    RebootSoft,
    RebootHard,
    RebootHardOfStopped,
    RebootHardOfSuspended,
    Pause,
    Unpause,
    Suspend,
    SuspendThatIsRefused,
    Resume,
    ResumeThatFails,
    Attach,
    AttachOfStopped,
    AttachThatIsRefused,
    Detach,
    DetachOfStopped,
    DetachThatIsRefused,
    CreateImage,
    CreateImageOfPaused,
    CreateImageThatFails,
    CreateBackup,
    Rescue,
    RescueThatFails,
    Unrescue,
    Shelve,
    ShelveOfSuspended,
    Unshelve,
    UnshelveThatFails,
    Rebuild,
    RebuildOfStopped,
    Resize,
    ResizeOfStopped,
    ConfirmResize,
    RevertResize,
    ChangePassword,
    /// The guest is still booting when it is asked.
    ChangePasswordOfNew,
    ChangePasswordThatFails,
    DeleteOfRescued,
    DeleteOfShelved,
    DeleteOfResized,
    Delete,
    DeleteOfStopped,
    DeleteOfPaused,
    DeleteOfSuspended,
    DeleteOfFailed,
    Import,
    ImportThatIsRefused,
    /// From a web server that outlives the process.
    WebDownload,
    WebDownloadThatIsRefused,
}

const REFUSED: &str = "this machine cannot do that";
const NO_START: &str = "the machine has no room";

/// Lets images be fetched from a web server of the test's own.
const NEAR_WEB: &str = "images.web_download_ports = []\nimages.web_download_allowed_networks = [\"127.0.0.0/8\"]\n";

/// Longer than any pause between tries.
const PAUSE: time::Duration = time::Duration::seconds(60);

struct Run {
    end: Value,
    passed: u64,
}

impl Story {
    fn is_image(self) -> bool {
        matches!(self, Self::Import | Self::ImportThatIsRefused | Self::WebDownload | Self::WebDownloadThatIsRefused)
    }

    /// How the row must look at the end of an undisturbed run, so that two equal failures are no success.
    fn expected(self) -> Value {
        match self {
            Self::Create | Self::CreateWithConfigDrive | Self::Start => json!(["active", null, 1]),
            Self::RebootSoft | Self::RebootHard | Self::RebootHardOfStopped => json!(["active", null, 1]),
            Self::Stop | Self::AttachOfStopped | Self::DetachOfStopped => json!(["stopped", null, 4]),
            Self::Unpause | Self::Resume | Self::SuspendThatIsRefused | Self::RebootHardOfSuspended => {
                json!(["active", null, 1])
            }
            Self::Attach | Self::AttachThatIsRefused | Self::Detach | Self::DetachThatIsRefused => {
                json!(["active", null, 1])
            }
            Self::CreateImage | Self::CreateImageThatFails | Self::CreateBackup | Self::Unrescue | Self::Unshelve => {
                json!(["active", null, 1])
            }
            Self::Rebuild | Self::ConfirmResize | Self::RevertResize | Self::ChangePassword => {
                json!(["active", null, 1])
            }
            Self::ChangePasswordOfNew | Self::ChangePasswordThatFails => json!(["active", null, 1]),
            Self::RebuildOfStopped => json!(["stopped", null, 4]),
            Self::Resize => json!(["resized", null, 1]),
            Self::ResizeOfStopped => json!(["resized", null, 4]),
            Self::Rescue => json!(["rescued", null, 1]),
            Self::RescueThatFails => json!(["error", null, 4]),
            Self::Shelve | Self::ShelveOfSuspended | Self::UnshelveThatFails => json!(["shelved_offloaded", null, 4]),
            Self::Pause | Self::CreateImageOfPaused => json!(["paused", null, 3]),
            Self::Suspend | Self::ResumeThatFails => json!(["suspended", null, 4]),
            Self::CreateThatFails => json!(["error", null, 0]),
            Self::Import | Self::WebDownload => json!("active"),
            Self::ImportThatIsRefused | Self::WebDownloadThatIsRefused => json!("queued"),
            Self::CreateThenDeleteAtOnce
            | Self::CreateThenDeleteAfterDeath
            | Self::Delete
            | Self::DeleteOfStopped
            | Self::DeleteOfPaused
            | Self::DeleteOfSuspended
            | Self::DeleteOfRescued
            | Self::DeleteOfShelved
            | Self::DeleteOfResized
            | Self::DeleteOfFailed => Value::Null,
        }
    }

    /// What must be there before, made by a process that does not die.
    async fn prepare(self, cloud: &TestCloud) -> Option<String> {
        match self {
            Self::Create
            | Self::CreateWithConfigDrive
            | Self::CreateThenDeleteAtOnce
            | Self::CreateThenDeleteAfterDeath => {
                cloud.image().await;
                None
            }
            Self::CreateThatFails => {
                cloud.image().await;
                cloud.vms().fail_every_start(Some(NO_START)).unwrap();
                None
            }
            Self::Stop | Self::RebootSoft | Self::RebootHard | Self::Delete | Self::Pause | Self::Suspend => {
                Some(boot(cloud).await)
            }
            Self::Attach | Self::CreateImage | Self::Shelve | Self::Rescue => Some(boot(cloud).await),
            Self::Rebuild | Self::Resize | Self::ChangePassword => Some(boot(cloud).await),
            Self::ChangePasswordOfNew | Self::ChangePasswordThatFails => {
                let id = boot(cloud).await;
                let looks = if self == Self::ChangePasswordOfNew { 1 } else { u32::MAX };
                cloud.vms().agent_comes_late(id.parse().unwrap(), looks).unwrap();
                Some(id)
            }
            Self::RebuildOfStopped | Self::ResizeOfStopped => Some(boot_and(cloud, "os-stop", "SHUTOFF").await),
            Self::ConfirmResize | Self::RevertResize | Self::DeleteOfResized => {
                let id = boot(cloud).await;
                resize(cloud, &id).await;
                cloud.wait_for_status(Admin, &id, "VERIFY_RESIZE").await;
                Some(id)
            }
            Self::CreateBackup => {
                let id = boot(cloud).await;
                backup(cloud, &id).await;
                settle(cloud, self, &id, None).await;
                cloud.wait_for_status(Admin, &id, "ACTIVE").await;
                Some(id)
            }
            Self::CreateImageThatFails => {
                let needs = json!({"os_require_quiesce": "yes", "hw_qemu_guest_agent": "no"});
                let image = cloud.image_with(Admin, needs).await;
                Some(cloud.boot(Admin, json!({"imageRef": image})).await)
            }
            Self::RescueThatFails => {
                let id = boot(cloud).await;
                cloud.vms().fail_every_start(Some(NO_START)).unwrap();
                Some(id)
            }
            Self::Unrescue | Self::DeleteOfRescued => {
                let id = boot(cloud).await;
                cloud.as_(Admin).action(&id, json!({"rescue": null})).await.expect(200);
                cloud.wait_for_status(Admin, &id, "RESCUE").await;
                Some(id)
            }
            Self::Unshelve | Self::DeleteOfShelved => Some(boot_and(cloud, "shelve", "SHELVED_OFFLOADED").await),
            Self::UnshelveThatFails => {
                let id = boot_and(cloud, "shelve", "SHELVED_OFFLOADED").await;
                cloud.vms().fail_every_start(Some(NO_START)).unwrap();
                Some(id)
            }
            Self::SuspendThatIsRefused | Self::AttachThatIsRefused => {
                let id = boot(cloud).await;
                cloud.vms().refuse_extras(Some(REFUSED)).unwrap();
                Some(id)
            }
            Self::Start | Self::RebootHardOfStopped | Self::DeleteOfStopped | Self::AttachOfStopped => {
                Some(boot_and(cloud, "os-stop", "SHUTOFF").await)
            }
            Self::Unpause | Self::DeleteOfPaused | Self::CreateImageOfPaused => {
                Some(boot_and(cloud, "pause", "PAUSED").await)
            }
            Self::Resume | Self::DeleteOfSuspended | Self::RebootHardOfSuspended | Self::ShelveOfSuspended => {
                Some(boot_and(cloud, "suspend", "SUSPENDED").await)
            }
            Self::ResumeThatFails => {
                let id = boot_and(cloud, "suspend", "SUSPENDED").await;
                cloud.vms().fail_every_start(Some(NO_START)).unwrap();
                Some(id)
            }
            Self::Detach | Self::DetachOfStopped | Self::DetachThatIsRefused => {
                let id = boot(cloud).await;
                attach(cloud, &id).await.expect(200);
                if self == Self::DetachOfStopped {
                    cloud.as_(Admin).action(&id, json!({"os-stop": null})).await.expect(202);
                    cloud.wait_for_status(Admin, &id, "SHUTOFF").await;
                }
                if self == Self::DetachThatIsRefused {
                    cloud.vms().refuse_extras(Some(REFUSED)).unwrap();
                }
                Some(id)
            }
            Self::DeleteOfFailed => {
                cloud.vms().fail_every_start(Some(NO_START)).unwrap();
                let id = created(ask(cloud, json!({})).await);
                settle(cloud, self, &id, None).await;
                cloud.wait_for_status(Admin, &id, "ERROR").await;
                cloud.vms().fail_every_start(None).unwrap();
                Some(id)
            }
            Self::Import | Self::ImportThatIsRefused => {
                let id = empty_image(cloud, if self == Self::Import { "raw" } else { "qcow2" }).await;
                let headers = [("content-type", "application/octet-stream")];
                let path = format!("/image/v2/images/{id}/stage");
                cloud.as_(Admin).raw(Method::PUT, &path, &headers, vec![7; 100_000]).await.expect(204);
                Some(id)
            }
            Self::WebDownload => Some(empty_image(cloud, "raw").await),
            Self::WebDownloadThatIsRefused => Some(empty_image(cloud, "qcow2").await),
        }
    }

    /// The request itself, to a process that may die. Answers the id of what it is about.
    async fn act(self, cloud: &TestCloud, prepared: Option<String>) -> String {
        let admin = cloud.as_(Admin);
        let action = |body: Value| {
            let (admin, id) = (admin.clone(), prepared.clone().unwrap_or_default());
            async move {
                admin.action(&id, body).await.expect(202);
                id
            }
        };
        match self {
            Self::Create | Self::CreateThatFails | Self::CreateThenDeleteAfterDeath => {
                created(ask(cloud, json!({})).await)
            }
            Self::CreateWithConfigDrive => {
                let changes = json!({"config_drive": true, "user_data": kit::base64("#!/bin/sh\n")});
                created(ask(cloud, changes).await)
            }
            Self::CreateThenDeleteAtOnce => {
                let id = created(ask(cloud, json!({})).await);
                delete(cloud, &id).await;
                id
            }
            Self::Start => action(json!({"os-start": null})).await,
            Self::Stop => action(json!({"os-stop": null})).await,
            Self::RebootSoft => action(json!({"reboot": {"type": "SOFT"}})).await,
            Self::RebootHard | Self::RebootHardOfStopped | Self::RebootHardOfSuspended => {
                action(json!({"reboot": {"type": "HARD"}})).await
            }
            Self::Pause => action(json!({"pause": null})).await,
            Self::Unpause => action(json!({"unpause": null})).await,
            Self::Suspend | Self::SuspendThatIsRefused => action(json!({"suspend": null})).await,
            Self::Resume | Self::ResumeThatFails => action(json!({"resume": null})).await,
            Self::Attach | Self::AttachOfStopped | Self::AttachThatIsRefused => {
                let id = prepared.unwrap();
                unless_dead(cloud, attach(cloud, &id)).await;
                id
            }
            Self::Detach | Self::DetachOfStopped | Self::DetachThatIsRefused => {
                let id = prepared.unwrap();
                let list = admin.get(&interfaces(&id)).await.expect(200);
                let port = list["interfaceAttachments"][1]["port_id"].as_str().unwrap().to_owned();
                unless_dead(cloud, admin.delete(&format!("{}/{port}", interfaces(&id)))).await;
                id
            }
            Self::CreateImage | Self::CreateImageOfPaused | Self::CreateImageThatFails => {
                action(json!({"createImage": {"name": "of it"}})).await
            }
            Self::CreateBackup => {
                let id = prepared.unwrap();
                backup(cloud, &id).await;
                id
            }
            Self::Rescue | Self::RescueThatFails => {
                let id = prepared.unwrap();
                admin.action(&id, json!({"rescue": null})).await.expect(200);
                id
            }
            Self::Unrescue => action(json!({"unrescue": null})).await,
            Self::Rebuild | Self::RebuildOfStopped => {
                action(json!({"rebuild": {"imageRef": cloud.image().await}})).await
            }
            Self::Resize | Self::ResizeOfStopped => {
                let id = prepared.unwrap();
                resize(cloud, &id).await;
                id
            }
            Self::ConfirmResize => {
                let id = prepared.unwrap();
                admin.action(&id, json!({"confirmResize": null})).await.expect(204);
                id
            }
            Self::RevertResize => action(json!({"revertResize": null})).await,
            Self::ChangePassword | Self::ChangePasswordOfNew | Self::ChangePasswordThatFails => {
                let id = prepared.unwrap();
                let body = json!({"changePassword": {"adminPass": "new password"}});
                tokio::select! {
                    () = unless_dead(cloud, admin.action(&id, body)) => {}
                    () = never_pausing(cloud, &id) => {}
                }
                id
            }
            Self::Shelve | Self::ShelveOfSuspended => action(json!({"shelve": null})).await,
            Self::Unshelve | Self::UnshelveThatFails => action(json!({"unshelve": null})).await,
            Self::Delete
            | Self::DeleteOfStopped
            | Self::DeleteOfPaused
            | Self::DeleteOfRescued
            | Self::DeleteOfShelved
            | Self::DeleteOfResized
            | Self::DeleteOfSuspended
            | Self::DeleteOfFailed => {
                let id = prepared.unwrap();
                delete(cloud, &id).await;
                id
            }
            Self::Import | Self::ImportThatIsRefused => {
                let id = prepared.unwrap();
                let body = json!({"method": {"name": "glance-direct"}});
                admin.post(&format!("/image/v2/images/{id}/import"), body).await.expect(202);
                id
            }
            Self::WebDownload | Self::WebDownloadThatIsRefused => {
                let id = prepared.unwrap();
                let body = json!({"method": {"name": "web-download", "uri": web_server().await}});
                admin.post(&format!("/image/v2/images/{id}/import"), body).await.expect(202);
                id
            }
        }
    }
}

async fn empty_image(cloud: &TestCloud, format: &str) -> String {
    let body = json!({"name": "guest", "disk_format": format, "container_format": "bare"});
    let image = cloud.as_(Admin).post("/image/v2/images", body).await.expect(201);
    image["id"].as_str().unwrap().to_owned()
}

/// Answers the URL of what it serves, as long as the test runs.
async fn web_server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let web = axum::Router::new().fallback(async || vec![7_u8; 100_000]);
    tokio::spawn(async move { axum::serve(listener, web).await.unwrap() });
    format!("http://{at}/disk")
}

async fn ask(cloud: &TestCloud, changes: Value) -> Reply {
    cloud.ask_for_server(Admin, changes).await
}

async fn boot(cloud: &TestCloud) -> String {
    cloud.boot(Admin, json!({})).await
}

/// A server that was told this and has become that.
async fn boot_and(cloud: &TestCloud, action: &str, status: &str) -> String {
    let id = boot(cloud).await;
    cloud.as_(Admin).action(&id, json!({ action: null })).await.expect(202);
    cloud.wait_for_status(Admin, &id, status).await;
    id
}

fn interfaces(id: &str) -> String {
    format!("/compute/v2.1/servers/{id}/os-interface")
}

async fn attach(cloud: &TestCloud, id: &str) -> Reply {
    cloud.as_(Admin).post(&interfaces(id), json!({"interfaceAttachment": {}})).await
}

/// One backup is kept.
async fn backup(cloud: &TestCloud, id: &str) {
    let body = json!({"createBackup": {"name": "of it", "backup_type": "daily", "rotation": 1}});
    cloud.as_(Admin).action(id, body).await.expect(202);
}

/// Asks for twice of everything.
async fn resize(cloud: &TestCloud, id: &str) {
    let flavor = cloud.flavor(json!({"vcpus": 2, "ram": 256, "disk": 2})).await;
    cloud.as_(Admin).action(id, json!({"resize": {"flavorRef": flavor}})).await.expect(202);
}

/// A request whose answer waits for its operation has none once the process is dead.
async fn unless_dead(cloud: &TestCloud, request: impl Future<Output = Reply>) {
    let faults = cloud.faults();
    let dead = wait_for("an answer, or death", async || if faults.dead() { Ok(()) } else { Err("neither".to_owned()) });
    tokio::select! {
        reply = request => assert!(reply.status.as_u16() < 500, "{reply}"),
        () = dead => {}
    }
}

fn created(reply: Reply) -> String {
    reply.expect(202)["server"]["id"].as_str().unwrap().to_owned()
}

async fn delete(cloud: &TestCloud, id: &str) {
    cloud.as_(Admin).delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
}

/// Waits until nothing is being done to `id`, or the process has died at point `die_at`. Pauses between tries are skipped.
async fn settle(cloud: &TestCloud, story: Story, id: &str, die_at: Option<u64>) {
    let faults = cloud.faults();
    wait_for(&format!("{id} to settle"), async || {
        if die_at.is_some_and(|point| faults.passed() >= point) {
            return Ok(());
        }
        let tasks = under_way(cloud, id)?;
        let Some((not_before_ms, state)) = tasks.first() else {
            // Points come in pairs, and the last pair is around the record that ended the task: it was seen, so the first
            // of them was passed. Only a delete can cut an act short, so that its second point never comes.
            let between = faults.passed() % 2 == 1 && story != Story::CreateThenDeleteAtOnce;
            return if between { Err("the last record".to_owned()) } else { Ok(()) };
        };
        skip_pause(cloud, *not_before_ms);
        Err(state.clone())
    })
    .await;
}

fn skip_pause(cloud: &TestCloud, not_before_ms: i64) {
    if i128::from(not_before_ms) * 1_000_000 > cloud.clock.now().unix_timestamp_nanos() {
        cloud.clock.advance(PAUSE);
        cloud.inner().db.generation("tasks").bump();
    }
}

/// Skips the pauses of what is done to `id`, beside a request that waits for it.
async fn never_pausing(cloud: &TestCloud, id: &str) {
    wait_for("the answer of what waits for an operation", async || {
        for (not_before_ms, _) in under_way(cloud, id)? {
            skip_pause(cloud, not_before_ms);
        }
        Err("none yet".to_owned())
    })
    .await
}

/// When its next step is due, and its state.
fn under_way(cloud: &TestCloud, id: &str) -> Result<Vec<(i64, String)>, String> {
    let found = cloud.inner().db.read_blocking(|tx| {
        let sql = "SELECT not_before_ms, kind || ' ' || state FROM tasks_task WHERE resource = ?";
        tx.list(sql, [id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
    });
    found.map_err(|error: db::Error| error.to_string())
}

fn names(path: &std::path::Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(path) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Everything there is of one server or image, without what differs between any two: ids, times, addresses.
async fn end_state(cloud: &TestCloud, story: Story, id: &str) -> Value {
    let state = if story.is_image() { image_state(cloud, id) } else { server_state(cloud, id).await };
    serde_json::from_str(&state.to_string().replace(id, "ID")).unwrap()
}

fn image_state(cloud: &TestCloud, id: &str) -> Value {
    let rows = cloud.inner().db.read_blocking(|tx| {
        tx.list(
            "SELECT status, json_array(size_bytes, virtual_size_bytes, checksum, upload_id, staged_size_bytes,
                                       staged_checksum, os_hash_value) FROM images_image WHERE id = ?",
            [id],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )
    });
    let rows: Vec<(String, String)> = rows.map_err(|error: db::Error| error).unwrap();
    let of_image = |folder: &str| -> Vec<String> {
        let all = names(&cloud.state().join("images").join(folder));
        let mine = all.into_iter().filter(|name| name.starts_with(id));
        mine.map(|name| name.replace(id, "ID")).collect()
    };
    json!({
        "row": rows.first().map(|(status, _)| status),
        "rest": rows.first().map(|(_, rest)| rest),
        "data": of_image("data"),
        "staging": of_image("staging"),
        "log": log(cloud, id),
    })
}

/// How the last operation ended.
fn log(cloud: &TestCloud, id: &str) -> Value {
    let last = cloud.inner().db.read_blocking(|tx| {
        let sql =
            "SELECT json_array(action, result, message) FROM tasks_log WHERE resource = ? ORDER BY generation DESC";
        tx.list(sql, [id], |row| row.get::<_, String>(0))
    });
    let last: Vec<String> = last.map_err(|error: db::Error| error).unwrap();
    last.first().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

async fn server_state(cloud: &TestCloud, id: &str) -> Value {
    let read = |sql: &'static str| {
        let rows = cloud.inner().db.read_blocking(|tx| tx.list(sql, [id], |row| row.get::<_, String>(0)));
        let rows: Vec<String> = rows.map_err(|error: db::Error| error).unwrap();
        rows.iter().map(|text| serde_json::from_str::<Value>(text).unwrap()).collect::<Vec<_>>()
    };
    let row = read("SELECT json_array(vm_state, task_state, power_state) FROM compute_server WHERE id = ?");
    let ports = read("SELECT json_quote(port_id) FROM compute_server_nic WHERE server_id = ? ORDER BY position");
    let own = |port: &dyn ToString| ports.contains(&json!(port.to_string()));
    let host = cloud.host().state();
    let uuid = Uuid::parse_str(id).unwrap();
    let vm = match cloud.inner().compute.driver().observe(uuid).await.unwrap() {
        compute::vms::Observed::Running(running) => json!(["running", running.state]),
        compute::vms::Observed::Gone(gone) => {
            json!(["gone", gone.exit.map(|exit| (format!("{:?}", exit.cause), exit.requested))])
        }
        other => json!(format!("{other:?}")),
    };
    json!({
        "row": row.first(),
        "fault": read("SELECT json_quote(json_extract(fault, '$.message')) FROM compute_server
                       WHERE id = ? AND fault IS NOT NULL"),
        "allocations": read("SELECT json_array(a.class_id, a.used) FROM placement_allocation a
                             JOIN placement_consumer c ON c.id = a.consumer_id WHERE c.uuid = ? ORDER BY a.class_id"),
        "ports": read("SELECT json_array(device_owner, host_id <> '', plugged, problem,
                         (SELECT count(*) FROM network_fixed_ip f WHERE f.port_id = p.id))
                       FROM network_port p WHERE device_id = ?"),
        "nics": cloud.vms().devices(uuid).await.map(|devices| {
            devices.nics.iter().map(|nic| (nic.slot, own(&nic.port_id))).collect::<Vec<_>>()
        }).ok(),
        "taps": host.taps.iter().filter(|(_, port)| own(port)).count(),
        // No port of anybody else's is plugged here, and none of a server that is gone.
        "foreign taps": host.taps.iter().filter(|(_, port)| !own(port)).count(),
        "firewalls": host.firewalls.values().flatten().filter(|wall| own(&wall.port_id)).count(),
        "images": read("SELECT json_array(i.status, i.name, i.size_bytes) FROM images_image i
                        JOIN images_property p ON p.image_id = i.id
                        WHERE p.name = 'instance_uuid' AND p.value = ? ORDER BY i.created_at"),
        "vm": vm,
        "files": names(&cloud.state().join("servers").join(id)),
        "log": log(cloud, id),
    })
}

/// One run of the story on a cloud without servers, which has none afterwards.
async fn run(cloud: &mut TestCloud, story: Story, die_at: Option<u64>, expected: Option<&Value>) -> Run {
    let prepared = story.prepare(cloud).await;
    cloud.crash_at(die_at.map_or_else(Faults::default, Faults::dying_at)).await;
    let id = story.act(cloud, prepared).await;
    settle(cloud, story, &id, die_at).await;
    let passed = cloud.faults().passed();
    // Also when it passed fewer points than that: what follows must not die.
    if die_at.is_some() {
        cloud.crash().await;
    }
    if story == Story::CreateThenDeleteAfterDeath {
        delete(cloud, &id).await;
    }
    settle(cloud, story, &id, None).await;
    // What converges may do so after the operation.
    let end = wait_for(&format!("{story:?} that died at {die_at:?} to end well"), async || {
        let end = end_state(cloud, story, &id).await;
        let well = match expected {
            Some(expected) => end == *expected,
            // At rest, too: rules follow ports a moment later.
            None => {
                let count = |what: &str| end[what].as_u64().map_or(0, |n| usize::try_from(n).unwrap());
                let ports = end["ports"].as_array().map_or(0, Vec::len);
                end["row"] == story.expected() && count("firewalls") == ports && count("foreign taps") == 0
            }
        };
        let wanted = expected.map(ToString::to_string).unwrap_or_default();
        if well { Ok(end) } else { Err(format!("\n  it ended as {end}\n  and not as   {wanted}")) }
    })
    .await;
    let no_starts = [Story::CreateThatFails, Story::ResumeThatFails, Story::RescueThatFails, Story::UnshelveThatFails];
    if no_starts.contains(&story) {
        cloud.vms().fail_every_start(None).unwrap();
    }
    if matches!(story, Story::SuspendThatIsRefused | Story::AttachThatIsRefused | Story::DetachThatIsRefused) {
        cloud.vms().refuse_extras(None).unwrap();
    }
    if story.is_image() {
        cloud.as_(Admin).delete(&format!("/image/v2/images/{id}")).await.expect(204);
    } else if !story.expected().is_null() {
        cloud.delete_server(Admin, &id).await;
    }
    cloud.wait_for_no_leaks().await;
    Run { end, passed }
}

pub async fn dies_everywhere(story: Story) {
    let mut cloud = TestCloud::configured(NEAR_WEB).await;
    let undisturbed = run(&mut cloud, story, None, None).await;
    assert!(undisturbed.passed >= 2, "{story:?} passes no point at all");
    let (mut deaths, mut point) = (0, 1);
    // Of two requests at once, the second can come early or late: a run may have fewer points than another.
    let varies = story == Story::CreateThenDeleteAtOnce;
    let mut spare = if varies { 4 } else { 0 };
    loop {
        let again = run(&mut cloud, story, Some(point), Some(&undisturbed.end)).await;
        if again.passed >= point {
            deaths += 1;
        } else if spare == 0 {
            break;
        } else {
            spare -= 1;
        }
        point += 1;
    }
    println!("{story:?}: died at each of {deaths} points, ends as if it never had: {}", undisturbed.end);
    if !varies {
        assert_eq!(deaths, undisturbed.passed, "{story:?} was to die at every point that it passes");
    }
}
