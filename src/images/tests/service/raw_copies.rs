use disks::corpus;
use images::peer::{self, NotBootable, RawError};
use serde_json::json;

use crate::harness::{Cloud, OTHER, PROJECT, wait_for};

async fn bootable(cloud: &Cloud, project: &'static str, id: &str) -> Result<peer::BootImage, NotBootable> {
    let id = id.to_owned();
    cloud.db.read(move |tx| Ok::<_, db::Error>(peer::bootable(tx, project, false, &id))).await.unwrap()
}

async fn create_qcow2(cloud: &Cloud) -> String {
    let body = json!({"name": "q", "disk_format": "qcow2", "container_format": "bare", "min_ram": 64, "hw_rng": "x"});
    let id = cloud.create("member", body).await;
    cloud.upload("member", &format!("/v2/images/{id}/file"), corpus::qcow2().0).await.expect(204);
    id
}

#[tokio::test]
async fn a_server_starts_from_an_image_that_its_project_sees_and_that_holds_a_disk() {
    let cloud = Cloud::start().await;
    let id = create_qcow2(&cloud).await;
    let boot = bootable(&cloud, PROJECT, &id).await.unwrap();
    assert_eq!((boot.name.as_str(), boot.min_ram_mib, boot.virtual_size_bytes), ("q", 64, 1 << 20));
    assert_eq!(boot.properties["hw_rng"], "x");
    assert!(matches!(bootable(&cloud, OTHER, &id).await, Err(NotBootable::NotFound(_))));
    let queued = cloud.create_raw("member").await;
    assert!(matches!(bootable(&cloud, PROJECT, &queued).await, Err(NotBootable::NotActive { status: "queued", .. })));
    cloud.act("member", &format!("/v2/images/{id}/actions/deactivate")).await.expect(204);
    assert!(matches!(bootable(&cloud, PROJECT, &id).await, Err(NotBootable::NotActive { .. })));
    // A server that was accepted before still gets its disk.
    peer::raw_cached(&cloud.app, &id).await.unwrap();
}

#[tokio::test]
async fn a_raw_copy_is_made_once_for_all_who_ask_at_the_same_time() {
    let cloud = Cloud::start().await;
    let id = create_qcow2(&cloud).await;
    let asked = futures::future::join_all((0..8).map(|_| peer::raw_cached(&cloud.app, &id))).await;
    let inode = |file: &std::fs::File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    let first = inode(&asked[0].as_ref().unwrap().file);
    for copy in &asked {
        let copy = copy.as_ref().unwrap();
        assert_eq!(inode(&copy.file), first);
        assert!(std::fs::read(&copy.path).unwrap() == corpus::qcow2().1);
    }
    assert_eq!(cloud.files("cache").len(), 1);
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    wait_for("the copy to go with its image", || async {
        let left = cloud.files("cache");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    // Who held it open still has it.
    assert_eq!(asked[0].as_ref().unwrap().file.metadata().unwrap().len(), 1 << 20);
    assert!(matches!(peer::raw_cached(&cloud.app, &id).await, Err(RawError::Gone)));
}

#[tokio::test]
async fn a_raw_image_is_its_own_copy() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"disk").await;
    let copy = peer::raw_cached(&cloud.app, &id).await.unwrap();
    assert_eq!(copy.size_bytes, 4);
    assert!(cloud.files("cache").is_empty());
}

#[tokio::test]
async fn copies_beyond_the_bound_go_least_recently_used_first() {
    let cloud = Cloud::start_with(|options| options.cache_max_bytes = 200 << 10).await;
    let first = create_qcow2(&cloud).await;
    peer::raw_cached(&cloud.app, &first).await.unwrap();
    assert_eq!(cloud.files("cache").len(), 1);
    let second = create_qcow2(&cloud).await;
    peer::raw_cached(&cloud.app, &second).await.unwrap();
    wait_for("the older copy to go", || async {
        let left = cloud.files("cache");
        match left.as_slice() {
            [one] if one.starts_with(&second) => Ok(()),
            _ => Err(format!("{left:?}")),
        }
    })
    .await;
    // It is made again when it is needed again.
    peer::raw_cached(&cloud.app, &first).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_wrote_an_image_header_into_its_raw_disk_gains_nothing() {
    let cloud = Cloud::start().await;
    // What the inspector took as raw stays raw, whatever the record's bytes become for others.
    let id = cloud.create_with_data("member", &corpus::pattern(1, 4096)).await;
    let path = cloud.directory.path().join("images/data").join(&id);
    std::fs::write(&path, corpus::hostile().remove(0).bytes).unwrap();
    let copy = peer::raw_cached(&cloud.app, &id).await.unwrap();
    assert_eq!(copy.path, path);
    assert_eq!(copy.size_bytes, corpus::qcow2().0.len() as u64);
}

#[tokio::test]
async fn an_administrator_makes_copies_ready_sees_them_and_drops_them() {
    let cloud = Cloud::start().await;
    let id = cloud.create("member", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    let path = format!("/v2/cache/{id}");
    cloud.put("admin", &path, None).await.refused(400);
    cloud.upload("member", &format!("/v2/images/{id}/file"), corpus::qcow2().0).await.expect(204);
    for (method, path) in
        [("GET", "/v2/cache"), ("PUT", path.as_str()), ("DELETE", path.as_str()), ("DELETE", "/v2/cache")]
    {
        cloud.call("member", method.parse().unwrap(), path, None).await.refused(403);
    }
    cloud.put("admin", &format!("/v2/cache/{}", rest::new_uuid()), None).await.refused(404);
    cloud.delete("admin", &format!("/v2/cache/{}", rest::new_uuid())).await.refused(404);
    cloud.put("admin", &path, None).await.expect(202);
    let cached = wait_for("the copy", || async {
        let state = cloud.get("admin", "/v2/cache").await.expect(200);
        if state["cached_images"][0]["image_id"] == id && state["queued_images"] == json!([]) {
            Ok(state["cached_images"][0].clone())
        } else {
            Err(state.to_string())
        }
    })
    .await;
    assert_eq!(cached["hits"], 0);
    images::peer::raw_cached(&cloud.app, &id).await.unwrap();
    assert_eq!(cloud.get("admin", "/v2/cache").await.expect(200)["cached_images"][0]["hits"], 1);
    cloud.delete("admin", &path).await.expect(204);
    assert!(cloud.files("cache").is_empty());
    images::peer::raw_cached(&cloud.app, &id).await.unwrap();
    let clear = |target: &'static str| {
        axum::extract::Request::delete("/image/v2/cache")
            .header("x-auth-token", "admin")
            .header("x-image-cache-clear-target", target)
            .body(axum::body::Body::empty())
            .unwrap()
    };
    cloud.send(clear("moon")).await.refused(400);
    cloud.send(clear("queue")).await.expect(204);
    assert_eq!(cloud.files("cache").len(), 1);
    cloud.delete("admin", "/v2/cache").await.expect(204);
    assert!(cloud.files("cache").is_empty());
    // A raw file is its own copy.
    let nothing = json!({"cached_images": [], "queued_images": []});
    let raw = cloud.create_with_data("member", b"raw").await;
    let path = format!("/v2/cache/{raw}");
    for away in [path.as_str(), "/v2/cache", &format!("/v2/images/{raw}")] {
        assert_eq!(cloud.get("admin", "/v2/cache").await.expect(200), nothing);
        cloud.put("admin", &path, None).await.expect(202);
        let cached = &cloud.get("admin", "/v2/cache").await.expect(200)["cached_images"][0];
        assert_eq!((&cached["image_id"], &cached["size"]), (&json!(raw), &json!(3)));
        cloud.delete("admin", away).await.expect(204);
    }
    cloud.wait_for_files(&[&id]).await;
    assert_eq!(cloud.get("admin", "/v2/cache").await.expect(200), nothing);
}
