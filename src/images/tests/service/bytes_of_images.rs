use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use disks::{Hasher, corpus};
use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Cloud, wait_for};

fn chunked(data: Vec<u8>, size: usize) -> Body {
    let pieces: Vec<_> = data.chunks(size).map(Bytes::copy_from_slice).map(Ok::<_, Infallible>).collect();
    Body::from_stream(futures::stream::iter(pieces))
}

#[tokio::test]
async fn uploaded_bytes_come_back_with_their_checksums() {
    let cloud = Cloud::start().await;
    let data = corpus::pattern(3, 3_000_001);
    let id = cloud.create_raw("member").await;
    let file = format!("/v2/images/{id}/file");
    let empty = cloud.get("member", &file).await;
    assert_eq!((empty.status.as_u16(), empty.bytes.len()), (204, 0));
    cloud.upload("member", &file, chunked(data.clone(), 1 << 14)).await.expect(204);
    let mut hasher = Hasher::new();
    hasher.update(&data);
    let digests = hasher.finish();
    let image = cloud.show("member", &id).await;
    for (key, value) in [
        ("status", json!("active")),
        ("size", json!(data.len())),
        ("virtual_size", json!(data.len())),
        ("checksum", json!(digests.md5)),
        ("os_hash_algo", json!("sha512")),
        ("os_hash_value", json!(digests.sha512)),
        ("stores", json!("local")),
    ] {
        assert_eq!(image[key], value, "{key}");
    }
    let answer = cloud.get("reader", &file).await;
    answer.refused(403);
    let answer = cloud.get("member", &file).await;
    assert_eq!(answer.headers["content-md5"], digests.md5.as_str());
    assert_eq!(answer.headers["content-length"], data.len().to_string().as_str());
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    assert!(answer.bytes == data);
    cloud.wait_for_files(&[&id]).await;
}

#[tokio::test]
async fn one_range_of_the_bytes_can_be_asked_for() {
    let cloud = Cloud::start().await;
    let data = corpus::pattern(5, 10_000);
    let id = cloud.create_with_data("member", &data).await;
    let ask = async |range: &str| {
        let request = Request::builder()
            .uri(format!("/image/v2/images/{id}/file"))
            .header("x-auth-token", "member")
            .header("range", range)
            .body(Body::empty())
            .unwrap();
        cloud.send(request).await
    };
    let part = ask("bytes=100-199").await;
    assert_eq!((part.status.as_u16(), &part.headers["content-range"]), (206, &"bytes 100-199/10000".parse().unwrap()));
    assert_eq!(part.bytes, data[100..200]);
    assert_eq!(ask("bytes=-5").await.bytes, data[9995..]);
    for wrong in ["bytes=10000-", "bytes=9-3", "lines=1-2", "bytes=0-1,5-6"] {
        let answer = ask(wrong).await;
        assert_eq!(answer.headers["content-range"], "bytes */10000");
        answer.refused(416);
    }
}

#[tokio::test]
async fn what_cannot_be_saved_is_refused_before_the_first_byte() {
    let cloud = Cloud::start_with(|options| options.max_image_bytes = 1000).await;
    let id = cloud.create_raw("member").await;
    let file = format!("/v2/images/{id}/file");
    let send = async |kind: &str, length: &str| {
        let request = Request::builder()
            .method("PUT")
            .uri(format!("/image{file}"))
            .header("x-auth-token", "member")
            .header("content-type", kind)
            .header("content-length", length)
            .body(Body::from(vec![0; 10]))
            .unwrap();
        cloud.send(request).await
    };
    send("application/json", "10").await.refused(415);
    send("application/octet-stream", "ten").await.refused(400);
    send("application/octet-stream", "1001").await.refused(413);
    cloud.upload("reader", &file, "x").await.refused(403);
    let unknown = cloud.create("member", json!({"container_format": "bare"})).await;
    let message = cloud.upload("member", &format!("/v2/images/{unknown}/file"), "x").await.refused(400);
    assert!(message.contains("disk_format"), "{message}");
    // Without a length the bound is met on the way.
    cloud.upload("member", &file, chunked(vec![1; 1001], 100)).await.refused(413);
    assert_eq!(cloud.show("member", &id).await["status"], "queued");
    cloud.wait_for_files(&[]).await;
    cloud.upload("member", &file, chunked(vec![1; 1000], 100)).await.expect(204);
    let again = cloud.upload("member", &file, "other bytes").await.refused(409);
    assert!(again.contains("from active to saving"), "{again}");
    assert_eq!(cloud.show("member", &id).await["size"], 1000);
}

#[tokio::test]
async fn a_project_keeps_no_more_bytes_than_its_quota() {
    let cloud = Cloud::start_with(|options| options.project_quota_bytes = Some(1500)).await;
    cloud.create_with_data("member", &[1; 1000]).await;
    let id = cloud.create_raw("member").await;
    cloud.upload("member", &format!("/v2/images/{id}/file"), vec![1; 501]).await.refused(413);
    cloud.upload("member", &format!("/v2/images/{id}/file"), vec![1; 500]).await.expect(204);
    // Another project has its own.
    cloud.create_with_data("other", &[1; 1500]).await;
}

#[tokio::test]
async fn a_disk_without_room_refuses_uploads_and_keeps_working() {
    let cloud = Cloud::start_with(|options| options.reserve_bytes = u64::MAX).await;
    let id = cloud.create_raw("member").await;
    let request = Request::builder()
        .method("PUT")
        .uri(format!("/image/v2/images/{id}/file"))
        .header("x-auth-token", "member")
        .header("content-type", "application/octet-stream")
        .header("content-length", "10")
        .body(Body::from(vec![0; 10]))
        .unwrap();
    let message = cloud.send(request).await.refused(413);
    assert!(message.contains("media is full"), "{message}");
    assert_eq!(cloud.show("member", &id).await["status"], "queued");
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn every_hostile_image_is_refused_with_the_reason_and_leaves_nothing() {
    let cloud = Cloud::start_with(|options| options.max_virtual_bytes = 1 << 42).await;
    for attack in corpus::hostile() {
        let name = format!("{}: {}", attack.format, attack.name);
        let body = json!({"name": name, "disk_format": attack.format.name(), "container_format": "bare"});
        let id = cloud.create("member", body).await;
        let message = cloud.upload("member", &format!("/v2/images/{id}/file"), attack.bytes).await.refused(400);
        assert!(message.contains("not acceptable") && message.contains(attack.reason), "{name}: {message}");
        assert_eq!(cloud.show("member", &id).await["status"], "queued", "{name}");
    }
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn every_good_image_is_accepted_with_the_size_of_its_disk() {
    let cloud = Cloud::start().await;
    for (name, format, bytes, disk) in corpus::good() {
        let id = cloud.create("member", json!({"disk_format": format.name(), "container_format": "bare"})).await;
        cloud.upload("member", &format!("/v2/images/{id}/file"), bytes).await.expect(204);
        assert_eq!(cloud.show("member", &id).await["virtual_size"], disk.len(), "{name}");
    }
}

#[tokio::test]
async fn an_archive_is_kept_as_it_is_and_is_no_disk() {
    let cloud = Cloud::start().await;
    let id = cloud.create("member", json!({"disk_format": "vmdk", "container_format": "ova"})).await;
    cloud.upload("member", &format!("/v2/images/{id}/file"), "a tar file").await.expect(204);
    let image = cloud.show("member", &id).await;
    assert_eq!((&image["status"], &image["virtual_size"]), (&json!("active"), &json!(null)));
    let project = crate::harness::PROJECT;
    let refused = cloud.db.read(move |tx| Ok::<_, db::Error>(images::peer::bootable(tx, project, false, &id))).await;
    assert!(refused.unwrap().unwrap_err().to_string().contains("container format"));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_and_may_come_again() {
    let cloud = Cloud::start().await;
    let id = cloud.create_raw("member").await;
    for head in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let mut socket = TcpStream::connect(cloud.address).await.unwrap();
        let request = format!(
            "PUT /image/v2/images/{id}/file HTTP/1.1\r\nhost: cloud\r\nx-auth-token: member\r\n\
             content-type: application/octet-stream\r\n{head}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let data = match head.starts_with("content") {
            true => vec![7; 100_000],
            false => [b"186a0\r\n".to_vec(), vec![7; 100_000], b"\r\n".to_vec()].concat(),
        };
        socket.write_all(&data).await.unwrap();
        socket.flush().await.unwrap();
        wait_for("the upload to be under way", || async {
            let status = cloud.show("member", &id).await["status"].clone();
            if status == "saving" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        assert_eq!(cloud.files("staging").len(), 1);
        drop(socket);
        wait_for("the upload to be taken back", || async {
            let status = cloud.show("member", &id).await["status"].clone();
            if status == "queued" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        cloud.wait_for_files(&[]).await;
    }
    cloud.upload("member", &format!("/v2/images/{id}/file"), "whole").await.expect(204);
    assert_eq!(cloud.get("member", &format!("/v2/images/{id}/file")).await.bytes, b"whole");
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_or_to_stop() {
    let cloud = Cloud::start_with(|options| options.max_image_bytes = 1000).await;
    for (length, answer) in [(1000, "HTTP/1.1 100"), (1001, "HTTP/1.1 413")] {
        let id = cloud.create_raw("member").await;
        let mut socket = TcpStream::connect(cloud.address).await.unwrap();
        let request = format!(
            "PUT /image/v2/images/{id}/file HTTP/1.1\r\nhost: cloud\r\nx-auth-token: member\r\nexpect: 100-continue\r\n\
             content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        tokio::time::timeout(Duration::from_secs(10), socket.read_exact(&mut first)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&first), answer);
    }
}

#[tokio::test]
async fn an_image_deleted_while_it_is_uploaded_is_gone_with_its_bytes() {
    let cloud = std::sync::Arc::new(Cloud::start().await);
    let id = cloud.create_raw("member").await;
    let (feed, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(body, async |mut body| {
        body.recv().await.map(|piece| (Ok::<_, Infallible>(piece), body))
    });
    let (sender, path) = (std::sync::Arc::clone(&cloud), format!("/v2/images/{id}/file"));
    let upload = tokio::spawn(async move { sender.upload("member", &path, Body::from_stream(stream.boxed())).await });
    feed.send(Bytes::from_static(&[1; 1000])).await.unwrap();
    wait_for("the upload to be under way", || async {
        let status = cloud.show("member", &id).await["status"].clone();
        if status == "saving" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    // The client is told at once, not when it has sent everything.
    upload.await.unwrap().refused(410);
    drop(feed);
    cloud.get("member", &format!("/v2/images/{id}")).await.refused(404);
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn deleting_an_image_frees_its_space() {
    let cloud = Cloud::start().await;
    let (kept, gone) =
        (cloud.create_with_data("member", b"kept").await, cloud.create_with_data("member", b"gone").await);
    cloud.wait_for_files(&[&kept, &gone]).await;
    cloud.delete("member", &format!("/v2/images/{gone}")).await.expect(204);
    cloud.wait_for_files(&[&kept]).await;
}

#[tokio::test]
async fn what_a_crash_left_is_taken_back_and_what_was_whole_stays() {
    let cloud = Cloud::start().await;
    let (whole, broken) = (cloud.create_with_data("member", b"whole").await, cloud.create_raw("member").await);
    let staged = cloud.create_raw("member").await;
    cloud.upload("member", &format!("/v2/images/{staged}/stage"), "staged").await.expect(204);
    let directory = {
        let id = broken.clone();
        cloud
            .db
            .write(move |tx| {
                tx.execute("UPDATE images_image SET status = 'saving', upload_id = 'u' WHERE id = ?1", [id])
            })
            .await
            .unwrap();
        cloud.crash().await
    };
    let files = directory.path().join("images");
    // Died between the rename and the record; in the middle of a body; in the middle of a conversion; after a delete.
    std::fs::write(files.join("data").join(&broken), "renamed").unwrap();
    std::fs::write(files.join("staging").join(format!("{broken}.u")), "half").unwrap();
    std::fs::write(files.join("cache/tmp.w"), "half").unwrap();
    std::fs::write(files.join("data").join(rest::new_uuid()), "orphan").unwrap();
    let cloud = Cloud::start_in(directory, |_| {}).await;
    wait_for("the files to match the records", || async {
        let seen = (cloud.files("data"), cloud.files("staging").len(), cloud.files("cache").len());
        if seen == (vec![whole.clone()], 1, 0) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    wait_for("the record to be queued", || async {
        let status = cloud.show("member", &broken).await["status"].clone();
        if status == "queued" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert_eq!(cloud.show("member", &staged).await["status"], "uploading");
    assert_eq!(cloud.get("member", &format!("/v2/images/{whole}/file")).await.bytes, b"whole");
    cloud.upload("member", &format!("/v2/images/{broken}/file"), "again").await.expect(204);
}

#[tokio::test]
async fn deactivated_bytes_are_for_administrators_only() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"bytes").await;
    let path = format!("/v2/images/{id}");
    let queued = cloud.create_raw("member").await;
    cloud.act("member", &format!("/v2/images/{queued}/actions/deactivate")).await.refused(403);
    cloud.act("reader", &format!("{path}/actions/deactivate")).await.refused(403);
    for _ in 0..2 {
        cloud.act("member", &format!("{path}/actions/deactivate")).await.expect(204);
    }
    assert_eq!(cloud.show("member", &id).await["status"], "deactivated");
    cloud.get("member", &format!("{path}/file")).await.refused(403);
    assert_eq!(cloud.get("admin", &format!("{path}/file")).await.bytes, b"bytes");
    cloud.upload("member", &format!("{path}/file"), "x").await.refused(409);
    cloud.act("member", &format!("{path}/actions/reactivate")).await.expect(204);
    assert_eq!(cloud.get("member", &format!("{path}/file")).await.bytes, b"bytes");
}

/// Runs again inside its own mount namespace, where the staging directory can be a file system of 2 MiB.
#[tokio::test]
async fn a_disk_that_fills_up_during_an_upload_refuses_it_and_is_empty_again() {
    const NAME: &str = "bytes_of_images::a_disk_that_fills_up_during_an_upload_refuses_it_and_is_empty_again";
    if std::env::var_os("SOLOSTACK_OWN_MOUNTS").is_none() {
        let done = tokio::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("SOLOSTACK_OWN_MOUNTS", "1")
            .output()
            .await
            .unwrap();
        let output = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && output.contains("1 passed"), "{output}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let images = directory.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let mount = tokio::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&images)
        .status()
        .await
        .unwrap();
    assert!(mount.success());
    let cloud = Cloud::start_in(directory, |_| {}).await;
    let id = cloud.create_raw("member").await;
    // No length: the end of the disk comes as a surprise.
    let body = chunked(corpus::pattern(1, 4 << 20), 1 << 16);
    let message = cloud.upload("member", &format!("/v2/images/{id}/file"), body).await.refused(413);
    assert!(message.contains("media is full"), "{message}");
    assert_eq!(cloud.show("member", &id).await["status"], "queued");
    cloud.wait_for_files(&[]).await;
    cloud.upload("member", &format!("/v2/images/{id}/file"), vec![1; 1 << 20]).await.expect(204);
    // Nor is there room for a raw copy.
    let (bytes, _) = corpus::vdi();
    let vdi = cloud.create("member", json!({"disk_format": "vdi", "container_format": "bare"})).await;
    cloud.upload("member", &format!("/v2/images/{vdi}/file"), bytes).await.refused(413);
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    cloud.wait_for_files(&[]).await;
    let (bytes, _) = corpus::vdi();
    cloud.upload("member", &format!("/v2/images/{vdi}/file"), bytes).await.expect(204);
    let copy = images::peer::raw_cached(&cloud.app, &vdi).await;
    assert!(matches!(copy, Err(images::peer::RawError::NoSpace)), "{copy:?}");
    assert!(cloud.files("cache").is_empty());
}

#[tokio::test]
async fn data_that_is_not_its_format_is_kept_only_where_the_operator_says_so_and_is_never_booted() {
    let cloud = Cloud::start_with(|options| options.require_format_match = false).await;
    let id = cloud.create("member", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    cloud.upload("member", &format!("/v2/images/{id}/file"), "no qcow2 at all").await.expect(204);
    let image = cloud.show("member", &id).await;
    assert_eq!((&image["status"], &image["virtual_size"]), (&json!("active"), &serde_json::Value::Null));
    let refused = images::peer::raw_cached(&cloud.app, &id).await.unwrap_err().to_string();
    assert!(refused.contains("none that is what its disk format says"), "{refused}");
}

#[tokio::test]
async fn where_the_bytes_are_is_for_services_and_nobody_adds_another_place() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"x").await;
    let path = format!("/v2/images/{id}/locations");
    cloud.get("member", &path).await.refused(403);
    cloud.get("other", &path).await.refused(404);
    let places = cloud.get("admin", &path).await.expect(200);
    assert_eq!(places[0]["metadata"]["store"], "local");
    cloud.post("member", &path, json!({"url": "http://example.org/x"})).await.refused(409);
    let queued = cloud.create_raw("member").await;
    let path = format!("/v2/images/{queued}/locations");
    assert_eq!(cloud.get("admin", &path).await.expect(200), json!([]));
    for url in ["http://example.org/x", "file:///etc/passwd", "rbd://x/y"] {
        assert!(cloud.post("member", &path, json!({"url": url})).await.refused(400).contains("no store for"));
    }
    cloud.post("reader", &path, json!({"url": "http://example.org/x"})).await.refused(403);
}

#[tokio::test]
async fn the_image_without_an_id_is_not_the_list() {
    let cloud = Cloud::start().await;
    cloud.get("member", "/v2/images/").await.refused(404);
    cloud.delete("member", "/v2/images/").await.refused(404);
    cloud.get("member", "/v2/images").await.expect(200);
}
