//! Pause and suspend, and the ways back. Compute API reference, "Servers - run an action".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud, wait_for,
};
use serde_json::{Value, json};

use crate::servers::text;

const PAUSE: &str = "pause";
const UNPAUSE: &str = "unpause";
const SUSPEND: &str = "suspend";
const RESUME: &str = "resume";

async fn act(cloud: &TestCloud, id: &str, action: &str) {
    cloud.as_(Member).action(id, json!({ action: null })).await.expect(202);
}

/// Boots a server and brings it where `actions` lead.
async fn server_after(cloud: &TestCloud, actions: &[(&str, &str)]) -> String {
    let id = cloud.boot(Member, json!({})).await;
    for (action, status) in actions {
        act(cloud, &id, action).await;
        cloud.wait_for_status(Member, &id, status).await;
    }
    id
}

async fn paused(cloud: &TestCloud) -> String {
    server_after(cloud, &[(PAUSE, "PAUSED")]).await
}

async fn suspended(cloud: &TestCloud) -> String {
    server_after(cloud, &[(SUSPEND, "SUSPENDED")]).await
}

/// What a suspended server has in its directory, besides what every server has.
fn suspended_files(cloud: &TestCloud, id: &str) -> Vec<String> {
    let entries = std::fs::read_dir(cloud.state().join("servers").join(id)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("suspended")).collect();
    names.sort();
    names
}

async fn runs(cloud: &TestCloud, id: &str) -> Option<compute::vms::VmState> {
    match cloud.vms().observe(id.parse().unwrap()).await.unwrap() {
        compute::vms::Observed::Running(running) => Some(running.state),
        _ => None,
    }
}

/// The newest thing done to the server, with its events.
async fn last_action(cloud: &TestCloud, id: &str) -> Value {
    let path = format!("/compute/v2.1/servers/{id}/os-instance-actions");
    let list = cloud.as_(Admin).get(&path).await.expect(200);
    let request_id = text(&list["instanceActions"][0]["request_id"]).to_owned();
    let path = format!("{path}/{request_id}");
    cloud.as_(Admin).at("2.51").get(&path).await.expect(200)["instanceAction"].take()
}

#[tokio::test]
async fn a_paused_server_keeps_its_process_and_goes_on() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    act(&cloud, &id, PAUSE).await;
    let server = cloud.wait_for_status(Member, &id, "PAUSED").await;
    assert_eq!(server["OS-EXT-STS:vm_state"], "paused");
    assert_eq!(server["OS-EXT-STS:power_state"], 3);
    assert_eq!(runs(&cloud, &id).await, Some(compute::vms::VmState::Paused));
    assert_eq!(cloud.host().state().taps.len(), 1, "a paused server stays connected");
    assert_eq!(last_action(&cloud, &id).await["events"][0]["event"], "compute_pause_instance");
    let listed = cloud.as_(Member).get("/compute/v2.1/servers?status=paused").await.expect(200);
    assert_eq!(listed["servers"][0]["id"], *id);

    act(&cloud, &id, UNPAUSE).await;
    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(runs(&cloud, &id).await, Some(compute::vms::VmState::Running));
    let action = last_action(&cloud, &id).await;
    assert_eq!((&action["action"], &action["message"]), (&json!("unpause"), &Value::Null));
    assert_eq!(action["events"][0]["event"], "compute_unpause_instance");
}

#[tokio::test]
async fn a_suspended_server_is_files_only_and_goes_on_from_them() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let addresses = cloud.show(Member, &id).await["addresses"].clone();
    act(&cloud, &id, SUSPEND).await;
    let server = cloud.wait_for_status(Member, &id, "SUSPENDED").await;
    assert_eq!(server["OS-EXT-STS:vm_state"], "suspended");
    assert_eq!(server["OS-EXT-STS:power_state"], 4);
    assert_eq!(server["addresses"], addresses);
    assert_eq!(runs(&cloud, &id).await, None);
    assert!(cloud.host().state().taps.is_empty(), "a suspended server is not connected");
    assert_eq!(suspended_files(&cloud, &id), ["suspended.json", "suspended.memory", "suspended.state"]);
    assert_eq!(last_action(&cloud, &id).await["events"][0]["event"], "compute_suspend_instance");
    let listed = cloud.as_(Member).get("/compute/v2.1/servers?status=SUSPENDED").await.expect(200);
    assert_eq!(listed["servers"][0]["id"], *id);

    act(&cloud, &id, RESUME).await;
    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(runs(&cloud, &id).await, Some(compute::vms::VmState::Running));
    assert_eq!(cloud.host().state().taps.len(), 1);
    assert_eq!(suspended_files(&cloud, &id), [""; 0]);
    let console = cloud.as_(Member).action(&id, json!({"os-getConsoleOutput": {}})).await.expect(200);
    assert!(text(&console["output"]).contains(" resumed "), "it did not boot: {console}");
    assert_eq!(last_action(&cloud, &id).await["events"][0]["event"], "compute_resume_instance");
}

#[tokio::test]
async fn each_state_allows_what_upstream_allows() {
    let cloud = TestCloud::start().await;
    let active = cloud.boot(Member, json!({})).await;
    let (paused, suspended) = (paused(&cloud).await, suspended(&cloud).await);
    let stopped = server_after(&cloud, &[("os-stop", "SHUTOFF")]).await;
    let client = cloud.as_(Member);
    for (id, state, refused) in [
        (&active, "active", &[UNPAUSE, RESUME, "os-start"][..]),
        (&paused, "paused", &[PAUSE, SUSPEND, RESUME, "os-start", "os-stop"]),
        (&suspended, "suspended", &[PAUSE, UNPAUSE, SUSPEND, "os-start", "os-stop"]),
        (&stopped, "stopped", &[PAUSE, UNPAUSE, SUSPEND, RESUME, "os-stop"]),
    ] {
        for action in refused {
            let message = client.action(id, json!({ *action: null })).await.refused(409);
            let word = action.trim_start_matches("os-");
            assert_eq!(message, format!("Cannot '{word}' instance {id} while it is in vm_state {state}"));
        }
        if state != "active" {
            client.action(id, json!({"reboot": {"type": "SOFT"}})).await.refused(409);
        }
    }
    for action in [PAUSE, UNPAUSE, SUSPEND, RESUME] {
        cloud.as_(Reader).action(&active, json!({ action: null })).await.refused(403);
        cloud.as_(Other).action(&active, json!({ action: null })).await.refused(404);
    }
    client.action(&active, json!({"lock": null})).await.expect(202);
    for action in [PAUSE, UNPAUSE, SUSPEND, RESUME] {
        let message = client.action(&active, json!({ action: null })).await.refused(409);
        assert_eq!(message, format!("Instance {active} is locked"));
    }
    cloud.as_(Admin).action(&active, json!({"pause": null})).await.expect(202);
    cloud.wait_for_status(Member, &active, "PAUSED").await;
}

#[tokio::test]
async fn a_hard_reboot_starts_a_paused_and_a_suspended_server_anew() {
    let cloud = TestCloud::start().await;
    for id in [paused(&cloud).await, suspended(&cloud).await] {
        cloud.as_(Member).action(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
        cloud.wait_for_status(Member, &id, "ACTIVE").await;
        assert_eq!(runs(&cloud, &id).await, Some(compute::vms::VmState::Running));
        assert_eq!(suspended_files(&cloud, &id), [""; 0]);
        let console = cloud.as_(Member).action(&id, json!({"os-getConsoleOutput": {"length": 1}})).await.expect(200);
        assert!(text(&console["output"]).contains(" started "), "it booted: {console}");
    }
}

#[tokio::test]
async fn paused_and_suspended_servers_are_deleted_and_leave_nothing() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    for id in [paused(&cloud).await, suspended(&cloud).await] {
        cloud.delete_server(Member, &id).await;
    }
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn paused_and_suspended_servers_outlive_the_program() {
    let mut cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let (paused, suspended) = (paused(&cloud).await, suspended(&cloud).await);
    cloud.restart().await;
    for (id, status, action) in [(&paused, "PAUSED", UNPAUSE), (&suspended, "SUSPENDED", RESUME)] {
        assert_eq!(cloud.show(Member, id).await["status"], status);
        act(&cloud, id, action).await;
        cloud.wait_for_status(Member, id, "ACTIVE").await;
        assert_eq!(runs(&cloud, id).await, Some(compute::vms::VmState::Running));
    }
}

#[tokio::test]
async fn a_hypervisor_that_cannot_suspend_leaves_the_server_running_and_says_why() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    cloud.vms().refuse_extras(Some("this machine has no suspend")).unwrap();
    act(&cloud, &id, SUSPEND).await;
    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(runs(&cloud, &id).await, Some(compute::vms::VmState::Running), "it is not left paused");
    assert_eq!(cloud.host().state().taps.len(), 1);
    assert_eq!(suspended_files(&cloud, &id), [""; 0]);
    let action = last_action(&cloud, &id).await;
    assert_eq!((&action["action"], &action["message"]), (&json!("suspend"), &json!("Error")));
    assert_eq!(action["events"][0]["result"], "Error");
    assert!(text(&action["events"][0]["traceback"]).contains("this machine has no suspend"), "{action}");
    // Nothing is left that would be in the way of the next one.
    cloud.vms().refuse_extras(None).unwrap();
    act(&cloud, &id, SUSPEND).await;
    cloud.wait_for_status(Member, &id, "SUSPENDED").await;
}

#[tokio::test]
async fn a_resume_that_fails_leaves_the_server_suspended() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = suspended(&cloud).await;
    cloud.vms().fail_every_start(Some("the host has no room")).unwrap();
    act(&cloud, &id, RESUME).await;
    let server = cloud.wait_for_status(Member, &id, "SUSPENDED").await;
    assert_eq!(server["OS-EXT-STS:power_state"], 4);
    assert!(cloud.host().state().taps.is_empty());
    assert_eq!(last_action(&cloud, &id).await["message"], "Error");
    cloud.vms().fail_every_start(None).unwrap();
    act(&cloud, &id, RESUME).await;
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
}

#[tokio::test]
async fn a_state_that_an_administrator_sets_loses_no_memory_until_the_server_is_stopped() {
    let mut cloud = TestCloud::start().await;
    let id = suspended(&cloud).await;
    cloud.as_(Admin).action(&id, json!({"os-resetState": {"state": "active"}})).await.expect(202);
    cloud.restart().await;
    cloud.wait_for_status(Member, &id, "SUSPENDED").await;
    act(&cloud, &id, RESUME).await;
    cloud.wait_for_status(Member, &id, "ACTIVE").await;

    act(&cloud, &id, SUSPEND).await;
    cloud.wait_for_status(Member, &id, "SUSPENDED").await;
    cloud.as_(Admin).action(&id, json!({"os-resetState": {"state": "error"}})).await.expect(202);
    act(&cloud, &id, "os-stop").await;
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    assert_eq!(suspended_files(&cloud, &id), [""; 0]);
    act(&cloud, &id, "os-start").await;
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
}

#[tokio::test]
async fn a_paused_server_whose_process_ends_is_shut_off() {
    let cloud = TestCloud::start().await;
    let id = paused(&cloud).await;
    cloud.vms().crash(id.parse().unwrap()).await.unwrap();
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
}

#[tokio::test]
async fn a_server_is_deleted_while_it_is_suspended_or_resumed() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    for (actions, last) in [(&[][..], SUSPEND), (&[(SUSPEND, "SUSPENDED")], RESUME)] {
        let id = server_after(&cloud, actions).await;
        act(&cloud, &id, last).await;
        cloud.delete_server(Member, &id).await;
    }
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn the_hypervisor_counts_what_suspended_servers_take_of_its_disk() {
    let cloud = TestCloud::start().await;
    let least = async || {
        let detail = cloud.as_(Admin).get("/compute/v2.1/os-hypervisors/detail").await.expect(200);
        detail["hypervisors"][0]["disk_available_least"].as_i64().unwrap()
    };
    let before = least().await;
    let id = suspended(&cloud).await;
    let memory = cloud.state().join("servers").join(&id).join("suspended.memory");
    let taken = before - 1 - least().await;
    assert_eq!(taken, 1, "a server of 1 GiB and its memory, rounded up, of {before}: {memory:?}");
    act(&cloud, &id, RESUME).await;
    wait_for("the files to be gone", async || {
        let now = least().await;
        if now == before - 1 { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_hard_reboot_need_not_wait_for_what_hangs() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    cloud.vms().guest_ignores_power_button(id.parse().unwrap(), true);
    cloud.as_(Member).action(&id, json!({"reboot": {"type": "SOFT"}})).await.expect(202);
    let server = cloud.show(Member, &id).await;
    assert_eq!((&server["status"], &server["OS-EXT-STS:task_state"]), (&json!("REBOOT"), &json!("rebooting")));
    cloud.as_(Member).action(&id, json!({"reboot": {"type": "SOFT"}})).await.refused(409);
    act_refused(&cloud, &id).await;
    cloud.as_(Member).action(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(runs(&cloud, &id).await, Some(compute::vms::VmState::Running));
    // What is not about power is not overtaken.
    cloud.as_(Member).action(&id, json!({"os-stop": null})).await.expect(202);
    let message = cloud.as_(Member).action(&id, json!({"reboot": {"type": "HARD"}})).await.refused(409);
    assert_eq!(message, format!("Cannot 'reboot' instance {id} while it is in task_state powering-off"));
}

async fn act_refused(cloud: &TestCloud, id: &str) {
    for action in [PAUSE, SUSPEND, "os-stop"] {
        let message = cloud.as_(Member).action(id, json!({ action: null })).await.refused(409);
        assert!(message.ends_with("while it is in task_state rebooting"), "{message}");
    }
}
