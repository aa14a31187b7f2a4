use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cloud, OTHER, PROJECT};

const SPACES: &str = "/v2/metadefs/namespaces";

async fn space(cloud: &Cloud, name: &str, owner: &str, visibility: &str) -> Value {
    let body = json!({"namespace": name, "owner": owner, "visibility": visibility, "description": "d"});
    cloud.post("admin", SPACES, body).await.expect(201)
}

fn names(body: &Value, list: &str, key: &str) -> Vec<String> {
    body[list].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_namespace_is_its_owners_or_everybodys() {
    let cloud = Cloud::start().await;
    space(&cloud, "mine", PROJECT, "private").await;
    space(&cloud, "theirs", OTHER, "private").await;
    space(&cloud, "ours", OTHER, "public").await;
    let seen = names(&cloud.get("member", SPACES).await.expect(200), "namespaces", "namespace");
    assert!(seen.contains(&"mine".into()) && seen.contains(&"ours".into()) && !seen.contains(&"theirs".into()));
    let seen = names(&cloud.get("admin", SPACES).await.expect(200), "namespaces", "namespace");
    assert!(seen.contains(&"theirs".into()));
    let seen = cloud.get("member", &format!("{SPACES}?visibility=private")).await.expect(200);
    assert_eq!(names(&seen, "namespaces", "namespace"), ["mine"]);
    cloud.get("reader", &format!("{SPACES}/mine")).await.expect(200);
    // What is another's is as if it were not there, for everything that can be asked of it.
    for (method, rest, body) in [
        (Method::GET, "", None),
        (Method::PUT, "", Some(json!({"namespace": "x"}))),
        (Method::DELETE, "", None),
        (Method::GET, "/objects", None),
        (Method::POST, "/objects", Some(json!({"name": "x"}))),
        (Method::GET, "/objects/x", None),
        (Method::GET, "/properties", None),
        (Method::POST, "/properties", Some(json!({"name": "x", "title": "t", "type": "string"}))),
        (Method::GET, "/properties/x", None),
        (Method::GET, "/tags", None),
        (Method::POST, "/tags", Some(json!({"tags": []}))),
        (Method::POST, "/tags/x", None),
        (Method::GET, "/resource_types", None),
        (Method::POST, "/resource_types", Some(json!({"name": "x"}))),
        (Method::DELETE, "/resource_types/x", None),
    ] {
        let foreign =
            cloud.call("member", method.clone(), &format!("{SPACES}/theirs{rest}"), body.clone()).await.refused(404);
        let absent = cloud.call("member", method.clone(), &format!("{SPACES}/absent{rest}"), body).await.refused(404);
        assert_eq!(foreign.replace("theirs", "NAME"), absent.replace("absent", "NAME"), "{method} {rest}");
    }
    // What one may read one may not write.
    cloud.put("member", &format!("{SPACES}/mine"), Some(json!({"namespace": "mine"}))).await.refused(403);
    cloud.delete("member", &format!("{SPACES}/ours")).await.refused(403);
    cloud.post("member", SPACES, json!({"namespace": "new"})).await.refused(403);
}

#[tokio::test]
async fn a_namespace_comes_with_all_it_holds_and_goes_with_it() {
    let cloud = Cloud::start().await;
    let body = json!({
        "namespace": "OS::Test", "display_name": "Test", "visibility": "public", "protected": true,
        "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "hw:"}, {"name": "OS::New::Thing"}],
        "properties": {"size": {"title": "Size", "type": "integer", "minimum": 1}},
        "objects": [{"name": "box", "required": ["colour"], "properties": {"colour": {"title": "C", "type": "string"}}}],
        "tags": [{"name": "one"}, {"name": "two"}],
    });
    let made = cloud.post("admin", SPACES, body.clone()).await.expect(201);
    assert_eq!(made["self"], "/v2/metadefs/namespaces/OS::Test");
    assert!(cloud.post("admin", SPACES, body).await.refused(409).contains("already exists"));
    let shown = cloud.get("reader", &format!("{SPACES}/OS::Test")).await.expect(200);
    assert_eq!(shown["properties"]["size"], json!({"title": "Size", "type": "integer", "minimum": 1}));
    assert_eq!(names(&shown, "objects", "name"), ["box"]);
    assert_eq!(shown["tags"].as_array().unwrap().len(), 2);
    // On a flavor the names have the prefix of that association.
    let shown = cloud.get("reader", &format!("{SPACES}/OS::Test?resource_type=OS::Nova::Flavor")).await.expect(200);
    assert!(shown["properties"]["hw:size"].is_object(), "{shown}");
    assert_eq!(shown["objects"][0]["required"], json!(["hw:colour"]));
    let path = format!("{SPACES}/OS::Test/properties/hw:size?resource_type=OS::Nova::Flavor");
    assert_eq!(cloud.get("reader", &path).await.expect(200)["name"], "size");
    cloud
        .get("reader", &format!("{SPACES}/OS::Test/properties/size?resource_type=OS::Nova::Flavor"))
        .await
        .refused(404);
    let types = cloud.get("reader", "/v2/metadefs/resource_types").await.expect(200);
    assert!(names(&types, "resource_types", "name").contains(&"OS::New::Thing".to_owned()));
    let for_flavors = cloud.get("reader", &format!("{SPACES}?resource_types=OS::New::Thing,x")).await.expect(200);
    assert_eq!(names(&for_flavors, "namespaces", "namespace"), ["OS::Test"]);

    for path in ["", "/objects", "/objects/box", "/properties/size", "/tags", "/resource_types/OS::Nova::Flavor"] {
        assert!(cloud.delete("admin", &format!("{SPACES}/OS::Test{path}")).await.refused(403).contains("protected"));
    }
    let changed = json!({"namespace": "OS::Renamed", "visibility": "private"});
    let changed = cloud.put("admin", &format!("{SPACES}/OS::Test"), Some(changed)).await.expect(200);
    assert_eq!((changed["protected"].clone(), changed["visibility"].clone()), (json!(false), json!("private")));
    assert_eq!(changed.get("display_name"), None, "what an update leaves out is gone");
    cloud.delete("admin", &format!("{SPACES}/OS::Renamed")).await.expect(204);
    cloud.get("admin", &format!("{SPACES}/OS::Renamed/objects/box")).await.refused(404);
    let count = cloud.db.read(|tx| tx.count("SELECT count(*) FROM images_metadef_item WHERE name = 'box'", [])).await;
    assert_eq!(count.unwrap(), 0);
}

#[tokio::test]
async fn objects_properties_and_types_of_a_namespace_have_lives_of_their_own() {
    let cloud = Cloud::start().await;
    space(&cloud, "s", PROJECT, "private").await;
    let at = |rest: &str| format!("{SPACES}/s/{rest}");
    let made = cloud.post("admin", &at("objects"), json!({"name": "o", "description": "d"})).await.expect(201);
    assert_eq!(
        (made["self"].clone(), made["properties"].clone()),
        (json!("/v2/metadefs/namespaces/s/objects/o"), json!({}))
    );
    cloud.post("admin", &at("objects"), json!({"name": "o"})).await.refused(409);
    let changed = cloud.put("admin", &at("objects/o"), Some(json!({"name": "p"}))).await.expect(200);
    assert_eq!((changed["name"].clone(), changed.get("description")), (json!("p"), None));
    cloud.get("member", &at("objects/o")).await.refused(404);
    cloud.delete("admin", &at("objects/p")).await.expect(204);
    assert_eq!(cloud.get("member", &at("objects")).await.expect(200)["objects"], json!([]));

    let property = json!({"name": "n", "title": "t", "type": "string", "enum": ["a", 1, null]});
    assert_eq!(cloud.post("admin", &at("properties"), property.clone()).await.expect(201), property);
    assert!(cloud.post("admin", &at("properties"), json!({"name": "n"})).await.refused(400).contains("required"));
    cloud
        .put("admin", &at("properties/n"), Some(json!({"name": "m", "title": "u", "type": "integer"})))
        .await
        .expect(200);
    let all = cloud.get("member", &at("properties")).await.expect(200);
    assert_eq!(all["properties"], json!({"m": {"title": "u", "type": "integer"}}));
    cloud.delete("admin", &at("properties")).await.expect(204);
    assert_eq!(cloud.get("member", &at("properties")).await.expect(200)["properties"], json!({}));

    let kind = json!({"name": "OS::Nova::Server", "prefix": "p:"});
    cloud.post("admin", &at("resource_types"), kind.clone()).await.expect(201);
    cloud.post("admin", &at("resource_types"), kind).await.refused(409);
    let all = cloud.get("member", &at("resource_types")).await.expect(200);
    assert_eq!(names(&all, "resource_type_associations", "name"), ["OS::Nova::Server"]);
    cloud.delete("admin", &at("resource_types/OS::Nova::Server")).await.expect(204);
    cloud.delete("admin", &at("resource_types/OS::Nova::Server")).await.refused(404);
}

#[tokio::test]
async fn tags_are_replaced_unless_the_client_asks_to_append() {
    let cloud = Cloud::start().await;
    space(&cloud, "s", PROJECT, "private").await;
    let at = format!("{SPACES}/s/tags");
    let listed = async || {
        names(&cloud.get("member", &format!("{at}?sort_key=name&sort_dir=asc")).await.expect(200), "tags", "name")
    };
    cloud.post("admin", &at, json!({"tags": [{"name": "a"}, {"name": "b"}]})).await.expect(201);
    cloud.post("admin", &at, json!({"tags": [{"name": "c"}]})).await.expect(201);
    assert_eq!(listed().await, ["c"]);
    let request = axum::extract::Request::post(format!("/image{at}"))
        .header("x-auth-token", "admin")
        .header("content-type", "application/json")
        .header("x-openstack-append", "True")
        .body(json!({"tags": [{"name": "a"}]}).to_string().into())
        .unwrap();
    cloud.send(request).await.expect(201);
    assert_eq!(listed().await, ["a", "c"]);
    assert_eq!(cloud.act("admin", &format!("{at}/b")).await.expect(201), json!({"name": "b"}));
    cloud.act("admin", &format!("{at}/b")).await.refused(409);
    cloud.put("admin", &format!("{at}/b"), Some(json!({"name": "d"}))).await.expect(200);
    cloud.put("admin", &format!("{at}/d"), Some(json!({"name": "a"}))).await.refused(409);
    let page = cloud.get("member", &format!("{at}?sort_key=name&sort_dir=asc&limit=1&marker=a")).await.expect(200);
    assert_eq!(names(&page, "tags", "name"), ["c"]);
    cloud.get("member", &format!("{at}?marker=absent")).await.refused(404);
    // A list with a name twice changes nothing.
    cloud.post("admin", &at, json!({"tags": [{"name": "x"}, {"name": "x"}]})).await.refused(409);
    assert_eq!(listed().await, ["a", "c", "d"]);
    cloud.delete("admin", &format!("{at}/d")).await.expect(204);
    cloud.delete("admin", &at).await.expect(204);
    assert!(listed().await.is_empty());
}

#[tokio::test]
async fn a_new_cloud_knows_the_types_that_its_services_have() {
    let cloud = Cloud::start().await;
    let types = cloud.get("reader", "/v2/metadefs/resource_types").await.expect(200);
    let types = names(&types, "resource_types", "name");
    for name in ["OS::Glance::Image", "OS::Nova::Server", "OS::Nova::Flavor", "OS::Cinder::Volume"] {
        assert!(types.contains(&name.to_owned()), "{types:?}");
    }
    let shown = cloud.get("reader", &format!("{SPACES}/OS::Compute::CPUPinning")).await.expect(200);
    assert_eq!(shown["properties"]["cpu_policy"]["enum"], json!(["shared", "dedicated"]));
    cloud.delete("admin", &format!("{SPACES}/OS::Compute::CPUPinning")).await.refused(403);
    for name in [
        "namespace",
        "namespaces",
        "object",
        "objects",
        "property",
        "properties",
        "tag",
        "tags",
        "resource_type",
        "resource_types",
    ] {
        let schema = cloud.get("reader", &format!("/v2/schemas/metadefs/{name}")).await.expect(200);
        assert!(schema["properties"].is_object() && schema["name"].is_string(), "{name}");
    }
    cloud.get("reader", "/v2/schemas/metadefs/nothing").await.refused(404);
}

#[tokio::test]
async fn pages_of_namespaces_join_without_a_gap() {
    let cloud = Cloud::start().await;
    for n in 0..5 {
        space(&cloud, &format!("n{n}"), PROJECT, "private").await;
    }
    let mut path = format!("{SPACES}?visibility=private&limit=2&sort_key=namespace&sort_dir=asc");
    let mut seen = Vec::new();
    loop {
        let page = cloud.get("member", &path).await.expect(200);
        seen.extend(names(&page, "namespaces", "namespace"));
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["n0", "n1", "n2", "n3", "n4"]);
}
