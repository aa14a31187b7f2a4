//! Flavors, who may use them, their extra specs. Compute API reference, "Flavors".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::{names, text};

const FLAVORS: &str = "/compute/v2.1/flavors";

#[tokio::test]
async fn the_usual_sizes_are_there_from_the_start() {
    let cloud = TestCloud::start().await;
    let list = cloud.as_(Reader).get(&format!("{FLAVORS}/detail?sort_key=memory_mb&sort_dir=asc")).await.expect(200);
    assert_eq!(names(&list["flavors"]), ["m1.nano", "m1.tiny", "m1.small", "m1.medium", "m1.large", "m1.xlarge"]);
    let tiny = &list["flavors"][1];
    assert_eq!((&tiny["ram"], &tiny["vcpus"], &tiny["disk"]), (&json!(512), &json!(1), &json!(1)));
    assert_eq!(tiny["swap"], "", "no swap is an empty text before 2.75");
    let brief = cloud.as_(Reader).get(FLAVORS).await.expect(200);
    assert!(brief["flavors"][0].as_object().unwrap().keys().eq(["id", "name", "links"]));
    let large = cloud.as_(Reader).get(&format!("{FLAVORS}?minRam=8000&minDisk=100")).await.expect(200);
    assert_eq!(names(&large["flavors"]), ["m1.xlarge"]);
    for wrong in ["minRam=much", "minDisk=x", "limit=-1", "sort_key=secret", "is_public=perhaps"] {
        cloud.as_(Reader).get(&format!("{FLAVORS}?{wrong}")).await.refused(400);
    }
    let page = cloud.as_(Reader).get(&format!("{FLAVORS}?limit=1&marker=42")).await.expect(200);
    assert_eq!(page["flavors"].as_array().unwrap().len(), 1);
    cloud.as_(Reader).get(&format!("{FLAVORS}?marker=no-such-flavor")).await.refused(400);
}

#[tokio::test]
async fn an_administrator_makes_changes_and_removes_a_flavor() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let new = json!({"flavor": {
        "name": "big", "id": "big-1", "ram": 1024, "vcpus": "2", "disk": 10, "swap": 512,
        "OS-FLV-EXT-DATA:ephemeral": 5, "rxtx_factor": 2.0,
    }});
    let made = admin.post(FLAVORS, new.clone()).await.expect(200);
    assert_eq!(made["flavor"]["vcpus"], 2);
    assert_eq!(made["flavor"]["swap"], 512);
    assert_eq!(made["flavor"]["OS-FLV-EXT-DATA:ephemeral"], 5);
    assert_eq!(made["flavor"]["os-flavor-access:is_public"], true);
    admin.post(FLAVORS, new).await.refused(409);
    let same_name = json!({"flavor": {"name": "big", "ram": 1, "vcpus": 1, "disk": 0}});
    admin.post(FLAVORS, same_name).await.refused(409);

    let described = json!({"flavor": {"description": "for many"}});
    admin.put(&format!("{FLAVORS}/big-1"), described.clone()).await.refused(404);
    let changed = admin.at("2.55").put(&format!("{FLAVORS}/big-1"), described).await.expect(200);
    assert_eq!(changed["flavor"]["description"], "for many");

    // A server keeps the size that it was made with.
    let id = cloud.boot(Member, json!({"flavorRef": "big-1"})).await;
    admin.delete(&format!("{FLAVORS}/big-1")).await.expect(202);
    admin.delete(&format!("{FLAVORS}/big-1")).await.refused(404);
    let server = cloud.as_(Member).at("2.47").get(&format!("/compute/v2.1/servers/{id}")).await.expect(200);
    assert_eq!(server["server"]["flavor"]["original_name"], "big");
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_flavor_of_impossible_size_is_refused_with_the_field() {
    let cloud = TestCloud::start().await;
    for (field, value) in [
        ("ram", json!(0)),
        ("ram", json!(-1)),
        ("ram", json!(2_147_483_648_u64)),
        ("ram", json!("much")),
        ("ram", json!(1.5)),
        ("vcpus", json!(0)),
        ("vcpus", Value::Null),
        ("disk", json!(-1)),
        ("swap", json!(-1)),
        ("OS-FLV-EXT-DATA:ephemeral", json!([])),
        ("rxtx_factor", json!(0)),
        ("os-flavor-access:is_public", json!("perhaps")),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("id", json!("a/b")),
        ("id", json!(" a")),
        ("description", json!("before 2.55")),
    ] {
        let mut flavor = json!({"name": "f", "ram": 1, "vcpus": 1, "disk": 1});
        flavor[field] = value.clone();
        let message = cloud.as_(Admin).post(FLAVORS, json!({ "flavor": flavor })).await.refused(400);
        assert!(message.contains(field), "{field} {value}: {message}");
    }
    for missing in ["name", "ram", "vcpus", "disk"] {
        let mut flavor = json!({"name": "f", "ram": 1, "vcpus": 1, "disk": 1});
        flavor.as_object_mut().unwrap().shift_remove(missing);
        let message = cloud.as_(Admin).post(FLAVORS, json!({ "flavor": flavor })).await.refused(400);
        assert!(message.contains(missing), "{missing}: {message}");
    }
    cloud
        .as_(Member)
        .post(FLAVORS, json!({"flavor": {"name": "f", "ram": 1, "vcpus": 1, "disk": 1}}))
        .await
        .refused(403);
}

#[tokio::test]
async fn a_private_flavor_is_seen_by_those_it_was_given_to() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let id = cloud.flavor(json!({"name": "private", "os-flavor-access:is_public": false})).await;
    let path = format!("{FLAVORS}/{id}");
    let project = cloud.project(Member).await;
    cloud.as_(Member).get(&path).await.refused(404);
    let access = json!({"addTenantAccess": {"tenant": project}});
    cloud.as_(Member).post(&format!("{path}/action"), access.clone()).await.refused(403);
    let given = admin.post(&format!("{path}/action"), access.clone()).await.expect(200);
    assert_eq!(given["flavor_access"], json!([{"flavor_id": id, "tenant_id": project}]));
    admin.post(&format!("{path}/action"), access).await.refused(409);
    cloud.as_(Member).get(&path).await.expect(200);
    cloud.as_(Other).get(&path).await.refused(404);
    let seen = cloud.as_(Member).get(FLAVORS).await.expect(200);
    assert!(names(&seen["flavors"]).contains(&"private"));
    let unseen = cloud.as_(Other).get(&format!("{FLAVORS}?is_public=None")).await.expect(200);
    assert!(!names(&unseen["flavors"]).contains(&"private"));
    let private = admin.get(&format!("{FLAVORS}?is_public=false")).await.expect(200);
    assert_eq!(names(&private["flavors"]), ["private"]);
    let all = admin.get(&format!("{FLAVORS}?is_public=None")).await.expect(200);
    assert_eq!(all["flavors"].as_array().unwrap().len(), 7);

    let listed = admin.get(&format!("{path}/os-flavor-access")).await.expect(200);
    assert_eq!(listed["flavor_access"].as_array().unwrap().len(), 1);
    let taken = json!({"removeTenantAccess": {"tenant": project}});
    admin.post(&format!("{path}/action"), taken.clone()).await.expect(200);
    admin.post(&format!("{path}/action"), taken).await.refused(404);
    cloud.as_(Member).get(&path).await.refused(404);
    admin.get(&format!("{FLAVORS}/1/os-flavor-access")).await.refused(404);
    for wrong in
        [json!({"addTenantAccess": {}}), json!({"addTenantAccess": {"tenant": ""}}), json!({}), json!({"x": 1})]
    {
        admin.post(&format!("{path}/action"), wrong).await.refused(400);
    }
}

#[tokio::test]
async fn extra_specs_are_set_shown_and_removed() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let id = cloud.flavor(json!({})).await;
    let specs = format!("{FLAVORS}/{id}/os-extra_specs");
    let set = admin.post(&specs, json!({"extra_specs": {"hw:a": "1", "quota:b": 2}})).await.expect(200);
    assert_eq!(set["extra_specs"], json!({"hw:a": "1", "quota:b": "2"}));
    assert_eq!(cloud.as_(Reader).get(&specs).await.expect(200)["extra_specs"]["hw:a"], "1");
    assert_eq!(admin.put(&format!("{specs}/hw:a"), json!({"hw:a": "9"})).await.expect(200), json!({"hw:a": "9"}));
    assert_eq!(cloud.as_(Reader).get(&format!("{specs}/hw:a")).await.expect(200), json!({"hw:a": "9"}));
    admin.put(&format!("{specs}/hw:a"), json!({"other": "9"})).await.refused(400);
    cloud.as_(Member).put(&format!("{specs}/hw:a"), json!({"hw:a": "9"})).await.refused(403);
    admin.delete(&format!("{specs}/hw:a")).await.expect(200);
    admin.delete(&format!("{specs}/hw:a")).await.refused(404);
    for wrong in [
        json!({"extra_specs": {"a/b": "1"}}),
        json!({"extra_specs": {"a": []}}),
        json!({"extra_specs": {"a": "x".repeat(256)}}),
    ] {
        admin.post(&specs, wrong).await.refused(400);
    }
    let shown = cloud.as_(Reader).at("2.61").get(&format!("{FLAVORS}/{id}")).await;
    if shown.status == 200 {
        assert_eq!(text(&shown.expect(200)["flavor"]["extra_specs"]["quota:b"]), "2");
    }
}
