//! Servers that were deleted: lists, usage reports, what was done to them. Compute API reference, "Servers", "Usage reports".

use std::time::Duration;

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud, wait_for,
};
use serde_json::json;

use crate::servers::text;

#[tokio::test]
async fn administrators_list_deleted_servers_and_everybody_what_changed() {
    let cloud = TestCloud::start().await;
    let kept = cloud.boot(Member, json!({"name": "kept"})).await;
    let gone = cloud.boot(Member, json!({"name": "gone", "metadata": {"a": "b"}})).await;
    cloud.as_(Member).at("2.26").put(&format!("/compute/v2.1/servers/{gone}/tags/old"), json!(null)).await.expect(201);
    cloud.delete_server(Member, &gone).await;
    let (admin, member) = (cloud.as_(Admin), cloud.as_(Member));

    let deleted = admin.at("2.26").get("/compute/v2.1/servers/detail?deleted=true&all_tenants=1").await.expect(200);
    let one = &deleted["servers"][0];
    assert_eq!(deleted["servers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&one["id"], &one["status"], &one["OS-EXT-STS:vm_state"]),
        (&json!(gone), &json!("DELETED"), &json!("deleted"))
    );
    assert_eq!((&one["metadata"]["a"], &one["tags"]), (&json!("b"), &json!(["old"])));
    assert!(one["OS-SRV-USG:terminated_at"].is_string());
    assert_eq!(one["addresses"], json!({}));
    let named = admin.get("/compute/v2.1/servers?deleted=1&all_tenants=1&name=^kept$").await.expect(200);
    assert_eq!(named["servers"], json!([]));
    let by_status = admin.get("/compute/v2.1/servers?status=DELETED&all_tenants=1").await.expect(200);
    assert_eq!(by_status["servers"][0]["id"], json!(gone));
    member.get("/compute/v2.1/servers?status=deleted").await.refused(403);

    // Who may not ask for it gets what is there; the time of change lists both, newest first.
    let ids = |list: &serde_json::Value| -> Vec<String> {
        list["servers"].as_array().unwrap().iter().map(|one| text(&one["id"]).to_owned()).collect()
    };
    assert_eq!(ids(&member.get("/compute/v2.1/servers?deleted=true").await.expect(200)), std::slice::from_ref(&kept));
    let changed = member.get("/compute/v2.1/servers?changes-since=2026-01-01T00:00:00Z").await.expect(200);
    assert_eq!(ids(&changed), [gone.clone(), kept.clone()]);
    let first = member.get("/compute/v2.1/servers?changes-since=2026-01-01T00:00:00Z&limit=1").await.expect(200);
    let next = text(&first["servers_links"][0]["href"]).split("/compute").nth(1).unwrap().to_owned();
    assert_eq!(ids(&member.get(&format!("/compute{next}")).await.expect(200)), std::slice::from_ref(&kept));
    let other = cloud.as_(Other).get("/compute/v2.1/servers?changes-since=2026-01-01T00:00:00Z").await.expect(200);
    assert_eq!(other["servers"], json!([]));
    member.get(&format!("/compute/v2.1/servers/{gone}")).await.refused(404);
    admin.get(&format!("/compute/v2.1/servers/{gone}")).await.refused(404);

    // What was done to it stays readable.
    let actions = format!("/compute/v2.1/servers/{gone}/os-instance-actions");
    cloud.as_(Reader).get(&actions).await.refused(404);
    let log = cloud.as_(Reader).at("2.21").get(&actions).await.expect(200);
    assert_eq!(log["instanceActions"][0]["action"], "delete");
    cloud.as_(Other).at("2.21").get(&actions).await.refused(404);
}

#[tokio::test]
async fn usage_counts_servers_that_are_there_and_that_were() {
    let cloud = TestCloud::start().await;
    let project = cloud.project(Member).await;
    let gone = cloud.boot(Member, json!({"name": "gone"})).await;
    cloud.later(Duration::from_secs(2 * 3600));
    cloud.delete_server(Member, &gone).await;
    cloud.boot(Member, json!({"name": "kept"})).await;
    cloud.later(Duration::from_secs(3600));
    let path = format!("/compute/v2.1/os-simple-tenant-usage/{project}");
    let usage = cloud.as_(Reader).get(&path).await.expect(200)["tenant_usage"].take();
    let near = |value: &serde_json::Value, want: f64| (value.as_f64().unwrap() - want).abs() < 0.1;
    assert!(near(&usage["total_hours"], 3.0) && near(&usage["total_memory_mb_usage"], 3.0 * 128.0), "{usage}");
    let servers = usage["server_usages"].as_array().unwrap();
    assert_eq!((&servers[0]["name"], &servers[0]["state"]), (&json!("gone"), &json!("terminated")));
    assert_eq!((&servers[1]["name"], &servers[1]["state"]), (&json!("kept"), &json!("active")));
    assert!(servers[1]["ended_at"].is_null() && near(&servers[0]["hours"], 2.0));
    assert_eq!(servers[1]["flavor"], "m1.nano");
    // What is to come was used by nobody.
    let ahead = cloud.as_(Reader).get(&format!("{path}?end=2999-01-01T00:00:00")).await.expect(200);
    assert!(near(&ahead["tenant_usage"]["total_hours"], 3.0));

    let all = "/compute/v2.1/os-simple-tenant-usage";
    let listed = cloud.as_(Admin).get(&format!("{all}?detailed=1")).await.expect(200);
    assert_eq!(listed["tenant_usages"][0].as_object().unwrap().len(), 8);
    let listed = cloud.as_(Admin).get(all).await.expect(200);
    assert!(listed["tenant_usages"][0].get("server_usages").is_none());
    cloud.as_(Member).get(all).await.refused(403);
    cloud.as_(Admin).get(&format!("{all}/")).await.refused(404);
    cloud.as_(Other).get(&path).await.refused(403);
    let empty = cloud.project(Other).await;
    let empty = cloud.as_(Other).get(&format!("{all}/{empty}")).await.expect(200);
    assert_eq!(empty["tenant_usage"], json!({}));
    let first = cloud.as_(Admin).at("2.40").get(&format!("{path}?limit=1")).await.expect(200);
    assert_eq!(first["tenant_usage"]["server_usages"].as_array().unwrap().len(), 1);
    let next = text(&first["tenant_usage_links"][0]["href"]).split("/compute").nth(1).unwrap().to_owned();
    let second = cloud.as_(Admin).at("2.40").get(&format!("/compute{next}")).await.expect(200);
    assert_eq!(second["tenant_usage"]["server_usages"][0]["name"], "kept");
    for wrong in ["start=tomorrow", "start=2026-02-01T00:00:00&end=2026-01-01T00:00:00"] {
        cloud.as_(Admin).get(&format!("{path}?{wrong}")).await.refused(400);
    }
    cloud.as_(Admin).at("2.40").get(&format!("{path}?marker=nothing")).await.refused(400);
}

#[tokio::test]
async fn what_is_older_than_the_configuration_says_is_forgotten() {
    let mut cloud = TestCloud::configured("[deleted_servers]\nkeep_days = 0").await;
    let gone = cloud.boot(Member, json!({})).await;
    cloud.delete_server(Member, &gone).await;
    // Looked at every few minutes, and at each start.
    cloud.restart().await;
    let list = "/compute/v2.1/servers?deleted=true&all_tenants=1";
    wait_for("the deleted server to be forgotten", async || {
        let reply = cloud.as_(Admin).get(list).await.expect(200);
        if reply["servers"] == json!([]) { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;
    let actions = format!("/compute/v2.1/servers/{gone}/os-instance-actions");
    cloud.as_(Admin).at("2.21").get(&actions).await.refused(404);
}

#[tokio::test]
async fn no_host_ever_ran_a_usage_audit_and_the_log_says_so() {
    let cloud = TestCloud::start().await;
    let path = "/compute/v2.1/os-instance_usage_audit_log";
    let log = cloud.as_(Admin).get(path).await.expect(200);
    assert_eq!(log["instance_usage_audit_logs"]["num_hosts_not_run"], 1);
    let log = cloud.as_(Admin).get(&format!("{path}/2026-03-15%2010:00:00")).await.expect(200);
    assert_eq!(log["instance_usage_audit_log"]["period_beginning"], "2026-02-01 00:00:00");
    cloud.as_(Admin).get(&format!("{path}/invalid_time")).await.refused(400);
    cloud.as_(Member).get(path).await.refused(403);
}
