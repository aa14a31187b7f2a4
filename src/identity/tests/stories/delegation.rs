//! What users hand on: application credentials, trusts, secrets.

use serde_json::{Value, json};

use crate::cloud::{Cloud, names, project};

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
    // The key says whose it is, not the path.
    cloud.get(&format!("/v3/users/{v}/credentials/OS-EC2/{access}"), &other).await.expect(403);
    cloud.send("POST", &pairs, &own, json!({"tenant_id": "nothing"})).await.expect(404);
    let listed = cloud.get(&pairs, &own).await.expect(200);
    assert_eq!(listed["credentials"].as_array().unwrap().len(), 1);
    cloud.send("DELETE", &format!("{pairs}/{access}"), &own, Value::Null).await.expect(204);
    cloud.get(&format!("{pairs}/{access}"), &own).await.expect(404);
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
