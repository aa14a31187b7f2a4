//! Images through the whole program: who sees what, hostile files, uploads that end in the middle, disks of servers.
//! The service's own suite (`src/images/tests`) goes deeper where one service is enough.

use std::convert::Infallible;

use axum::body::Body;
use axum::body::Bytes;
use disks::corpus;
use futures::StreamExt;
use http::Request;
use kit::{HOST, Method, Persona, Reply, TestCloud, wait_for};
use serde_json::{Value, json};

const DATA: (&str, &str) = ("content-type", "application/octet-stream");

async fn create(cloud: &TestCloud, who: Persona, body: Value) -> String {
    let made = cloud.as_(who).post("/image/v2/images", body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn upload(cloud: &TestCloud, who: Persona, id: &str, data: impl Into<Bytes>) -> Reply {
    cloud.as_(who).raw(Method::PUT, &format!("/image/v2/images/{id}/file"), &[DATA], data).await
}

async fn status(cloud: &TestCloud, who: Persona, id: &str) -> Value {
    cloud.as_(who).get(&format!("/image/v2/images/{id}")).await.expect(200)["status"].clone()
}

async fn wait_for_status(cloud: &TestCloud, id: &str, wanted: &str) {
    wait_for(&format!("the image to be {wanted}"), async || {
        let status = status(cloud, Persona::Member, id).await;
        if status == wanted { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// An upload whose body is `stream`.
async fn request(cloud: &TestCloud, id: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(Method::PUT)
        .uri(format!("/image/v2/images/{id}/file"))
        .header("host", HOST)
        .header("x-auth-token", cloud.token(Persona::Member).await)
        .header(DATA.0, DATA.1)
        .body(body)
        .unwrap()
}

/// Every file of the Image service, by its path below the directory.
fn files(cloud: &TestCloud) -> Vec<String> {
    let root = cloud.state().join("images");
    let mut found = Vec::new();
    let mut left = vec![root.clone()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => found.push(path.strip_prefix(&root).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

async fn wait_for_files(cloud: &TestCloud, wanted: &[String]) {
    wait_for("only the wanted files", async || {
        let seen = files(cloud);
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn every_hostile_file_is_refused_with_its_reason_and_leaves_nothing() {
    let cloud = TestCloud::start().await;
    for attack in corpus::hostile() {
        let name = format!("{}: {}", attack.format, attack.name);
        let body = json!({"name": name, "disk_format": attack.format.name(), "container_format": "bare"});
        let id = create(&cloud, Persona::Member, body).await;
        let message = upload(&cloud, Persona::Member, &id, attack.bytes).await.refused(400);
        assert!(message.contains("not acceptable"), "{name}: {message}");
        assert_eq!(status(&cloud, Persona::Member, &id).await, "queued", "{name}");
    }
    wait_for_files(&cloud, &[]).await;
}

#[tokio::test]
async fn another_project_cannot_tell_an_image_from_none() {
    let cloud = TestCloud::start().await;
    let id = cloud.image_with(Persona::Member, json!({"name": "secret", "kind": "secret"})).await;
    let absent = "6f6f6f6f-1111-4222-8333-444455556666";
    let other = cloud.as_(Persona::Other);
    for (method, rest) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::GET, "/file"),
        (Method::GET, "/members"),
        (Method::GET, "/tasks"),
        (Method::PUT, "/tags/x"),
        (Method::POST, "/actions/deactivate"),
    ] {
        let foreign = other.send(method.clone(), &format!("/image/v2/images/{id}{rest}"), &Value::Null).await;
        let missing = other.send(method.clone(), &format!("/image/v2/images/{absent}{rest}"), &Value::Null).await;
        assert_eq!(
            foreign.refused(404).replace(&id, "ID"),
            missing.refused(404).replace(absent, "ID"),
            "{method} {rest}"
        );
    }
    upload(&cloud, Persona::Other, &id, "x").await.refused(404);
    for query in ["", "?visibility=all", "?name=secret", "?kind=secret", "?visibility=shared&member_status=all"] {
        let seen = other.get(&format!("/image/v2/images{query}")).await.expect(200);
        assert_eq!(seen["images"], json!([]), "{query}");
    }
    other.get(&format!("/image/v2/images?marker={id}")).await.refused(400);
    // Nor can it start a server from it.
    cloud.ask_for_server(Persona::Other, json!({"imageRef": id})).await.refused(400);
}

#[tokio::test]
async fn each_role_may_do_what_upstream_lets_it() {
    let cloud = TestCloud::start().await;
    let raw = json!({"disk_format": "raw", "container_format": "bare"});
    for who in [Persona::Reader, Persona::Nobody] {
        cloud.as_(who).post("/image/v2/images", raw.clone()).await.refused(403);
    }
    cloud.as_(Persona::Anonymous).get("/image/v2/images").await.refused(401);
    let id = create(&cloud, Persona::Member, raw.clone()).await;
    upload(&cloud, Persona::Reader, &id, "x").await.refused(403);
    upload(&cloud, Persona::Member, &id, "bytes").await.expect(204);
    let reader = cloud.as_(Persona::Reader);
    let path = format!("/image/v2/images/{id}");
    reader.get(&path).await.expect(200);
    reader.get(&format!("{path}/file")).await.refused(403);
    reader.delete(&path).await.refused(403);
    let public = json!({"disk_format": "raw", "container_format": "bare", "visibility": "public"});
    cloud.as_(Persona::Member).post("/image/v2/images", public.clone()).await.refused(403);
    create(&cloud, Persona::Admin, public).await;
    cloud.as_(Persona::Manager).delete(&path).await.expect(204);
}

#[tokio::test]
async fn an_upload_whose_client_goes_away_leaves_nothing_and_may_be_tried_again() {
    let cloud = TestCloud::start().await;
    let id = create(&cloud, Persona::Member, json!({"disk_format": "raw", "container_format": "bare"})).await;
    let broken = futures::stream::iter([Ok(Bytes::from(vec![7; 100_000])), Err(std::io::Error::other("gone"))]);
    let reply = cloud.handle(request(&cloud, &id, Body::from_stream(broken)).await).await;
    assert_eq!(reply.status().as_u16(), 400);
    assert_eq!(status(&cloud, Persona::Member, &id).await, "queued");
    wait_for_files(&cloud, &[]).await;
    upload(&cloud, Persona::Member, &id, "whole").await.expect(204);
    let data = cloud.as_(Persona::Member).get(&format!("/image/v2/images/{id}/file")).await;
    assert_eq!(&data.bytes[..], b"whole");
}

#[tokio::test]
async fn a_crash_in_the_middle_of_an_upload_takes_it_back_and_keeps_what_was_whole() {
    let mut cloud = TestCloud::start().await;
    let whole = cloud.image_with(Persona::Member, json!({})).await;
    let id = create(&cloud, Persona::Member, json!({"disk_format": "raw", "container_format": "bare"})).await;
    let endless = futures::stream::once(async { Ok::<_, Infallible>(Bytes::from(vec![7; 1 << 20])) })
        .chain(futures::stream::pending());
    let request = request(&cloud, &id, Body::from_stream(endless)).await;
    tokio::select! {
        reply = cloud.handle(request) => panic!("an endless upload ended: {reply:?}"),
        () = wait_for_status(&cloud, &id, "saving") => {}
    }
    cloud.crash().await;
    wait_for_status(&cloud, &id, "queued").await;
    wait_for_files(&cloud, &[format!("data/{whole}")]).await;
    upload(&cloud, Persona::Member, &id, "again").await.expect(204);
    let kept = cloud.as_(Persona::Member).get(&format!("/image/v2/images/{whole}/file")).await;
    assert_eq!(kept.bytes.len(), 64 << 10);
}

#[tokio::test]
async fn a_server_gets_the_raw_disk_of_its_image_and_the_copy_goes_with_the_image() {
    let cloud = TestCloud::start().await;
    let (bytes, disk) = corpus::qcow2();
    let id = create(&cloud, Persona::Member, json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    upload(&cloud, Persona::Member, &id, bytes).await.expect(204);
    let server = cloud.boot(Persona::Member, json!({"imageRef": id})).await;
    let copies: Vec<String> = files(&cloud).into_iter().filter(|name| name.starts_with("cache/")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(std::fs::read(cloud.state().join("images").join(&copies[0])).unwrap() == disk);
    cloud.as_(Persona::Member).delete(&format!("/image/v2/images/{id}")).await.expect(204);
    wait_for("file and copy to be gone", async || {
        let left: Vec<String> = files(&cloud).into_iter().filter(|name| name.contains(&id)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    // The server keeps its own disk.
    assert_eq!(cloud.show(Persona::Member, &server).await["status"], "ACTIVE");
}

#[tokio::test]
async fn an_image_that_cannot_be_started_is_named_in_the_answer() {
    let cloud = TestCloud::start().await;
    let queued = create(&cloud, Persona::Member, json!({"disk_format": "raw", "container_format": "bare"})).await;
    let off = cloud.image_with(Persona::Member, json!({})).await;
    cloud
        .as_(Persona::Member)
        .post(&format!("/image/v2/images/{off}/actions/deactivate"), Value::Null)
        .await
        .expect(204);
    let archive = create(&cloud, Persona::Member, json!({"disk_format": "vmdk", "container_format": "ova"})).await;
    upload(&cloud, Persona::Member, &archive, "a tar file").await.expect(204);
    for id in [queued, off, archive] {
        let message = cloud.ask_for_server(Persona::Member, json!({"imageRef": id})).await.refused(400);
        assert!(message.contains(&id), "{message}");
    }
}
