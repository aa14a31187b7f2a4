use http::Method;
use serde_json::json;

use crate::harness::{Cloud, OTHER, PROJECT};

async fn listed(cloud: &Cloud, who: &str, query: &str, id: &str) -> bool {
    let body = cloud.get(who, &format!("/v2/images?{query}")).await.expect(200);
    body["images"].as_array().unwrap().iter().any(|image| image["id"] == id)
}

#[tokio::test]
async fn a_foreign_image_does_not_exist_whatever_is_asked_of_it() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"secret").await;
    let absent = rest::new_uuid();
    let calls = [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::GET, "/file"),
        (Method::GET, "/members"),
        (Method::GET, "/members/x"),
        (Method::DELETE, "/members/x"),
        (Method::GET, "/tasks"),
        (Method::PUT, "/tags/x"),
        (Method::DELETE, "/tags/x"),
        (Method::POST, "/actions/deactivate"),
        (Method::POST, "/actions/reactivate"),
    ];
    for (method, rest) in calls {
        let foreign = cloud.call("other", method.clone(), &format!("/v2/images/{id}{rest}"), None).await.refused(404);
        let missing =
            cloud.call("other", method.clone(), &format!("/v2/images/{absent}{rest}"), None).await.refused(404);
        assert_eq!(foreign.replace(&id, "ID"), missing.replace(&absent, "ID"), "{method} {rest}");
    }
    for who in [&id, &absent] {
        cloud.upload("other", &format!("/v2/images/{who}/file"), "x").await.refused(404);
        cloud.upload("other", &format!("/v2/images/{who}/stage"), "x").await.refused(404);
        cloud.patch("other", &format!("/v2/images/{who}"), json!([])).await.refused(404);
        cloud.post("other", &format!("/v2/images/{who}/members"), json!({"member": OTHER})).await.refused(404);
        cloud
            .put("other", &format!("/v2/images/{who}/members/x"), Some(json!({"status": "accepted"})))
            .await
            .refused(404);
        let body = json!({"method": {"name": "glance-direct"}});
        cloud.post("other", &format!("/v2/images/{who}/import"), body).await.refused(404);
    }
    for query in [
        "",
        "visibility=all",
        "visibility=shared&member_status=all",
        "name=x",
        "owner=11111111111111111111111111111111",
    ] {
        assert!(!listed(&cloud, "other", query, &id).await, "{query}");
    }
    cloud.get("other", &format!("/v2/images?marker={id}")).await.refused(400);
    assert_eq!(cloud.show("member", &id).await["status"], "active");
}

#[tokio::test]
async fn a_public_image_is_seen_by_all_and_changed_by_its_owner_alone() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"public").await;
    let path = format!("/v2/images/{id}");
    let publish = json!([{"op": "replace", "path": "/visibility", "value": "public"}]);
    cloud.patch("member", &path, publish.clone()).await.refused(403);
    cloud.patch("admin", &path, publish).await.expect(200);
    assert!(listed(&cloud, "other", "", &id).await);
    assert!(listed(&cloud, "other", "visibility=public", &id).await);
    assert_eq!(cloud.get("other", &format!("{path}/file")).await.bytes, b"public");
    cloud.delete("other", &path).await.refused(403);
    cloud.patch("other", &path, json!([{"op": "add", "path": "/x", "value": "y"}])).await.refused(403);
    cloud.act("other", &format!("{path}/actions/deactivate")).await.refused(403);
    cloud.upload("other", &format!("{path}/file"), "x").await.refused(403);
    cloud.get("other", &format!("{path}/members")).await.refused(403);
}

#[tokio::test]
async fn a_community_image_is_used_by_all_but_listed_only_when_asked_for() {
    let cloud = Cloud::start().await;
    let id = cloud.create("member", json!({"visibility": "community"})).await;
    cloud.show("other", &id).await;
    assert!(!listed(&cloud, "other", "", &id).await);
    assert!(listed(&cloud, "other", "visibility=community", &id).await);
    assert!(listed(&cloud, "other", "visibility=all", &id).await);
    assert!(listed(&cloud, "member", "", &id).await);
}

#[tokio::test]
async fn a_shared_image_is_listed_once_its_member_accepts() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"shared").await;
    let members = format!("/v2/images/{id}/members");
    let theirs = format!("{members}/{OTHER}");
    let made = cloud.post("member", &members, json!({"member": OTHER})).await.expect(200);
    assert_eq!(
        (&made["member_id"], &made["status"], &made["image_id"]),
        (&json!(OTHER), &json!("pending"), &json!(id))
    );
    cloud.post("member", &members, json!({"member": OTHER})).await.refused(409);
    cloud.post("member", &members, json!({"member": ""})).await.refused(400);
    cloud.post("member", &members, json!({})).await.refused(400);
    cloud.post("other", &members, json!({"member": "third"})).await.refused(403);
    // Pending: it can be looked at by its id, and waits to be accepted.
    cloud.show("other", &id).await;
    assert!(!listed(&cloud, "other", "", &id).await);
    assert!(listed(&cloud, "other", "member_status=pending", &id).await);
    assert!(listed(&cloud, "other", "member_status=all", &id).await);
    cloud.put("member", &theirs, Some(json!({"status": "accepted"}))).await.refused(403);
    cloud.put("other", &theirs, Some(json!({"status": "maybe"}))).await.refused(400);
    assert_eq!(
        cloud.put("other", &theirs, Some(json!({"status": "accepted"}))).await.expect(200)["status"],
        "accepted"
    );
    assert!(listed(&cloud, "other", "", &id).await);
    assert_eq!(cloud.get("other", &format!("/v2/images/{id}/file")).await.bytes, b"shared");
    cloud.delete("other", &format!("/v2/images/{id}")).await.refused(403);
    // Each member sees only itself.
    cloud.post("member", &members, json!({"member": "third"})).await.expect(200);
    assert_eq!(cloud.get("member", &members).await.expect(200)["members"].as_array().unwrap().len(), 2);
    assert_eq!(cloud.get("other", &members).await.expect(200)["members"].as_array().unwrap().len(), 1);
    cloud.get("other", &format!("{members}/third")).await.refused(404);
    cloud.put("other", &format!("{members}/third"), Some(json!({"status": "accepted"}))).await.refused(404);
    cloud.delete("other", &theirs).await.refused(403);
    cloud.put("other", &theirs, Some(json!({"status": "rejected"}))).await.expect(200);
    assert!(!listed(&cloud, "other", "", &id).await);
    cloud.delete("member", &theirs).await.expect(204);
    cloud.delete("member", &theirs).await.refused(404);
    cloud.get("other", &format!("/v2/images/{id}")).await.refused(404);
    // A private image has no members, and those it had see it no more.
    let private = json!([{"op": "replace", "path": "/visibility", "value": "private"}]);
    cloud.patch("member", &format!("/v2/images/{id}"), private).await.expect(200);
    cloud.post("member", &members, json!({"member": OTHER})).await.refused(403);
}

#[tokio::test]
async fn an_administrator_sees_everything_and_may_give_images_away() {
    let cloud = Cloud::start().await;
    let id = cloud.create("admin", json!({"owner": PROJECT, "visibility": "private"})).await;
    assert_eq!(cloud.show("member", &id).await["owner"], PROJECT);
    assert!(listed(&cloud, "admin", "", &id).await);
    let give = json!([{"op": "replace", "path": "/owner", "value": OTHER}]);
    cloud.patch("admin", &format!("/v2/images/{id}"), give).await.expect(200);
    cloud.get("member", &format!("/v2/images/{id}")).await.refused(404);
    cloud.show("other", &id).await;
}

#[tokio::test]
async fn a_token_of_the_system_is_none_of_a_project_and_sees_no_image() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"x").await;
    cloud.get("system", "/v2/images").await.refused(403);
    cloud.post("system", "/v2/images", json!({"name": "x"})).await.refused(403);
    cloud.get("system", &format!("/v2/images/{id}")).await.refused(404);
    cloud.delete("system", &format!("/v2/images/{id}")).await.refused(404);
    cloud.patch("system", &format!("/v2/images/{id}"), json!([])).await.refused(404);
    cloud.act("system", &format!("/v2/images/{id}/actions/deactivate")).await.refused(404);
    cloud.upload("system", &format!("/v2/images/{id}/file"), "x").await.refused(404);
    cloud.get("admin", &format!("/v2/images/{id}")).await.expect(200);
}
