//! Limits and quota sets. Compute API reference, "Limits" and "Quota sets".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::json;

#[tokio::test]
async fn limits_show_what_a_project_may_have_and_has() {
    let cloud = TestCloud::start().await;
    cloud.boot(Member, json!({})).await;
    let limits = cloud.as_(Reader).get("/compute/v2.1/limits").await.expect(200);
    let absolute = &limits["limits"]["absolute"];
    assert_eq!(limits["limits"]["rate"], json!([]));
    assert_eq!((&absolute["maxTotalInstances"], &absolute["totalInstancesUsed"]), (&json!(10), &json!(1)));
    assert_eq!((&absolute["maxTotalCores"], &absolute["totalCoresUsed"]), (&json!(20), &json!(1)));
    assert_eq!((&absolute["maxTotalRAMSize"], &absolute["totalRAMUsed"]), (&json!(51200), &json!(128)));
    let other = cloud.as_(Other).get("/compute/v2.1/limits").await.expect(200);
    assert_eq!(other["limits"]["absolute"]["totalInstancesUsed"], 0);

    let project = cloud.project(Member).await;
    let seen = cloud.as_(Admin).get(&format!("/compute/v2.1/limits?tenant_id={project}")).await.expect(200);
    assert_eq!(seen["limits"]["absolute"]["totalInstancesUsed"], 1);
    cloud.as_(Other).get(&format!("/compute/v2.1/limits?tenant_id={project}")).await.refused(403);
    let later = cloud.as_(Reader).at("2.57").get("/compute/v2.1/limits").await.expect(200);
    for gone in ["maxTotalFloatingIps", "maxSecurityGroups", "maxImageMeta", "maxPersonality"] {
        assert!(absolute.get(gone).is_some() && later["limits"]["absolute"].get(gone).is_none(), "{gone}");
    }
}

#[tokio::test]
async fn a_quota_set_is_changed_shown_and_reset() {
    let cloud = TestCloud::start().await;
    let (admin, project) = (cloud.as_(Admin), cloud.project(Member).await);
    let path = format!("/compute/v2.1/os-quota-sets/{project}");
    let shown = cloud.as_(Reader).get(&path).await.expect(200);
    assert_eq!((&shown["quota_set"]["id"], &shown["quota_set"]["instances"]), (&json!(project), &json!(10)));
    cloud.as_(Other).get(&path).await.refused(403);
    cloud.as_(Member).put(&path, json!({"quota_set": {"instances": 99}})).await.refused(403);

    let changed = admin.put(&path, json!({"quota_set": {"instances": 2, "ram": "-1"}})).await.expect(200);
    assert_eq!((&changed["quota_set"]["instances"], &changed["quota_set"]["ram"]), (&json!(2), &json!(-1)));
    assert!(changed["quota_set"].get("id").is_none());
    for _ in 0..2 {
        cloud.boot(Member, json!({})).await;
    }
    cloud.ask_for_server(Member, json!({})).await.refused(403);
    let detail = cloud.as_(Reader).get(&format!("{path}/detail")).await.expect(200);
    assert_eq!(detail["quota_set"]["instances"], json!({"limit": 2, "in_use": 2, "reserved": 0}));
    admin.put(&path, json!({"quota_set": {"instances": 1}})).await.refused(400);
    admin.put(&path, json!({"quota_set": {"instances": 1, "force": true}})).await.expect(200);
    for wrong in [
        json!({"quota_set": {"instances": -2}}),
        json!({"quota_set": {"instances": "many"}}),
        json!({"quota_set": {"instances": 2_147_483_648_u64}}),
        json!({"quota_set": {"surprise": 1}}),
        json!({"quota_set": []}),
        json!({}),
    ] {
        admin.put(&path, wrong).await.refused(400);
    }
    admin.delete(&path).await.expect(202);
    assert_eq!(admin.get(&path).await.expect(200)["quota_set"]["instances"], 10);
    let defaults = cloud.as_(Reader).get(&format!("{path}/defaults")).await.expect(200);
    assert_eq!(defaults["quota_set"]["cores"], 20);
}

#[tokio::test]
async fn quotas_of_items_and_keys_are_those_of_the_project() {
    let cloud = TestCloud::start().await;
    let path = format!("/compute/v2.1/os-quota-sets/{}", cloud.project(Member).await);
    let id = cloud.boot(Member, json!({})).await;
    let small = json!({"quota_set": {"metadata_items": 1, "key_pairs": 0}});
    cloud.as_(Admin).put(&path, small).await.expect(200);
    let metadata = format!("/compute/v2.1/servers/{id}/metadata");
    let message = cloud.as_(Member).post(&metadata, json!({"metadata": {"a": "1", "b": "2"}})).await.refused(403);
    assert_eq!(message, "Maximum number of metadata items exceeds 1");
    cloud.as_(Member).post("/compute/v2.1/os-keypairs", json!({"keypair": {"name": "k"}})).await.refused(403);
    cloud.as_(Other).post("/compute/v2.1/os-keypairs", json!({"keypair": {"name": "k"}})).await.expect(200);
}

#[tokio::test]
async fn the_default_class_is_what_projects_start_from() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let class = "/compute/v2.1/os-quota-class-sets/default";
    let before = admin.get(class).await.expect(200);
    assert_eq!(
        (&before["quota_class_set"]["id"], &before["quota_class_set"]["instances"]),
        (&json!("default"), &json!(10))
    );
    assert!(before["quota_class_set"].get("server_groups").is_none(), "only since 2.50");
    let changed = json!({"quota_class_set": {"instances": 1, "floating_ips": 7}});
    admin.put(class, changed).await.expect(200);
    let shown = cloud.as_(Member).get("/compute/v2.1/limits").await.expect(200);
    assert_eq!(shown["limits"]["absolute"]["maxTotalInstances"], 1);
    let defaults = format!("/compute/v2.1/os-quota-sets/{}/defaults", cloud.project(Member).await);
    assert_eq!(admin.get(&defaults).await.expect(200)["quota_set"]["instances"], 1);
    let later = admin.at("2.57").get(class).await.expect(200);
    assert!(later["quota_class_set"].get("floating_ips").is_none() && later["quota_class_set"]["server_groups"] == 10);
    cloud.boot(Member, json!({})).await;
    cloud.ask_for_server(Member, json!({})).await.refused(403);
    admin.at("2.57").put(class, json!({"quota_class_set": {"injected_files": 1}})).await.refused(400);
    admin.put(class, json!({"quota_class_set": {"surprise": 1}})).await.refused(400);
    cloud.as_(Member).get(class).await.refused(403);
}

#[tokio::test]
async fn a_user_can_have_less_than_the_project() {
    let cloud = TestCloud::start().await;
    let (admin, project, user) = (cloud.as_(Admin), cloud.project(Member).await, cloud.user(Member).await);
    let path = format!("/compute/v2.1/os-quota-sets/{project}?user_id={user}");
    admin.put(&path, json!({"quota_set": {"instances": 11}})).await.refused(400);
    admin.put(&path, json!({"quota_set": {"instances": 1}})).await.expect(200);
    assert_eq!(admin.get(&path).await.expect(200)["quota_set"]["instances"], 1);
    let whole = admin.get(&format!("/compute/v2.1/os-quota-sets/{project}")).await.expect(200);
    assert_eq!(whole["quota_set"]["instances"], 10);
    cloud.boot(Member, json!({})).await;
    cloud.ask_for_server(Member, json!({})).await.refused(403);
    admin.delete(&path).await.expect(202);
    cloud.boot(Member, json!({})).await;
}
