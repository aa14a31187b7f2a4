//! Pages of the machine: health, certificates, audit, capacity, defaults; API access; search.

use http::StatusCode;
use kit::{Browser, Persona::Admin, Persona::Member, TestCloud, wait_for};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

const HOSTILE: &str = "<script>alert(1)</script>'\"`$(id)${x}";
/// As it must stand in a page.
const HARMLESS: &str = "&#60;script&#62;alert(1)";

/// In the markup, where `says` looks at the text alone.
#[track_caller]
fn has(browser: &Browser<'_>, wanted: &str) {
    assert!(browser.page.contains(wanted), "{} ({}) has no {wanted:?}", browser.path, browser.status);
}

#[tokio::test]
async fn health_shows_parts_operations_and_services_and_a_service_is_disabled_and_enabled() {
    let cloud = TestCloud::certified().await;
    let server = cloud.boot(Member, json!({"name": "a"})).await;
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    wait_for("the operation's end", async || {
        browser.open("/system").await;
        if browser.page.contains(">success<") { Ok(()) } else { Err(browser.page.clone()) }
    })
    .await;
    browser.says("database").says("hypervisor").says(&server).says("nova-compute").says("L3 agent");
    let services = cloud.as_(Admin).at("latest").get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
    let id = services["services"][0]["id"].as_str().unwrap();
    browser.submit("/system/services", &[("id", id), ("verb", "disable"), ("reason", HOSTILE)]).await;
    assert_eq!(browser.path, "/system");
    browser.says("The service is changed.");
    has(&browser, HARMLESS);
    assert!(!browser.page.contains("<script>alert"));
    browser.submit("/system/services", &[("id", id), ("verb", "down")]).await;
    browser.says("No longer forced down");
    browser.submit("/system/services", &[("id", id), ("verb", "up")]).await;
    browser.submit("/system/services", &[("id", id), ("verb", "enable")]).await;
    let services = cloud.as_(Admin).at("latest").get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
    assert_eq!(
        (&services["services"][0]["status"], &services["services"][0]["state"]),
        (&json!("enabled"), &json!("up"))
    );
    browser.submit("/system/services", &[("id", id), ("verb", "explode")]).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.open("/system?result=error").await;
    browser.says("There is no such operation.");
}

#[tokio::test]
async fn a_member_is_told_which_rule_and_role_stand_before_each_page() {
    let cloud = TestCloud::certified().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    for (page, rule) in [
        ("/system", "solostack:health:show"),
        ("/certificates", "solostack:certificates:list"),
        ("/audit", "solostack:audit:list"),
        ("/system/support-bundle", "solostack:support-bundle:show"),
        ("/resource-providers", "placement:resource_providers:list"),
        ("/hypervisors", "os_compute_api:os-hypervisors:list-detail"),
        ("/quota-defaults", "os_compute_api:os-quota-class-sets:show"),
    ] {
        browser.open(page).await;
        assert_eq!(browser.status, StatusCode::FORBIDDEN, "{page}");
        browser.says(rule);
    }
    browser.open("/access").await;
    let token = format!("_csrf={}", browser.csrf().unwrap());
    browser.send("/certificates/rotate", "application/x-www-form-urlencoded", token).await;
    browser.says("solostack:certificates:rotate");
}

#[tokio::test]
async fn certificates_are_renewed_brought_and_given_back_by_forms() {
    let cloud = TestCloud::certified().await;
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    browser.open("/certificates").await;
    browser.says("Server certificate").says("Intermediate").says("Root").says("hours").says("years");
    browser.submit("/certificates/rotate", &[]).await;
    browser.says("A new server certificate is in service.");
    let authority = |above: Option<(&CertificateParams, &KeyPair)>| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, if above.is_some() { "Mine" } else { "Above" });
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = match above {
            None => params.self_signed(&key).unwrap().pem(),
            Some((above, above_key)) => params.signed_by(&key, &Issuer::from_params(above, above_key)).unwrap().pem(),
        };
        (params, key, pem)
    };
    let (root, root_key, root_pem) = authority(None);
    let (_, key, pem) = authority(Some((&root, &root_key)));
    let (key, wrong) = (key.serialize_pem(), root_key.serialize_pem());
    let fields = [("certificate", pem.as_str()), ("key", wrong.as_str()), ("root", root_pem.as_str())];
    browser.submit("/certificates/intermediate", &fields).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.says("does not match the certificate").says("BEGIN CERTIFICATE");
    assert!(!browser.page.contains("PRIVATE KEY--"), "the key is not shown again");
    let fields = [("certificate", pem.as_str()), ("key", key.as_str()), ("root", root_pem.as_str())];
    browser.submit("/certificates/intermediate", &fields).await;
    browser.says("Your intermediate signs from now on.").says("CN=Mine");
    browser.submit("/certificates/reset", &[]).await;
    browser.says("The built-in intermediate signs again.");
    assert!(!browser.page.contains("CN=Mine"));
}

#[tokio::test]
async fn a_cloud_without_tls_says_so_on_its_page() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    browser.open("/certificates").await;
    browser.says("started without TLS");
}

#[tokio::test]
async fn the_audit_page_filters_by_names_and_keeps_what_was_typed() {
    let cloud = TestCloud::start().await;
    let flavor = json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1}});
    cloud.as_(Member).post("/compute/v2.1/flavors", flavor).await.expect(403);
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    wait_for("the call in the trail", async || {
        browser.open("/audit?user=member&project=one&status=4xx&path=flavors").await;
        if browser.page.contains("/v2.1/flavors") { Ok(()) } else { Err(browser.page.clone()) }
    })
    .await;
    browser.says("403");
    has(&browser, "value=\"member\"");
    browser.open("/audit?user=member&status=2xx&path=flavors").await;
    browser.says("No call is like that.");
    browser.open("/audit?status=nonsense&path=%3Cscript%3Ealert(1)").await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.says("expected 404, or 4xx");
    has(&browser, HARMLESS);
    assert!(!browser.page.contains("<script>alert"));
}

#[tokio::test]
async fn capacity_is_shown_and_defaults_are_changed() {
    let cloud = TestCloud::start().await;
    cloud.boot(Member, json!({"name": HOSTILE})).await;
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    for page in ["/resource-providers", "/hypervisors"] {
        browser.open(page).await;
        browser.says("MEMORY_MB").says("VCPU");
        has(&browser, HARMLESS);
        assert!(!browser.page.contains("<script>alert"), "{page}");
    }
    browser.open("/quota-defaults").await;
    browser.says("instances");
    browser.submit("/quota-defaults", &[("instances", "17"), ("cores", "many")]).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    has(&browser, "value=\"17\"");
    has(&browser, "value=\"many\"");
    browser.submit("/quota-defaults", &[("instances", "17")]).await;
    browser.says("The defaults are changed.");
    has(&browser, "value=\"17\"");
    let class = cloud.as_(Admin).get("/compute/v2.1/os-quota-class-sets/default").await.expect(200);
    assert_eq!(class["quota_class_set"]["instances"], 17);
}

#[tokio::test]
async fn access_gives_files_without_a_password() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    browser.open("/access").await;
    browser.says("clouds.yaml").says("Terraform").says("project_name: ").says("https://cloud.test/identity/v3");
    browser.says("/compute/v2.1");
    assert!(!browser.page.contains(&Member.password()));
    for file in ["clouds.yaml", "openrc.sh", "clouds-credential.yaml", "provider.tf", "token.sh"] {
        browser.open(&format!("/access/{file}")).await;
        assert_eq!(browser.status, StatusCode::OK, "{file}");
        browser.says("https://cloud.test/identity/v3");
    }
    browser.open("/access/shadow").await;
    assert_eq!(browser.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn search_finds_things_and_actions_and_hostile_names_stay_text() {
    let cloud = TestCloud::start().await;
    let (network, _) = cloud.network(Member, "webnet", "192.0.2.0/24").await;
    let wanted = json!({"name": format!("web {HOSTILE}"), "networks": [{"uuid": network}]});
    let server = cloud.boot(Member, wanted).await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    browser.open("/search?q=web").await;
    browser.says("webnet");
    has(&browser, &format!("/servers/{server}"));
    has(&browser, HARMLESS);
    assert!(!browser.page.contains("<script>alert"));
    browser.open(&format!("/search?q={server}")).await;
    has(&browser, &format!("/servers/{server}"));
    browser.open("/search?q=launch").await;
    has(&browser, "/servers/new");
    browser.open("/search?q=192.0.2.").await;
    has(&browser, "href=\"/ports/");
    browser.open("/search?q=%3Cscript%3Enobody(1)").await;
    browser.says("Nothing is called so.");
    has(&browser, "&#60;script&#62;nobody(1)");
    let long = "x".repeat(5000);
    browser.open(&format!("/search?q={long}")).await;
    assert_eq!(browser.status, StatusCode::OK);
    // Nobody else's.
    let mut other = Browser::signed_in(&cloud, kit::Persona::Other).await;
    other.open("/search?q=web").await;
    assert!(!other.page.contains(&server) && !other.page.contains("webnet"));
    // For administrators, people and projects.
    let mut admin = Browser::signed_in(&cloud, Admin).await;
    admin.open("/search?q=memb").await;
    has(&admin, "href=\"/users/");
}
