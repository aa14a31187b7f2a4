//! People whom an OpenID Connect issuer vouches for.

use identity::{Introspection, OidcProvider, Options, Secret};
use serde_json::{Value, json};

use crate::{
    cloud::{Answer, Cloud, message, names, project},
    issuer::{Issuer, Mood, SigningKey, b64},
};

const FED: &str = "/v3/OS-FEDERATION";
const AUTH: &str = "/v3/OS-FEDERATION/identity_providers/acme/protocols/openid/auth";

pub struct Federation {
    pub cloud: Cloud,
    pub issuer: Issuer,
    pub key: SigningKey,
}

pub fn rules() -> Value {
    json!([
        {"local": [{"user": {"name": "{0}", "id": "{1}", "email": "{2}"}}],
         "remote": [{"type": "HTTP_OIDC_PREFERRED_USERNAME"}, {"type": "OIDC-sub"}, {"type": "email"}]},
        {"local": [{"groups": "{0}", "domain": {"id": "default"}}], "remote": [{"type": "OIDC-groups"}]},
    ])
}

impl Federation {
    pub async fn new() -> Self {
        Self::with(|provider| provider, rules()).await
    }

    pub async fn with(change: impl FnOnce(OidcProvider) -> OidcProvider, rules: Value) -> Self {
        let issuer = Issuer::start().await;
        let key = SigningKey::ec("one");
        issuer.publish(&[&key]);
        let provider = change(OidcProvider {
            issuer: issuer.url(),
            client_id: Some("cloud".into()),
            client_secret: Some(Secret("a:secret".into())),
            ..OidcProvider::default()
        });
        let options = Options {
            oidc: [("acme".to_owned(), provider)].into(),
            trusted_dashboards: vec!["https://dashboard.test/auth/websso/".into()],
            ..Options::default()
        };
        let cloud = Cloud::with_options(options).await;
        for (path, body) in [
            ("mappings/people", json!({"mapping": {"rules": rules}})),
            ("identity_providers/acme", json!({"identity_provider": {"enabled": true, "remote_ids": [issuer.url()]}})),
            ("identity_providers/acme/protocols/openid", json!({"protocol": {"mapping_id": "people"}})),
        ] {
            cloud.send("PUT", &format!("{FED}/{path}"), &cloud.admin, body).await.expect(201);
        }
        Self { cloud, issuer, key }
    }

    pub fn claims(&self, sub: &str) -> Value {
        let now = self.cloud.clock.now().unix_timestamp();
        json!({"iss": self.issuer.url(), "aud": "cloud", "sub": sub, "exp": now + 300, "iat": now,
            "preferred_username": format!("name of {sub}"), "email": format!("{sub}@acme.test"), "groups": ["devs"]})
    }

    pub async fn bring(&self, bearer: &str) -> Answer {
        self.cloud.raw("POST", AUTH, &[("authorization", &format!("Bearer {bearer}"))], None).await
    }

    pub async fn login(&self, sub: &str) -> Answer {
        self.bring(&self.key.sign(&self.claims(sub))).await
    }

    /// A project on which the group `devs` has the role `member`.
    async fn project_of_devs(&self) -> String {
        let project = self.cloud.project("p", "default").await;
        let group = self.cloud.group("devs").await;
        self.cloud.grant(&format!("projects/{project}/groups/{group}"), "member").await;
        project
    }

    async fn patch(&self, path: &str, body: Value) {
        self.cloud.send("PATCH", &format!("{FED}/{path}"), &self.cloud.admin, body).await.expect(200);
    }
}

#[tokio::test]
async fn whoever_the_issuer_vouches_for_comes_in_and_takes_a_scope_through_groups() {
    let fed = Federation::new().await;
    let (cloud, project_id) = (&fed.cloud, fed.project_of_devs().await);
    let answer = fed.login("bo").await;
    let unscoped = answer.token();
    let token = answer.expect(201)["token"].clone();
    assert_eq!(token["methods"], json!(["mapped"]));
    assert_eq!(token["user"]["name"], "name of bo");
    let groups = cloud.get("/v3/groups?name=devs", &cloud.admin).await.expect(200);
    assert_eq!(
        token["user"]["OS-FEDERATION"],
        json!({"identity_provider": {"id": "acme"}, "protocol": {"id": "openid"}, "groups": [{"id": groups["groups"][0]["id"]}]})
    );
    assert!(token.get("project").is_none() && token.get("catalog").is_none(), "{token}");
    for path in ["/v3/auth/projects", "/v3/OS-FEDERATION/projects"] {
        assert_eq!(names(&cloud.get(path, &unscoped).await.expect(200)["projects"]), ["p"]);
    }
    assert_eq!(cloud.get("/v3/OS-FEDERATION/domains", &unscoped).await.expect(200)["domains"], json!([]));

    let scoped = cloud.rescope(&unscoped, project(&project_id)).await;
    let text = scoped.token();
    let scoped = scoped.expect(201)["token"].clone();
    assert_eq!(scoped["methods"], json!(["token", "mapped"]));
    assert_eq!(names(&scoped["roles"]), ["member", "reader"]);
    assert_eq!(scoped["user"]["OS-FEDERATION"]["protocol"]["id"], "openid");
    assert_eq!(cloud.roles_of(&text).await, ["member", "reader"]);
    // The same by the method's old name.
    let auth = json!({"auth": {"identity": {"methods": ["mapped"], "mapped": {"id": unscoped}}, "scope": project(&project_id)}});
    cloud.raw("POST", "/v3/auth/tokens", &[], Some(&auth.to_string())).await.expect(201);
    cloud.rescope(&unscoped, project(&cloud.admin_project)).await.expect(401);
    cloud.rescope(&unscoped, json!({"system": {"all": true}})).await.expect(401);

    // The next login is the same user, with what is new about it.
    let mut claims = fed.claims("bo");
    claims["email"] = json!("new@acme.test");
    claims["groups"] = json!([]);
    let again = fed.bring(&fed.key.sign(&claims)).await;
    let groupless = again.token();
    assert_eq!(again.expect(201)["token"]["user"]["id"], token["user"]["id"]);
    cloud.rescope(&groupless, project(&project_id)).await.expect(401);
    assert!(cloud.good(&text).await, "groups of another login are that login's");
    let user_id = token["user"]["id"].as_str().unwrap();
    let user = cloud.get(&format!("/v3/users/{user_id}"), &cloud.admin).await.expect(200)["user"].clone();
    assert_eq!(user["email"], "new@acme.test");
    let names = json!([{"idp_id": "acme", "protocols": [{"protocol_id": "openid", "unique_id": "bo"}]}]);
    assert_eq!(user["federated"], names);
    for query in ["idp_id=acme", "unique_id=bo", "idp_id=acme&protocol_id=openid&unique_id=bo"] {
        let list = cloud.get(&format!("/v3/users?{query}"), &cloud.admin).await.expect(200);
        assert_eq!(list["users"].as_array().unwrap().len(), 1, "{query}");
        assert_eq!(list["users"][0]["federated"], names);
    }
    assert_eq!(cloud.get("/v3/users?unique_id=other", &cloud.admin).await.expect(200)["users"], json!([]));
}

#[tokio::test]
async fn a_token_that_the_issuer_did_not_make_for_this_cloud_opens_nothing() {
    let fed = Federation::new().await;
    fed.login("bo").await.expect(201);
    let good = fed.claims("bo");
    let now = good["iat"].as_i64().unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    for (what, claims) in [
        ("another issuer", with("iss", json!("https://other.test"))),
        ("no issuer", without("iss")),
        ("issuers in a list", with("iss", json!([fed.issuer.url()]))),
        ("another audience", with("aud", json!("other"))),
        ("other audiences", with("aud", json!(["other", "clouds"]))),
        ("no audience", without("aud")),
        ("expired", with("exp", json!(now - 61))),
        ("no end", without("exp")),
        ("an end that is text", with("exp", json!((now + 300).to_string()))),
        ("an end that is null", with("exp", Value::Null)),
        ("not yet", with("nbf", json!(now + 120))),
        ("from the future", with("iat", json!(now + 120))),
        ("no subject", without("sub")),
        ("an empty subject", with("sub", json!(""))),
        ("a subject without end", with("sub", json!("x".repeat(256)))),
    ] {
        let answer = fed.bring(&fed.key.sign(&claims)).await;
        assert_eq!(
            (answer.status.as_u16(), message(&answer.body)),
            (401, "The request you have made requires authentication."),
            "{what}"
        );
    }
    // Clocks may differ a little, and audiences be several.
    fed.bring(&fed.key.sign(&with("exp", json!(now - 30)))).await.expect(201);
    fed.bring(&fed.key.sign(&with("iat", json!(now + 30)))).await.expect(201);
    fed.bring(&fed.key.sign(&with("aud", json!(["x", "cloud"])))).await.expect(201);

    let header = |alg: &str| json!({"alg": alg, "kid": "one", "typ": "JWT"});
    let stranger = SigningKey::ec("one");
    let body = b64(good.to_string());
    let hmac = {
        use ring::hmac;
        let message = format!("{}.{body}", b64(header("HS256").to_string()));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &fed.key.public());
        format!("{message}.{}", b64(hmac::sign(&secret, message.as_bytes())))
    };
    let genuine = fed.key.sign(&good);
    let (front, signature) = genuine.rsplit_once('.').unwrap();
    for (what, bearer) in [
        ("alg none", format!("{}.{body}.", b64(header("none").to_string()))),
        ("alg None", format!("{}.{body}.", b64(header("None").to_string()))),
        ("HS256 with the public key", hmac),
        ("another's signature", stranger.sign(&good)),
        ("no signature", format!("{front}.")),
        ("half a signature", format!("{front}.{}", &signature[..signature.len() / 2])),
        (
            "the claims of another",
            format!("{}.{}.{signature}", genuine.split('.').next().unwrap(), b64(fed.claims("eve").to_string())),
        ),
        ("another algorithm's name", fed.key.sign_as(&header("RS256"), &good)),
        ("the key in the token", stranger.sign_as(&json!({"alg": "ES256", "jwk": stranger.jwk()}), &good)),
        (
            "an address in the token",
            stranger.sign_as(&json!({"alg": "ES256", "kid": "two", "jku": "http://127.0.0.1:1/"}), &good),
        ),
        ("a logout token", fed.key.sign_as(&json!({"alg": "ES256", "kid": "one", "typ": "logout+jwt"}), &good)),
        (
            "a critical extension",
            fed.key.sign_as(&json!({"alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false}), &good),
        ),
        ("no JWT", "gAAAA".into()),
        ("four parts", format!("{genuine}.x")),
        ("nothing", String::new()),
        ("far too much", "x".repeat(20_000)),
    ] {
        let answer = fed.bring(&bearer).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    }
    for headers in [vec![], vec![("authorization", "Basic eDp5")], vec![("authorization", "Bearer")]] {
        fed.cloud.raw("GET", AUTH, &headers, None).await.expect(401);
    }
    let bearer = format!("bearer {genuine}");
    fed.cloud.raw("GET", AUTH, &[("authorization", &bearer)], None).await.expect(201);
    for (path, status) in [(AUTH.replace("acme", "nobody"), 401), (AUTH.replace("openid", "saml2"), 401)] {
        fed.cloud.raw("POST", &path, &[("authorization", &bearer)], None).await.expect(status);
    }
}

#[tokio::test]
async fn keys_that_rotate_are_fetched_but_an_invented_one_is_asked_for_once() {
    let mut fed = Federation::new().await;
    fed.login("bo").await.expect(201);
    assert_eq!(fed.issuer.asked(), 1);
    fed.login("bo").await.expect(201);
    assert_eq!(fed.issuer.asked(), 1, "keys are kept");

    let old = std::mem::replace(&mut fed.key, SigningKey::ed("two"));
    fed.issuer.publish(&[&fed.key]);
    fed.login("bo").await.expect(401);
    assert_eq!(fed.issuer.asked(), 1, "the issuer was asked a moment ago");
    fed.cloud.clock.advance(time::Duration::seconds(11));
    fed.login("bo").await.expect(201);
    assert_eq!(fed.issuer.asked(), 2);
    let claims = fed.claims("bo");
    fed.bring(&old.sign(&claims)).await.expect(401);

    fed.cloud.clock.advance(time::Duration::seconds(11));
    for _ in 0..20 {
        let invented = fed.key.sign_as(&json!({"alg": "EdDSA", "kid": "invented"}), &fed.claims("bo"));
        fed.bring(&invented).await.expect(401);
    }
    assert_eq!(fed.issuer.asked(), 3);
    // Without a key id the key that fits is tried; symmetric keys in public and other purposes are no keys.
    fed.bring(&fed.key.sign_as(&json!({"alg": "EdDSA"}), &fed.claims("bo"))).await.expect(201);
    fed.cloud.clock.advance(time::Duration::seconds(301));
    let mut enc = fed.key.jwk();
    enc["use"] = json!("enc");
    *fed.issuer.0.keys.lock().unwrap() =
        vec![enc, json!({"kty": "oct", "k": "AA", "kid": "two"}), json!({"kty": "new"}), json!(3)];
    fed.login("bo").await.expect(401);
}

#[tokio::test]
async fn an_issuer_that_misbehaves_lets_nobody_in_and_does_no_harm() {
    for mood in [Mood::Endless, Mood::Redirecting, Mood::Lying, Mood::Broken] {
        let fed = Federation::new().await;
        fed.issuer.be(mood);
        let answer = fed.login("bo").await;
        assert_eq!(
            (answer.status.as_u16(), message(&answer.body)),
            (503, "The identity provider cannot be asked now."),
            "{mood:?}"
        );
        fed.login("bo").await.expect(503);
        assert_eq!(fed.issuer.asked(), 1, "not asked again at once");
        fed.issuer.be(Mood::Fine);
        fed.cloud.clock.advance(time::Duration::seconds(11));
        fed.login("bo").await.expect(201);
        // Later it is down: what it published goes on for a while.
        fed.issuer.be(mood);
        fed.cloud.clock.advance(time::Duration::seconds(301));
        fed.login("bo").await.expect(201);
        fed.cloud.clock.advance(time::Duration::seconds(3600));
        fed.login("bo").await.expect(503);
    }
}

#[tokio::test]
async fn a_silent_issuer_is_waited_for_a_few_seconds_and_only_by_those_who_need_it() {
    let fed = Federation::new().await;
    fed.issuer.be(Mood::Silent);
    let began = std::time::Instant::now();
    let (one, other) = tokio::join!(fed.login("bo"), fed.login("eve"));
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (503, 503));
    assert!(began.elapsed() < std::time::Duration::from_secs(9), "{:?}", began.elapsed());
    // What cannot be good is refused without asking.
    let began = std::time::Instant::now();
    fed.bring("x.y.z").await.expect(401);
    assert!(began.elapsed() < std::time::Duration::from_secs(2));
}

#[tokio::test]
async fn opaque_tokens_are_asked_about_at_the_issuer() {
    let fed =
        Federation::with(|provider| OidcProvider { introspection: Introspection::Opaque, ..provider }, rules()).await;
    let say = |value: Value| *fed.issuer.0.introspected.lock().unwrap() = value;
    fed.bring("opaque").await.expect(401);
    let mut good = fed.claims("bo");
    good["active"] = json!(true);
    say(good.clone());
    let token = fed.bring("opaque").await.expect(201);
    assert_eq!(token["token"]["user"]["name"], "name of bo");
    // A JWT is still verified here.
    fed.login("bo").await.expect(201);
    fed.bring(&SigningKey::ec("one").sign(&fed.claims("bo"))).await.expect(401);
    for (what, name, value) in [
        ("not active", "active", json!("true")),
        ("of another issuer", "iss", json!("https://other.test")),
        ("for another service", "aud", json!("other")),
        ("over", "exp", json!(good["iat"].as_i64().unwrap() - 100)),
        ("nobody's", "sub", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        say(bad);
        assert_eq!(fed.bring("opaque").await.status, 401, "{what}");
    }
    // Without an audience, the client that it was given to.
    good.as_object_mut().unwrap().remove("aud");
    say(good.clone());
    fed.bring("opaque").await.expect(401);
    good["client_id"] = json!("cloud");
    say(good);
    fed.bring("opaque").await.expect(201);
}

#[tokio::test]
async fn what_a_token_came_from_ends_it() {
    let fed = Federation::new().await;
    let project_id = fed.project_of_devs().await;
    let provider = "identity_providers/acme";
    let enable = |enabled: bool| fed.patch(provider, json!({"identity_provider": {"enabled": enabled}}));
    let tokens = async || {
        let unscoped = fed.login("bo").await.token();
        let scoped = fed.cloud.rescope(&unscoped, project(&project_id)).await.token();
        assert!(fed.cloud.good(&unscoped).await && fed.cloud.good(&scoped).await);
        [unscoped, scoped]
    };
    let dead = async |tokens: &[String; 2]| {
        for token in tokens {
            assert!(!fed.cloud.good(token).await);
            fed.cloud.rescope(token, json!("unscoped")).await.expect(404);
        }
    };

    let old = tokens().await;
    enable(false).await;
    dead(&old).await;
    let answer = fed.login("bo").await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    enable(true).await;
    dead(&old).await;

    let old = tokens().await;
    let user = fed.login("bo").await.expect(201)["token"]["user"]["id"].as_str().unwrap().to_owned();
    let disable = |enabled: bool| {
        let (cloud, path) = (&fed.cloud, format!("/v3/users/{user}"));
        async move { cloud.send("PATCH", &path, &cloud.admin, json!({"user": {"enabled": enabled}})).await.expect(200) }
    };
    disable(false).await;
    dead(&old).await;
    fed.login("bo").await.expect(401);
    disable(true).await;

    let old = tokens().await;
    fed.cloud
        .send("DELETE", &format!("{FED}/{provider}/protocols/openid"), &fed.cloud.admin, Value::Null)
        .await
        .expect(204);
    dead(&old).await;
    fed.login("bo").await.expect(401);
    let protocol = json!({"protocol": {"mapping_id": "people"}});
    fed.cloud.send("PUT", &format!("{FED}/{provider}/protocols/openid"), &fed.cloud.admin, protocol).await.expect(201);
    dead(&old).await;
    let again = fed.login("bo").await.expect(201);
    assert_eq!(again["token"]["user"]["id"], user.as_str(), "the same person as before");
    dead(&old).await;

    let old = tokens().await;
    let groups = fed.cloud.get("/v3/groups?name=devs", &fed.cloud.admin).await.expect(200);
    let group = groups["groups"][0]["id"].as_str().unwrap().to_owned();
    fed.cloud.ungrant(&format!("projects/{project_id}/groups/{group}"), "member").await;
    assert!(fed.cloud.good(&old[0]).await && !fed.cloud.good(&old[1]).await);
    fed.cloud.send("DELETE", &format!("{FED}/{provider}"), &fed.cloud.admin, Value::Null).await.expect(204);
    dead(&old).await;
}

#[tokio::test]
async fn a_mapping_that_fits_nobody_or_the_wrong_issuer_lets_nobody_in() {
    let fed = Federation::new().await;
    let mut nameless = fed.claims("bo");
    nameless.as_object_mut().unwrap().remove("preferred_username");
    nameless.as_object_mut().unwrap().remove("groups");
    fed.bring(&fed.key.sign(&nameless)).await.expect(401);
    fed.patch("identity_providers/acme", json!({"identity_provider": {"remote_ids": ["https://other.test"]}})).await;
    fed.login("bo").await.expect(401);
    fed.patch("identity_providers/acme", json!({"identity_provider": {"remote_ids": [fed.issuer.url()]}})).await;
    fed.login("bo").await.expect(201);
    let rules = |local: Value| json!({"mapping": {"rules": [{"local": [local], "remote": [{"type": "sub"}]}]}});
    fed.patch("mappings/people", rules(json!({"user": {"name": "{0}"}, "group": {"id": "gone"}}))).await;
    fed.login("bo").await.expect(401);

    // Somebody of this cloud, by name; with the groups and roles that this cloud gave, and none of the issuer's.
    fed.patch("mappings/people", rules(json!({"user": {"name": "{0}", "type": "local", "domain": {"id": "default"}}})))
        .await;
    fed.login("bo").await.expect(401);
    let own = fed.cloud.user("bo", "default").await;
    let token = fed.login("bo").await.expect(201)["token"].clone();
    assert_eq!(token["user"]["id"], own.as_str());
    assert!(token["user"].get("OS-FEDERATION").is_none());
    let rules = json!({"user": {"options": {"multi_factor_auth_enabled": true, "multi_factor_auth_rules": [["password", "totp"]]}}});
    fed.cloud.send("PATCH", &format!("/v3/users/{own}"), &fed.cloud.admin, rules).await.expect(200);
    fed.login("bo").await.expect(401);
}

#[tokio::test]
async fn a_newcomer_never_takes_over_a_name() {
    let fed = Federation::new().await;
    let provider = fed.cloud.get(&format!("{FED}/identity_providers/acme"), &fed.cloud.admin).await.expect(200);
    let domain = provider["identity_provider"]["domain_id"].as_str().unwrap().to_owned();
    fed.cloud.user("name of bo", &domain).await;
    let bo = fed.login("bo").await.expect(201)["token"]["user"].clone();
    let name = bo["name"].as_str().unwrap();
    assert!(name.starts_with("name of bo#") && name.len() == "name of bo#".len() + 8, "{name}");
    assert_eq!(bo["domain"]["id"], domain.as_str());
    assert_eq!(fed.login("bo").await.expect(201)["token"]["user"], bo);
    let mut same = fed.claims("eve");
    same["preferred_username"] = json!("name of bo");
    let eve = fed.bring(&fed.key.sign(&same)).await.expect(201);
    assert_ne!(eve["token"]["user"]["id"], bo["id"]);
    assert_ne!(eve["token"]["user"]["name"], bo["name"]);
}

#[tokio::test]
async fn an_administrator_ties_a_user_to_a_provider_beforehand() {
    let fed = Federation::new().await;
    let names =
        |unique_id: &str| json!([{"idp_id": "acme", "protocols": [{"protocol_id": "openid", "unique_id": unique_id}]}]);
    let admin = fed.cloud.admin.clone();
    let body = json!({"user": {"name": "known", "domain_id": "default", "federated": names("bo")}});
    let made = fed.cloud.send("POST", "/v3/users", &admin, body.clone()).await.expect(201)["user"].clone();
    assert_eq!(made["federated"], names("bo"));
    let token = fed.login("bo").await.expect(201)["token"].clone();
    assert_eq!((&token["user"]["id"], &token["user"]["name"]), (&made["id"], &json!("known")));
    let mut taken = body.clone();
    taken["user"]["name"] = json!("other");
    fed.cloud.send("POST", "/v3/users", &admin, taken.clone()).await.expect(409);
    taken["user"]["federated"][0]["idp_id"] = json!("nobody");
    fed.cloud.send("POST", "/v3/users", &admin, taken).await.expect(400);
    for wrong in [
        json!("x"),
        json!([{}]),
        json!([{"idp_id": "acme"}]),
        json!([{"idp_id": "acme", "protocols": [{"protocol_id": "openid"}]}]),
    ] {
        let path = format!("/v3/users/{}", made["id"].as_str().unwrap());
        fed.cloud.send("PATCH", &path, &admin, json!({"user": {"federated": wrong}})).await.expect(400);
    }
    let path = format!("/v3/users/{}", made["id"].as_str().unwrap());
    let old = fed.login("bo").await.token();
    let moved = fed.cloud.send("PATCH", &path, &admin, json!({"user": {"federated": names("eve")}})).await.expect(200);
    assert_eq!(moved["user"]["federated"], names("eve"));
    assert_eq!(fed.login("eve").await.expect(201)["token"]["user"]["id"], made["id"]);
    let stranger = fed.login("bo").await.expect(201);
    assert_ne!(stranger["token"]["user"]["id"], made["id"]);
    assert!(!fed.cloud.good(&old).await);
}

#[tokio::test]
async fn projects_of_a_mapping_are_made_and_roles_in_them_given() {
    let rules = json!([{
        "local": [{"user": {"name": "{0}"}},
                  {"projects": [{"name": "of {0}", "roles": [{"name": "member"}]}, {"name": "all", "roles": [{"name": "reader"}]}]}],
        "remote": [{"type": "sub"}],
    }]);
    let fed = Federation::with(|provider| provider, rules).await;
    let token = fed.login("bo").await.token();
    let mine = fed.cloud.get("/v3/auth/projects", &token).await.expect(200);
    assert_eq!(names(&mine["projects"]), ["all", "of bo"]);
    let other = fed.login("eve").await.token();
    assert_eq!(names(&fed.cloud.get("/v3/auth/projects", &other).await.expect(200)["projects"]), ["all", "of eve"]);
    let scoped = fed.cloud.rescope(&token, project(mine["projects"][1]["id"].as_str().unwrap())).await;
    assert_eq!(names(&scoped.expect(201)["token"]["roles"]), ["member", "reader"]);
    fed.patch(
        "mappings/people",
        json!({"mapping": {"rules": [{"local": [{"user": {"name": "{0}"}},
        {"projects": [{"name": "x", "roles": [{"name": "nothing"}]}]}], "remote": [{"type": "sub"}]}]}}),
    )
    .await;
    fed.login("bo").await.expect(401);
}

#[tokio::test]
async fn groups_of_a_login_outlive_it_for_as_long_as_the_provider_says() {
    let fed = Federation::new().await;
    let project_id = fed.project_of_devs().await;
    fed.patch("identity_providers/acme", json!({"identity_provider": {"authorization_ttl": 30}})).await;
    let unscoped = fed.login("bo").await.token();
    let scoped = fed.cloud.rescope(&unscoped, project(&project_id)).await.token();
    let user = fed.cloud.get("/v3/users?unique_id=bo", &fed.cloud.admin).await.expect(200);
    let user = user["users"][0]["id"].as_str().unwrap().to_owned();
    let body = json!({"application_credential": {"name": "robot", "secret": "s3cret"}});
    let made =
        fed.cloud.send("POST", &format!("/v3/users/{user}/application_credentials"), &scoped, body).await.expect(201);
    let id = made["application_credential"]["id"].as_str().unwrap().to_owned();
    let robot = async || {
        let auth = json!({"auth": {"identity": {"methods": ["application_credential"],
            "application_credential": {"id": id, "secret": "s3cret"}}}});
        fed.cloud.raw("POST", "/v3/auth/tokens", &[], Some(&auth.to_string())).await
    };
    let token = robot().await.token();
    assert!(fed.cloud.good(&token).await);
    fed.cloud.clock.advance(time::Duration::minutes(31));
    assert!(!fed.cloud.good(&token).await, "the group is over");
    robot().await.expect(401);
    fed.login("bo").await.expect(201);
    assert!(fed.cloud.good(&token).await, "and back");
    // What the provider no longer says is over at once.
    let mut claims = fed.claims("bo");
    claims["groups"] = json!([]);
    fed.bring(&fed.key.sign(&claims)).await.expect(201);
    robot().await.expect(401);
    fed.login("bo").await.expect(201);
    let token = robot().await.token();
    fed.patch("identity_providers/acme", json!({"identity_provider": {"enabled": false}})).await;
    assert!(!fed.cloud.good(&token).await);
    robot().await.expect(401);
}

#[tokio::test]
async fn scoped_tokens_name_the_service_providers_that_are_enabled() {
    let fed = Federation::new().await;
    assert!(fed.login("bo").await.expect(201)["token"].get("service_providers").is_none());
    let path = format!("{FED}/service_providers/other");
    let body =
        json!({"service_provider": {"auth_url": "https://o.test/v3", "sp_url": "https://o.test/sp", "enabled": true}});
    fed.cloud.send("PUT", &path, &fed.cloud.admin, body).await.expect(201);
    let token = fed.login("bo").await.expect(201);
    assert_eq!(
        token["token"]["service_providers"],
        json!([{"id": "other", "auth_url": "https://o.test/v3", "sp_url": "https://o.test/sp"}])
    );
}

#[test]
fn a_configuration_that_cannot_work_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let good =
        OidcProvider { issuer: "https://idp.test".into(), client_id: Some("x".into()), ..OidcProvider::default() };
    let with = |change: fn(&mut OidcProvider)| {
        let mut provider = good.clone();
        change(&mut provider);
        provider
    };
    for (provider, why) in [
        (with(|p| p.issuer = "http://idp.test".into()), "must be https"),
        (with(|p| p.client_id = None), "neither client_id nor audience"),
        (with(|p| p.algorithms = vec!["HS256".into()]), "HS256"),
        (with(|p| p.algorithms = vec!["none".into()]), "none"),
        (with(|p| p.introspection = Introspection::All), "client secret"),
        (with(|p| p.client_secret_file = Some("/nowhere/secret".into())), "/nowhere/secret"),
        (with(|p| p.ca_file = Some("/dev/null".into())), "holds no certificate"),
    ] {
        let options = Options {
            keys_dir: folder.path().join("keys"),
            oidc: [("acme".to_owned(), provider)].into(),
            ..Options::default()
        };
        let db = db::Db::open(&folder.path().join("db")).unwrap();
        let error = identity::App::new(db, db::Clock::default(), options).unwrap_err().to_string();
        assert!(error.contains("acme") && error.contains(why), "{error}");
    }
}
