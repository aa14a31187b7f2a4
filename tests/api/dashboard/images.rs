//! Images by the dashboard: from a file, from an address, changed, shared, deleted.

use std::io;

use axum::body::{Body, Bytes};
use disks::corpus;
use http::{StatusCode, header};
use kit::{Browser, Persona, TestCloud, wait_for};
use serde_json::{Value, json};

pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'&";
const KIND: &str = "multipart/form-data; boundary=xx";

/// A form with a file, `_csrf` first.
pub(super) fn multipart(token: &str, fields: &[(&str, &str)], file: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in [("_csrf", token)].iter().chain(fields) {
        let head = format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    let head = format!("--xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file}\"\r\n\r\n");
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(data);
    body.extend_from_slice(b"\r\n--xx--\r\n");
    body
}

async fn all(cloud: &TestCloud) -> Vec<Value> {
    let list = cloud.as_(Persona::Member).get("/image/v2/images").await.expect(200);
    list["images"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_file_becomes_an_image_of_the_format_that_its_first_bytes_say() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/images").await.says("There is no image yet.");
    browser.open("/images/new").await;
    let fields = [("name", HOSTILE), ("visibility", "private"), ("tags", "a, <b>"), ("hw_firmware_type", "uefi")];
    let body = multipart(&browser.csrf().unwrap(), &fields, "disk.img", &corpus::qcow2().0);
    browser.send("/images/new", KIND, body).await;
    assert_eq!(browser.status, StatusCode::OK);
    browser.says("The image is uploaded.").says(HOSTILE).says("qcow2").says("<b>").says("uefi");
    assert!(!browser.page.contains("<script>alert"), "a name is text");
    let images = all(&cloud).await;
    assert_eq!((&images[0]["status"], &images[0]["disk_format"]), (&json!("active"), &json!("qcow2")));

    let page = browser.path.clone();
    browser.open(&format!("{page}/download")).await;
    let name = browser.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert_eq!(name, "attachment; filename=\"_script_alert_1___script____.qcow2\"");
    assert_eq!(browser.headers[header::CONTENT_TYPE], "application/octet-stream");

    browser.open("/images?name=alert&disk_format=qcow2").await.says(HOSTILE);
    assert!(!browser.page.contains("<script>alert"));
    browser.open("/images?name=other").await.says("No image is like that.");
}

#[tokio::test]
async fn what_the_image_service_refuses_is_said_and_leaves_nothing() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/images/new").await;
    let token = browser.csrf().unwrap();
    // Called qcow2, and is something else.
    let fields = [("name", "wrong"), ("disk_format", "qcow2"), ("visibility", "private"), ("protected", "1")];
    browser.send("/images/new", KIND, multipart(&token, &fields, "a.qcow2", &[7; 70_000])).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.says("qcow2");
    assert!(browser.page.contains("value=\"wrong\""), "the form keeps what was typed");
    for (fields, data, says) in [
        (vec![("name", "x")], &b""[..], "The file is empty."),
        (vec![("name", "x"), ("min_disk", "much")], b"x", "no whole number"),
        (vec![("name", "x"), ("visibility", "public")], b"x", "publicize_image"),
    ] {
        browser.send("/images/new", KIND, multipart(&token, &fields, "a", data)).await;
        assert!(browser.status.is_client_error(), "{}", browser.status);
        browser.says(says);
    }
    assert_eq!(all(&cloud).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_upload_of_another_session_is_refused_before_its_file_is_looked_at() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let stolen = Browser::signed_in(&cloud, Persona::Other).await.csrf().unwrap();
    let fields = [("name", "x"), ("visibility", "private")];
    for token in ["", "AAAA", &stolen] {
        browser.send("/images/new", KIND, multipart(token, &fields, "a", b"x")).await;
        assert_eq!(browser.status, StatusCode::FORBIDDEN);
        browser.says("This form is from another session.");
    }
    // Without the token as its first field at all.
    let late = b"--xx\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nx\r\n--xx--\r\n";
    browser.send("/images/new", KIND, late.to_vec()).await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    // Nor do pages without files do what such a form says.
    for page in ["/signout", "/images/actions", "/scope"] {
        for token in ["", "AAAA", &stolen] {
            browser.send(page, KIND, multipart(token, &[("scope", "system")], "a", b"x")).await;
            assert_eq!(browser.status, StatusCode::FORBIDDEN, "{page}");
        }
    }
    browser.open("/images").await.says("There is no image yet.");
}

#[tokio::test]
async fn an_upload_that_ends_in_the_middle_leaves_nothing() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/images/new").await;
    let fields = [("name", "half"), ("disk_format", "raw"), ("visibility", "private")];
    let mut start = multipart(&browser.csrf().unwrap(), &fields, "a", &[0; 100_000]);
    start.truncate(start.len() - 20_000);
    let pieces: Vec<io::Result<Bytes>> = vec![Ok(start.into()), Err(io::Error::other("the browser is gone"))];
    browser.stream("/images/new", KIND, Body::from_stream(futures::stream::iter(pieces))).await;
    assert!(browser.status.is_client_error(), "{}", browser.status);
    wait_for("the image to be gone", async || {
        let left = all(&cloud).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_image_is_edited_shared_accepted_deactivated_and_deleted() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/images/new").await;
    let fields = [("name", "one"), ("disk_format", "raw"), ("visibility", "private")];
    let body = multipart(&browser.csrf().unwrap(), &fields, "a", &[1; 5000]);
    let page = browser.send("/images/new", KIND, body).await.path.clone();

    let edit = format!("{page}/edit");
    browser.open(&edit).await;
    let changes = [
        ("name", "two"),
        ("visibility", "shared"),
        ("min_ram", "64"),
        ("tags", "blue"),
        ("hw_firmware_type", "uefi"),
        ("properties", "colour=<i>red</i>"),
    ];
    browser.submit(&edit, &changes).await.says("The image is changed.").says("two").says("<i>red</i>").says("blue");
    assert!(!browser.page.contains("<i>red"));
    browser.open(&edit).await;
    browser.submit(&edit, &[("name", "two"), ("properties", "nonsense")]).await.says("no line of the kind name=value");
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);

    let two = cloud.project(Persona::Other).await;
    browser.open(&page).await;
    browser.submit(&format!("{page}/members"), &[("member", &two)]).await.says("The image is offered.").says(&two);
    let mut other = Browser::signed_in(&cloud, Persona::Other).await;
    other.open("/images").await.says("Another project offers:").says("two");
    other.submit(&format!("{page}/actions"), &[("verb", "accept")]).await.says("The image is accepted");
    other.says("Your project's answer: accepted");
    // It may be used there, and nothing else.
    other.submit(&format!("{page}/actions"), &[("verb", "delete")]).await;
    assert_eq!(other.path, page);
    other.says("The rule delete_image refuses this.");
    other.open("/images").await.says("two");

    let mut admin = Browser::signed_in(&cloud, Persona::Admin).await;
    admin.open(&page).await;
    admin.submit(&format!("{page}/actions"), &[("verb", "deactivate")]).await.says("deactivated");
    admin.submit(&format!("{page}/actions"), &[("verb", "reactivate")]).await.says("The image is active again.");

    browser.open("/images").await;
    let id = page.rsplit('/').next().unwrap();
    browser.submit("/images/actions", &[("verb", "delete"), ("id", id), ("id", "no/such")]).await;
    browser.says("1 done, 1 refused");
    assert_eq!(all(&cloud).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_image_comes_from_an_address_or_the_page_says_why_not() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/images/import").await;
    let fields = [("name", "far"), ("disk_format", "raw"), ("uri", "file:///etc/passwd"), ("visibility", "private")];
    browser.submit("/images/import", &fields).await;
    assert!(browser.status.is_client_error(), "{}", browser.status);
    assert!(browser.page.contains("value=\"far\""));
    assert_eq!(all(&cloud).await, Vec::<Value>::new());
    // Of this machine's own network nothing is downloaded.
    let fields = [("name", "far"), ("disk_format", "raw"), ("uri", "http://127.0.0.1/x"), ("visibility", "private")];
    browser.submit("/images/import", &fields).await;
    browser.says("the address 127.0.0.1 is not allowed");
    assert_eq!(all(&cloud).await, Vec::<Value>::new());
    // What is not there is found out later: the image's page says so.
    let fields =
        [("name", "far"), ("disk_format", "raw"), ("uri", "http://nobody.invalid/x"), ("visibility", "private")];
    let page = browser.submit("/images/import", &fields).await.path.clone();
    browser.says("The cloud is downloading the image.");
    wait_for("the import to have failed", async || {
        browser.open(&page).await;
        if browser.text().contains("failure") { Ok(()) } else { Err(browser.text()) }
    })
    .await;
    browser.says("Below stands why.");
}
