//! Stories of the resources: what is stored comes back, what is wrong is refused with a reason, who may do what.

use crate::cloud::{Cloud, PASSWORD, id, names, project};
use serde_json::{Value, json};

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or_default()
}

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

#[tokio::test]
async fn roles_imply_others_but_never_in_a_circle_and_never_admin() {
    let cloud = Cloud::new().await;
    let (a, b, c) = (
        cloud.new_role("a", Value::Null).await,
        cloud.new_role("b", Value::Null).await,
        cloud.new_role("c", Value::Null).await,
    );
    let implies = |prior: &str, implied: &str| format!("/v3/roles/{prior}/implies/{implied}");
    let body = cloud.send("PUT", &implies(&a, &b), &cloud.admin, Value::Null).await.expect(201);
    assert_eq!(body["role_inference"]["prior_role"]["id"], a.as_str());
    assert_eq!(body["role_inference"]["implies"]["name"], "b");
    cloud.send("PUT", &implies(&b, &c), &cloud.admin, Value::Null).await.expect(201);
    for circle in [implies(&c, &a), implies(&b, &a), implies(&a, &a)] {
        cloud.send("PUT", &circle, &cloud.admin, Value::Null).await.expect(400);
    }
    let admin = cloud.role("admin").await;
    cloud.send("PUT", &implies(&a, &admin), &cloud.admin, Value::Null).await.expect(403);
    cloud.get(&implies(&a, &b), &cloud.admin).await.expect(200);
    assert_eq!(cloud.send("HEAD", &implies(&a, &b), &cloud.admin, Value::Null).await.status, 204);
    assert_eq!(cloud.send("HEAD", &implies(&a, &c), &cloud.admin, Value::Null).await.status, 404);
    let body = cloud.get(&format!("/v3/roles/{a}/implies"), &cloud.admin).await.expect(200);
    assert_eq!(names(&body["role_inference"]["implies"]), ["b"]);
    let body = cloud.get("/v3/role_inferences", &cloud.admin).await.expect(200);
    assert_eq!(body["role_inferences"].as_array().unwrap().len(), 5);

    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    cloud.grant(&format!("projects/{p}/users/{u}"), "a").await;
    let token = cloud.login("u", "u", project(&p)).await;
    assert_eq!(cloud.roles_of(&token).await, ["a", "b", "c"]);
    cloud.send("DELETE", &implies(&b, &c), &cloud.admin, Value::Null).await.expect(204);
    cloud.send("DELETE", &implies(&b, &c), &cloud.admin, Value::Null).await.expect(404);
    assert_eq!(cloud.roles_of(&token).await, ["a", "b"]);
    cloud.send("DELETE", &format!("/v3/roles/{a}"), &cloud.admin, Value::Null).await.expect(204);
    assert!(!cloud.good(&token).await);
}

#[tokio::test]
async fn the_roles_that_policy_rests_on_cannot_be_changed_by_accident() {
    let cloud = Cloud::new().await;
    let path = format!("/v3/roles/{}", cloud.role("member").await);
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(403);
    cloud.send("PATCH", &path, &cloud.admin, json!({"role": {"name": "x"}})).await.expect(403);
    cloud.send("POST", "/v3/roles", &cloud.admin, json!({"role": {"name": "member"}})).await.expect(409);
    let body = json!({"role": {"name": "x", "options": {"immutable": null}}});
    cloud.send("PATCH", &path, &cloud.admin, body).await.expect(200);
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(204);
}

#[tokio::test]
async fn a_role_of_a_domain_works_only_there_and_only_by_what_it_implies() {
    let cloud = Cloud::new().await;
    let d = cloud.domain("d").await;
    let local = cloud.new_role("local", json!(d)).await;
    cloud.new_role("local", Value::Null).await;
    let body = cloud.get(&format!("/v3/roles?domain_id={d}"), &cloud.admin).await.expect(200);
    assert_eq!(body["roles"][0]["id"], local.as_str());
    let body = cloud.get("/v3/roles?name=local", &cloud.admin).await.expect(200);
    assert_eq!(body["roles"][0]["domain_id"], Value::Null);
    let member = cloud.role("member").await;
    cloud.send("PUT", &format!("/v3/roles/{local}/implies/{member}"), &cloud.admin, Value::Null).await.expect(201);
    cloud.send("PUT", &format!("/v3/roles/{member}/implies/{local}"), &cloud.admin, Value::Null).await.expect(403);
    let (inside, outside) = (cloud.project("p", &d).await, cloud.project("p", "default").await);
    let u = cloud.user("u", "default").await;
    let grant = async |p: &str| {
        let path = format!("/v3/projects/{p}/users/{u}/roles/{local}");
        cloud.send("PUT", &path, &cloud.admin, Value::Null).await.status.as_u16()
    };
    assert_eq!(grant(&outside).await, 403);
    assert_eq!(grant(&inside).await, 204);
    let token = cloud.login("u", "u", project(&inside)).await;
    assert_eq!(cloud.roles_of(&token).await, ["member", "reader"]);
}

#[tokio::test]
async fn inherited_roles_reach_the_projects_below() {
    let cloud = Cloud::new().await;
    let d = cloud.domain("d").await;
    let p = cloud.project("p", &d).await;
    let body = json!({"project": {"name": "q", "parent_id": p}});
    let q = id(cloud.send("POST", "/v3/projects", &cloud.admin, body).await.expect(201), "project");
    let u = cloud.user("u", "default").await;
    let member = cloud.role("member").await;
    let by_project = format!("/v3/OS-INHERIT/projects/{p}/users/{u}/roles/{member}/inherited_to_projects");
    cloud.get(&by_project, &cloud.admin).await.expect(404);
    cloud.send("PUT", &by_project, &cloud.admin, Value::Null).await.expect(204);
    cloud.get(&by_project, &cloud.admin).await.expect(204);
    let user = json!({"id": u, "password": "u"});
    cloud.auth(user.clone(), project(&p)).await.expect(401);
    let token = cloud.auth(user.clone(), project(&q)).await.token();
    assert_eq!(cloud.roles_of(&token).await, ["member", "reader"]);
    let listed = cloud.get("/v3/auth/projects", &token).await.expect(200);
    assert_eq!(names(&listed["projects"]), ["q"]);
    let path = format!("/v3/role_assignments?effective&user.id={u}&include_names");
    let found = cloud.get(&path, &cloud.admin).await.expect(200)["role_assignments"].take();
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 2);
    for row in found {
        assert_eq!(row["scope"]["project"]["name"], "q");
        assert_eq!(row["scope"]["project"]["domain"]["name"], "d");
        assert_eq!(row["scope"]["OS-INHERIT:inherited_to"], "projects");
        assert_eq!(row["user"]["domain"]["name"], "Default");
    }
    cloud.send("DELETE", &by_project, &cloud.admin, Value::Null).await.expect(204);
    assert!(!cloud.good(&token).await);

    let by_domain = format!("/v3/OS-INHERIT/domains/{d}/users/{u}/roles/{member}/inherited_to_projects");
    cloud.send("PUT", &by_domain, &cloud.admin, Value::Null).await.expect(204);
    let all = format!("/v3/OS-INHERIT/domains/{d}/users/{u}/roles/inherited_to_projects");
    assert_eq!(names(&cloud.get(&all, &cloud.admin).await.expect(200)["roles"]), ["member"]);
    for inside in [&p, &q] {
        cloud.auth(user.clone(), project(inside)).await.expect(201);
    }
    cloud.auth(user, json!({"domain": {"id": d}})).await.expect(401);
    let direct = cloud.get(&format!("/v3/domains/{d}/users/{u}/roles"), &cloud.admin).await.expect(200);
    assert_eq!(direct["roles"], json!([]));
}

#[tokio::test]
async fn role_assignments_are_listed_by_every_filter() {
    let cloud = Cloud::new().await;
    let (p, u, g) = (cloud.project("p", "default").await, cloud.user("u", "default").await, cloud.group("g").await);
    cloud.send("PUT", &format!("/v3/groups/{g}/users/{u}"), &cloud.admin, Value::Null).await.expect(204);
    cloud.grant(&format!("projects/{p}/groups/{g}"), "member").await;
    cloud.grant(&format!("domains/default/users/{u}"), "reader").await;
    cloud.grant(&format!("system/groups/{g}"), "reader").await;
    let list = async |query: &str| {
        cloud.get(&format!("/v3/role_assignments?{query}"), &cloud.admin).await.expect(200)["role_assignments"].take()
    };
    let count = async |query: &str| list(query).await.as_array().unwrap().len();
    let (member, reader) = (cloud.role("member").await, cloud.role("reader").await);
    assert_eq!(count("").await, 5);
    assert_eq!(count(&format!("user.id={u}")).await, 1);
    assert_eq!(count(&format!("group.id={g}")).await, 2);
    assert_eq!(count(&format!("role.id={reader}")).await, 2);
    assert_eq!(count("scope.system=all").await, 2);
    assert_eq!(count("scope.domain.id=default").await, 1);
    assert_eq!(count(&format!("scope.project.id={p}")).await, 1);
    assert_eq!(count("scope.OS-INHERIT:inherited_to=projects").await, 0);
    // Effective: the group's member becomes the user's member and reader; the other two are readers.
    assert_eq!(count(&format!("effective&user.id={u}")).await, 4);
    let found = list(&format!("effective&user.id={u}&scope.project.id={p}&role.id={member}")).await;
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["user"]["id"], u.as_str());
    let base = "https://cloud:8443/identity/v3";
    assert_eq!(found[0]["links"]["assignment"], format!("{base}/projects/{p}/groups/{g}/roles/{member}"));
    assert_eq!(found[0]["links"]["membership"], format!("{base}/groups/{g}/users/{u}"));
    assert_eq!(count(&format!("scope.project.id={p}&include_subtree=true")).await, 1);
    for bad in [
        "include_subtree=true",
        "user.id=a&group.id=b",
        "scope.domain.id=a&scope.project.id=b",
        "effective&group.id=x",
        "scope.system=all&scope.project.id=p",
    ] {
        cloud.get(&format!("/v3/role_assignments?{bad}"), &cloud.admin).await.expect(400);
    }
    let named = list("include_names&scope.system=all").await;
    let admin = named.as_array().unwrap().iter().find(|row| row["user"]["name"] == "admin").unwrap();
    assert_eq!(admin["role"]["name"], "admin");
    assert_eq!(admin["scope"], json!({"system": {"all": true}}));
}

#[tokio::test]
async fn grants_name_what_is_missing() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let member = cloud.role("member").await;
    for (path, word) in [
        (format!("projects/x/users/{u}/roles/{member}"), "project: x"),
        (format!("projects/{p}/users/x/roles/{member}"), "user: x"),
        (format!("projects/{p}/groups/x/roles/{member}"), "group: x"),
        (format!("projects/{p}/users/{u}/roles/x"), "role: x"),
        (format!("domains/{p}/users/{u}/roles/{member}"), "domain"),
    ] {
        for method in ["PUT", "GET", "DELETE"] {
            let body = cloud.send(method, &format!("/v3/{path}"), &cloud.admin, Value::Null).await.expect(404);
            assert!(message(&body).contains(word), "{body}");
        }
    }
    let path = format!("/v3/projects/{p}/users/{u}/roles/{member}");
    cloud.send("DELETE", &path, &cloud.admin, Value::Null).await.expect(404);
    cloud.send("PUT", &path, &cloud.admin, Value::Null).await.expect(204);
    cloud.send("PUT", &path, &cloud.admin, Value::Null).await.expect(204);
    assert_eq!(cloud.send("HEAD", &path, &cloud.admin, Value::Null).await.status, 204);
    let body = cloud.get(&format!("/v3/projects/{p}/users/{u}/roles"), &cloud.admin).await.expect(200);
    assert_eq!(names(&body["roles"]), ["member"]);
}

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
async fn an_application_credential_hands_on_some_roles_and_dies_with_them() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let on = format!("projects/{p}/users/{u}");
    cloud.grant(&on, "member").await;
    let own = cloud.login("u", "u", project(&p)).await;
    let path = format!("/v3/users/{u}/application_credentials");
    let make = async |token: &str, body: Value| {
        cloud.send("POST", &path, token, json!({ "application_credential": body })).await
    };
    let made = make(&own, json!({"name": "c", "roles": [{"name": "reader"}]})).await.expect(201);
    let made = &made["application_credential"];
    let (c, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!((&made["project_id"], &made["unrestricted"]), (&json!(p), &json!(false)));
    make(&own, json!({"name": "c"})).await.expect(409);
    make(&own, json!({"name": "d", "roles": [{"name": "admin"}]})).await.expect(400);
    make(&own, json!({"name": "d", "roles": []})).await.expect(400);
    make(&own, json!({"name": "d", "expires_at": "2001-01-01T00:00:00Z"})).await.expect(400);
    make(&own, json!({"name": "d", "expires_at": "soon"})).await.expect(400);
    make(&cloud.login("u", "u", json!("unscoped")).await, json!({"name": "d"})).await.expect(403);
    make(&cloud.admin, json!({"name": "d"})).await.expect(403);

    let login = async |body: Value| {
        let body =
            json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": body}}});
        cloud.raw("POST", "/v3/auth/tokens", &[], Some(&body.to_string())).await
    };
    let answer = login(json!({"id": c, "secret": secret})).await;
    let token = answer.token();
    assert!(token.len() < 255);
    let document = answer.expect(201);
    assert_eq!(document["token"]["project"]["id"], p.as_str());
    assert_eq!(document["token"]["application_credential"]["restricted"], true);
    assert_eq!(cloud.roles_of(&token).await, ["reader"]);
    let by_name = json!({"name": "c", "secret": secret, "user": {"name": "u", "domain": {"id": "default"}}});
    login(by_name).await.expect(201);
    for wrong in [
        json!({"id": c, "secret": "x"}),
        json!({"id": "x", "secret": secret}),
        json!({"name": "x", "secret": secret, "user": {"id": u}}),
    ] {
        login(wrong).await.expect(401);
    }
    login(json!({"id": c})).await.expect(400);
    login(json!({"name": "c", "secret": secret})).await.expect(400);
    // It cannot become more than it is.
    cloud.rescope(&token, project(&p)).await.expect(403);
    make(&token, json!({"name": "more"})).await.expect(403);
    cloud.send("DELETE", &format!("{path}/{c}"), &token, Value::Null).await.expect(403);
    let secretly = json!({"credential": {"type": "totp", "blob": "x"}});
    cloud.send("POST", "/v3/credentials", &token, secretly).await.expect(403);
    let pair = json!({"tenant_id": p});
    cloud.send("POST", &format!("/v3/users/{u}/credentials/OS-EC2"), &token, pair).await.expect(403);

    // Naming oneself in the path makes nobody its owner.
    let v = cloud.user("v", "default").await;
    cloud.grant(&format!("projects/{p}/users/{v}"), "member").await;
    let other = cloud.login("v", "v", project(&p)).await;
    for owner in [&u, &v] {
        cloud.get(&format!("/v3/users/{owner}/application_credentials/{c}"), &other).await.expect(403);
    }
    let listed = cloud.get(&path, &own).await.expect(200);
    assert_eq!(names(&listed["application_credentials"]), ["c"]);
    assert!(!listed.to_string().contains(secret));
    cloud.ungrant(&on, "member").await;
    cloud.grant(&on, "reader").await;
    assert!(cloud.good(&token).await, "the reader role is still there");
    cloud.ungrant(&on, "reader").await;
    assert!(!cloud.good(&token).await);
    login(json!({"id": c, "secret": secret})).await.expect(401);
    cloud.grant(&on, "reader").await;
    login(json!({"id": c, "secret": secret})).await.expect(201);
    cloud.send("DELETE", &format!("{path}/{c}"), &cloud.admin, Value::Null).await.expect(204);
    assert!(!cloud.good(&token).await);
}

#[tokio::test]
async fn access_rules_and_an_expiry_bound_an_application_credential() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    cloud.grant(&format!("projects/{p}/users/{u}"), "reader").await;
    let own = cloud.login("u", "u", project(&p)).await;
    let path = format!("/v3/users/{u}/application_credentials");
    let rules = json!([{"service": "identity", "method": "GET", "path": "/v3/users/*"},
        {"service": "compute", "method": "GET", "path": "/v2.1/servers"}]);
    let at = db::clock::text(cloud.clock.now() + time::Duration::seconds(600));
    let body = json!({"application_credential": {"name": "c", "access_rules": rules, "expires_at": at,
        "unrestricted": true, "secret": "s"}});
    let made = cloud.send("POST", &path, &own, body).await.expect(201);
    assert_eq!(made["application_credential"]["secret"], "s");
    let body = json!({"auth": {"identity": {"methods": ["application_credential"],
        "application_credential": {"id": made["application_credential"]["id"], "secret": "s"}}}});
    let token = cloud.raw("POST", "/v3/auth/tokens", &[], Some(&body.to_string())).await.token();
    cloud.get(&format!("/v3/users/{u}"), &token).await.expect(200);
    cloud.get(&format!("/v3/users/{u}/projects"), &token).await.expect(403);
    cloud.send("PATCH", &format!("/v3/users/{u}"), &token, json!({"user": {"name": "x"}})).await.expect(403);
    cloud.get("/v3/auth/projects", &token).await.expect(200);
    let listed = cloud.get(&format!("/v3/users/{u}/access_rules"), &own).await.expect(200);
    assert_eq!(listed["access_rules"].as_array().unwrap().len(), 2);
    let rule = format!("/v3/users/{u}/access_rules/{}", listed["access_rules"][0]["id"].as_str().unwrap());
    cloud.get(&rule, &own).await.expect(200);
    cloud.get(&rule, &cloud.admin).await.expect(403);
    cloud.send("DELETE", &rule, &own, Value::Null).await.expect(403);
    cloud.clock.advance(time::Duration::seconds(601));
    assert!(!cloud.good(&token).await, "the credential expired before the token");
    let late = cloud.raw("POST", "/v3/auth/tokens", &[], Some(&body.to_string())).await;
    assert!(late.status == 401 || !cloud.good(&late.token()).await);
    let id = made["application_credential"]["id"].as_str().unwrap();
    cloud.send("DELETE", &format!("{path}/{id}"), &own, Value::Null).await.expect(204);
    cloud.send("DELETE", &rule, &own, Value::Null).await.expect(204);
    for bad in [
        json!([{"service": "compute", "method": "EAT", "path": "/"}]),
        json!([{"path": "/"}]),
        json!([1]),
        json!("x"),
        json!([{"service": "compute", "method": "GET", "path": "x"}]),
        json!([{"id": "none"}]),
    ] {
        let body = json!({"application_credential": {"name": "d", "access_rules": bad}});
        cloud.send("POST", &path, &own, body).await.expect(400);
    }
}

#[tokio::test]
async fn credentials_are_kept_encrypted_and_belong_to_one_user() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let v = cloud.user("v", "default").await;
    for user in [&u, &v] {
        cloud.grant(&format!("projects/{p}/users/{user}"), "member").await;
    }
    let (own, other) = (cloud.login("u", "u", project(&p)).await, cloud.login("v", "v", project(&p)).await);
    let secret = "a very recognisable secret";
    let body = json!({"credential": {"type": "totp", "blob": secret}});
    let made = cloud.send("POST", "/v3/credentials", &own, body).await.expect(201);
    assert_eq!((&made["credential"]["blob"], &made["credential"]["user_id"]), (&json!(secret), &json!(u)));
    let path = format!("/v3/credentials/{}", made["credential"]["id"].as_str().unwrap());
    for file in ["db", "db-wal"] {
        let bytes = std::fs::read(cloud.folder.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{file}");
    }
    cloud.get(&path, &other).await.expect(403);
    cloud.send("PATCH", &path, &own, json!({"credential": {"user_id": v}})).await.expect(400);
    let body = cloud.send("PATCH", &path, &own, json!({"credential": {"blob": "new"}})).await.expect(200);
    assert_eq!(body["credential"]["blob"], "new");
    let listed = cloud.get("/v3/credentials", &other).await.expect(200);
    assert_eq!(listed["credentials"], json!([]));
    let listed = cloud.get(&format!("/v3/credentials?user_id={u}"), &cloud.admin).await.expect(200);
    assert_eq!(listed["credentials"].as_array().unwrap().len(), 1);
    let body = json!({"credential": {"type": "cert", "blob": "x", "user_id": v}});
    cloud.send("POST", "/v3/credentials", &own, body).await.expect(403);
    cloud.send("DELETE", &path, &own, Value::Null).await.expect(204);

    let pairs = format!("/v3/users/{u}/credentials/OS-EC2");
    let made = cloud.send("POST", &pairs, &own, json!({"tenant_id": p})).await.expect(201);
    let access = made["credential"]["access"].as_str().unwrap();
    assert_eq!(made["credential"]["tenant_id"], p.as_str());
    cloud.get(&format!("{pairs}/{access}"), &own).await.expect(200);
    cloud.get(&format!("{pairs}/{access}"), &other).await.expect(403);
    cloud.get(&format!("/v3/users/{v}/credentials/OS-EC2/{access}"), &other).await.expect(404);
    cloud.send("POST", &pairs, &own, json!({"tenant_id": "nothing"})).await.expect(404);
    let listed = cloud.get(&pairs, &own).await.expect(200);
    assert_eq!(listed["credentials"].as_array().unwrap().len(), 1);
    cloud.send("DELETE", &format!("{pairs}/{access}"), &own, Value::Null).await.expect(204);
    cloud.get(&format!("{pairs}/{access}"), &own).await.expect(404);
}

#[tokio::test]
async fn every_persona_gets_what_its_role_and_scope_allow() {
    let cloud = Cloud::new().await;
    let d = cloud.domain("d").await;
    let p = cloud.project("p", &d).await;
    let q = cloud.project("q", "default").await;
    let stranger = cloud.user("stranger", "default").await;
    let local = cloud.user("local", &d).await;
    cloud.grant(&format!("projects/{q}/users/{stranger}"), "member").await;
    let mut tokens: Vec<(String, String)> = Vec::new();
    for scope in ["system", "domain", "project"] {
        for role in ["admin", "manager", "member", "reader"] {
            let name = format!("{scope}-{role}");
            let u = cloud.user(&name, &d).await;
            let (on, scope) = match scope {
                "system" => (format!("system/users/{u}"), json!({"system": {"all": true}})),
                "domain" => (format!("domains/{d}/users/{u}"), json!({"domain": {"id": d}})),
                _ => (format!("projects/{p}/users/{u}"), project(&p)),
            };
            cloud.grant(&on, role).await;
            tokens.push((name.clone(), cloud.auth(json!({"id": u, "password": name}), scope).await.token()));
        }
    }
    let user = json!({"id": stranger, "password": "stranger"});
    tokens.push(("other".into(), cloud.auth(user, project(&q)).await.token()));
    tokens.push(("nobody".into(), String::new()));

    // Who may, by route; everyone else gets 403, and without a token 401.
    let admins = ["system-admin", "domain-admin", "project-admin"];
    let system = ["system-manager", "system-member", "system-reader"];
    let domain = ["domain-manager", "domain-member", "domain-reader"];
    let clouds = ["system-admin", "project-admin"];
    let mine = ["project-manager", "project-member", "project-reader"];
    let manager = ["domain-manager"];
    let lists: &[&[&str]] = &[&admins, &system, &domain];
    let cases: Vec<(&str, String, Value, Vec<&[&str]>)> = vec![
        ("GET", "/v3/users".into(), Value::Null, lists.to_vec()),
        ("GET", "/v3/projects".into(), Value::Null, lists.to_vec()),
        ("GET", "/v3/groups".into(), Value::Null, lists.to_vec()),
        ("GET", "/v3/domains".into(), Value::Null, lists.to_vec()),
        ("GET", "/v3/role_assignments".into(), Value::Null, lists.to_vec()),
        ("GET", "/v3/roles".into(), Value::Null, vec![&admins, &system, &manager]),
        ("GET", "/v3/services".into(), Value::Null, vec![&clouds, &system]),
        ("GET", "/v3/endpoints".into(), Value::Null, vec![&clouds, &system]),
        ("GET", "/v3/role_inferences".into(), Value::Null, vec![&clouds, &system]),
        ("GET", "/v3/regions".into(), Value::Null, vec![&admins, &system, &domain, &mine, &["other"]]),
        ("GET", format!("/v3/projects/{p}"), Value::Null, vec![&admins, &system, &domain, &mine]),
        ("GET", format!("/v3/projects/{q}"), Value::Null, vec![&admins, &system, &["other"]]),
        ("GET", format!("/v3/users/{local}"), Value::Null, vec![&admins, &system, &domain]),
        ("GET", format!("/v3/users/{stranger}"), Value::Null, vec![&admins, &system, &["other"]]),
        ("GET", format!("/v3/users/{stranger}/projects"), Value::Null, vec![&admins, &system, &["other"]]),
        ("GET", format!("/v3/domains/{d}"), Value::Null, vec![&admins, &system, &domain, &mine]),
        ("PATCH", format!("/v3/users/{local}"), json!({"user": {"email": "e"}}), vec![&admins, &manager]),
        ("PATCH", format!("/v3/users/{stranger}"), json!({"user": {"email": "e"}}), vec![&admins]),
        ("PATCH", format!("/v3/projects/{p}"), json!({"project": {"description": "e"}}), vec![&admins, &manager]),
        ("PATCH", format!("/v3/domains/{d}"), json!({"domain": {"description": "e"}}), vec![&clouds]),
        ("POST", "/v3/services".into(), json!({"service": {"type": "t"}}), vec![&clouds]),
        ("POST", "/v3/regions".into(), json!({"region": {}}), vec![&clouds]),
        ("DELETE", format!("/v3/projects/{p}/tags"), Value::Null, vec![&admins, &manager]),
    ];
    for (method, path, body, allowed) in cases {
        let allowed: Vec<&str> = allowed.concat();
        for (name, token) in &tokens {
            let answer = cloud.send(method, &path, token, body.clone()).await;
            let want_ok = allowed.contains(&name.as_str());
            let right = match name.as_str() {
                "nobody" => answer.status == 401,
                _ if want_ok => answer.status.is_success(),
                _ => answer.status == 403,
            };
            assert!(right, "{method} {path} as {name}: {} {}", answer.status, answer.body);
        }
    }
    // A domain's reader sees the domain only; what is foreign and what does not exist answer alike.
    let reader = &tokens.iter().find(|(name, _)| name == "domain-reader").unwrap().1;
    let listed = cloud.get("/v3/users", reader).await.expect(200);
    assert!(listed["users"].as_array().unwrap().iter().all(|user| user["domain_id"] == d.as_str()));
    assert_eq!(names(&cloud.get("/v3/domains", reader).await.expect(200)["domains"]), ["d"]);
    assert_eq!(names(&cloud.get("/v3/projects", reader).await.expect(200)["projects"]), ["p"]);
    let foreign = cloud.get(&format!("/v3/users/{stranger}"), reader).await.expect(403);
    assert_eq!(foreign, cloud.get("/v3/users/nothing", reader).await.expect(403));

    // The manager of a domain hands out reader, member and manager inside it, and nothing else anywhere.
    let manager = &tokens.iter().find(|(name, _)| name == "domain-manager").unwrap().1;
    for (role, on, who, status) in [
        ("member", &p, &local, 204),
        ("manager", &p, &local, 204),
        ("admin", &p, &local, 403),
        ("member", &q, &local, 403),
        ("member", &p, &stranger, 403),
    ] {
        let path = format!("/v3/projects/{on}/users/{who}/roles/{}", cloud.role(role).await);
        assert_eq!(cloud.send("PUT", &path, manager, Value::Null).await.status, status, "{role}");
    }
    let roles = cloud.get("/v3/roles", manager).await.expect(200);
    assert_eq!(names(&roles["roles"]), ["manager", "member", "reader"]);
    let body = json!({"user": {"name": "made by the manager", "domain_id": d}});
    let made = cloud.send("POST", "/v3/users", manager, body).await.expect(201);
    assert_eq!(made["user"]["domain_id"], d.as_str());
    let body = json!({"user": {"name": "elsewhere", "domain_id": "default"}});
    cloud.send("POST", "/v3/users", manager, body).await.expect(403);
}

#[tokio::test]
async fn no_body_of_any_type_is_a_500() {
    let cloud = Cloud::new().await;
    let (p, u, g) = (cloud.project("p", "default").await, cloud.user("u", "default").await, cloud.group("g").await);
    let r = cloud.new_role("r", Value::Null).await;
    let d = cloud.domain("d").await;
    let s = id(
        cloud.send("POST", "/v3/services", &cloud.admin, json!({"service": {"type": "t"}})).await.expect(201),
        "service",
    );
    let wild = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1.5),
        json!(1e300),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("x".repeat(70_000)),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"x": {"y": []}}),
    ];
    let fields: &[(&str, &str, &str, &[&str])] = &[
        (
            "POST",
            "/v3/users",
            "user",
            &[
                "name",
                "domain_id",
                "password",
                "enabled",
                "default_project_id",
                "options",
                "description",
                "email",
                "federated",
                "extra",
            ],
        ),
        (
            "PATCH",
            &format!("/v3/users/{u}"),
            "user",
            &[
                "name",
                "domain_id",
                "password",
                "enabled",
                "default_project_id",
                "options",
                "description",
                "email",
                "federated",
                "id",
            ],
        ),
        ("POST", &format!("/v3/users/{u}/password"), "user", &["original_password", "password"]),
        (
            "POST",
            "/v3/projects",
            "project",
            &["name", "domain_id", "parent_id", "enabled", "is_domain", "tags", "options", "description"],
        ),
        (
            "PATCH",
            &format!("/v3/projects/{p}"),
            "project",
            &["name", "domain_id", "parent_id", "enabled", "is_domain", "tags", "options", "description"],
        ),
        ("POST", "/v3/domains", "domain", &["name", "enabled", "description", "options", "explicit_domain_id", "tags"]),
        ("PATCH", &format!("/v3/domains/{d}"), "domain", &["name", "enabled", "description", "options", "tags"]),
        ("POST", "/v3/groups", "group", &["name", "domain_id", "description"]),
        ("PATCH", &format!("/v3/groups/{g}"), "group", &["name", "domain_id", "description"]),
        ("POST", "/v3/roles", "role", &["name", "domain_id", "description", "options"]),
        ("PATCH", &format!("/v3/roles/{r}"), "role", &["name", "domain_id", "description", "options"]),
        ("POST", "/v3/regions", "region", &["id", "parent_region_id", "description"]),
        ("PATCH", "/v3/regions/RegionOne", "region", &["id", "parent_region_id", "description"]),
        ("POST", "/v3/services", "service", &["type", "name", "enabled", "description"]),
        ("PATCH", &format!("/v3/services/{s}"), "service", &["type", "name", "enabled", "description"]),
        ("POST", "/v3/endpoints", "endpoint", &["interface", "service_id", "url", "enabled", "region_id", "region"]),
        ("POST", "/v3/credentials", "credential", &["type", "blob", "user_id", "project_id"]),
        ("PUT", &format!("/v3/projects/{p}/tags"), "tags", &[]),
    ];
    let mut sent = 0;
    for (method, path, noun, names) in fields {
        let mut bodies: Vec<Value> = wild.to_vec();
        bodies.extend(wild.iter().map(|value| json!({*noun: value})));
        for name in *names {
            for value in &wild {
                bodies.push(json!({*noun: {*name: value}}));
                let mut full = json!({*noun: {"name": format!("n{sent}"), "type": "t", "interface": "public",
                    "service_id": s, "url": "http://x", "blob": "{}", "original_password": "u", "password": "u"}});
                full[*noun][*name] = value.clone();
                bodies.push(full);
                sent += 1;
            }
        }
        for body in bodies {
            let answer = cloud.send(method, path, &cloud.admin, body.clone()).await;
            let text = body.to_string();
            let text = text.chars().take(200).collect::<String>();
            assert!(!answer.status.is_server_error(), "{method} {path} {text}: {}", answer.body);
            if answer.status.is_client_error() {
                assert!(answer.body["error"]["message"].is_string(), "{method} {path} {text}");
            }
        }
    }
}

#[tokio::test]
async fn odd_paths_and_queries_are_answered_in_identity_s_words() {
    let cloud = Cloud::new().await;
    for path in [
        "/v3/users/%00",
        "/v3/users/%ff",
        "/v3/users/..%2f..",
        "/v3/nothing",
        "/v3/projects/x/users/y",
        "/v3/users/'%20OR%201=1--",
    ] {
        let answer = cloud.get(path, &cloud.admin).await;
        assert!(answer.status.is_client_error(), "{path}");
        assert!(answer.body["error"]["message"].is_string(), "{path}");
    }
    for query in [
        "name=%00",
        "name=%ff",
        "limit=99999999999999999999",
        "limit=x",
        "sort_key=password_hash",
        "sort_dir=up&sort_key=name",
        "enabled=",
        "name__contains=%25",
        "domain_id=",
    ] {
        let answer = cloud.get(&format!("/v3/users?{query}"), &cloud.admin).await;
        assert!(!answer.status.is_server_error(), "{query}");
    }
    cloud.send("PUT", "/v3/users", &cloud.admin, json!({})).await.expect(405);
    let answer = cloud.get("/v3", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["version"]["id"], "v3.14");
    let answer = cloud.get("/", "").await;
    assert_eq!(answer.status, 300);
    assert_eq!(answer.body["versions"]["values"][0]["links"][0]["href"], "https://cloud:8443/identity/v3/");
}

#[tokio::test]
async fn a_trust_lets_another_act_within_what_the_trustor_still_has() {
    let cloud = Cloud::new().await;
    let p = cloud.project("p", "default").await;
    let (giver, taker) = (cloud.user("giver", "default").await, cloud.user("taker", "default").await);
    let on = format!("projects/{p}/users/{giver}");
    cloud.grant(&on, "member").await;
    let own = cloud.login("giver", "giver", project(&p)).await;
    let other = cloud.login("taker", "taker", Value::Null).await;
    let make = async |token: &str, changes: Value| {
        let mut trust = json!({"trustor_user_id": giver, "trustee_user_id": taker, "project_id": p,
            "impersonation": false, "roles": [{"name": "reader"}]});
        for (name, value) in changes.as_object().unwrap() {
            trust[name] = value.clone();
        }
        cloud.send("POST", "/v3/OS-TRUST/trusts", token, json!({ "trust": trust })).await
    };
    for (bad, status) in [
        (json!({"roles": [{"name": "admin"}]}), 404),
        (json!({"roles": []}), 403),
        (json!({"impersonation": "yes"}), 400),
        (json!({"expires_at": "bad.123Z"}), 400),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), 400),
        (json!({"remaining_uses": 0}), 400),
        (json!({"remaining_uses": "1"}), 400),
        (json!({"trustee_user_id": "nobody"}), 404),
        (json!({"trustor_user_id": taker}), 403),
        (json!({"project_id": "none"}), 404),
        (json!({"roles": [1]}), 400),
    ] {
        make(&own, bad.clone()).await.expect(status);
    }
    let made = make(&own, json!({"remaining_uses": 2})).await.expect(201)["trust"].take();
    assert_eq!(names(&made["roles"]), ["reader"]);
    let t = made["id"].as_str().unwrap();
    let path = format!("/v3/OS-TRUST/trusts/{t}");
    let scope = json!({"OS-TRUST:trust": {"id": t}});
    cloud.rescope(&own, scope.clone()).await.expect(403);
    let answer = cloud.rescope(&other, scope.clone()).await;
    let token = answer.token();
    assert!(token.len() < 255);
    let body = answer.expect(201);
    assert_eq!(body["token"]["user"]["id"], taker.as_str());
    assert_eq!(body["token"]["OS-TRUST:trust"]["trustor_user"]["id"], giver.as_str());
    assert_eq!(cloud.roles_of(&token).await, ["reader"]);
    cloud.rescope(&token, Value::Null).await.expect(403);
    make(&token, json!({})).await.expect(403);
    assert_eq!(cloud.get(&path, &other).await.expect(200)["trust"]["remaining_uses"], 1);
    cloud.rescope(&other, scope.clone()).await.expect(201);
    cloud.rescope(&other, scope.clone()).await.expect(403);
    cloud.get(&path, &other).await.expect(404);

    let made = make(&own, json!({"impersonation": true})).await.expect(201)["trust"].take();
    let t = made["id"].as_str().unwrap();
    let scope = json!({"OS-TRUST:trust": {"id": t}});
    let answer = cloud.rescope(&other, scope.clone()).await;
    let token = answer.token();
    assert_eq!(answer.expect(201)["token"]["user"]["id"], giver.as_str());
    let secretly = json!({"credential": {"type": "totp", "blob": "x"}});
    cloud.send("POST", "/v3/credentials", &token, secretly).await.expect(403);
    let more = json!({"application_credential": {"name": "more"}});
    cloud.send("POST", &format!("/v3/users/{giver}/application_credentials"), &token, more).await.expect(403);
    let listed = cloud.get(&format!("/v3/OS-TRUST/trusts?trustee_user_id={taker}"), &other).await.expect(200);
    assert_eq!(listed["trusts"].as_array().unwrap().len(), 1);
    cloud.get("/v3/OS-TRUST/trusts", &other).await.expect(403);
    cloud.ungrant(&on, "member").await;
    assert!(!cloud.good(&token).await, "the trustor has the role no more");
    cloud.grant(&on, "member").await;
    assert!(cloud.good(&token).await);
    cloud.send("DELETE", &format!("/v3/OS-TRUST/trusts/{t}"), &other, Value::Null).await.expect(403);
    let own = cloud.login("giver", "giver", project(&p)).await;
    cloud.send("DELETE", &format!("/v3/OS-TRUST/trusts/{t}"), &own, Value::Null).await.expect(204);
    assert!(!cloud.good(&token).await);
}

#[tokio::test]
async fn a_trust_can_be_handed_on_only_as_far_and_as_wide_as_it_says() {
    let cloud = Cloud::new().await;
    let p = cloud.project("p", "default").await;
    let mut users = Vec::new();
    for name in ["a", "b", "c"] {
        users.push(cloud.user(name, "default").await);
    }
    cloud.grant(&format!("projects/{p}/users/{}", users[0]), "member").await;
    let own = cloud.login("a", "a", project(&p)).await;
    let make = async |token: &str, from: &str, to: &str, role: &str, more: Value| {
        let mut trust = json!({"trustor_user_id": from, "trustee_user_id": to, "project_id": p, "impersonation": false,
            "roles": [{"name": role}]});
        for (name, value) in more.as_object().unwrap() {
            trust[name] = value.clone();
        }
        cloud.send("POST", "/v3/OS-TRUST/trusts", token, json!({ "trust": trust })).await
    };
    let further = json!({"allow_redelegation": true, "redelegation_count": 1});
    let first = make(&own, &users[0], &users[1], "reader", further).await.expect(201);
    let first = first["trust"]["id"].as_str().unwrap().to_owned();
    let b = cloud.login("b", "b", Value::Null).await;
    let b = cloud.rescope(&b, json!({"OS-TRUST:trust": {"id": first}})).await.token();
    make(&b, &users[1], &users[2], "member", json!({})).await.expect(404);
    make(&b, &users[1], &users[2], "reader", json!({"impersonation": true})).await.expect(403);
    let second = make(&b, &users[1], &users[2], "reader", json!({})).await.expect(201);
    assert_eq!(second["trust"]["redelegated_trust_id"], first.as_str());
    let c = cloud.login("c", "c", Value::Null).await;
    let scope = json!({"OS-TRUST:trust": {"id": second["trust"]["id"]}});
    let c = cloud.rescope(&c, scope).await.token();
    assert_eq!(cloud.roles_of(&c).await, ["reader"]);
    make(&c, &users[2], &users[0], "reader", json!({})).await.expect(403);
    cloud.send("DELETE", &format!("/v3/OS-TRUST/trusts/{first}"), &own, Value::Null).await.expect(204);
    assert!(!cloud.good(&b).await && !cloud.good(&c).await);
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
