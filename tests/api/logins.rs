//! A login that fails does not say why: whoever guesses names or passwords sees the same answer, whatever was wrong.
//! What the time of the answer says is measured by `just bench identity`.

use kit::{
    Persona::{Admin, Anonymous},
    Reply, TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

/// All that a client sees, without what is another for each request.
fn seen(reply: &Reply) -> String {
    let mut headers: Vec<String> = reply
        .headers
        .iter()
        .filter(|(name, _)| *name != "x-openstack-request-id" && *name != "date")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    format!("{}\n{}\n{}", reply.status, headers.join("\n"), String::from_utf8_lossy(&reply.bytes))
}

fn by_password(user: Value) -> Value {
    json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}})
}

async fn new_user(cloud: &TestCloud, user: Value) -> String {
    let made = cloud.as_(Admin).post("/identity/v3/users", json!({ "user": user })).await.expect(201);
    text(&made["user"]["id"]).to_owned()
}

#[tokio::test]
async fn a_login_that_fails_looks_the_same_whatever_was_wrong() {
    let cloud = TestCloud::configured("identity.lockout_failure_attempts = 3").await;
    let admin = cloud.as_(Admin);
    let domain = json!({"domain": {"name": "closed", "enabled": false}});
    let closed = admin.post("/identity/v3/domains", domain).await.expect(201);
    let closed = text(&closed["domain"]["id"]).to_owned();
    let patient = json!({"ignore_lockout_failure_attempts": true});
    let known =
        new_user(&cloud, json!({"name": "known", "domain_id": "default", "password": "right", "options": patient}))
            .await;
    new_user(&cloud, json!({"name": "locked", "domain_id": "default", "password": "right"})).await;
    new_user(&cloud, json!({"name": "disabled", "domain_id": "default", "password": "right", "enabled": false})).await;
    new_user(&cloud, json!({"name": "without", "domain_id": "default"})).await;
    new_user(&cloud, json!({"name": "inside", "domain_id": closed, "password": "right"})).await;

    let anonymous = cloud.as_(Anonymous);
    let attempt = async |body: Value| seen(&anonymous.post("/identity/v3/auth/tokens", body).await);
    let named = |name: &str, password: &str| {
        by_password(json!({"name": name, "domain": {"id": "default"}, "password": password}))
    };
    // The right one works, so that the refusals below are refusals of something.
    anonymous.post("/identity/v3/auth/tokens", named("known", "right")).await.expect(201);
    anonymous.post("/identity/v3/auth/tokens", named("locked", "right")).await.expect(201);
    for _ in 0..3 {
        anonymous.post("/identity/v3/auth/tokens", named("locked", "wrong")).await.expect(401);
    }

    let wanted = attempt(named("known", "wrong")).await;
    assert!(wanted.starts_with("401"), "{wanted}");
    let secret = |credential: Value| json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": credential}}});
    let passcode = |user: Value| json!({"auth": {"identity": {"methods": ["totp"], "totp": {"user": user}}}});
    let nobody = "0".repeat(32);
    let scoped = |mut body: Value, scope: Value| {
        body["auth"]["scope"] = scope;
        body
    };
    for (what, body) in [
        ("wrong password, by id", by_password(json!({"id": known, "password": "wrong"}))),
        ("no password of any length", named("known", "")),
        ("a password longer than any", named("known", &"x".repeat(5000))),
        ("unknown user", named("nobody", "right")),
        ("unknown user, by id", by_password(json!({"id": nobody, "password": "right"}))),
        ("unknown domain", by_password(json!({"name": "known", "domain": {"name": "none"}, "password": "right"}))),
        ("unknown domain, by id", by_password(json!({"name": "known", "domain": {"id": nobody}, "password": "right"}))),
        ("locked user, right password", named("locked", "right")),
        ("locked user, wrong password", named("locked", "wrong")),
        ("disabled user, right password", named("disabled", "right")),
        ("user without password", named("without", "right")),
        (
            "disabled domain, right password",
            by_password(json!({"name": "inside", "domain": {"id": closed}, "password": "right"})),
        ),
        ("unknown project", scoped(named("known", "wrong"), json!({"project": {"id": nobody}}))),
        (
            "project without a role",
            scoped(named("known", "right"), json!({"project": {"name": "admin", "domain": {"id": "default"}}})),
        ),
        ("project that is not there", scoped(named("known", "right"), json!({"project": {"id": nobody}}))),
        ("domain without a role", scoped(named("known", "right"), json!({"domain": {"id": "default"}}))),
        ("system without a role", scoped(named("known", "right"), json!({"system": {"all": true}}))),
        ("passcode of who has none", passcode(json!({"id": known, "passcode": "123456"}))),
        ("passcode of nobody", passcode(json!({"id": nobody, "passcode": "123456"}))),
        ("unknown application credential", secret(json!({"id": nobody, "secret": "x"}))),
        ("application credential by name", secret(json!({"name": "x", "user": {"id": known}, "secret": "x"}))),
        ("application credential of nobody", secret(json!({"name": "x", "user": {"id": nobody}, "secret": "x"}))),
    ] {
        assert_eq!(attempt(body).await, wanted, "{what}");
    }
}
