//! Rules of passwords, guessing, passcodes.

use identity::PasswordRules;
use serde_json::{Value, json};
use time::Duration;

use crate::cloud::{Answer, Cloud};

const DAY: Duration = Duration::days(1);

impl Cloud {
    async fn by_password(&self, id: &str, password: &str) -> Answer {
        self.auth(json!({"id": id, "password": password}), Value::Null).await
    }

    async fn change(&self, id: &str, from: &str, to: &str) -> Answer {
        let body = json!({"user": {"original_password": from, "password": to}}).to_string();
        self.raw("POST", &format!("/v3/users/{id}/password"), &[], Some(&body)).await
    }

    async fn set(&self, id: &str, attributes: Value) -> Answer {
        self.send("PATCH", &format!("/v3/users/{id}"), &self.admin, json!({"user": attributes})).await
    }

    /// A token of the admin's as of now: the clock of these tests runs ahead of tokens.
    async fn again(&mut self) {
        let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
        self.admin = self.login("admin", crate::cloud::PASSWORD, scope).await;
    }
}

#[tokio::test]
async fn a_guessed_account_is_locked_for_a_while_and_nobody_can_tell() {
    let rules = PasswordRules { lockout_failure_attempts: 3, lockout_duration_s: 60, ..PasswordRules::default() };
    let cloud = Cloud::with_passwords(rules).await;
    let u = cloud.user("u", "default").await;
    let unknown = cloud.by_password("no-such-user", "x").await;
    for _ in 0..3 {
        let wrong = cloud.by_password(&u, "wrong").await;
        assert_eq!((wrong.status, &wrong.body), (unknown.status, &unknown.body));
    }
    let locked = cloud.by_password(&u, "u").await;
    assert_eq!((locked.status, &locked.body), (unknown.status, &unknown.body));
    cloud.change(&u, "u", "new").await.expect(401);
    cloud.clock.advance(Duration::seconds(61));
    cloud.by_password(&u, "u").await.expect(201);

    // The right password ends the count; an administrator ends a lock.
    for _ in 0..2 {
        cloud.by_password(&u, "wrong").await.expect(401);
        cloud.by_password(&u, "wrong").await.expect(401);
        cloud.by_password(&u, "u").await.expect(201);
    }
    for _ in 0..3 {
        cloud.by_password(&u, "wrong").await.expect(401);
    }
    cloud.by_password(&u, "u").await.expect(401);
    cloud.set(&u, json!({"enabled": true})).await.expect(200);
    cloud.by_password(&u, "u").await.expect(201);

    // Some accounts must not be locked by strangers.
    cloud.set(&u, json!({"options": {"ignore_lockout_failure_attempts": true}})).await.expect(200);
    for _ in 0..5 {
        cloud.by_password(&u, "wrong").await.expect(401);
    }
    cloud.by_password(&u, "u").await.expect(201);
}

#[tokio::test]
async fn a_password_expires_and_can_then_only_be_changed() {
    let mut cloud = Cloud::with_passwords(PasswordRules { expires_days: 30, ..PasswordRules::default() }).await;
    let u = cloud.user("u", "default").await;
    let robot = cloud.user("robot", "default").await;
    cloud.set(&robot, json!({"options": {"ignore_password_expiry": true}})).await.expect(200);
    let shown = cloud.get(&format!("/v3/users/{u}"), &cloud.admin).await.expect(200);
    let expires_at = shown["user"]["password_expires_at"].as_str().unwrap().to_owned();
    assert!(!expires_at.ends_with('Z') && expires_at.len() == 26, "{expires_at}");
    let list = async |cloud: &Cloud, asked: &str| {
        let path = format!("/v3/users?name=u&password_expires_at={asked}");
        cloud.get(&path, &cloud.admin).await.expect(200)["users"].as_array().unwrap().len()
    };
    assert_eq!(list(&cloud, &format!("eq:{expires_at}")).await, 1);
    assert_eq!(list(&cloud, &format!("gt:{expires_at}")).await, 0);
    assert_eq!(list(&cloud, "gte:2026-01-01T00:00:00Z").await, 1);
    cloud.get("/v3/users?password_expires_at=2026-01-01T00:00:00Z", &cloud.admin).await.expect(400);

    cloud.clock.advance(DAY * 31);
    cloud.again().await;
    let expired = cloud.by_password(&u, "u").await.expect(401);
    let text = format!("The password is expired and needs to be changed for user: {u}.");
    assert_eq!(expired["error"]["message"], text);
    assert_ne!(cloud.by_password(&u, "wrong").await.expect(401)["error"]["message"], text);
    cloud.by_password(&robot, "robot").await.expect(201);
    cloud.change(&u, "u", "another").await.expect(204);
    cloud.by_password(&u, "another").await.expect(201);
}

#[tokio::test]
async fn a_password_that_an_administrator_set_must_be_changed_upon_first_use() {
    let rules = PasswordRules { change_upon_first_use: true, ..PasswordRules::default() };
    let cloud = Cloud::with_passwords(rules).await;
    let u = cloud.user("u", "default").await;
    cloud.by_password(&u, "u").await.expect(401);
    cloud.change(&u, "u", "mine").await.expect(204);
    cloud.by_password(&u, "mine").await.expect(201);
    cloud.set(&u, json!({"password": "reset"})).await.expect(200);
    cloud.by_password(&u, "reset").await.expect(401);
    cloud
        .set(&u, json!({"options": {"ignore_change_password_upon_first_use": true}, "password": "reset"}))
        .await
        .expect(200);
    cloud.by_password(&u, "reset").await.expect(201);
}

#[tokio::test]
async fn passwords_are_not_used_again_and_not_changed_at_once() {
    let rules = PasswordRules { unique_last_count: 3, minimum_age_days: 1, ..PasswordRules::default() };
    let mut cloud = Cloud::with_passwords(rules).await;
    let u = cloud.user("u", "default").await;
    // What an administrator set has no age to reach.
    cloud.change(&u, "u", "u").await.expect(400);
    cloud.change(&u, "u", "one").await.expect(204);
    let young = cloud.change(&u, "one", "two").await.expect(400);
    assert!(young["error"]["message"].as_str().unwrap().contains("minimum age 1 days"), "{young}");
    for (from, to) in [("one", "two"), ("two", "three")] {
        cloud.clock.advance(DAY * 2);
        cloud.change(&u, from, to).await.expect(204);
    }
    cloud.clock.advance(DAY * 2);
    for old in ["three", "two", "one"] {
        let refused = cloud.change(&u, "three", old).await.expect(400);
        assert!(refused["error"]["message"].as_str().unwrap().contains("must be unique is 3"), "{refused}");
    }
    cloud.change(&u, "three", "u").await.expect(204);
    // An administrator may set what was there before.
    cloud.again().await;
    cloud.set(&u, json!({"password": "three"})).await.expect(200);
    cloud.by_password(&u, "three").await.expect(201);
}

#[tokio::test]
async fn a_weak_password_is_refused_with_what_is_wanted() {
    let rules = PasswordRules {
        regex: Some(r"^(?=.*\d)(?=.*[a-z]).{7,}$".into()),
        regex_description: "7 characters, a letter and a digit".into(),
        ..PasswordRules::default()
    };
    let cloud = Cloud::with_passwords(rules).await;
    let create = async |password: &str| {
        let body = json!({"user": {"name": "u", "password": password}});
        cloud.send("POST", "/v3/users", &cloud.admin, body).await
    };
    let refused = create("letters").await.expect(400);
    assert!(refused["error"]["message"].as_str().unwrap().contains("a letter and a digit"), "{refused}");
    assert!(!refused.to_string().contains("letters"));
    let u = crate::cloud::id(create("letters1").await.expect(201), "user");
    cloud.set(&u, json!({"password": "x"})).await.expect(400);
    cloud.change(&u, "letters1", "x").await.expect(400);
    cloud.change(&u, "letters1", "letters2").await.expect(204);
}

#[tokio::test]
async fn an_account_left_alone_is_disabled_until_somebody_enables_it() {
    let mut cloud = Cloud::with_passwords(PasswordRules { inactive_days: 90, ..PasswordRules::default() }).await;
    let u = cloud.user("u", "default").await;
    let robot = cloud.user("robot", "default").await;
    cloud.set(&robot, json!({"options": {"ignore_user_inactivity": true}})).await.expect(200);
    for _ in 0..2 {
        cloud.clock.advance(DAY * 80);
        cloud.by_password(&u, "u").await.expect(201);
        cloud.again().await;
    }
    cloud.clock.advance(DAY * 89);
    cloud.again().await;
    cloud.clock.advance(DAY * 2);
    cloud.again().await;
    cloud.by_password(&u, "u").await.expect(401);
    cloud.by_password(&robot, "robot").await.expect(201);
    let shown = cloud.get(&format!("/v3/users/{u}"), &cloud.admin).await.expect(200);
    assert_eq!(shown["user"]["enabled"], false);
    cloud.set(&u, json!({"enabled": true})).await.expect(200);
    cloud.by_password(&u, "u").await.expect(201);
}

#[tokio::test]
async fn a_passcode_is_good_once_and_a_second_factor() {
    let cloud = Cloud::new().await;
    let u = cloud.user("u", "default").await;
    // RFC 6238, appendix B.
    let credential = json!({"credential": {"type": "totp", "user_id": u, "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}});
    cloud.send("POST", "/v3/credentials", &cloud.admin, credential).await.expect(201);
    let at = time::OffsetDateTime::from_unix_timestamp(2_000_000_000).unwrap();
    cloud.clock.advance(at - cloud.clock.now());
    let auth = async |methods: &[&str], passcode: &str| {
        let body = json!({"auth": {"identity": {
            "methods": methods,
            "password": {"user": {"id": u, "password": "u"}},
            "totp": {"user": {"id": u, "passcode": passcode}},
        }}});
        cloud.raw("POST", "/v3/auth/tokens", &[], Some(&body.to_string())).await
    };
    auth(&["totp"], "000000").await.expect(401);
    let body = auth(&["totp"], "279037").await.expect(201);
    assert_eq!(body["token"]["methods"], json!(["totp"]));
    auth(&["totp"], "279037").await.expect(401);

    let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
    let admin = cloud.login("admin", crate::cloud::PASSWORD, scope).await;
    let options = json!({"user": {"options": {"multi_factor_auth_enabled": true,
        "multi_factor_auth_rules": [["password", "totp"]]}}});
    cloud.send("PATCH", &format!("/v3/users/{u}"), &admin, options).await.expect(200);
    cloud.by_password(&u, "u").await.expect(401);
}

#[tokio::test]
async fn who_shows_one_of_two_factors_gets_a_receipt_that_is_good_for_the_other() {
    let cloud = Cloud::new().await;
    let (u, other) = (cloud.user("u", "default").await, cloud.user("other", "default").await);
    cloud.set(&other, json!({"password": "u"})).await.expect(200);
    // The secret and the clock of RFC 6238's examples.
    for user in [&u, &other] {
        let body = json!({"credential": {"type": "totp", "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "user_id": user}});
        cloud.send("POST", "/v3/credentials", &cloud.admin, body).await.expect(201);
        let options = json!({"user": {"options": {"multi_factor_auth_enabled": true,
            "multi_factor_auth_rules": [["password", "totp"], ["password", "retina"]]}}});
        cloud.send("PATCH", &format!("/v3/users/{user}"), &cloud.admin, options).await.expect(200);
    }
    let to = |s: i64| cloud.clock.advance(time::OffsetDateTime::from_unix_timestamp(s).unwrap() - cloud.clock.now());
    let post = async |user: &str, receipt: Option<&str>, passcode: Option<&str>| {
        let mut identity = json!({"methods": ["password"], "password": {"user": {"id": user, "password": "u"}}});
        if let Some(passcode) = passcode {
            identity = json!({"methods": ["totp"], "totp": {"user": {"id": user, "passcode": passcode}}});
        }
        let headers: Vec<_> = receipt.map(|receipt| ("Openstack-Auth-Receipt", receipt)).into_iter().collect();
        cloud.raw("POST", "/v3/auth/tokens", &headers, Some(&json!({"auth": {"identity": identity}}).to_string())).await
    };
    let receipt = |answer: &Answer| answer.headers["openstack-auth-receipt"].to_str().unwrap().to_owned();
    let refused = |answer: Answer| {
        assert!(!answer.headers.contains_key("openstack-auth-receipt") && answer.body["receipt"].is_null());
        answer.expect(401);
    };

    to(1_234_567_890);
    let first = receipt(&post(&u, None, Some("005924")).await);
    // It is no token, and neither a token nor nonsense is a receipt.
    assert!(!cloud.good(&first).await);
    for wrong in [cloud.admin.as_str(), "x", ""] {
        refused(post(&u, Some(wrong), None).await);
    }
    // Nor is it good for somebody else, and the same factor again is not another.
    refused(post(&other, Some(&first), None).await);
    refused(post(&u, Some(&first), Some("005924")).await);
    let body = post(&u, Some(&first), None).await.expect(201);
    assert_eq!(body["token"]["methods"], json!(["password", "totp"]));
    to(1_234_567_890 + 240);
    post(&u, Some(&first), None).await.expect(201);
    // Five minutes.
    to(1_234_567_890 + 301);
    refused(post(&u, Some(&first), None).await);
    // A new password, even if it is the same, voids it too.
    to(1_234_567_890 + 60);
    cloud.set(&u, json!({"password": "u"})).await.expect(200);
    refused(post(&u, Some(&first), None).await);

    to(2_000_000_000);
    let answer = post(&u, None, None).await;
    let second = receipt(&answer);
    assert!(!answer.headers.contains_key("x-subject-token"));
    let body = answer.expect(401);
    assert_eq!(body["required_auth_methods"], json!([["password", "totp"]]));
    let user = json!({"id": u, "name": "u", "domain": {"id": "default", "name": "Default"}});
    assert_eq!((&body["receipt"]["methods"], &body["receipt"]["user"]), (&json!(["password"]), &user));
    let at = |name: &str| db::clock::parse(body["receipt"][name].as_str().unwrap()).unwrap();
    assert_eq!(at("expires_at") - at("issued_at"), Duration::minutes(5));
    post(&u, Some(&second), Some("279037")).await.expect(201);
}
