//! Server groups. Compute API reference, "Server groups".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    Reply, TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

const GROUPS: &str = "/compute/v2.1/os-server-groups";

async fn group(cloud: &TestCloud, policy: &str) -> String {
    let wanted = json!({"server_group": {"name": policy, "policies": [policy]}});
    let made = cloud.as_(Member).at("2.15").post(GROUPS, wanted).await.expect(200);
    text(&made["server_group"]["id"]).to_owned()
}

async fn ask(cloud: &TestCloud, group: Value) -> Reply {
    let mut body = cloud.server_body(json!({})).await;
    body["os:scheduler_hints"] = json!({"group": group});
    cloud.as_(Member).post("/compute/v2.1/servers", body).await
}

/// A server of the group, accepted.
async fn in_group(cloud: &TestCloud, group: &str) -> String {
    let made = ask(cloud, json!(group)).await.expect(202);
    text(&made["server"]["id"]).to_owned()
}

async fn members(cloud: &TestCloud, group: &str) -> Vec<String> {
    let shown = cloud.as_(Reader).get(&format!("{GROUPS}/{group}")).await.expect(200);
    shown["server_group"]["members"].as_array().unwrap().iter().map(|id| text(id).to_owned()).collect()
}

#[tokio::test]
async fn a_group_is_made_listed_shown_and_deleted_by_its_project() {
    let cloud = TestCloud::start().await;
    let member = cloud.as_(Member);
    let made =
        member.post(GROUPS, json!({"server_group": {"name": "web", "policies": ["affinity"]}})).await.expect(200);
    let group = &made["server_group"];
    let id = text(&group["id"]).to_owned();
    assert_eq!(*group, json!({"id": id, "name": "web", "policies": ["affinity"], "metadata": {}, "members": []}));
    let (project, user) = (cloud.project(Member).await, cloud.user(Member).await);
    let shown = cloud.as_(Reader).at("2.13").get(&format!("{GROUPS}/{id}")).await.expect(200);
    assert_eq!(
        (&shown["server_group"]["project_id"], &shown["server_group"]["user_id"]),
        (&json!(project), &json!(user))
    );

    let names = |list: &Value| -> Vec<String> {
        list["server_groups"].as_array().unwrap().iter().map(|one| text(&one["name"]).to_owned()).collect()
    };
    let other = json!({"server_group": {"name": "theirs", "policies": ["anti-affinity"]}});
    cloud.as_(Other).post(GROUPS, other).await.expect(200);
    assert_eq!(names(&member.get(GROUPS).await.expect(200)), ["web"]);
    assert_eq!(names(&member.get(&format!("{GROUPS}?all_projects=1")).await.expect(200)), ["web"]);
    let all = format!("{GROUPS}?all_projects=1");
    assert_eq!(names(&cloud.as_(Admin).get(&all).await.expect(200)), ["web", "theirs"]);
    assert_eq!(names(&cloud.as_(Admin).get(&format!("{all}&limit=1&offset=1")).await.expect(200)), ["theirs"]);
    member.get(&format!("{GROUPS}?limit=-1")).await.refused(400);

    cloud.as_(Other).get(&format!("{GROUPS}/{id}")).await.refused(404);
    cloud.as_(Other).delete(&format!("{GROUPS}/{id}")).await.refused(404);
    cloud.as_(Reader).delete(&format!("{GROUPS}/{id}")).await.refused(403);
    member.delete(&format!("{GROUPS}/{id}")).await.expect(204);
    member.delete(&format!("{GROUPS}/{id}")).await.refused(404);
}

#[tokio::test]
async fn one_host_takes_one_server_of_an_anti_affinity_group_and_all_of_any_other() {
    let cloud = TestCloud::start().await;
    for policy in ["affinity", "soft-affinity", "soft-anti-affinity"] {
        let group = group(&cloud, policy).await;
        let servers = [in_group(&cloud, &group).await, in_group(&cloud, &group).await];
        for id in &servers {
            cloud.wait_for_status(Member, id, "ACTIVE").await;
        }
        assert_eq!(members(&cloud, &group).await, servers);
        cloud.as_(Member).delete(&format!("{GROUPS}/{group}")).await.expect(204);
        assert_eq!(cloud.show(Member, &servers[0]).await["status"], "ACTIVE", "servers outlive their group");
        for id in &servers {
            cloud.delete_server(Member, id).await;
        }
    }
    let group = group(&cloud, "anti-affinity").await;
    let first = in_group(&cloud, &group).await;
    cloud.wait_for_status(Member, &first, "ACTIVE").await;
    let second = in_group(&cloud, &group).await;
    cloud.wait_for_status(Member, &second, "ERROR").await;
    let fault = cloud.show(Member, &second).await["fault"].take();
    assert!(text(&fault["message"]).contains("No valid host was found: server group anti-affinity"), "{fault}");
    assert_eq!(members(&cloud, &group).await, [first.clone(), second.clone()]);
    // What never got a place takes none.
    cloud.delete_server(Member, &first).await;
    let third = in_group(&cloud, &group).await;
    cloud.wait_for_status(Member, &third, "ACTIVE").await;
    for id in [&second, &third] {
        cloud.delete_server(Member, id).await;
    }
    assert!(members(&cloud, &group).await.is_empty());
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_server_joins_only_a_group_of_its_project_that_has_room() {
    let cloud = TestCloud::start().await;
    let mine = group(&cloud, "affinity").await;
    let absent = "00000000-0000-4000-8000-000000000000";
    let theirs = json!({"server_group": {"name": "theirs", "policies": ["affinity"]}});
    let theirs = cloud.as_(Other).post(GROUPS, theirs).await.expect(200);
    for (group, word) in
        [(json!(absent), absent), (theirs["server_group"]["id"].clone(), "could not be found"), (json!("x"), "UUID")]
    {
        let refusal = ask(&cloud, group).await.refused(400);
        assert!(refusal.contains(word), "{refusal}");
    }
    let project = cloud.project(Member).await;
    let quota = json!({"quota_set": {"server_groups": 1, "server_group_members": 1}});
    cloud.as_(Admin).put(&format!("/compute/v2.1/os-quota-sets/{project}"), quota).await.expect(200);
    let second = json!({"server_group": {"name": "second", "policies": ["affinity"]}});
    let refusal = cloud.as_(Member).post(GROUPS, second).await.refused(403);
    assert!(refusal.contains("too many server groups"), "{refusal}");
    let id = in_group(&cloud, &mine).await;
    let refusal = ask(&cloud, json!(mine)).await.refused(403);
    assert!(refusal.contains("too many servers in group"), "{refusal}");
    let limits = cloud.as_(Member).get("/compute/v2.1/limits").await.expect(200);
    assert_eq!(limits["limits"]["absolute"]["totalServerGroupsUsed"], 1);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    cloud.delete_server(Member, &id).await;
}

#[tokio::test]
async fn a_group_that_makes_no_sense_is_refused() {
    let cloud = TestCloud::start().await;
    for (version, wrong) in [
        ("2.1", json!({"name": "a"})),
        ("2.1", json!({"policies": ["affinity"]})),
        ("2.1", json!({"name": "", "policies": ["affinity"]})),
        ("2.1", json!({"name": "a", "policies": []})),
        ("2.1", json!({"name": "a", "policies": ["affinity", "anti-affinity"]})),
        ("2.1", json!({"name": "a", "policies": ["legacy"]})),
        ("2.1", json!({"name": "a", "policies": ["soft-affinity"]})),
        ("2.1", json!({"name": "a", "policies": "affinity"})),
        ("2.1", json!({"name": "a", "policies": ["affinity"], "rules": {}})),
        ("2.15", json!({"name": "a", "policies": ["affinity"], "more": 1})),
    ] {
        cloud.as_(Member).at(version).post(GROUPS, json!({"server_group": wrong})).await.refused(400);
    }
}
