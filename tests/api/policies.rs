//! Policy files and token keys that change while the cloud runs.

use std::{sync::Arc, time::Duration};

use kit::{Persona::Reader, TestCloud, wait_for};
use solostack::{cloud::Layout, policies};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_policy_file_is_followed_and_a_broken_one_keeps_the_rules() {
    let cloud = TestCloud::start().await;
    let layout = Layout { root: cloud.state().to_owned() };
    let folder = layout.policy();
    std::fs::create_dir_all(&folder).unwrap();
    let stop = CancellationToken::new();
    let following = policies::follow(Arc::clone(cloud.inner()), layout, Duration::from_millis(10), stop.clone());
    let following = tokio::spawn(following);
    let status = async |path: &str| cloud.as_(Reader).get(path).await.status.as_u16();
    let comes_to = async |path: &'static str, wanted: u16| {
        wait_for(&format!("{path} to answer {wanted}"), async || match status(path).await {
            found if found == wanted => Ok(()),
            found => Err(found.to_string()),
        })
        .await;
    };
    comes_to("/compute/v2.1/flavors", 200).await;
    std::fs::write(folder.join("compute.yaml"), "\"os_compute_api:os-keypairs:index\": \"!\"").unwrap();
    std::fs::write(folder.join("image.yaml"), "\"get_images\": \"!\"").unwrap();
    comes_to("/compute/v2.1/os-keypairs", 403).await;
    comes_to("/image/v2/images", 403).await;
    // Broken: compute keeps what it has, the other file is taken.
    std::fs::write(folder.join("compute.yaml"), "\"os_compute_api:os-keypairs:index\": \"role:\"").unwrap();
    std::fs::remove_file(folder.join("image.yaml")).unwrap();
    comes_to("/image/v2/images", 200).await;
    assert_eq!(status("/compute/v2.1/os-keypairs").await, 403);
    std::fs::write(folder.join("compute.yaml"), "{}").unwrap();
    comes_to("/compute/v2.1/os-keypairs", 200).await;
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn keys_that_another_process_rotated_are_followed() {
    let cloud = TestCloud::start().await;
    let layout = Layout { root: cloud.state().to_owned() };
    let config = config::resolve(&format!("state_dir = {:?}", layout.root.to_str().unwrap()), &[]).unwrap();
    let rotate = || {
        let db = db::Db::open(&layout.database()).unwrap();
        let options = solostack::cloud::identity_options(&config, &layout, 443);
        identity::App::new(db, db::Clock::default(), options).unwrap().rotate_keys().unwrap();
    };
    cloud.as_(Reader).get("/compute/v2.1/flavors").await.expect(200);
    assert!(!cloud.inner().follow_keys().unwrap());
    // The token of before survives a rotation and falls out with the next.
    rotate();
    assert!(cloud.inner().follow_keys().unwrap());
    cloud.as_(Reader).get("/compute/v2.1/flavors").await.expect(200);
    rotate();
    assert!(cloud.inner().follow_keys().unwrap());
    cloud.as_(Reader).get("/compute/v2.1/flavors").await.expect(401);
}
