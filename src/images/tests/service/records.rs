use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cloud, OTHER, PROJECT};

#[tokio::test]
async fn a_new_image_is_queued_shared_and_owned_by_its_project() {
    let cloud = Cloud::start().await;
    let answer = cloud
        .post(
            "member",
            "/v2/images",
            json!({"name": "guest", "disk_format": "qcow2", "container_format": "bare", "tags": ["b", "a"],
                   "min_disk": 1, "hw_disk_bus": "scsi", "owner_specified.openstack.md5": ""}),
        )
        .await;
    assert_eq!(answer.headers["openstack-image-import-methods"], "glance-direct,web-download,copy-image");
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let image = answer.expect(201);
    let id = image["id"].as_str().unwrap();
    assert!(location.ends_with(&format!("/image/v2/images/{id}")), "{location}");
    assert_eq!(cloud.show("member", id).await["tags"], json!(["a", "b"]));
    for (key, value) in [
        ("name", json!("guest")),
        ("status", json!("queued")),
        ("visibility", json!("shared")),
        ("owner", json!(PROJECT)),
        ("min_disk", json!(1)),
        ("min_ram", json!(0)),
        ("protected", json!(false)),
        ("os_hidden", json!(false)),
        ("size", Value::Null),
        ("virtual_size", Value::Null),
        ("checksum", Value::Null),
        ("os_hash_algo", Value::Null),
        ("os_hash_value", Value::Null),
        ("hw_disk_bus", json!("scsi")),
        ("owner_specified.openstack.md5", json!("")),
        ("self", json!(format!("/v2/images/{id}"))),
        ("file", json!(format!("/v2/images/{id}/file"))),
        ("schema", json!("/v2/schemas/image")),
    ] {
        assert_eq!(image[key], value, "{key}");
    }
    for hidden in ["locations", "direct_url", "stores"] {
        assert!(image.get(hidden).is_none(), "{hidden}");
    }
}

#[tokio::test]
async fn wrong_bodies_are_refused_with_the_name_of_what_is_wrong() {
    let cloud = Cloud::start().await;
    let long = "x".repeat(256);
    for (body, status, word) in [
        (json!([]), 400, "object"),
        (json!({"disk_format": "wrong"}), 400, "disk_format"),
        (json!({"container_format": "wrong"}), 400, "container_format"),
        (json!({"name": 5}), 400, "name"),
        (json!({"name": long}), 400, "name"),
        (json!({"min_ram": "much"}), 400, "min_ram"),
        (json!({"min_disk": -1}), 400, "min_disk"),
        (json!({"visibility": "secret"}), 400, "visibility"),
        (json!({"protected": 1}), 400, "protected"),
        (json!({"tags": "x"}), 400, "tags"),
        (json!({"tags": [""]}), 400, "tag"),
        (json!({"id": "not-a-uuid"}), 400, "UUID"),
        (json!({"id": "../../etc/passwd"}), 400, "UUID"),
        (json!({"free": {"a": 1}}), 400, "free"),
        (json!({long: "x"}), 400, "property"),
        (json!({"status": "active"}), 403, "status"),
        (json!({"checksum": "x"}), 403, "checksum"),
        (json!({"deleted": "x"}), 403, "deleted"),
        (json!({"os_glance_foo": "x"}), 403, "os_glance_foo"),
        (json!({"locations": [{"url": "file:///etc/shadow", "metadata": {}}]}), 403, "locations"),
        (json!({"owner": OTHER}), 403, "owned by"),
        (json!({"visibility": "public"}), 403, "publicize_image"),
        (json!({"tags": (0..129).map(|i| i.to_string()).collect::<Vec<_>>()}), 413, "tags"),
    ] {
        let message = cloud.post("member", "/v2/images", body.clone()).await.refused(status);
        assert!(message.contains(word), "{body}: {message}");
    }
    let many: serde_json::Map<String, Value> = (0..129).map(|i| (format!("p{i}"), json!("v"))).collect();
    cloud.post("member", "/v2/images", Value::Object(many)).await.refused(413);
    cloud.post("reader", "/v2/images", json!({"name": "x"})).await.refused(403);
    assert_eq!(cloud.get("member", "/v2/images").await.expect(200)["images"], json!([]));
}

#[tokio::test]
async fn an_id_may_be_chosen_once_and_never_again() {
    let cloud = Cloud::start().await;
    let id = "6f6f6f6f-1111-4222-8333-444455556666";
    cloud.create("member", json!({"id": id})).await;
    cloud.post("member", "/v2/images", json!({"id": id})).await.refused(409);
    // Another project learns no more than that the id is taken.
    cloud.post("other", "/v2/images", json!({"id": id.to_uppercase()})).await.refused(409);
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    cloud.get("member", &format!("/v2/images/{id}")).await.refused(404);
    cloud.delete("member", &format!("/v2/images/{id}")).await.refused(404);
    cloud.post("member", "/v2/images", json!({"id": id})).await.refused(409);
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_a_wrong_one_changes_nothing() {
    let cloud = Cloud::start().await;
    let id = cloud.create("member", json!({"name": "old", "a": "1", "tags": ["t"]})).await;
    let path = format!("/v2/images/{id}");
    let patched = cloud
        .patch(
            "member",
            &path,
            json!([{"op": "replace", "path": "/name", "value": "new"}, {"op": "add", "path": "/b", "value": "2"},
                   {"op": "remove", "path": "/a"}, {"op": "add", "path": "/tags/1", "value": "u"},
                   {"op": "replace", "path": "/visibility", "value": "private"}]),
        )
        .await
        .expect(200);
    assert_eq!(patched["name"], "new");
    assert_eq!(patched["b"], "2");
    assert!(patched.get("a").is_none());
    assert_eq!(patched["tags"], json!(["t", "u"]));
    assert_eq!(patched["visibility"], "private");
    // The second change is wrong, so the first does not happen either.
    let body = json!([{"op": "replace", "path": "/name", "value": "half"}, {"op": "remove", "path": "/missing"}]);
    cloud.patch("member", &path, body).await.refused(409);
    for (body, status) in [
        (json!([{"op": "replace", "path": "/visibility", "value": "public"}]), 403),
        (json!([{"op": "replace", "path": "/owner", "value": OTHER}]), 403),
        (json!([{"op": "replace", "path": "/status", "value": "active"}]), 403),
        (json!([{"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/shadow", "metadata": {}}}]), 403),
        (json!({"op": "replace"}), 400),
    ] {
        cloud.patch("member", &path, body).await.refused(status);
    }
    cloud.patch("reader", &path, json!([{"op": "replace", "path": "/name", "value": "x"}])).await.refused(403);
    cloud.put("member", &path, Some(json!({}))).await.refused(405);
    assert_eq!(cloud.show("member", &id).await["name"], "new");
    let request = axum::extract::Request::builder()
        .method(Method::PATCH)
        .uri(format!("/image{path}"))
        .header("x-auth-token", "member")
        .header("content-type", "application/json")
        .body("[]".into())
        .unwrap();
    cloud.send(request).await.refused(415);
    let old = axum::extract::Request::builder()
        .method(Method::PATCH)
        .uri(format!("/image{path}"))
        .header("x-auth-token", "member")
        .header("content-type", "application/openstack-images-v2.0-json-patch")
        .body(json!([{"replace": "/name", "value": "oldstyle"}]).to_string().into())
        .unwrap();
    assert_eq!(cloud.send(old).await.expect(200)["name"], "oldstyle");
}

#[tokio::test]
async fn a_protected_image_cannot_be_deleted_until_it_is_unprotected() {
    let cloud = Cloud::start().await;
    let id = cloud.create("member", json!({"protected": true})).await;
    let path = format!("/v2/images/{id}");
    cloud.delete("member", &path).await.refused(403);
    cloud.delete("admin", &path).await.refused(403);
    cloud.patch("member", &path, json!([{"op": "replace", "path": "/protected", "value": false}])).await.expect(200);
    cloud.delete("reader", &path).await.refused(403);
    cloud.delete("member", &path).await.expect(204);
}

#[tokio::test]
async fn tags_come_and_go_one_by_one() {
    let cloud = Cloud::start().await;
    let id = cloud.create("member", json!({})).await;
    let path = |tag: &str| format!("/v2/images/{id}/tags/{tag}");
    cloud.put("member", &path("one"), None).await.expect(204);
    cloud.put("member", &path("one"), None).await.expect(204);
    cloud.put("member", &path("with%20space"), None).await.expect(204);
    assert_eq!(cloud.show("member", &id).await["tags"], json!(["one", "with space"]));
    cloud.put("member", &path(&"x".repeat(256)), None).await.refused(400);
    cloud.put("reader", &path("two"), None).await.refused(403);
    cloud.put("other", &path("two"), None).await.refused(404);
    cloud.delete("member", &path("one")).await.expect(204);
    cloud.delete("member", &path("one")).await.refused(404);
}

#[tokio::test]
async fn versions_schemas_and_info_tell_what_is_there() {
    let cloud = Cloud::start().await;
    for path in ["", "/", "/versions"] {
        let request = axum::extract::Request::builder()
            .uri(format!("/image{path}"))
            .header("host", "cloud:8443")
            .body(axum::body::Body::empty())
            .unwrap();
        let answer = cloud.send(request).await;
        assert_eq!(answer.status.as_u16(), if path == "/versions" { 200 } else { 300 });
        let versions = answer.json()["versions"].clone();
        assert_eq!(versions[0]["status"], "CURRENT");
        assert_eq!(versions[0]["links"][0]["href"], "https://cloud:8443/image/v2/");
    }
    for name in ["image", "images", "member", "members", "task", "tasks"] {
        assert_eq!(cloud.get("reader", &format!("/v2/schemas/{name}")).await.expect(200)["name"], name);
    }
    cloud.get("reader", "/v2/schemas/nothing").await.refused(404);
    cloud.get("nobody", "/v2/schemas/image").await.json();
    let methods = cloud.get("reader", "/v2/info/import").await.expect(200);
    assert_eq!(methods["import-methods"]["value"], json!(["glance-direct", "web-download", "copy-image"]));
    assert_eq!(cloud.get("reader", "/v2/info/stores").await.expect(200)["stores"][0]["id"], "local");
    cloud.get("member", "/v2/info/stores/detail").await.refused(403);
    cloud.get("admin", "/v2/info/stores/detail").await.expect(200);
    cloud.create_with_data("member", &[1; 3000]).await;
    let usage = cloud.get("member", "/v2/info/usage").await.expect(200);
    assert_eq!(usage["usage"]["image_count_total"], json!({"limit": -1, "usage": 1}));
    assert_eq!(usage["usage"]["image_size_total"], json!({"limit": -1, "usage": 1}));
}
