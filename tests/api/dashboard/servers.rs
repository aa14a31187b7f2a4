//! Servers by forms: launched, looked at, changed, opened and deleted; by those who may, and those who may not.

use http::{StatusCode, header};
use kit::{
    Browser,
    Persona::{Admin, Member, Other, Reader},
    TestCloud, wait_for,
};
use serde_json::{Value, json};

const HOSTILE: &str = "<script>alert(1)</script>'\"&${x}$(id)";

/// The id of the server that the browser is at.
fn id_of(browser: &Browser<'_>) -> String {
    let id = browser.path.strip_prefix("/servers/").unwrap_or_else(|| panic!("{} is no server's", browser.path));
    id.to_owned()
}

/// Reloads until the page says it.
async fn until(browser: &mut Browser<'_>, path: &str, wanted: &str) {
    let cell = tokio::sync::Mutex::new(browser);
    wait_for(&format!("{path} to say {wanted:?}"), async || {
        let mut browser = cell.lock().await;
        browser.open(path).await;
        let text = browser.text();
        if text.contains(wanted) { Ok(()) } else { Err(text) }
    })
    .await;
}

async fn launched(browser: &mut Browser<'_>, cloud: &TestCloud, name: &str) -> String {
    let image = cloud.image().await;
    browser.open("/servers/new").await;
    browser.submit("/servers/new", &[("name", name), ("image", &image), ("flavor", "42"), ("count", "1")]).await;
    assert_eq!(browser.status, StatusCode::OK, "{}", browser.text());
    let id = id_of(browser);
    until(browser, &format!("/servers/{id}"), "It runs.").await;
    id
}

#[tokio::test]
async fn a_server_is_launched_looked_at_and_deleted_by_forms() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "10.7.0.0/24").await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let id = launched(&mut browser, &cloud, "web-1").await;
    browser.says("web-1").says("ACTIVE").says("ssh root@10.7.0.").says("m1.nano");
    browser.open(&format!("/servers/{id}/events")).await.says("create").says("done").says("you");
    browser.open(&format!("/servers/{id}/interfaces")).await.says("inside").says("10.7.0.").says("default");
    browser.open(&format!("/servers/{id}/log")).await;
    assert_eq!(browser.status, StatusCode::OK);
    // Diagnostics are an administrator's.
    browser.open(&format!("/servers/{id}/metrics")).await.says("It asks for the role admin.");
    browser.open("/").await.says("web-1");

    let verb = format!("/servers/{id}/do/delete");
    browser.open(&verb).await.says("This cannot be undone.").says(&format!("openstack server delete {id}"));
    browser.submit(&verb, &[]).await.says("The server web-1 is being deleted.");
    cloud.wait_until_gone(Member, &id).await;
    browser.open(&format!("/servers/{id}")).await;
    assert_eq!(browser.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_launch_that_does_not_fit_says_what_is_short_and_keeps_the_form() {
    let cloud = TestCloud::configured("quota.cores = 1").await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let (image, flavor) = (cloud.image().await, cloud.flavor(json!({"name": "wide", "vcpus": 4})).await);
    browser.open("/servers/new").await;
    let mut form = vec![
        ("name", "big one"),
        ("image", image.as_str()),
        ("flavor", &flavor),
        ("no_network", "1"),
        ("tags", "a, b"),
        ("key_of", "role"),
        ("value_of", "it's web"),
        ("user_data", "#!/bin/sh\r\ntrue"),
    ];
    // A look first: nothing is made, and everything is said.
    form.push(("look", "1"));
    browser.submit("/servers/new", &form).await;
    assert_eq!(browser.status, StatusCode::OK);
    browser.says("The quota does not allow it: VCPUs: 0 of 1 are used, and this takes 4 more.");
    browser.says("--property 'role=it'\\''s web'").says("--no-network").says("--user-data user-data.txt");
    browser.says("resource \"openstack_compute_instance_v2\" \"big_one\"").says("tags").says("[\"a\", \"b\"]");
    form.pop();
    browser.submit("/servers/new", &form).await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    browser.says("Quota exceeded for cores: Requested 4, but already used 0 of 1 cores");
    for kept in ["value=\"big one\"", "value=\"role\"", "#!/bin/sh\ntrue</textarea>", "value=\"a, b\""] {
        assert!(browser.page.contains(kept), "the form has lost {kept}: {}", browser.page);
    }
    let servers = cloud.as_(Member).get("/compute/v2.1/servers").await.expect(200);
    assert_eq!(servers["servers"], json!([]));
}

#[tokio::test]
async fn a_launch_without_what_is_needed_says_all_of_it() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    browser.open("/servers/new").await;
    browser.submit("/servers/new", &[("count", "0")]).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.says("Give the server a name. Choose an image. Choose a flavor. The number of servers is 1 to 1000.");
}

#[tokio::test]
async fn a_server_that_failed_names_the_resource_and_the_shortfall() {
    let cloud = TestCloud::configured("scheduling.ram_allocation_ratio = 1.0").await;
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    let flavor = cloud.flavor(json!({"name": "huge", "ram": 1 << 30})).await;
    let raised = json!({"quota_set": {"ram": -1}});
    let project = cloud.project(Admin).await;
    cloud.as_(Admin).put(&format!("/compute/v2.1/os-quota-sets/{project}"), raised).await.expect(200);
    let image = cloud.image().await;
    browser.open("/servers/new").await;
    browser
        .submit("/servers/new", &[("name", "huge"), ("image", &image), ("flavor", &flavor), ("no_network", "1")])
        .await;
    let id = id_of(&browser);
    until(&mut browser, &format!("/servers/{id}"), "Something failed").await;
    browser.says("MEMORY_MB");
    // It is an alert of the first page.
    browser.open("/").await.says("huge").says("MEMORY_MB");
}

#[tokio::test]
async fn a_launch_takes_files_of_user_data() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let image = cloud.image().await;
    browser.open("/servers/new").await;
    let token = browser.csrf().unwrap();
    let body = |token: &str| {
        let fields = [("_csrf", token), ("name", "scripted"), ("image", &image), ("flavor", "42"), ("no_network", "1")];
        let mut body = String::new();
        for (name, value) in fields {
            body.push_str(&format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
        }
        body + "--x\r\nContent-Disposition: form-data; name=\"user_data_file\"; filename=\"a\"\r\n\r\n#!/bin/true\r\n--x--\r\n"
    };
    let kind = "multipart/form-data; boundary=x";
    browser.send("/servers/new", kind, body("AAAA")).await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    browser.says("This form is from another session.");
    browser.send("/servers/new", kind, body(&token)).await;
    let id = id_of(&browser);
    let shown = cloud.as_(Admin).at("2.3").get(&format!("/compute/v2.1/servers/{id}")).await.expect(200);
    assert_eq!(shown["server"]["OS-EXT-SRV-ATTR:user_data"], json!(kit::base64("#!/bin/true")));
}

#[tokio::test]
async fn verbs_change_the_server_and_impossible_ones_say_why() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let id = cloud.boot(Member, json!({"name": "web-1"})).await;
    let page = format!("/servers/{id}");
    browser.open(&page).await.says("Start needs SHUTOFF, is ACTIVE").says("Migrate there is no other host");
    browser.submit("/servers/actions", &[("do", &format!("stop:{id}")), ("back", &page)]).await;
    browser.says("Stop: accepted for web-1");
    until(&mut browser, &page, "It is switched off.").await;
    // Two at once, of which one cannot: each has its own line, by name.
    let other = cloud.boot(Member, json!({"name": "web-2"})).await;
    browser.open("/servers").await;
    let both = [("verb", "stop"), ("id", id.as_str()), ("id", other.as_str()), ("back", "/servers")];
    browser.submit("/servers/actions", &both).await;
    browser.says("Stop: 1 accepted, 1 refused").says("web-1: needs ACTIVE or ERROR, is SHUTOFF");
    assert!(!browser.text().contains(&format!("{id}:")), "ids are no names: {}", browser.text());
    cloud.wait_for_status(Member, &other, "SHUTOFF").await;

    let flavor = cloud.flavor(json!({"name": "larger", "ram": 256})).await;
    let resize = format!("{page}/do/resize");
    browser.open(&resize).await.says("larger");
    browser.submit(&resize, &[("flavor", &flavor)]).await.says("The server is being resized.");
    until(&mut browser, &page, "It runs with its new flavor.").await;
    browser.submit("/servers/actions", &[("do", &format!("confirm:{id}")), ("back", &page)]).await;
    until(&mut browser, &page, "It is switched off.").await;
    browser.says("larger");

    let rebuild = format!("{page}/do/rebuild");
    let image = cloud.image().await;
    browser.open(&rebuild).await;
    browser.submit(&rebuild, &[("image", &image)]).await.says("Mark that you know that the disk is overwritten.");
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.submit(&rebuild, &[("image", &image), ("sure", "1")]).await.says("The server is being rebuilt.");
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;

    let snapshot = format!("{page}/do/snapshot");
    browser.open(&snapshot).await;
    browser.submit(&snapshot, &[("name", HOSTILE)]).await.says("The image").says(HOSTILE);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    let rescue = format!("{page}/do/rescue");
    browser.open(&rescue).await;
    browser.submit(&rescue, &[("image", "")]).await.says("The password, shown this once:");
    cloud.wait_for_status(Member, &id, "RESCUE").await;
    browser.open(&page).await.says("Unrescue");
}

#[tokio::test]
async fn a_lock_has_a_reason_and_holds_members_back() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let id = cloud.boot(Member, json!({"name": "kept"})).await;
    let page = format!("/servers/{id}");
    let lock = format!("{page}/do/lock");
    browser.open(&lock).await;
    browser.submit(&lock, &[("reason", "do not <b>touch</b>")]).await.says("The server is locked.");
    browser.says("Reason: do not <b>touch</b>").says("Delete is locked");
    let delete = format!("{page}/do/delete");
    browser.open(&delete).await.says("Not now: is locked");
    browser.submit(&delete, &[]).await.says("“kept” is locked");
    assert_eq!(browser.status, StatusCode::CONFLICT);
    browser.open(&page).await;
    browser.submit("/servers/actions", &[("do", &format!("unlock:{id}")), ("back", &page)]).await;
    browser.says("Unlock: accepted for kept");
}

#[tokio::test]
async fn several_are_deleted_after_they_were_named() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let one = cloud.boot(Member, json!({"name": "one"})).await;
    let two = cloud.boot(Member, json!({"name": "two"})).await;
    browser.open("/servers").await;
    let marked = [("verb", "delete"), ("id", one.as_str()), ("id", two.as_str())];
    browser.submit("/servers/actions", &marked).await.says("Delete 2 servers?").says("one").says("two");
    cloud.wait_for_status(Member, &one, "ACTIVE").await;
    let sure = [&marked[..], &[("sure", "1")]].concat();
    browser.submit("/servers/actions", &sure).await.says("Delete: 2 accepted, 0 refused");
    cloud.wait_until_gone(Member, &one).await;
    cloud.wait_until_gone(Member, &two).await;
}

#[tokio::test]
async fn whatever_is_typed_stays_text_everywhere() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let id = cloud.boot(Member, json!({"name": HOSTILE, "metadata": {"k": HOSTILE}})).await;
    let page = format!("/servers/{id}");
    let edit = format!("{page}/edit");
    browser.open(&edit).await;
    let form = [
        ("name", HOSTILE),
        ("description", HOSTILE),
        ("tags", "<i>tag</i>x, b"),
        ("key_of", "k"),
        ("value_of", HOSTILE),
        ("key_of", "more"),
        ("value_of", "yes"),
    ];
    // A tag has no slash: Compute says so, and nothing that was typed is lost.
    browser.submit(&edit, &form).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.open(&edit).await;
    let form = form.map(|(name, value)| if name == "tags" { (name, "<i>tag, b") } else { (name, value) });
    browser.submit(&edit, &form).await.says("The changes are saved.");
    let shown = cloud.as_(Member).at("2.26").get(&format!("/compute/v2.1/servers/{id}")).await.expect(200);
    let server = &shown["server"];
    assert_eq!((&server["description"], &server["metadata"]["more"]), (&json!(HOSTILE), &json!("yes")));
    assert_eq!(server["tags"], json!(["<i>tag", "b"]));
    let paths = [
        "",
        "/interfaces",
        "/events",
        "/log",
        "/metrics",
        "/console",
        "/edit",
        "/do/delete",
        "/do/snapshot",
        "/do/resize",
    ];
    let mut all: Vec<String> = paths.iter().map(|end| format!("{page}{end}")).collect();
    all.extend(["/".to_owned(), "/servers".to_owned()]);
    for path in all {
        browser.open(&path).await;
        assert_eq!(browser.status, StatusCode::OK, "{path}");
        assert!(!browser.page.contains("<script>alert") && !browser.page.contains("<i>tag"), "{path}");
        assert!(browser.page.contains("&#60;script&#62;"), "{path} does not show the name");
    }
}

#[tokio::test]
async fn a_reader_sees_everything_and_is_told_what_is_missing() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({"name": "seen"})).await;
    let mut browser = Browser::signed_in(&cloud, Reader).await;
    let page = format!("/servers/{id}");
    browser.open(&page).await.says("seen").says("needs the role member");
    browser.submit("/servers/actions", &[("do", &format!("stop:{id}")), ("back", &page)]).await;
    browser.says("seen: needs the role member");
    let delete = format!("{page}/do/delete");
    browser.open(&delete).await;
    browser.submit(&delete, &[]).await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    browser.says("os_compute_api:servers:delete").says("It asks for the role member");
    browser.open(&format!("{page}/console")).await.says("There is no console now: needs the role member");
    browser.open(&format!("{page}/log")).await.says("os_compute_api:os-console-output");
    browser.open("/servers/new").await;
    let image = cloud.image().await;
    browser.submit("/servers/new", &[("name", "x"), ("image", &image), ("flavor", "42"), ("no_network", "1")]).await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    // Somebody else sees nothing at all.
    let mut browser = Browser::signed_in(&cloud, Other).await;
    browser.open(&page).await;
    assert_eq!(browser.status, StatusCode::NOT_FOUND);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
}

#[tokio::test]
async fn interfaces_floating_ips_and_security_groups_change_by_forms() {
    let cloud = TestCloud::start().await;
    let (inside, _) = cloud.network(Member, "inside", "10.7.0.0/24").await;
    let (second, _) = cloud.network(Member, "second", "10.8.0.0/24").await;
    let id = cloud.boot(Member, json!({"name": "web", "networks": [{"uuid": inside}]})).await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    let page = format!("/servers/{id}/interfaces");
    browser.open(&page).await;
    browser.submit(&page, &[("do", "attach"), ("to", &format!("net:{second}")), ("address", "10.8.0.77")]).await;
    browser.says("The interface is attached.").says("10.8.0.77");
    let ports = cloud.as_(Member).get(&format!("/network/v2.0/ports?device_id={id}&network_id={second}")).await;
    let port = ports.expect(200)["ports"][0]["id"].as_str().unwrap().to_owned();
    browser.submit(&page, &[("do", "groups"), ("port", &port)]).await.says("The security groups are changed.");
    let shown = cloud.as_(Member).get(&format!("/network/v2.0/ports/{port}")).await.expect(200);
    assert_eq!(shown["port"]["security_groups"], json!([]));
    browser.submit(&page, &[("do", "detach"), ("port", &port)]).await.says("The interface is being detached.");
    wait_for("the port to be gone", async || {
        let reply = cloud.as_(Member).get(&format!("/network/v2.0/ports/{port}")).await;
        if reply.status == 404 { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;
    browser.submit(&page, &[("do", "associate"), ("port", &port), ("from", "nonsense")]).await;
    browser.says("Choose a floating IP.");
}

#[tokio::test]
async fn a_console_opens_with_a_token_of_its_own_and_needs_no_session() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({"name": "web"})).await;
    let mut browser = Browser::signed_in(&cloud, Member).await;
    browser.open(&format!("/servers/{id}/console?kind=serial")).await.says("Reconnect").says("Paste");
    let policy = browser.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(
        policy.contains("'nonce-") && policy.contains("wss://cloud.test") && !policy.contains("unsafe"),
        "{policy}"
    );
    let token = format!("_csrf={}", browser.csrf().unwrap());
    let path = format!("/servers/{id}/console/token?kind=serial");
    browser.send(&path, "application/x-www-form-urlencoded", "_csrf=AAAA").await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    browser.send(&path, "application/x-www-form-urlencoded", token).await;
    let answer: Value = serde_json::from_str(&browser.page).expect("an address as JSON");
    assert!(answer["path"].as_str().unwrap().starts_with("/console/ws?token="), "{answer}");
    // The page that the API's addresses lead to is there for whoever has one.
    let mut nobody = Browser::new(&cloud);
    nobody.open("/console/vnc.html?path=console%2Fws%3Ftoken%3Dx").await;
    assert_eq!((nobody.status, nobody.path.starts_with("/console/vnc.html")), (StatusCode::OK, true));
    assert!(nobody.page.contains("console.js") && !nobody.page.contains("data-token"));
    // One that is off has none, and says so.
    let off = json!({"os-stop": null});
    cloud.as_(Member).action(&id, off).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    browser.open(&format!("/servers/{id}/console")).await.says("needs ACTIVE or PAUSED or RESCUE, is SHUTOFF");
}

#[tokio::test]
async fn an_administrator_sees_numbers_and_sets_states() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Admin, json!({"name": "web"})).await;
    let mut browser = Browser::signed_in(&cloud, Admin).await;
    let page = format!("/servers/{id}");
    browser.open(&format!("{page}/metrics")).await.says("Memory").says("CPU time").says("Disks");
    let reset = format!("{page}/do/reset-state");
    browser.open(&reset).await;
    browser.submit(&reset, &[("state", "error")]).await.says("The state is set.");
    browser.says("ERROR");
    browser.submit("/servers/actions", &[("do", &format!("hard-reboot:{id}")), ("back", &page)]).await;
    until(&mut browser, &page, "It runs.").await;
}
