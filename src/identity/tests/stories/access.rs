//! Every persona, every body, odd paths.

use serde_json::{Value, json};

use crate::cloud::{Cloud, id, names, project};

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
        ("GET", "/v3/OS-OAUTH1/consumers".into(), Value::Null, vec![&clouds, &system]),
        ("POST", "/v3/OS-OAUTH1/consumers".into(), json!({"consumer": {}}), vec![&clouds]),
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
