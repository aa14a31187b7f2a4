//! This machine as Compute shows it: zones, services, hypervisors. Compute API reference, the sections of these names.

use kit::{
    Persona::{Admin, Member},
    TestCloud,
};
use serde_json::json;

use crate::servers::text;

#[tokio::test]
async fn there_is_one_zone_and_only_administrators_see_its_hosts() {
    let cloud = TestCloud::start().await;
    let zones = cloud.as_(Member).get("/compute/v2.1/os-availability-zone").await.expect(200);
    let zone = json!({"zoneName": "nova", "zoneState": {"available": true}, "hosts": null});
    assert_eq!(zones["availabilityZoneInfo"], json!([zone]));
    cloud.as_(Member).get("/compute/v2.1/os-availability-zone/detail").await.refused(403);
    let detail = cloud.as_(Admin).get("/compute/v2.1/os-availability-zone/detail").await.expect(200);
    let hosts = detail["availabilityZoneInfo"][1]["hosts"].as_object().unwrap();
    let services = hosts.values().next().unwrap();
    assert_eq!(services["nova-compute"]["available"], true);
}

#[tokio::test]
async fn a_disabled_service_takes_no_new_server_and_says_so() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin).at("2.53");
    let services = admin.get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
    let service = &services["services"][0];
    assert_eq!((&service["status"], &service["state"]), (&json!("enabled"), &json!("up")));
    let path = format!("/compute/v2.1/os-services/{}", text(&service["id"]));
    let off = admin.put(&path, json!({"status": "disabled", "disabled_reason": "new memory"})).await.expect(200);
    assert_eq!(off["service"]["disabled_reason"], "new memory");
    let made = cloud.ask_for_server(Member, json!({})).await.expect(202);
    let server = cloud.wait_for_status(Member, text(&made["server"]["id"]), "ERROR").await;
    assert!(text(&server["fault"]["message"]).contains("disabled"), "{server}");
    let hypervisors = admin.get("/compute/v2.1/os-hypervisors").await.expect(200);
    assert_eq!(hypervisors["hypervisors"][0]["status"], "disabled");

    // Before 2.53 the path is a verb.
    let host = text(&service["host"]);
    let old = cloud.as_(Admin);
    let on = json!({"host": host, "binary": "nova-compute"});
    let on = old.put("/compute/v2.1/os-services/enable", on).await.expect(200);
    assert_eq!(on["service"], json!({"host": host, "binary": "nova-compute", "status": "enabled"}));
    cloud.boot(Member, json!({})).await;
    let unknown = json!({"host": "elsewhere", "binary": "nova-compute"});
    old.put("/compute/v2.1/os-services/disable", unknown).await.refused(404);
    old.put("/compute/v2.1/os-services/dance", json!({"host": host, "binary": "nova-compute"})).await.refused(404);
    for wrong in [json!({"status": "tired"}), json!({}), json!({"status": "enabled", "disabled_reason": "x"})] {
        admin.put(&path, wrong).await.refused(400);
    }
    admin.put("/compute/v2.1/os-services/x", json!({"status": "enabled"})).await.refused(400);
    cloud.as_(Member).get("/compute/v2.1/os-services").await.refused(403);
}

#[tokio::test]
async fn the_hypervisor_counts_what_servers_take() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let before = admin.get("/compute/v2.1/os-hypervisors/detail").await.expect(200)["hypervisors"][0].take();
    assert_eq!(before["hypervisor_type"], "fake");
    assert!(before["cpu_info"].is_string(), "an object only since 2.28");
    let id = cloud.boot(Member, json!({"name": "taker"})).await;
    let after = admin.at("2.53").get("/compute/v2.1/os-hypervisors/detail?with_servers=true").await.expect(200);
    let after = &after["hypervisors"][0];
    let grown = |key: &str| after[key].as_i64().unwrap() - before[key].as_i64().unwrap();
    assert_eq!((grown("vcpus_used"), grown("memory_mb_used"), grown("local_gb_used")), (1, 128, 1));
    assert_eq!((grown("running_vms"), grown("free_ram_mb")), (1, -128));
    assert_eq!(after["servers"], json!([{"uuid": id, "name": "taker"}]));
    assert!(after["cpu_info"].is_object());
    let one = format!("/compute/v2.1/os-hypervisors/{}", text(&after["id"]));
    assert_eq!(admin.at("2.53").get(&one).await.expect(200)["hypervisor"]["id"], after["id"]);
    admin.get("/compute/v2.1/os-hypervisors/1").await.expect(200);
    admin.get("/compute/v2.1/os-hypervisors/2").await.refused(404);
    admin.at("2.53").get("/compute/v2.1/os-hypervisors/1").await.refused(400);
    let total = admin.get("/compute/v2.1/os-hypervisors/statistics").await.expect(200);
    assert_eq!(total["hypervisor_statistics"]["vcpus_used"], after["vcpus_used"]);
    assert_eq!(total["hypervisor_statistics"]["count"], 1);
    cloud.as_(Member).get("/compute/v2.1/os-hypervisors").await.refused(403);
}

#[tokio::test]
async fn hosts_are_shown_until_2_42_and_their_power_is_not_the_apis() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    cloud.boot(Member, json!({})).await;
    let hosts = admin.get("/compute/v2.1/os-hosts").await.expect(200);
    let host = text(&hosts["hosts"][0]["host_name"]).to_owned();
    let computes = admin.get("/compute/v2.1/os-hosts?zone=nova").await.expect(200);
    assert_eq!(computes["hosts"], json!([{"host_name": host, "service": "compute", "zone": "nova"}]));
    let one = format!("/compute/v2.1/os-hosts/{host}");
    let shown = admin.get(&one).await.expect(200);
    let projects: Vec<&str> =
        shown["host"].as_array().unwrap().iter().map(|one| text(&one["resource"]["project"])).collect();
    assert_eq!(projects, ["(total)", "(used_now)", "(used_max)", &cloud.project(Member).await]);
    let off = admin.put(&one, json!({"status": "disable"})).await.expect(200);
    assert_eq!(off, json!({"host": host, "status": "disabled"}));
    admin.put(&one, json!({"status": "enable"})).await.expect(200);
    admin.put(&one, json!({"maintenance_mode": "enable"})).await.refused(501);
    for wrong in [json!({}), json!({"status": "tired"}), json!({"surprise": 1})] {
        admin.put(&one, wrong).await.refused(400);
    }
    admin.put("/compute/v2.1/os-hosts/elsewhere", json!({"status": "enable"})).await.refused(404);
    admin.get(&format!("{one}/reboot")).await.refused(501);
    admin.get("/compute/v2.1/os-hosts/elsewhere/reboot").await.refused(404);
    admin.at("2.43").get(&one).await.refused(404);
    cloud.as_(Member).get(&one).await.refused(403);
}

#[tokio::test]
async fn hypervisors_are_found_by_name_as_each_microversion_has_it() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let list = admin.get("/compute/v2.1/os-hypervisors").await.expect(200);
    let name = text(&list["hypervisors"][0]["hypervisor_hostname"]).to_owned();
    let found = admin.get(&format!("/compute/v2.1/os-hypervisors/{name}/search")).await.expect(200);
    assert_eq!(found["hypervisors"][0]["hypervisor_hostname"], name);
    admin.get("/compute/v2.1/os-hypervisors/elsewhere/search").await.refused(404);
    admin.at("2.53").get(&format!("/compute/v2.1/os-hypervisors/{name}/search")).await.refused(404);
    let servers = format!("/compute/v2.1/os-hypervisors/{name}/servers");
    assert!(admin.get(&servers).await.expect(200)["hypervisors"][0].get("servers").is_none());
    let id = cloud.boot(Member, json!({"name": "taker"})).await;
    let taken = admin.get(&servers).await.expect(200);
    assert_eq!(taken["hypervisors"][0]["servers"], json!([{"uuid": id, "name": "taker"}]));
    let list = "/compute/v2.1/os-hypervisors?hypervisor_hostname_pattern=";
    admin.at("2.53").get(&format!("{list}{name}")).await.expect(200);
    admin.at("2.53").get(&format!("{list}elsewhere")).await.refused(404);
    admin.at("2.53").get(&format!("{list}{name}&limit=1")).await.refused(400);
}

#[tokio::test]
async fn what_was_removed_says_so() {
    let cloud = TestCloud::start().await;
    for path in ["os-agents", "os-cells", "os-cloudpipe", "os-fping", "os-certificates/root", "os-floating-ips-bulk"] {
        cloud.as_(Member).get(&format!("/compute/v2.1/{path}")).await.refused(410);
    }
}

#[tokio::test]
async fn extensions_are_listed_under_the_names_that_clients_know() {
    let cloud = TestCloud::start().await;
    let list = cloud.as_(Member).get("/compute/v2.1/extensions").await.expect(200);
    assert!(list["extensions"].as_array().unwrap().iter().any(|one| one["name"] == "Hosts"));
    let one = cloud.as_(Member).get("/compute/v2.1/extensions/os-consoles").await.expect(200);
    assert_eq!(one["extension"]["alias"], "os-consoles");
    cloud.as_(Member).get("/compute/v2.1/extensions/os-surprise").await.refused(404);
}
