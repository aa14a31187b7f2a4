//! Identity, key pairs, flavors and what else belongs to people, by the dashboard.

use http::StatusCode;
use kit::{Browser, Persona, TestCloud};
use serde_json::json;

use super::images::HOSTILE;

#[tokio::test]
async fn a_private_key_is_shown_once_and_a_public_one_is_imported() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/keypairs").await.says("There is no key pair yet.");
    browser.open("/keypairs/new").await;
    browser.submit("/keypairs/new", &[("name", "made"), ("type", "ssh"), ("public_key", "")]).await;
    browser.says("BEGIN OPENSSH PRIVATE KEY").says("It is shown this once");
    browser.open("/keypairs/made").await;
    assert!(!browser.page.contains("PRIVATE KEY"));
    browser.open("/keypairs/new").await;
    browser.submit("/keypairs/new", &[("name", "windows"), ("type", "x509")]).await.says("BEGIN PRIVATE KEY");
    browser.open("/keypairs/new").await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6nFcHJVTk7oL8yNRxFnFVQW6oDM0Eov2kaZ5HHqDcE me@here";
    browser.submit("/keypairs/new", &[("name", "mine"), ("type", "ssh"), ("public_key", key)]).await;
    browser.says("The key pair mine is imported.");
    browser.open("/keypairs/new").await;
    browser.submit("/keypairs/new", &[("name", "made"), ("type", "ssh"), ("public_key", "no key")]).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    assert!(browser.page.contains("no key</textarea>"), "the form keeps what was typed");
    browser.open("/keypairs").await;
    browser.submit("/keypairs/delete", &[("id", "made"), ("id", "mine"), ("id", "none")]).await;
    browser.says("2 done, 1 refused");
}

#[tokio::test]
async fn an_administrator_makes_flavors_and_a_member_is_told_why_not() {
    let cloud = TestCloud::start().await;
    let mut admin = Browser::signed_in(&cloud, Persona::Admin).await;
    admin.open("/flavors/new").await;
    let fields = [
        ("name", HOSTILE),
        ("id", "big"),
        ("vcpus", "2"),
        ("ram", "2048"),
        ("disk", "5"),
        ("extra_specs", "hw:cpu_sockets=2"),
        ("description", "<b>big</b>"),
    ];
    admin.submit("/flavors/new", &fields).await.says(HOSTILE).says("hw:cpu_sockets").says("single projects");
    assert!(!admin.page.contains("<script>alert") && !admin.page.contains("<b>big"));
    let one = cloud.project(Persona::Member).await;
    admin.submit("/flavors/big", &[("do", "grant"), ("project", &one)]).await.says("The project may use the flavor.");
    admin.submit("/flavors/big", &[("do", "specs"), ("extra_specs", "hw:cpu_cores=2")]).await.says("hw:cpu_cores");
    assert!(!admin.text().contains("hw:cpu_sockets 2"));
    admin.submit("/flavors/big", &[("do", "specs"), ("extra_specs", "hw:cpu_cores=many")]).await;
    assert_eq!(admin.status, StatusCode::BAD_REQUEST);
    admin.open("/flavors/big").await;
    admin.submit("/flavors/big", &[("do", "describe"), ("description", "small")]).await.says("small");

    let mut member = Browser::signed_in(&cloud, Persona::Member).await;
    member.open("/flavors").await.says(HOSTILE);
    member.open("/flavors/new").await;
    member.submit("/flavors/new", &fields).await.says("os_compute_api:os-flavor-manage:create").says("admin");
    assert_eq!(member.status, StatusCode::FORBIDDEN);
    let mut other = Browser::signed_in(&cloud, Persona::Other).await;
    other.open("/flavors/big").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);

    admin.open("/flavors/big").await;
    admin.submit("/flavors/big", &[("do", "delete")]).await.says("The flavor is deleted.");
    assert_eq!(admin.path, "/flavors");
}

#[tokio::test]
async fn aggregates_and_server_groups_are_made_and_deleted() {
    let cloud = TestCloud::start().await;
    let mut admin = Browser::signed_in(&cloud, Persona::Admin).await;
    admin.open("/aggregates").await;
    admin.submit("/aggregates", &[("do", "create"), ("name", "fast"), ("zone", "east")]).await.says("east");
    let list = cloud.as_(Persona::Admin).get("/compute/v2.1/os-aggregates").await.expect(200);
    let id = list["aggregates"][0]["id"].to_string();
    let change = [("do", "metadata"), ("id", &*id), ("zone", "east"), ("metadata", "ssd=<true>")];
    admin.submit("/aggregates", &change).await.says("ssd=<true>");
    admin.submit("/aggregates", &[("do", "delete"), ("id", &id)]).await.says("The aggregate is deleted.");

    let mut member = Browser::signed_in(&cloud, Persona::Member).await;
    member.open("/aggregates").await.says("nova").says("os_compute_api:os-aggregates:index");
    assert_eq!(member.status, StatusCode::OK);
    member.open("/server-groups").await.says("There is no server group yet.");
    let new = [("do", "create"), ("name", HOSTILE), ("policy", "anti-affinity"), ("max_server_per_host", "2")];
    member.submit("/server-groups", &new).await.says(HOSTILE).says("max_server_per_host=2");
    assert!(!member.page.contains("<script>alert"));
    let wrong = [("do", "create"), ("name", "x"), ("policy", "affinity"), ("max_server_per_host", "2")];
    member.submit("/server-groups", &wrong).await;
    assert_eq!(member.status, StatusCode::BAD_REQUEST);
    let list = cloud.as_(Persona::Member).get("/compute/v2.1/os-server-groups").await.expect(200);
    let id = list["server_groups"][0]["id"].as_str().unwrap().to_owned();
    member.submit("/server-groups", &[("do", "delete"), ("id", &id)]).await.says("The server group is deleted.");
}

/// The id at the end of the address that a browser is at.
fn id(browser: &Browser<'_>) -> String {
    browser.path.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_project_with_a_user_in_a_group_is_made_by_forms_and_rights_say_why() {
    let cloud = TestCloud::start().await;
    let mut admin = Browser::signed_in(&cloud, Persona::Admin).await;
    admin.open("/projects/new").await;
    admin.submit("/projects/new", &[("name", HOSTILE), ("tags", "a, b"), ("enabled", "1")]).await.says("is made.");
    assert!(!admin.page.contains("<script>alert"));
    let project = id(&admin);
    admin.open("/users/new").await;
    let differ = [("name", "ada"), ("password", "a good password"), ("again", "another"), ("enabled", "1")];
    admin.submit("/users/new", &differ).await.says("The two passwords differ.");
    assert!(!admin.page.contains("a good password"), "a password is never shown");
    let fields = [
        ("name", "ada"),
        ("password", "a good password"),
        ("again", "a good password"),
        ("email", "ada@example.org"),
        ("enabled", "1"),
        ("option", "ignore_password_expiry"),
    ];
    admin.submit("/users/new", &fields).await.says("ada@example.org").says("ignore password expiry");
    let user = id(&admin);
    admin.open("/groups/new").await;
    admin.submit("/groups/new", &[("name", "crew")]).await.says("crew is made.");
    let group = id(&admin);
    admin
        .submit(&format!("/groups/{group}"), &[("do", "add"), ("user", "ada")])
        .await
        .says("The user is in the group.");

    let roles = cloud.as_(Persona::Admin).get("/identity/v3/roles?name=member").await.expect(200);
    let member = roles["roles"][0]["id"].as_str().unwrap();
    let here = format!("/projects/{project}");
    admin.open(&here).await;
    let grant = [
        ("do", "grant"),
        ("kind", "group"),
        ("name", "crew"),
        ("target", &*format!("project:{project}")),
        ("role", member),
        ("back", &here),
    ];
    admin.submit("/assignments", &grant).await.says("The role is given.").says("crew");
    admin.open(&format!("/rights?user=ada&project={project}")).await.says("as one of the group crew");
    admin.says("implied by the role member").says("reader");
    admin.open("/rights?user=nobody-of-that-name").await;
    assert!(admin.status.is_success(), "{}", admin.status);

    // She signs in, and works there.
    let mut ada = Browser::new(&cloud);
    ada.open("/signin").await;
    ada.submit("/signin", &[("name", "ada"), ("password", "a good password")]).await.says(HOSTILE);
    ada.open("/projects").await.says("These are the projects that you have a role in.").says(HOSTILE);
    ada.open("/users").await.says("The rule identity:list_users refuses this.");
    assert_eq!(ada.status, StatusCode::FORBIDDEN);

    let revoke = [
        ("do", "revoke"),
        ("who", &*format!("group:{group}")),
        ("target", &*format!("project:{project}")),
        ("role", member),
        ("back", "//evil.example"),
    ];
    admin.open(&here).await;
    admin.submit("/assignments", &revoke).await;
    assert_eq!(admin.path, "/", "back goes nowhere else");
    admin.open(&format!("/users/{user}")).await;
    admin.submit(&format!("/users/{user}"), &[("do", "disable")]).await.says("its sessions are over");
    ada.open("/").await;
    assert_eq!(ada.path, "/signin");
    admin.open("/users?name=AD").await.says("ada");
    admin.submit("/users/delete", &[("id", &user), ("id", "none")]).await.says("1 done, 1 refused");
}

#[tokio::test]
async fn quota_of_compute_and_network_is_edited_in_one_form() {
    let cloud = TestCloud::start().await;
    let mut admin = Browser::signed_in(&cloud, Persona::Admin).await;
    let project = cloud.project(Persona::Member).await;
    let page = format!("/projects/{project}/quota");
    admin.open(&page).await;
    admin.submit(&page, &[("compute.cores", "7"), ("network.network", "3")]).await.says("The quota is changed.");
    let compute = format!("/compute/v2.1/os-quota-sets/{project}");
    let set = cloud.as_(Persona::Admin).get(&compute).await.expect(200);
    assert_eq!(set["quota_set"]["cores"], 7);
    let network = cloud.as_(Persona::Admin).get(&format!("/network/v2.0/quotas/{project}")).await.expect(200);
    assert_eq!(network["quota"]["network"], 3);
    admin.submit(&page, &[("compute.cores", "many")]).await.says("no whole number");
    assert!(admin.page.contains("value=\"many\""));
    admin.open(&page).await;
    admin.submit(&page, &[("do", "reset")]).await.says("of every project again");
    let set = cloud.as_(Persona::Admin).get(&compute).await.expect(200);
    assert_ne!(set["quota_set"]["cores"], 7);
    let mut member = Browser::signed_in(&cloud, Persona::Member).await;
    member.open(&page).await;
    member.submit(&page, &[("compute.cores", "99")]).await.says("os_compute_api:os-quota-sets:update");
    assert_eq!(member.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn roles_and_domains_have_their_pages() {
    let cloud = TestCloud::start().await;
    let mut admin = Browser::signed_in(&cloud, Persona::Admin).await;
    admin.open("/roles/new").await;
    admin.submit("/roles/new", &[("name", "auditor"), ("description", "looks")]).await.says("auditor is made.");
    let role = admin.path.clone();
    let list = cloud.as_(Persona::Admin).get("/identity/v3/roles?name=reader").await.expect(200);
    let reader = list["roles"][0]["id"].as_str().unwrap();
    admin.submit(&role, &[("do", "imply"), ("role", reader)]).await.says("has the other as well").says("reader");
    admin.submit(&role, &[("do", "unimply"), ("role", reader)]).await.says("no longer implies");
    admin.open("/roles").await;
    admin.submit("/roles/delete", &[("id", role.rsplit('/').next().unwrap())]).await.says("1 done, 0 refused");

    admin.open("/domains/new").await;
    admin.submit("/domains/new", &[("name", "corp"), ("enabled", "1")]).await.says("corp is made.");
    let domain = admin.path.clone();
    admin.says("It must be disabled first");
    let edit = format!("{domain}/edit");
    admin.open(&edit).await;
    admin.submit(&edit, &[("name", "corp2")]).await.says("disabled").says("corp2");
    admin.submit("/domains/delete", &[("id", domain.rsplit('/').next().unwrap())]).await.says("1 done");
}

#[tokio::test]
async fn an_application_credential_shows_its_secret_once_with_files_that_work() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/application-credentials").await.says("There is none.");
    browser.open("/application-credentials/new").await;
    browser.submit("/application-credentials/new", &[("name", "none")]).await.says("Choose a role");
    let fields = [
        ("name", "ci"),
        ("role", "reader"),
        ("expires_at", "2099-01-02T03:04"),
        ("access_rules", "get compute /v2.1/servers"),
    ];
    browser.submit("/application-credentials/new", &fields).await;
    browser.says("It is shown this once").says("application_credential_id:").says("OS_APPLICATION_CREDENTIAL_SECRET=");
    let text = browser.text();
    let after =
        |word: &str| text.split_once(word).unwrap().1.trim_start().split(['"', '\'']).nth(1).unwrap().to_owned();
    let (id, secret) = (after("application_credential_id:"), after("application_credential_secret:"));
    let body = json!({"auth": {"identity": {"methods": ["application_credential"],
        "application_credential": {"id": id, "secret": secret}}}});
    let token = cloud.as_(Persona::Anonymous).post("/identity/v3/auth/tokens", body).await;
    assert_eq!(token.expect(201)["token"]["roles"][0]["name"], "reader");
    browser.open("/application-credentials").await.says("GET compute /v2.1/servers").says("reader");
    assert!(!browser.page.contains(&secret));
    browser.submit("/application-credentials/delete", &[("id", &id)]).await.says("1 done, 0 refused");
}

#[tokio::test]
async fn a_password_is_changed_on_the_account_page_and_ends_the_session() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Other).await;
    browser.open("/account").await.says("other").says("member");
    let old = Persona::Other.password();
    let wrong = [("old", "wrong"), ("password", "something new"), ("again", "something new")];
    browser.submit("/account/password", &wrong).await.says("The present password is wrong.");
    let differ = [("old", &*old), ("password", "something new"), ("again", "something else")];
    browser.submit("/account/password", &differ).await.says("The two passwords differ.");
    browser
        .submit("/account/password", &[("old", &old), ("password", "something new"), ("again", "something new")])
        .await;
    assert_eq!(browser.path, "/signin");
    browser.submit("/signin", &[("name", "other"), ("password", "something new")]).await;
    assert_eq!((browser.path.as_str(), browser.status), ("/", StatusCode::OK));
    browser.open("/account").await;
    browser.submit("/account/totp", &[("do", "add")]).await.says("The new authenticator");
    assert!(browser.page.contains("otpauth://totp/Solostack%3Aother?secret="));
    browser.open("/account").await;
    assert!(!browser.page.contains("otpauth:"));
}

#[tokio::test]
async fn who_must_change_the_password_does_so_when_signing_in() {
    let cloud = TestCloud::configured("identity.change_password_upon_first_use = true").await;
    let body = json!({"user": {"name": "new", "password": "given by admin"}});
    cloud.as_(Persona::Admin).post("/identity/v3/users", body).await.expect(201);
    let mut browser = Browser::new(&cloud);
    browser.open("/signin").await;
    browser
        .submit("/signin", &[("name", "new"), ("password", "wrong")])
        .await
        .says("Name, password or domain is wrong.");
    browser.submit("/signin", &[("name", "new"), ("password", "given by admin")]).await;
    browser.says("The password has expired: choose another.");
    let (_, user) = browser.page.split_once("name=\"user\" value=\"").unwrap();
    let user = user.split('"').next().unwrap().to_owned();
    let fields = |old, new, again| {
        [("user", user.clone()), ("name", "new".to_owned()), ("old", old), ("password", new), ("again", again)]
    };
    let text = str::to_owned;
    for (fields, says) in [
        (fields(text("wrong"), text("chosen by me"), text("chosen by me")), "The present password is wrong."),
        (fields(text("given by admin"), text("chosen by me"), text("chosen")), "The two passwords differ."),
    ] {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.submit("/signin/password", &fields).await.says(says);
    }
    let fields = fields(text("given by admin"), text("chosen by me"), text("chosen by me"));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.submit("/signin/password", &fields).await;
    assert_eq!((browser.status, browser.path.as_str()), (StatusCode::OK, "/"));
    browser.says("new");
}
