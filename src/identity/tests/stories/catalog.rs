//! Services, endpoints, regions, endpoint filters, limits.

use serde_json::{Value, json};

use crate::cloud::{Cloud, PASSWORD, id, project};

#[tokio::test]
async fn the_catalog_can_be_edited_and_the_next_token_shows_it() {
    let cloud = Cloud::new().await;
    let make =
        async |path: &str, body: Value, status: u16| cloud.send("POST", path, &cloud.admin, body).await.expect(status);
    let service =
        make("/v3/services", json!({"service": {"type": "thing", "name": "t", "description": "d"}}), 201).await;
    let s = service["service"]["id"].as_str().unwrap().to_owned();
    assert_eq!(service["service"]["description"], "d");
    make("/v3/services", json!({"service": {"name": "t"}}), 400).await;
    make("/v3/regions", json!({"region": {"id": "North", "description": "n"}}), 201).await;
    make("/v3/regions", json!({"region": {"id": "North"}}), 409).await;
    let endpoint =
        |url: &str| json!({"endpoint": {"interface": "public", "service_id": s, "url": url, "region_id": "North"}});
    let e = make("/v3/endpoints", endpoint("http://elsewhere/$(project_id)s"), 201).await;
    assert_eq!(e["endpoint"]["region"], "North");
    let e = id(e, "endpoint");
    for (bad, status) in [
        (json!({"endpoint": {"interface": "public", "service_id": "x", "url": "http://x"}}), 400),
        (json!({"endpoint": {"interface": "private", "service_id": s, "url": "http://x"}}), 400),
        (json!({"endpoint": {"interface": "public", "service_id": s, "url": "no url"}}), 400),
        (json!({"endpoint": {"interface": "public", "service_id": s, "url": "http://x/$(nonsense)s"}}), 400),
        (json!({"endpoint": {"interface": "public", "service_id": s, "url": "http://x", "region_id": "South"}}), 400),
        (json!({"endpoint": {"interface": "public", "service_id": s}}), 400),
    ] {
        make("/v3/endpoints", bad, status).await;
    }
    let shown = async || {
        let body = cloud.get("/v3/auth/catalog", &cloud.admin).await.expect(200);
        let found = body["catalog"].as_array().unwrap().iter().find(|entry| entry["type"] == "thing").cloned();
        found.map(|entry| entry["endpoints"][0]["url"].as_str().unwrap().to_owned())
    };
    assert_eq!(shown().await.unwrap(), format!("http://elsewhere/{}", cloud.admin_project));
    let system = cloud.login("admin", PASSWORD, json!({"system": {"all": true}})).await;
    let body = cloud.get("/v3/auth/catalog", &system).await.expect(200);
    assert!(!body.to_string().contains("elsewhere"), "it needs a project");
    let path = format!("/v3/endpoints/{e}");
    cloud.send("PATCH", &path, &cloud.admin, json!({"endpoint": {"enabled": false}})).await.expect(200);
    assert_eq!(shown().await, None);
    let body = json!({"endpoint": {"enabled": true, "url": "https://new"}});
    cloud.send("PATCH", &path, &cloud.admin, body).await.expect(200);
    assert_eq!(shown().await.unwrap(), "https://new");
    cloud.send("DELETE", "/v3/regions/North", &cloud.admin, Value::Null).await.expect(403);
    cloud.send("DELETE", &format!("/v3/services/{s}"), &cloud.admin, Value::Null).await.expect(204);
    cloud.get(&path, &cloud.admin).await.expect(404);
    cloud.send("DELETE", "/v3/regions/North", &cloud.admin, Value::Null).await.expect(204);
    let body = cloud.get("/v3/endpoints?interface=public", &cloud.admin).await.expect(200);
    assert!(
        body["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["url"].as_str().unwrap().starts_with("https://cloud:8443/"))
    );
}

#[tokio::test]
async fn regions_nest_without_circles() {
    let cloud = Cloud::new().await;
    let put = async |id: &str, body: Value| cloud.send("PUT", &format!("/v3/regions/{id}"), &cloud.admin, body).await;
    put("a", json!({"region": {}})).await.expect(201);
    put("b", json!({"region": {"parent_region_id": "a"}})).await.expect(201);
    put("c", json!({"region": {"parent_region_id": "nowhere"}})).await.expect(404);
    put("c", json!({"region": {"id": "d"}})).await.expect(400);
    let patch = json!({"region": {"parent_region_id": "b"}});
    cloud.send("PATCH", "/v3/regions/a", &cloud.admin, patch).await.expect(400);
    let body = cloud.get("/v3/regions?parent_region_id=a", &cloud.admin).await.expect(200);
    assert_eq!(body["regions"][0]["id"], "b");
    cloud.send("DELETE", "/v3/regions/a", &cloud.admin, Value::Null).await.expect(204);
    cloud.get("/v3/regions/b", &cloud.admin).await.expect(404);
}

#[tokio::test]
async fn endpoint_filters_decide_what_a_project_sees() {
    let cloud = Cloud::new().await;
    let p = &cloud.admin_project;
    let all = cloud.get("/v3/endpoints?interface=public", &cloud.admin).await.expect(200);
    let e = all["endpoints"][0]["id"].as_str().unwrap();
    let count = async || {
        let body = cloud.get("/v3/auth/catalog", &cloud.admin).await.expect(200);
        let services = body["catalog"].as_array().unwrap().clone();
        services.iter().map(|service| service["endpoints"].as_array().unwrap().len()).sum::<usize>()
    };
    assert_eq!(count().await, 12);
    let link = format!("/v3/OS-EP-FILTER/projects/{p}/endpoints/{e}");
    cloud.get(&link, &cloud.admin).await.expect(404);
    cloud.send("PUT", &link, &cloud.admin, Value::Null).await.expect(204);
    cloud.get(&link, &cloud.admin).await.expect(204);
    assert_eq!(count().await, 1);
    let body = json!({"endpoint_group": {"name": "g", "filters": {"interface": "admin"}}});
    let g = id(
        cloud.send("POST", "/v3/OS-EP-FILTER/endpoint_groups", &cloud.admin, body).await.expect(201),
        "endpoint_group",
    );
    let group = format!("/v3/OS-EP-FILTER/endpoint_groups/{g}");
    cloud.send("PUT", &format!("{group}/projects/{p}"), &cloud.admin, Value::Null).await.expect(204);
    assert_eq!(count().await, 5);
    let listed = cloud.get(&format!("/v3/OS-EP-FILTER/projects/{p}/endpoints"), &cloud.admin).await.expect(200);
    assert_eq!(listed["endpoints"].as_array().unwrap().len(), 5);
    let listed = cloud.get(&format!("{group}/endpoints"), &cloud.admin).await.expect(200);
    assert_eq!(listed["endpoints"].as_array().unwrap().len(), 4);
    for bad in [
        json!({"name": "x"}),
        json!({"name": "x", "filters": {}}),
        json!({"name": "x", "filters": {"y": 1}}),
        json!({"name": "x", "filters": {"interface": "none"}}),
    ] {
        let body = json!({ "endpoint_group": bad });
        cloud.send("POST", "/v3/OS-EP-FILTER/endpoint_groups", &cloud.admin, body).await.expect(400);
    }
    cloud.send("DELETE", &group, &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &link, &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &link, &cloud.admin, Value::Null).await.expect(404);
    assert_eq!(count().await, 12);
}

#[tokio::test]
async fn limits_have_a_default_and_exceptions() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    cloud.grant(&format!("projects/{p}/users/{u}"), "reader").await;
    let service = cloud.get("/v3/services?type=image", &cloud.admin).await.expect(200)["services"][0]["id"].take();
    let registered = |name: &str| json!({"service_id": service, "resource_name": name, "default_limit": 10});
    let path = "/v3/registered_limits";
    let body = json!({"registered_limits": [registered("a"), registered("b")]});
    let made = cloud.send("POST", path, &cloud.admin, body.clone()).await.expect(201);
    cloud.send("POST", path, &cloud.admin, body).await.expect(409);
    let r = format!("{path}/{}", made["registered_limits"][0]["id"].as_str().unwrap());
    for bad in [
        json!({}),
        json!({"registered_limits": []}),
        json!({"registered_limits": [1]}),
        json!([]),
        json!({"registered_limits": [{"service_id": service, "resource_name": "c", "default_limit": -2}]}),
        json!({"registered_limits": [{"service_id": "x", "resource_name": "c", "default_limit": 1}]}),
        json!({"registered_limits": [{"service_id": service, "resource_name": "c", "default_limit": 1, "x": 1}]}),
    ] {
        cloud.send("POST", path, &cloud.admin, bad).await.expect(400);
    }
    let limit = |name: &str, project: &str| {
        json!({"limits": [{"service_id": service, "resource_name": name,
        "resource_limit": 3, "project_id": project}]})
    };
    let made = cloud.send("POST", "/v3/limits", &cloud.admin, limit("a", &p)).await.expect(201);
    cloud.send("POST", "/v3/limits", &cloud.admin, limit("a", &p)).await.expect(409);
    cloud.send("POST", "/v3/limits", &cloud.admin, limit("c", &p)).await.expect(403);
    cloud.send("POST", "/v3/limits", &cloud.admin, limit("a", "none")).await.expect(400);
    cloud.send("POST", "/v3/limits", &cloud.admin, limit("a", &cloud.admin_project)).await.expect(201);
    let own = cloud.login("u", "u", project(&p)).await;
    let listed = cloud.get("/v3/limits", &own).await.expect(200);
    assert_eq!(listed["limits"].as_array().unwrap().len(), 1);
    let l = format!("/v3/limits/{}", made["limits"][0]["id"].as_str().unwrap());
    assert_eq!(cloud.get(&l, &own).await.expect(200)["limit"]["resource_limit"], 3);
    cloud.send("PATCH", &l, &own, json!({"limit": {"resource_limit": 5}})).await.expect(403);
    let body = cloud.send("PATCH", &l, &cloud.admin, json!({"limit": {"resource_limit": 5}})).await.expect(200);
    assert_eq!(body["limit"]["resource_limit"], 5);
    cloud.send("DELETE", &r, &cloud.admin, Value::Null).await.expect(403);
    cloud.send("DELETE", &l, &cloud.admin, Value::Null).await.expect(204);
    assert_eq!(cloud.get("/v3/limits/model", &own).await.expect(200)["model"]["name"], "flat");
}

#[tokio::test]
async fn version_documents_name_the_host_that_the_client_used_and_home_documents_what_is_served() {
    let cloud = Cloud::new().await;
    for host in ["cloud:8443", "192.0.2.1", "[2001:db8::1]:5000"] {
        let answer = cloud.raw("GET", "/", &[("host", host)], None).await;
        let body = answer.expect(300);
        assert_eq!(body["versions"]["values"][0]["links"][0]["href"], format!("https://{host}/identity/v3/"));
        let body = cloud.raw("GET", "/v3/", &[("host", host)], None).await.expect(200);
        assert_eq!(body["version"]["links"], json!([{"rel": "self", "href": format!("https://{host}/identity/v3/")}]));
    }
    let home = [("accept", "application/json-home")];
    let users = "https://docs.openstack.org/api/openstack-identity/3/rel/users";
    for (path, href) in [("/", "/v3/users"), ("/v3", "/users"), ("/v3/", "/users")] {
        let answer = cloud.raw("GET", path, &home, None).await;
        assert_eq!(answer.headers["content-type"], "application/json-home");
        assert_eq!(answer.headers["vary"], "Accept, X-Auth-Token");
        assert_eq!(answer.expect(200)["resources"][users], json!({"href": href}));
        assert!(cloud.raw("HEAD", path, &home, None).await.expect(200).is_null());
    }
    cloud.raw("GET", "/v3", &[("accept", "application/json-home;q=0.1, */*")], None).await.expect(200)["version"]
        .take();
    cloud.raw("POST", "/v3", &home, Some("{}")).await.expect(405);
}
