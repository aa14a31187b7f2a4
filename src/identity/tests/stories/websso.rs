//! Sign-in with a browser.

use identity::OidcProvider;
use serde_json::json;

use crate::{
    cloud::Answer,
    oidc::{Federation, rules},
};

const START: &str = "/v3/auth/OS-FEDERATION/identity_providers/acme/protocols/openid/websso";
const ORIGIN: &str = "https://dashboard.test/auth/websso/";

struct Begun {
    cookie: String,
    /// Of the issuer's address.
    query: Vec<(String, String)>,
}

impl Begun {
    fn get(&self, name: &str) -> &str {
        &self.query.iter().find(|(key, _)| key == name).unwrap().1
    }
}

async fn begin(fed: &Federation, path: &str) -> Begun {
    let answer = fed.cloud.raw("GET", &format!("{path}?origin={ORIGIN}"), &[], None).await;
    assert_eq!(answer.status, 302, "{}", answer.body);
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let (place, query) = location.split_once('?').unwrap();
    assert_eq!(place, format!("{}/authorize", fed.issuer.url()));
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Max-Age=600"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    Begun {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
    }
}

impl Federation {
    /// What the issuer will give for `code`.
    fn will_give(&self, code: &str, nonce: &str) {
        let mut claims = self.claims("bo");
        claims["nonce"] = json!(nonce);
        *self.issuer.0.code.lock().unwrap() = Some((code.to_owned(), self.key.sign(&claims)));
    }

    async fn back(&self, cookie: &str, query: &str) -> Answer {
        let headers = [("cookie", cookie)];
        let headers = if cookie.is_empty() { &headers[..0] } else { &headers[..] };
        self.cloud.raw("GET", &format!("{START}/callback?{query}"), headers, None).await
    }
}

#[tokio::test]
async fn a_browser_signs_in_at_the_issuer_and_posts_its_token_to_the_dashboard() {
    let fed = Federation::new().await;
    for path in [START, "/v3/auth/OS-FEDERATION/websso/openid"] {
        let begun = begin(&fed, path).await;
        assert_eq!((begun.get("response_type"), begun.get("client_id")), ("code", "cloud"));
        assert_eq!((begun.get("scope"), begun.get("code_challenge_method")), ("openid profile email", "S256"));
        let redirect = format!("https://cloud:8443/identity{START}/callback");
        assert_eq!(begun.get("redirect_uri"), redirect);
        fed.will_give("c0de", begun.get("nonce"));
        let answer = fed.back(&begun.cookie, &format!("code=c0de&state={}", begun.get("state"))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        for (name, value) in [("cache-control", "no-store"), ("referrer-policy", "no-referrer")] {
            assert_eq!(answer.headers[name], value);
        }
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("form-action https://dashboard.test;"), "{policy}");
        assert!(answer.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
        let page = answer.text();
        assert!(page.contains(&format!("action=\"{ORIGIN}\"")), "{page}");
        let token = page.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap();
        assert!(fed.cloud.good(token).await);
        // The verifier is the one whose hash the issuer saw.
        let sent = fed.issuer.0.redeemed.lock().unwrap().clone();
        let verifier = &sent.iter().find(|(name, _)| name == "code_verifier").unwrap().1;
        let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
        assert_eq!(crate::issuer::b64(digest), begun.get("code_challenge"));
        assert!(sent.contains(&("redirect_uri".into(), redirect)));
    }
}

#[tokio::test]
async fn nobody_finishes_the_sign_in_of_another_browser() {
    let fed = Federation::new().await;
    let (mine, other) = (begin(&fed, START).await, begin(&fed, START).await);
    let state = mine.get("state");
    for (what, cookie, query) in [
        ("no cookie", "", format!("code=c&state={state}")),
        ("another browser's cookie", other.cookie.as_str(), format!("code=c&state={state}")),
        ("no state", mine.cookie.as_str(), "code=c".into()),
        ("an empty state", mine.cookie.as_str(), "code=c&state=".into()),
        ("a forged cookie", "solostack_websso=gAAAAABm", format!("code=c&state={state}")),
        ("a token as the cookie", &format!("solostack_websso={}", fed.cloud.admin), format!("code=c&state={state}")),
        ("an error of the issuer", mine.cookie.as_str(), format!("error=access_denied&state={state}")),
        ("an answer of another issuer", mine.cookie.as_str(), format!("code=c&state={state}&iss=https://other.test")),
        ("a code that the issuer does not know", mine.cookie.as_str(), format!("code=wrong&state={state}")),
    ] {
        fed.will_give("c", mine.get("nonce"));
        let answer = fed.back(cookie, &query).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    }
    // A token of another sign-in, in the place of one's own.
    fed.will_give("c", other.get("nonce"));
    assert_eq!(fed.back(&mine.cookie, &format!("code=c&state={state}")).await.status, 401);
    fed.will_give("c", mine.get("nonce"));
    assert_eq!(fed.back(&mine.cookie, &format!("code=c&state={state}")).await.status, 200);
    let late = begin(&fed, START).await;
    fed.cloud.clock.advance(time::Duration::seconds(601));
    fed.will_give("c", late.get("nonce"));
    assert_eq!(fed.back(&late.cookie, &format!("code=c&state={}", late.get("state"))).await.status, 401);
    // A cookie is no token.
    let sealed = late.cookie.split_once('=').unwrap().1;
    assert!(!fed.cloud.good(sealed).await);
}

#[tokio::test]
async fn a_sign_in_s_token_is_for_the_client_and_a_bearer_for_the_audience() {
    let fed = Federation::with(|provider| OidcProvider { audience: vec!["api".into()], ..provider }, rules()).await;
    fed.login("bo").await.expect(401);
    let begun = begin(&fed, START).await;
    fed.will_give("c", begun.get("nonce"));
    assert_eq!(fed.back(&begun.cookie, &format!("code=c&state={}", begun.get("state"))).await.status, 200);
}

#[tokio::test]
async fn tokens_go_to_trusted_dashboards_only() {
    let fed = Federation::new().await;
    let start = async |query: &str| fed.cloud.raw("GET", &format!("{START}{query}"), &[], None).await;
    start("").await.expect(400);
    for origin in ["https://evil.test/", "https://dashboard.test/auth/websso/more", "https://dashboard.test", ""] {
        start(&format!("?origin={origin}")).await.expect(401);
    }
    fed.cloud.raw("GET", "/v3/auth/OS-FEDERATION/websso/saml2?origin=x", &[], None).await.expect(401);
    let path = START.replace("acme", "nobody");
    fed.cloud.raw("GET", &format!("{path}?origin={ORIGIN}"), &[], None).await.expect(401);
    let off = json!({"identity_provider": {"enabled": false}});
    fed.cloud.send("PATCH", "/v3/OS-FEDERATION/identity_providers/acme", &fed.cloud.admin, off).await.expect(200);
    start(&format!("?origin={ORIGIN}")).await.expect(401);
}
