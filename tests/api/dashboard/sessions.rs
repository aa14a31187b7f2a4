//! Who is signed in, what a form must carry, and what a page never does.

use http::{StatusCode, header};
use kit::{Browser, Persona, TestCloud};

#[tokio::test]
async fn a_page_asks_who_is_not_signed_in_and_comes_back_to_it() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.says("Overview").says("member").says("one");
    browser.forget();
    browser.open("/servers?status=ACTIVE").await;
    assert_eq!(browser.path, "/signin?next=%2Fservers%3Fstatus%3DACTIVE");
    let fields = [("name", "member"), ("password", &*Persona::Member.password()), ("next", "/servers?status=ACTIVE")];
    browser.submit("/signin", &fields).await;
    assert_eq!((browser.path.as_str(), browser.status), ("/servers?status=ACTIVE", StatusCode::OK));
}

#[tokio::test]
async fn a_wrong_password_makes_no_session_and_leads_nowhere_else() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::new(&cloud);
    browser.open("/signin").await;
    browser.submit("/signin", &[("name", "admin"), ("password", "wrong"), ("next", "//evil.example")]).await;
    assert_eq!(browser.status, StatusCode::UNAUTHORIZED);
    browser.says("Name, password or domain is wrong.");
    assert!(browser.headers.get(header::SET_COOKIE).is_none());
    browser.open("/").await;
    assert_eq!(browser.path, "/signin");
}

#[tokio::test]
async fn signing_out_revokes_the_token_and_ends_the_session() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let mut copy = Browser::signed_in(&cloud, Persona::Member).await;
    browser.submit("/signout", &[]).await;
    assert_eq!(browser.path, "/signin");
    browser.open("/servers").await;
    assert_eq!(browser.path, "/signin?next=%2Fservers");
    // Another browser of the same user is none of its business.
    copy.open("/servers").await;
    assert_eq!(copy.path, "/servers");
}

#[tokio::test]
async fn a_form_of_another_session_or_site_does_nothing() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let other = Browser::signed_in(&cloud, Persona::Other).await;
    let stolen = format!("_csrf={}&scope=system", other.csrf().unwrap());
    for body in
        ["scope=system".to_owned(), "_csrf=&scope=system".to_owned(), "_csrf=AAAA&scope=system".to_owned(), stolen]
    {
        browser.send("/scope", "application/x-www-form-urlencoded", body).await;
        assert_eq!(browser.status, StatusCode::FORBIDDEN);
        browser.says("This form is from another session.");
    }
    browser.open("/servers").await;
    assert_eq!(browser.path, "/servers");
}

#[tokio::test]
async fn the_place_to_work_changes_and_only_to_ones_own() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Admin).await;
    browser.open("/scope").await;
    browser.submit("/scope", &[("scope", "system"), ("next", "/scope")]).await;
    browser.says("The whole system");
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/scope").await;
    browser.submit("/scope", &[("scope", "system"), ("next", "/scope")]).await;
    browser.says("member").says("one");
    assert_eq!(browser.status, StatusCode::OK);
}

#[tokio::test]
async fn every_page_forbids_what_it_does_not_use() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Reader).await;
    for path in ["/", "/servers", "/scope", "/no-such-page"] {
        browser.open(path).await;
        let policy = browser.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(browser.headers[header::CACHE_CONTROL], "no-store");
        assert!(!browser.page.contains("style=\"") && !browser.page.contains("onclick"), "{path} has something inline");
    }
    assert_eq!(browser.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn theme_and_language_are_the_browsers() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Reader).await;
    browser.submit("/settings", &[("language", "de"), ("next", "/servers")]).await;
    browser.says("Es gibt noch keinen Server.");
    browser.submit("/settings", &[("theme", "dark"), ("next", "/servers")]).await;
    assert!(browser.page.contains("data-theme=\"dark\""));
    browser.submit("/settings", &[("theme", "\"><script>"), ("next", "/servers")]).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
}
