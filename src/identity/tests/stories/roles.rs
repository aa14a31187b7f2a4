//! Roles, what they imply, and who has them where.

use serde_json::{Value, json};

use crate::cloud::{Cloud, id, message, names, project};

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
