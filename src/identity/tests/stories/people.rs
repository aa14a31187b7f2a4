//! Users, projects, domains, groups.

use serde_json::{Value, json};

use crate::cloud::{Cloud, id, message, names};

#[tokio::test]
async fn a_user_comes_back_as_it_was_sent_with_its_own_attributes() {
    let cloud = Cloud::new().await;
    let body = json!({"user": {"name": "  ann ", "email": "a@b", "description": "d", "password": "p",
        "colour": ["red", 1], "options": {"lock_password": true}, "links": "mine", "id": "mine"}});
    let user = cloud.send("POST", "/v3/users", &cloud.admin, body).await.expect(201)["user"].take();
    let u = user["id"].as_str().unwrap().to_owned();
    assert_eq!(u.len(), 32);
    assert_eq!(
        user,
        json!({"id": u, "name": "ann", "domain_id": "default", "enabled": true, "password_expires_at": null,
            "options": {"lock_password": true}, "email": "a@b", "description": "d", "colour": ["red", 1],
            "links": {"self": format!("https://cloud:8443/identity/v3/users/{u}")}})
    );
    let path = format!("/v3/users/{u}");
    assert_eq!(cloud.get(&path, &cloud.admin).await.expect(200)["user"], user);
    let body = json!({"user": {"name": "anna", "email": null, "colour": "blue", "domain_id": "default"}});
    let user = cloud.send("PATCH", &path, &cloud.admin, body).await.expect(200)["user"].take();
    assert_eq!((&user["name"], &user["email"], &user["colour"]), (&json!("anna"), &json!(null), &json!("blue")));
    assert_eq!(user["description"], "d");
    for (body, status) in [
        (json!({"user": {"domain_id": "other"}}), 400),
        (json!({"user": {"id": "other"}}), 400),
        (json!({"user": {}}), 400),
        (json!({"user": {"name": " "}}), 400),
        (json!({"user": {"name": "admin"}}), 409),
        (json!({"user": {"options": {"unknown": true}}}), 400),
        (json!({"user": {"default_project_id": "default"}}), 400),
    ] {
        cloud.send("PATCH", &path, &cloud.admin, body).await.expect(status);
    }
    let again = cloud.send("POST", "/v3/users", &cloud.admin, json!({"user": {"name": "anna"}})).await.expect(409);
    assert!(message(&again).contains("Duplicate entry found with name anna"));
    let locked = json!({"user": {"original_password": "p", "password": "q"}});
    cloud.send("POST", &format!("{path}/password"), "", locked).await.expect(400);
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(404);
    let gone = cloud.get(&path, &cloud.admin).await.expect(404);
    assert_eq!(message(&gone), format!("Could not find user: {u}."));
    cloud
        .send("POST", "/v3/users", &cloud.admin, json!({"user": {"name": "x", "domain_id": "none"}}))
        .await
        .expect(404);
}

#[tokio::test]
async fn lists_filter_and_page() {
    let cloud = Cloud::new().await;
    let d = cloud.domain("d").await;
    for number in 0..5 {
        cloud.user(&format!("user{number}"), &d).await;
    }
    let list = async |query: &str| cloud.get(&format!("/v3/users?{query}"), &cloud.admin).await.expect(200);
    assert_eq!(names(&list(&format!("domain_id={d}")).await["users"]).len(), 5);
    assert_eq!(names(&list("name=user3").await["users"]), ["user3"]);
    assert_eq!(names(&list("name__contains=er1").await["users"]), ["user1"]);
    assert_eq!(names(&list("name__startswith=ad").await["users"]), ["admin"]);
    assert_eq!(names(&list("enabled=False").await["users"]), Vec::<String>::new());
    assert_eq!(names(&list("enabled=true&name=user1").await["users"]), ["user1"]);
    assert_eq!(names(&list("whatever=1").await["users"]).len(), 6);
    cloud.get("/v3/users?enabled=perhaps", &cloud.admin).await.expect(400);
    cloud.get("/v3/users?limit=-1", &cloud.admin).await.expect(400);
    cloud.get("/v3/users?marker=nothing", &cloud.admin).await.expect(400);

    let mut seen = Vec::new();
    let mut query = format!("domain_id={d}&limit=2");
    loop {
        let body = list(&query).await;
        seen.extend(names(&body["users"]));
        let Some(next) = body["links"]["next"].as_str() else { break };
        assert!(next.starts_with("https://cloud:8443/identity/v3/users?"));
        query = next.split_once('?').unwrap().1.to_owned();
    }
    assert_eq!(seen, ["user0", "user1", "user2", "user3", "user4"]);
    let body = list("limit=2").await;
    assert_eq!(body["links"]["self"], "https://cloud:8443/identity/v3/users?limit=2");
    assert_eq!(body["links"]["previous"], Value::Null);
}

#[tokio::test]
async fn projects_nest_and_show_their_family() {
    let cloud = Cloud::new().await;
    let make = async |name: &str, parent: &str| {
        let body = json!({"project": {"name": name, "parent_id": parent}});
        id(cloud.send("POST", "/v3/projects", &cloud.admin, body).await.expect(201), "project")
    };
    let a = cloud.project("a", "default").await;
    let b = make("b", &a).await;
    let c = make("c", &b).await;
    let show = async |id: &str, query: &str| {
        cloud.get(&format!("/v3/projects/{id}?{query}"), &cloud.admin).await.expect(200)["project"].take()
    };
    let shown = show(&a, "").await;
    assert_eq!((&shown["parent_id"], &shown["domain_id"]), (&json!("default"), &json!("default")));
    assert_eq!(show(&c, "parents_as_ids").await["parents"], json!({&b: {&a: {"default": null}}}));
    assert_eq!(show(&a, "subtree_as_ids").await["subtree"], json!({&b: {&c: null}}));
    assert_eq!(show(&c, "subtree_as_ids").await["subtree"], Value::Null);
    assert_eq!(show(&c, "parents_as_list").await["parents"], json!([]), "no role on any of them");
    let admin = cloud.get("/v3/users?name=admin", &cloud.admin).await.expect(200)["users"][0]["id"].take();
    cloud.grant(&format!("projects/{b}/users/{}", admin.as_str().unwrap()), "reader").await;
    assert_eq!(show(&c, "parents_as_list").await["parents"][0]["project"]["name"], "b");
    cloud.get(&format!("/v3/projects/{a}?parents_as_list&parents_as_ids"), &cloud.admin).await.expect(400);

    let patch = async |id: &str, body: Value| {
        cloud.send("PATCH", &format!("/v3/projects/{id}"), &cloud.admin, json!({ "project": body })).await
    };
    patch(&a, json!({"enabled": false})).await.expect(403);
    patch(&c, json!({"enabled": false})).await.expect(200);
    patch(&b, json!({"enabled": false})).await.expect(200);
    patch(&c, json!({"enabled": true})).await.expect(403);
    patch(&c, json!({"parent_id": a})).await.expect(403);
    patch(&c, json!({"domain_id": "other"})).await.expect(400);
    patch(&c, json!({"is_domain": true})).await.expect(400);
    cloud.send("DELETE", &format!("/v3/projects/{b}"), &cloud.admin, Value::Null).await.expect(403);
    cloud
        .send("POST", "/v3/projects", &cloud.admin, json!({"project": {"name": "d", "parent_id": b}}))
        .await
        .expect(403);
    cloud
        .send("POST", "/v3/projects", &cloud.admin, json!({"project": {"name": "d", "parent_id": "x"}}))
        .await
        .expect(400);
    cloud
        .send("POST", "/v3/projects", &cloud.admin, json!({"project": {"name": "d", "domain_id": "x"}}))
        .await
        .expect(400);
    cloud.send("POST", "/v3/projects", &cloud.admin, json!({"project": {"name": "a"}})).await.expect(409);
    cloud.send("POST", "/v3/projects", &cloud.admin, json!({"project": {"name": "x".repeat(65)}})).await.expect(400);
    cloud.send("DELETE", &format!("/v3/projects/{c}"), &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &format!("/v3/projects/{b}"), &cloud.admin, Value::Null).await.expect(204);

    let mut parent = a;
    for level in 0..31 {
        parent = make(&format!("level {level}"), &parent).await;
    }
    let body = json!({"project": {"name": "too deep", "parent_id": parent}});
    cloud.send("POST", "/v3/projects", &cloud.admin, body).await.expect(403);
}

#[tokio::test]
async fn project_tags_are_kept_and_filtered_by() {
    let cloud = Cloud::new().await;
    let (a, b) = (cloud.project("a", "default").await, cloud.project("b", "default").await);
    let tags = format!("/v3/projects/{a}/tags");
    let body = cloud.send("PUT", &tags, &cloud.admin, json!({"tags": ["x", "y"]})).await.expect(200);
    assert_eq!(body["tags"], json!(["x", "y"]));
    cloud.send("PUT", &format!("/v3/projects/{b}/tags/x"), &cloud.admin, Value::Null).await.expect(201);
    cloud.get(&format!("{tags}/x"), &cloud.admin).await.expect(204);
    cloud.get(&format!("{tags}/z"), &cloud.admin).await.expect(404);
    let list = async |query: &str| {
        names(&cloud.get(&format!("/v3/projects?{query}"), &cloud.admin).await.expect(200)["projects"])
    };
    assert_eq!(list("tags=x,y").await, ["a"]);
    assert_eq!(list("tags=x").await, ["a", "b"]);
    assert_eq!(list("tags-any=y,z").await, ["a"]);
    assert_eq!(list("not-tags=x,y").await, ["admin", "b"]);
    assert_eq!(list("not-tags-any=x,y").await, ["admin"]);
    for bad in [
        json!({"tags": ["a,b"]}),
        json!({"tags": ["x", "x"]}),
        json!({"tags": [1]}),
        json!({"tags": "x"}),
        json!([]),
        json!({"tags": (0..81).map(|n| n.to_string()).collect::<Vec<_>>()}),
    ] {
        cloud.send("PUT", &tags, &cloud.admin, bad).await.expect(400);
    }
    cloud.send("DELETE", &format!("{tags}/x"), &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &format!("{tags}/x"), &cloud.admin, Value::Null).await.expect(404);
    cloud.send("DELETE", &tags, &cloud.admin, Value::Null).await.expect(204);
    let shown = cloud.get(&format!("/v3/projects/{a}"), &cloud.admin).await.expect(200);
    assert_eq!(shown["project"]["tags"], json!([]));
}

#[tokio::test]
async fn a_domain_goes_with_everything_in_it_once_it_is_disabled() {
    let cloud = Cloud::new().await;
    let d = cloud.domain("d").await;
    let (p, u) = (cloud.project("p", &d).await, cloud.user("u", &d).await);
    let sub = json!({"project": {"name": "sub", "parent_id": p}});
    cloud.send("POST", "/v3/projects", &cloud.admin, sub).await.expect(201);
    let other = cloud.project("other", "default").await;
    cloud.grant(&format!("projects/{other}/users/{u}"), "member").await;
    let path = format!("/v3/domains/{d}");
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(403);
    let body = json!({"domain": {"enabled": false, "description": "going"}});
    cloud.send("PATCH", &path, &cloud.admin, body).await.expect(200);
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(204);
    for gone in [path, format!("/v3/projects/{p}"), format!("/v3/users/{u}")] {
        cloud.get(&gone, &cloud.admin).await.expect(404);
    }
    let body = cloud.get(&format!("/v3/role_assignments?scope.project.id={other}"), &cloud.admin).await.expect(200);
    assert_eq!(body["role_assignments"], json!([]));
    let disable = json!({"domain": {"enabled": false}});
    cloud.send("PATCH", "/v3/domains/default", &cloud.admin, disable).await.expect(200);
    // The administrator's own domain is shut: its token is void, which is as asked.
    assert!(!cloud.good(&cloud.admin).await);
}

#[tokio::test]
async fn domains_are_listed_apart_from_projects() {
    let cloud = Cloud::new().await;
    cloud.domain("d").await;
    let body = cloud.get("/v3/domains", &cloud.admin).await.expect(200);
    assert_eq!(names(&body["domains"]), ["Default", "d"]);
    let body = cloud.get("/v3/domains?name=Default", &cloud.admin).await.expect(200);
    assert_eq!(body["domains"][0]["id"], "default");
    assert_eq!(names(&cloud.get("/v3/projects", &cloud.admin).await.expect(200)["projects"]), ["admin"]);
    let body = cloud.get("/v3/projects?is_domain=true", &cloud.admin).await.expect(200);
    assert_eq!(names(&body["projects"]), ["Default", "d"]);
    assert_eq!(body["projects"][0]["domain_id"], Value::Null);
    cloud.send("POST", "/v3/domains", &cloud.admin, json!({"domain": {"name": "d"}})).await.expect(409);
    cloud.send("DELETE", "/v3/domains/default", &cloud.admin, Value::Null).await.expect(403);
    let id = "0123456789abcdef0123456789abcdef";
    let body = json!({"domain": {"name": "e", "explicit_domain_id": id}});
    let body = cloud.send("POST", "/v3/domains", &cloud.admin, body).await.expect(201);
    assert_eq!(body["domain"]["id"], id);
    let body = json!({"domain": {"name": "f", "explicit_domain_id": id}});
    cloud.send("POST", "/v3/domains", &cloud.admin, body).await.expect(409);
    let body = json!({"domain": {"name": "f", "explicit_domain_id": "short"}});
    cloud.send("POST", "/v3/domains", &cloud.admin, body).await.expect(400);
}

#[tokio::test]
async fn groups_have_members() {
    let cloud = Cloud::new().await;
    let (g, u) = (cloud.group("g").await, cloud.user("u", "default").await);
    let member = format!("/v3/groups/{g}/users/{u}");
    cloud.get(&member, &cloud.admin).await.expect(404);
    cloud.send("PUT", &member, &cloud.admin, Value::Null).await.expect(204);
    cloud.send("PUT", &member, &cloud.admin, Value::Null).await.expect(204);
    assert_eq!(cloud.send("HEAD", &member, &cloud.admin, Value::Null).await.status, 204);
    let listed = cloud.get(&format!("/v3/groups/{g}/users"), &cloud.admin).await.expect(200);
    assert_eq!(names(&listed["users"]), ["u"]);
    let own = cloud.login("u", "u", Value::Null).await;
    let listed = cloud.get(&format!("/v3/users/{u}/groups"), &own).await.expect(200);
    assert_eq!(names(&listed["groups"]), ["g"]);
    cloud.get(&format!("/v3/groups/{g}"), &own).await.expect(403);
    let body = json!({"group": {"name": "h", "description": "d", "x": 1}});
    let body = cloud.send("PATCH", &format!("/v3/groups/{g}"), &cloud.admin, body).await.expect(200);
    assert_eq!((&body["group"]["name"], &body["group"]["x"]), (&json!("h"), &json!(1)));
    cloud.send("PUT", &format!("/v3/groups/{g}/users/nobody"), &cloud.admin, Value::Null).await.expect(404);
    cloud.send("DELETE", &member, &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &member, &cloud.admin, Value::Null).await.expect(404);
    cloud.send("DELETE", &format!("/v3/groups/{g}"), &cloud.admin, Value::Null).await.expect(204);
}
