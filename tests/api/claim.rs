//! How a machine that nobody has set up comes to its administrator: the API, the pages, and every way to stop in between.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kit::{Browser, Persona::Anonymous, TestCloud};
use rest::Arrival;
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery";

/// A cloud that waits, and where its code is.
async fn waiting() -> (TestCloud, TempDir) {
    let run = TempDir::new().unwrap();
    let file = run.path().join("run/claim");
    let lines = format!("claim.mode = \"on\"\nclaim.file = {:?}", file.to_str().unwrap());
    (TestCloud::configured(&lines).await, run)
}

fn code_in(run: &TempDir) -> String {
    std::fs::read_to_string(run.path().join("run/claim")).unwrap().trim_end().to_owned()
}

fn body(code: &str, password: &str) -> Value {
    json!({"claim": {"code": code, "password": password}})
}

/// From an address of its own.
async fn claim_from(cloud: &TestCloud, peer: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post("/solostack/v1/claim").header("host", "cloud.test");
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
    let peer = SocketAddr::new(peer.parse().unwrap(), 40_000);
    let response = cloud.inner().handle(Arrival { peer, scheme: "https", service: None }, request).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn signs_in(cloud: &TestCloud, password: &str) -> bool {
    let user = json!({"name": "admin", "domain": {"id": "default"}, "password": password});
    let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
                               "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}});
    cloud.as_(Anonymous).post("/identity/v3/auth/tokens", auth).await.status == 201
}

fn is_there(path: &Path) -> bool {
    path.exists()
}

#[tokio::test]
async fn the_code_of_the_console_gives_the_administrator_a_password_once() {
    let (cloud, run) = waiting().await;
    let file = run.path().join("run/claim");
    let (code, text) = (code_in(&run), std::fs::read_to_string(&file).unwrap());
    assert_eq!((code.len(), text.len()), (19, 20), "one line of four groups: {text:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for name in ["admin-openrc", "clouds.yaml"] {
        assert!(!is_there(&cloud.state().join(name)), "no file has a password");
    }
    // Nowhere in the database either.
    for name in ["solostack.db", "solostack.db-wal"] {
        let bytes = std::fs::read(cloud.state().join(name)).unwrap();
        assert!(!bytes.windows(code.len()).any(|window| window == code.as_bytes()), "the code stands in {name}");
    }
    assert!(is_there(&cloud.state().join("unclaimed")));
    assert!(!signs_in(&cloud, "").await);
    let about = cloud.as_(Anonymous).get("/solostack/v1/about").await.expect(200);
    assert_eq!(about["claimed"], false);

    let said = code.to_lowercase().replace('-', " ");
    let claimed = cloud.as_(Anonymous).post("/solostack/v1/claim", body(&said, PASSWORD)).await.expect(200);
    assert_eq!(claimed, json!({"user": {"name": "admin", "domain": "Default"}}));
    assert!(signs_in(&cloud, PASSWORD).await);
    assert!(!is_there(&file) && !is_there(&cloud.state().join("unclaimed")));
    let about = cloud.as_(Anonymous).get("/solostack/v1/about").await.expect(200);
    assert_eq!(about["claimed"], true);
    // Whatever comes afterwards is the same nothing.
    for body in [body(&code, "another password"), json!({"x": 1}), Value::Null] {
        cloud.as_(Anonymous).post("/solostack/v1/claim", body).await.refused(404);
    }
    assert!(signs_in(&cloud, PASSWORD).await);
}

#[tokio::test]
async fn a_cloud_that_was_never_to_be_claimed_has_nothing_to_claim() {
    let cloud = TestCloud::start().await;
    cloud.as_(Anonymous).post("/solostack/v1/claim", body("0000-0000-0000-0000", PASSWORD)).await.refused(404);
    let mut browser = Browser::new(&cloud);
    browser.open("/claim").await;
    assert_eq!(browser.status, 404);
    browser.open("/signin").await;
    browser.says("Sign in").says("Password");
}

#[tokio::test]
async fn bodies_and_passwords_that_may_not_be_are_refused_and_spend_nothing() {
    let run = TempDir::new().unwrap();
    let file = run.path().join("run/claim");
    let lines = format!(
        "claim.mode = \"on\"\nclaim.file = {:?}\nidentity.password_regex = \"^.*[0-9].*$\"\n\
         identity.password_regex_description = \"a digit\"",
        file.to_str().unwrap()
    );
    let cloud = TestCloud::configured(&lines).await;
    let code = code_in(&run);
    for wrong in [
        json!({}),
        json!({"claim": {}}),
        json!({"claim": {"code": code}}),
        json!({"claim": {"code": 7, "password": "x"}}),
        json!({"claim": {"code": code, "password": PASSWORD, "user": "me"}}),
        json!([]),
    ] {
        cloud.as_(Anonymous).post("/solostack/v1/claim", wrong).await.refused(400);
    }
    let said = cloud.as_(Anonymous).post("/solostack/v1/claim", body(&code, "short")).await.refused(400);
    assert_eq!(said, "A password here has at least 8 characters.");
    let said = cloud.as_(Anonymous).post("/solostack/v1/claim", body(&code, PASSWORD)).await.refused(400);
    assert!(said.ends_with("does not match the requirements: a digit."), "{said}");
    let long = "7".repeat(5000);
    cloud.as_(Anonymous).post("/solostack/v1/claim", body(&code, &long)).await.refused(400);
    cloud.as_(Anonymous).post("/solostack/v1/claim", body(&code, "correct horse 7")).await.expect(200);
    assert!(signs_in(&cloud, "correct horse 7").await);
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_the_code_changes() {
    let (cloud, run) = waiting().await;
    let code = code_in(&run);
    let wrong = body("0000-0000-0000-0000", PASSWORD);
    for _ in 0..5 {
        assert_eq!(claim_from(&cloud, "192.0.2.1", &wrong).await.0, 403);
    }
    let right = body(&code, PASSWORD);
    let (status, said) = claim_from(&cloud, "192.0.2.1", &right).await;
    assert_eq!(status, 429, "{said}");
    // Not for others: until the tenth, the code stays.
    for _ in 0..4 {
        assert_eq!(claim_from(&cloud, "192.0.2.2", &wrong).await.0, 403);
    }
    assert_eq!(code_in(&run), code);
    let (status, said) = claim_from(&cloud, "192.0.2.2", &wrong).await;
    assert_eq!(status, 403);
    assert_eq!(said["error"]["message"], "The code is wrong. There is a new one on the console.");
    let fresh = code_in(&run);
    assert_ne!(fresh, code);
    assert_eq!(claim_from(&cloud, "2001:db8::3", &right).await.0, 403, "the old one is of no use");
    assert_eq!(claim_from(&cloud, "2001:db8::3", &body(&fresh, PASSWORD)).await.0, 200);
    assert!(signs_in(&cloud, PASSWORD).await);
}

#[tokio::test]
async fn only_one_of_many_at_once_claims() {
    let (cloud, run) = waiting().await;
    let code = code_in(&run);
    let bodies: Vec<Value> = (0..4).map(|number| body(&code, &format!("{PASSWORD} {number}"))).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| claim_from(&cloud, "192.0.2.1", body))).await;
    let won: Vec<usize> = (0..4).filter(|number| answers[*number].0 == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| [200, 404].contains(&status.as_u16())), "{answers:?}");
    assert!(signs_in(&cloud, &format!("{PASSWORD} {}", won[0])).await);
}

#[tokio::test]
async fn a_start_keeps_the_code_that_is_on_the_console_or_makes_another() {
    let (mut cloud, run) = waiting().await;
    let file = run.path().join("run/claim");
    let code = code_in(&run);
    cloud.crash().await;
    assert_eq!(code_in(&run), code, "a person may have written it down");
    // As after a boot: /run is empty.
    std::fs::remove_file(&file).unwrap();
    cloud.restart().await;
    let fresh = code_in(&run);
    assert_ne!(fresh, code);
    // As after a crash between the database and the file.
    std::fs::write(&file, "0000-0000-0000-0000\n").unwrap();
    cloud.crash().await;
    let fresh = code_in(&run);
    assert_ne!(fresh, "0000-0000-0000-0000");
    assert_eq!(claim_from(&cloud, "192.0.2.1", &body(&fresh, PASSWORD)).await.0, 200);
    // The file of a spent code, left by a crash.
    std::fs::write(&file, &fresh).unwrap();
    cloud.crash().await;
    assert!(!is_there(&file));
    assert_eq!(claim_from(&cloud, "192.0.2.1", &body(&fresh, PASSWORD)).await.0, 404);
    assert!(signs_in(&cloud, PASSWORD).await);
}

#[tokio::test]
async fn a_hash_that_was_brought_is_the_password_and_is_taken_once() {
    use argon2::{
        Argon2,
        password_hash::{PasswordHasher, SaltString},
    };
    let hash = |password: &str| {
        let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
        Argon2::default().hash_password(password.as_bytes(), &salt).unwrap().to_string()
    };
    let (mut cloud, run) = waiting().await;
    let file = cloud.state().join("admin-password-hash");
    // Nonsense leaves the code as the way in.
    std::fs::write(&file, "$6$crypt\n").unwrap();
    cloud.restart().await;
    assert!(!is_there(&file) && is_there(&run.path().join("run/claim")));
    std::fs::write(&file, hash(PASSWORD)).unwrap();
    cloud.restart().await;
    assert!(!is_there(&file) && !is_there(&run.path().join("run/claim")));
    assert!(signs_in(&cloud, PASSWORD).await);
    // Later ones change nothing: a stick with a password is no way into a cloud that has its administrator.
    std::fs::write(&file, hash("of a thief")).unwrap();
    cloud.restart().await;
    assert!(!is_there(&file));
    assert!(signs_in(&cloud, PASSWORD).await && !signs_in(&cloud, "of a thief").await);
}

#[tokio::test]
async fn the_page_leads_from_the_code_to_the_dashboard() {
    let (cloud, run) = waiting().await;
    let code = code_in(&run);
    let mut browser = Browser::new(&cloud);
    browser.open("/servers").await;
    assert_eq!(browser.path, "/claim", "every way leads there");
    browser.says("Nobody has set up this cloud yet.");
    browser.submit("/claim", &[("code", &code), ("password", PASSWORD), ("again", "another")]).await;
    assert_eq!(browser.status, 400);
    browser.says("The two passwords differ.");
    assert!(browser.page.contains(&code) && !browser.page.contains(PASSWORD), "what was typed stays, but for secrets");
    browser.submit("/claim", &[("code", "<b>&\"'"), ("password", PASSWORD), ("again", PASSWORD)]).await;
    assert_eq!(browser.status, 403);
    browser.says("The code is wrong.");
    assert!(!browser.page.contains("<b>&"), "{}", browser.page);
    browser.submit("/claim", &[("code", &code), ("password", PASSWORD), ("again", PASSWORD)]).await;
    assert_eq!((browser.status, browser.path.as_str()), (StatusCode::OK, "/"));
    browser.says("Overview").says("admin");
    browser.forget();
    browser.open("/claim").await;
    assert_eq!(browser.status, 404);
    browser.open("/signin").await;
    browser.submit("/signin", &[("name", "admin"), ("password", PASSWORD)]).await;
    browser.says("Overview");
}
