//! Stories of logging in: scopes, rescoping, revocation, keys.

use crate::cloud::{Cloud, PASSWORD, SERVICES, names, project};
use identity::Bootstrap;
use serde_json::{Value, json};

#[tokio::test]
async fn bootstrapping_twice_changes_nothing_and_a_newer_program_adds_its_services() {
    let cloud = Cloud::new().await;
    let wanted = Bootstrap { admin_password: Some("another".into()), services: SERVICES };
    let outcome = cloud.app.bootstrap(&wanted).await.unwrap();
    assert!(!outcome.changed && outcome.admin_password.is_none());
    assert_eq!(outcome.admin_project_id, cloud.admin_project);
    assert_eq!(names(&cloud.get("/v3/users", &cloud.admin).await.expect(200)["users"]), ["admin"]);
    let body = cloud.get("/v3/roles", &cloud.admin).await.expect(200);
    assert_eq!(names(&body["roles"]), ["admin", "manager", "member", "reader", "service"]);

    // An endpoint that the operator deleted stays away; a service that is new to the program comes.
    let body = cloud.get("/v3/services?type=image", &cloud.admin).await.expect(200);
    let image = body["services"][0]["id"].as_str().unwrap();
    cloud.send("DELETE", &format!("/v3/services/{image}"), &cloud.admin, Value::Null).await.expect(204);
    let mut more = SERVICES.to_vec();
    more.push(("volumev3", "cinder", "/volume/v3"));
    let wanted = Bootstrap { admin_password: None, services: &more };
    assert!(cloud.app.bootstrap(&wanted).await.unwrap().changed);
    assert!(!cloud.app.bootstrap(&wanted).await.unwrap().changed);
    let body = cloud.get("/v3/services", &cloud.admin).await.expect(200);
    let mut kinds: Vec<_> =
        body["services"].as_array().unwrap().iter().map(|service| service["type"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["compute", "identity", "network", "volumev3"]);
}

#[tokio::test]
async fn a_project_token_says_who_where_and_what_and_carries_a_catalog_of_the_client_s_own_host() {
    let cloud = Cloud::new().await;
    let scope = json!({"project": {"name": "admin", "domain": {"name": "Default"}}});
    let user = json!({"name": "admin", "domain": {"id": "default"}, "password": PASSWORD});
    let answer = cloud.auth(user, scope).await;
    let id = answer.token();
    assert!(id.len() < 255 && id.starts_with("gAAAA"), "{} {id}", id.len());
    let token = answer.expect(201)["token"].take();
    assert_eq!(token["methods"], json!(["password"]));
    assert_eq!(token["user"]["name"], "admin");
    assert_eq!(token["user"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(token["user"]["password_expires_at"], Value::Null);
    assert_eq!(token["project"]["id"], cloud.admin_project.as_str());
    assert_eq!(token["project"]["domain"]["id"], "default");
    assert_eq!(token["is_domain"], false);
    assert_eq!(names(&token["roles"]), ["admin", "manager", "member", "reader"]);
    assert_eq!(token["audit_ids"].as_array().unwrap().len(), 1);
    assert!(token["expires_at"].as_str().unwrap().ends_with(".000000Z"));
    let catalog = token["catalog"].as_array().unwrap();
    assert_eq!(catalog.len(), SERVICES.len());
    let compute = catalog.iter().find(|service| service["type"] == "compute").unwrap();
    let mut interfaces = Vec::new();
    for endpoint in compute["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["url"], "https://cloud:8443/compute/v2.1");
        assert_eq!(endpoint["region"], "RegionOne");
        assert_eq!(endpoint["region_id"], "RegionOne");
        interfaces.push(endpoint["interface"].as_str().unwrap());
    }
    interfaces.sort_unstable();
    assert_eq!(interfaces, ["admin", "internal", "public"]);
}

#[tokio::test]
async fn a_scope_decides_which_roles_count() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let d = cloud.domain("d").await;
    cloud.grant(&format!("projects/{p}/users/{u}"), "member").await;
    cloud.grant(&format!("domains/{d}/users/{u}"), "reader").await;
    cloud.grant(&format!("system/users/{u}"), "manager").await;
    let login = async |scope| cloud.login("u", "u", scope).await;
    assert_eq!(cloud.roles_of(&login(project(&p)).await).await, ["member", "reader"]);
    assert_eq!(cloud.roles_of(&login(json!({"domain": {"id": d}})).await).await, ["reader"]);
    assert_eq!(cloud.roles_of(&login(json!({"domain": {"name": "d"}})).await).await, ["reader"]);
    let system = login(json!({"system": {"all": true}})).await;
    assert_eq!(cloud.roles_of(&system).await, ["manager", "member", "reader"]);
    let headers = [("x-auth-token", system.as_str()), ("x-subject-token", system.as_str())];
    let body = cloud.raw("GET", "/v3/auth/tokens", &headers, None).await.expect(200);
    assert_eq!(body["token"]["system"], json!({"all": true}));
    assert!(body["token"]["catalog"].is_array() && body["token"].get("project").is_none());

    for unscoped in [Value::Null, json!("unscoped"), json!({"unscoped": {}})] {
        let user = json!({"name": "u", "domain": {"id": "default"}, "password": "u"});
        let body = cloud.auth(user, unscoped).await.expect(201);
        for absent in ["project", "roles", "catalog", "system", "domain"] {
            assert!(body["token"].get(absent).is_none(), "{absent}");
        }
    }
    for (nowhere, status) in [
        (project(&cloud.admin_project), 401),
        (project("nothing"), 401),
        (json!({"domain": {"id": "default"}}), 401),
        (json!({"project": {"name": "p"}}), 400),
        (json!({"project": {}}), 400),
        (json!({"system": {}}), 400),
        (json!({"project": {"id": p}, "domain": {"id": d}}), 400),
        (json!({}), 400),
        (json!([]), 400),
        (json!("scoped"), 400),
    ] {
        let user = json!({"name": "u", "domain": {"id": "default"}, "password": "u"});
        assert_eq!(cloud.auth(user, nowhere.clone()).await.status, status, "{nowhere}");
    }
}

#[tokio::test]
async fn without_a_scope_the_default_project_is_used_when_it_can_be() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let body = json!({"user": {"default_project_id": p}});
    let body = cloud.send("PATCH", &format!("/v3/users/{u}"), &cloud.admin, body).await.expect(200);
    assert_eq!(body["user"]["default_project_id"], p.as_str());
    let login = async || {
        let user = json!({"id": u, "password": "u"});
        cloud.auth(user, Value::Null).await.expect(201)["token"]["project"]["id"].clone()
    };
    assert_eq!(login().await, Value::Null, "no role there: unscoped");
    cloud.grant(&format!("projects/{p}/users/{u}"), "reader").await;
    assert_eq!(login().await, p.as_str());
    let disabled = json!({"project": {"enabled": false}});
    cloud.send("PATCH", &format!("/v3/projects/{p}"), &cloud.admin, disabled).await.expect(200);
    assert_eq!(login().await, Value::Null);
}

#[tokio::test]
async fn unknown_user_wrong_password_and_disabled_user_look_the_same() {
    let cloud = Cloud::new().await;
    let u = cloud.user("u", "default").await;
    let nopass = json!({"user": {"name": "nopass"}});
    cloud.send("POST", "/v3/users", &cloud.admin, nopass).await.expect(201);
    let mut answers = Vec::new();
    for (name, password) in [("u", "wrong"), ("nobody", "u"), ("u", ""), ("nopass", ""), ("u", &"x".repeat(5000))] {
        let user = json!({"name": name, "domain": {"id": "default"}, "password": password});
        answers.push(cloud.auth(user, Value::Null).await);
    }
    answers.push(cloud.auth(json!({"id": "nobody", "password": "u"}), Value::Null).await);
    let user = json!({"name": "u", "domain": {"name": "no such domain"}, "password": "u"});
    answers.push(cloud.auth(user, Value::Null).await);
    let body = json!({"user": {"enabled": false}});
    cloud.send("PATCH", &format!("/v3/users/{u}"), &cloud.admin, body).await.expect(200);
    answers.push(cloud.auth(json!({"id": u, "password": "u"}), Value::Null).await);
    for answer in answers {
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.body,
            json!({"error": {"code": 401, "title": "Unauthorized",
                "message": "The request you have made requires authentication."}})
        );
    }
}

#[tokio::test]
async fn rescoping_keeps_the_expiry_and_the_chain_and_adds_the_method() {
    let cloud = Cloud::new().await;
    let first = cloud.login("admin", PASSWORD, json!("unscoped")).await;
    let read = async |token: &str| {
        let headers = [("x-auth-token", token), ("x-subject-token", token)];
        cloud.raw("GET", "/v3/auth/tokens", &headers, None).await.expect(200)["token"].take()
    };
    let before = read(&first).await;
    cloud.clock.advance(time::Duration::seconds(100));
    let second = cloud.rescope(&first, project(&cloud.admin_project)).await.token();
    let after = read(&second).await;
    assert_eq!(after["expires_at"], before["expires_at"]);
    assert_ne!(after["issued_at"], before["issued_at"]);
    assert_eq!(after["methods"], json!(["password", "token"]));
    assert_eq!(after["audit_ids"][1], before["audit_ids"][0]);
    let third = cloud.rescope(&second, json!({"system": {"all": true}})).await.token();
    assert!(third.len() < 255);
    assert_eq!(read(&third).await["audit_ids"][1], before["audit_ids"][0]);

    // A rescoped token goes alone.
    let headers = [("x-auth-token", first.as_str()), ("x-subject-token", second.as_str())];
    cloud.raw("DELETE", "/v3/auth/tokens", &headers, None).await.expect(204);
    assert!(!cloud.good(&second).await && cloud.good(&third).await && cloud.good(&first).await);
    cloud.rescope(&second, Value::Null).await.expect(404);
    // The first one takes the chain along.
    let headers = [("x-auth-token", first.as_str()), ("x-subject-token", first.as_str())];
    cloud.raw("DELETE", "/v3/auth/tokens", &headers, None).await.expect(204);
    assert!(!cloud.good(&first).await && !cloud.good(&third).await);
    assert!(cloud.good(&cloud.admin).await, "another login is not concerned");
}

#[tokio::test]
async fn whatever_a_token_depends_on_voids_it_at_the_next_request() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let g = cloud.group("g").await;
    let on = format!("projects/{p}/users/{u}");
    let login = async || cloud.login("u", "u", project(&p)).await;
    let patch = async |path: String, body: Value| {
        cloud.send("PATCH", &path, &cloud.admin, body).await.expect(200);
    };

    cloud.grant(&on, "member").await;
    let token = login().await;
    assert!(cloud.good(&token).await);
    cloud.ungrant(&on, "member").await;
    assert!(!cloud.good(&token).await, "role removed");

    cloud.grant(&format!("projects/{p}/groups/{g}"), "member").await;
    let member = format!("/v3/groups/{g}/users/{u}");
    cloud.send("PUT", &member, &cloud.admin, Value::Null).await.expect(204);
    let token = login().await;
    assert!(cloud.good(&token).await);
    cloud.send("DELETE", &member, &cloud.admin, Value::Null).await.expect(204);
    assert!(!cloud.good(&token).await, "out of the group");

    cloud.grant(&on, "member").await;
    for (path, noun) in [(format!("/v3/users/{u}"), "user"), (format!("/v3/projects/{p}"), "project")] {
        let token = login().await;
        patch(path.clone(), json!({noun: {"enabled": false}})).await;
        assert!(!cloud.good(&token).await, "{noun} disabled");
        patch(path, json!({noun: {"enabled": true}})).await;
        assert!(!cloud.good(&token).await, "{noun} enabled again");
        assert!(cloud.good(&login().await).await);
    }

    let token = login().await;
    let body = json!({"user": {"original_password": "u", "password": "v"}});
    let path = format!("/v3/users/{u}/password");
    let wrong = json!({"user": {"original_password": "x", "password": "v"}});
    cloud.send("POST", &path, "", wrong).await.expect(401);
    cloud.send("POST", "/v3/users/nobody/password", "", body.clone()).await.expect(401);
    assert!(cloud.good(&token).await);
    cloud.send("POST", &path, "", body).await.expect(204);
    assert!(!cloud.good(&token).await, "password changed");
    let token = cloud.login("u", "v", project(&p)).await;
    patch(format!("/v3/users/{u}"), json!({"user": {"password": "w"}})).await;
    assert!(!cloud.good(&token).await, "password reset");
    let token = cloud.login("u", "w", project(&p)).await;
    cloud.send("DELETE", &format!("/v3/users/{u}"), &cloud.admin, Value::Null).await.expect(204);
    assert!(!cloud.good(&token).await, "user deleted");
}

#[tokio::test]
async fn a_disabled_domain_shuts_out_its_users_and_projects() {
    let cloud = Cloud::new().await;
    let d = cloud.domain("d").await;
    let (p, u) = (cloud.project("p", &d).await, cloud.user("u", &d).await);
    cloud.grant(&format!("projects/{p}/users/{u}"), "member").await;
    let user = json!({"id": u, "password": "u"});
    let token = cloud.auth(user.clone(), project(&p)).await.token();
    let path = format!("/v3/domains/{d}");
    cloud.send("PATCH", &path, &cloud.admin, json!({"domain": {"enabled": false}})).await.expect(200);
    assert!(!cloud.good(&token).await);
    cloud.auth(user.clone(), Value::Null).await.expect(401);
    cloud.send("PATCH", &path, &cloud.admin, json!({"domain": {"enabled": true}})).await.expect(200);
    assert!(!cloud.good(&token).await);
    cloud.auth(user, project(&p)).await.expect(201);
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_services_may_look_a_little_longer() {
    let cloud = Cloud::new().await;
    let token = cloud.login("admin", PASSWORD, project(&cloud.admin_project)).await;
    assert!(cloud.good(&token).await);
    cloud.clock.advance(time::Duration::seconds(3601));
    assert!(!cloud.good(&token).await);
    cloud.rescope(&token, Value::Null).await.expect(404);
    let admin = cloud.login("admin", PASSWORD, project(&cloud.admin_project)).await;
    let headers = [("x-auth-token", admin.as_str()), ("x-subject-token", token.as_str())];
    cloud.raw("GET", "/v3/auth/tokens", &headers, None).await.expect(404);
    cloud.raw("GET", "/v3/auth/tokens?allow_expired=1", &headers, None).await.expect(200);
    cloud.clock.advance(time::Duration::seconds(172_780));
    let admin = cloud.login("admin", PASSWORD, project(&cloud.admin_project)).await;
    let headers = [("x-auth-token", admin.as_str()), ("x-subject-token", token.as_str())];
    cloud.raw("GET", "/v3/auth/tokens?allow_expired=1", &headers, None).await.expect(200);
    cloud.clock.advance(time::Duration::seconds(30));
    cloud.raw("GET", "/v3/auth/tokens?allow_expired=1", &headers, None).await.expect(404);
}

#[tokio::test]
async fn tokens_survive_a_restart_and_key_rotations_until_their_key_is_gone() {
    let mut cloud = Cloud::new().await;
    let token = cloud.admin.clone();
    cloud.restart();
    assert!(cloud.good(&token).await);
    cloud.app.rotate_keys().unwrap();
    assert!(cloud.good(&token).await);
    let newer = cloud.login("admin", PASSWORD, Value::Null).await;
    assert!(cloud.good(&newer).await);
    cloud.app.rotate_keys().unwrap();
    assert!(!cloud.good(&token).await, "its key fell out, also from the cache");
    assert!(cloud.good(&newer).await, "the key of this one is the oldest that is kept");
    cloud.restart();
    assert!(!cloud.good(&token).await);
    let now = cloud.login("admin", PASSWORD, Value::Null).await;
    assert!(cloud.good(&now).await);
}

#[tokio::test]
async fn checking_reading_and_voiding_tokens_is_for_their_subject_and_those_in_charge() {
    let cloud = Cloud::new().await;
    let (p, u) = (cloud.project("p", "default").await, cloud.user("u", "default").await);
    let v = cloud.user("v", "default").await;
    for user in [&u, &v] {
        cloud.grant(&format!("projects/{p}/users/{user}"), "member").await;
    }
    let (mine, other) = (cloud.login("u", "u", project(&p)).await, cloud.login("v", "v", project(&p)).await);
    let about = async |method: &str, by: &str, subject: &str| {
        let headers = [("x-auth-token", by), ("x-subject-token", subject)];
        cloud.raw(method, "/v3/auth/tokens", &headers, None).await.status.as_u16()
    };
    for method in ["GET", "HEAD"] {
        assert_eq!(about(method, &mine, &mine).await, 200);
        assert_eq!(about(method, &mine, &other).await, 403);
        assert_eq!(about(method, &cloud.admin, &mine).await, 200);
        assert_eq!(about(method, &cloud.admin, "nonsense").await, 404);
        assert_eq!(about(method, &cloud.admin, "").await, 404);
        assert_eq!(about(method, "nonsense", &mine).await, 401);
    }
    assert_eq!(about("DELETE", &mine, &other).await, 403);
    assert_eq!(about("DELETE", &cloud.admin, &other).await, 204);
    assert_eq!(about("DELETE", &cloud.admin, &other).await, 404);
    assert_eq!(about("DELETE", &mine, &mine).await, 204);
    assert_eq!(about("GET", &mine, &mine).await, 401);
}

#[tokio::test]
async fn identity_headers_from_outside_have_no_effect() {
    let cloud = Cloud::new().await;
    let u = cloud.user("u", "default").await;
    let token = cloud.login("u", "u", Value::Null).await;
    let forged = [
        ("x-auth-token", token.as_str()),
        ("x-roles", "admin"),
        ("x-user-id", "admin"),
        ("x-is-admin-project", "True"),
        ("x-identity-status", "Confirmed"),
        ("x-project-id", cloud.admin_project.as_str()),
        ("openstack-system-scope", "all"),
    ];
    cloud.raw("GET", "/v3/users", &forged, None).await.expect(403);
    cloud.raw("GET", "/v3/users", &forged[1..], None).await.expect(401);
    let body = cloud.raw("GET", &format!("/v3/users/{u}"), &forged, None).await.expect(200);
    assert_eq!(body["user"]["name"], "u");
}

#[tokio::test]
async fn any_text_may_be_a_name_or_a_password() {
    let cloud = Cloud::new().await;
    for text in ["пароль", "$x'\"\\%(user_id)s", "🔑🔑", "a b\tc", "; DROP TABLE identity_user; --", "ünïcode\u{301}"]
    {
        let body = json!({"user": {"name": text, "password": text, "domain_id": "default"}});
        let body = cloud.send("POST", "/v3/users", &cloud.admin, body).await.expect(201);
        assert_eq!(body["user"]["name"], text);
        let token = cloud.login(text, text, Value::Null).await;
        assert!(cloud.good(&token).await);
    }
}

#[tokio::test]
async fn what_a_login_may_be_scoped_to_is_listed() {
    let cloud = Cloud::new().await;
    let (p, q, u) =
        (cloud.project("p", "default").await, cloud.project("q", "default").await, cloud.user("u", "default").await);
    cloud.project("foreign", "default").await;
    let token = cloud.login("u", "u", Value::Null).await;
    let listed = async |what: &str| cloud.get(&format!("/v3/auth/{what}"), &token).await.expect(200)[what].take();
    assert_eq!(listed("projects").await, json!([]));
    assert_eq!(listed("system").await, json!([]));
    cloud.grant(&format!("projects/{p}/users/{u}"), "member").await;
    cloud.grant(&format!("projects/{q}/users/{u}"), "member").await;
    cloud.grant(&format!("domains/default/users/{u}"), "reader").await;
    cloud.grant(&format!("system/users/{u}"), "reader").await;
    assert_eq!(names(&listed("projects").await), ["p", "q"]);
    assert_eq!(names(&listed("domains").await), ["Default"]);
    assert_eq!(listed("system").await, json!([{"all": true}]));
    let body = json!({"project": {"enabled": false}});
    cloud.send("PATCH", &format!("/v3/projects/{q}"), &cloud.admin, body).await.expect(200);
    assert_eq!(names(&listed("projects").await), ["p"]);
    let scoped = cloud.login("u", "u", project(&p)).await;
    let body = cloud.get("/v3/auth/catalog", &scoped).await.expect(200);
    assert_eq!(body["catalog"].as_array().unwrap().len(), SERVICES.len());
    cloud.get("/v3/auth/catalog", &token).await.expect(403);
}

#[tokio::test]
async fn multi_factor_rules_of_a_user_are_kept() {
    let cloud = Cloud::new().await;
    let u = cloud.user("u", "default").await;
    let set = async |options: Value| {
        let body = json!({"user": {"options": options}});
        cloud.send("PATCH", &format!("/v3/users/{u}"), &cloud.admin, body).await.expect(200)
    };
    let status = async || cloud.auth(json!({"id": u, "password": "u"}), Value::Null).await.status.as_u16();
    let body = set(json!({"multi_factor_auth_enabled": true,
        "multi_factor_auth_rules": [["password", "application_credential"]]}))
    .await;
    assert_eq!(body["user"]["options"]["multi_factor_auth_enabled"], true);
    assert_eq!(status().await, 401);
    set(json!({"multi_factor_auth_rules": [["password", "application_credential"], ["password"]]})).await;
    assert_eq!(status().await, 201);
    let body = set(json!({"multi_factor_auth_rules": null, "multi_factor_auth_enabled": null})).await;
    assert_eq!(body["user"]["options"], json!({}));
    assert_eq!(status().await, 201);
}

#[tokio::test]
async fn a_body_of_the_wrong_shape_is_a_400_and_says_no_secret() {
    let cloud = Cloud::new().await;
    let wrong = [json!(null), json!(1), json!("x"), json!([]), json!({}), json!([1]), json!({"x": 1}), json!(true)];
    let good = json!({"auth": {"identity": {"methods": ["password"], "password": {"user":
        {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}}}, "scope": {"system": {"all": true}}}});
    let mut bodies: Vec<Value> = wrong.to_vec();
    for path in [
        "/auth",
        "/auth/identity",
        "/auth/identity/methods",
        "/auth/identity/password",
        "/auth/identity/password/user",
        "/auth/identity/password/user/name",
        "/auth/identity/password/user/domain",
        "/auth/identity/password/user/domain/id",
        "/auth/identity/password/user/password",
        "/auth/scope",
        "/auth/scope/system",
        "/auth/scope/system/all",
    ] {
        for value in &wrong {
            let mut body = good.clone();
            *body.pointer_mut(path).unwrap() = value.clone();
            bodies.push(body);
        }
    }
    for body in bodies {
        let answer = cloud.raw("POST", "/v3/auth/tokens", &[], Some(&body.to_string())).await;
        let status = answer.status.as_u16();
        // Some of the wrong values are right in their place ("x" for a name, true, null for a scope).
        assert!(matches!(status, 400 | 401 | 201), "{status} {body}");
        assert!(!answer.body.to_string().contains(PASSWORD));
        if status == 201 {
            let place = &body["auth"]["scope"];
            assert!(place.is_null() || place["system"]["all"] == true, "{body}");
        }
    }
    for text in ["", "{", "[", "\"", "{\"auth\":}", "\u{0}", &"[".repeat(5000)] {
        let answer = cloud.raw("POST", "/v3/auth/tokens", &[], Some(text)).await;
        assert_eq!(answer.status, 400, "{text:?}");
    }
}
