//! A disk without room: everything that would need some is refused in words, what was promised stays, nothing has to be
//! repaired when there is room again.

use std::{collections::BTreeSet, fs::File, io::Write, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    kill::place,
    program::{Connection, wait_for},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs again inside a mount namespace of its own, where the state directory can be a file system of 32 MiB.
#[test]
fn a_disk_that_is_full_refuses_in_words_and_loses_nothing() {
    let done = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full::on_a_small_disk", "--ignored", "--nocapture"])
        .output()
        .expect("unshare (Debian package util-linux)");
    let output = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && output.contains("1 passed"), "{output}");
}

/// Takes all room that there is, to the last byte.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0x5a; size]).is_ok() {}
    }
}

async fn user_names(connection: &mut Connection) -> BTreeSet<String> {
    let users = connection.get("/identity/v3/users").await.unwrap().expect(200);
    users["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
}

async fn add_user(connection: &mut Connection, name: &str) -> (u16, Value) {
    // Long, so that pages fill soon.
    let body = json!({"user": {"name": name, "domain_id": "default", "description": "x".repeat(2000)}});
    let reply = connection.post("/identity/v3/users", &body).await.unwrap();
    (reply.status.as_u16(), reply.json())
}

#[ignore = "the test above runs this in a mount namespace of its own"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_small_disk() {
    let state = tempfile::Builder::new().prefix("solostack-full-").tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"])
        .arg(state.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    let place = place(state.path(), "fake");
    let program = place.start().await;
    let mut connection = program.login(&place).await.unwrap();
    let before = user_names(&mut connection).await;
    let ballast = state.path().join("ballast");
    fill(&ballast);

    // The write-ahead log has room left in it that was allocated before; then there is none.
    let mut promised = before;
    let mut refused = None;
    for number in 0..10_000 {
        let name = format!("user-{number}");
        match add_user(&mut connection, &name).await {
            (201, _) => assert!(promised.insert(name)),
            (status, body) => {
                refused = Some((name, status, body));
                break;
            }
        }
    }
    let (name, status, body) = refused.expect("a full disk refuses at some time");
    assert_eq!(status, 507, "{body}");
    assert_eq!(body["error"]["code"], 507, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("disk") && message.contains("full"), "{message}");
    // Others are refused in their own service's words, and reading goes on.
    let network = connection.post("/network/v2.0/networks", &json!({"network": {"name": "n"}})).await.unwrap();
    assert_eq!(network.status, 507, "{network:?}");
    assert!(network.json()["NeutronError"]["message"].as_str().unwrap().contains("full"), "{network:?}");
    let image = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    assert_eq!(connection.post("/image/v2/images", &image).await.unwrap().status, 507);
    let key = connection.post("/compute/v2.1/os-keypairs", &json!({"keypair": {"name": "k"}})).await.unwrap();
    assert_eq!(key.status, 507, "{key:?}");
    assert_eq!(user_names(&mut connection).await, promised);

    // A crash now loses nothing that was promised either, and a start without room says so or works.
    program.kill().await;
    std::fs::remove_file(&ballast).unwrap();
    let program = place.start().await;
    let mut connection = program.login(&place).await.unwrap();
    assert_eq!(user_names(&mut connection).await, promised);

    // Full again, and room again while the program runs: nobody has to restart anything.
    fill(&ballast);
    let mut number = 0;
    wait_for("a refusal", DEADLINE, async || {
        number += 1;
        let name = format!("more-{number}");
        match add_user(&mut connection, &name).await {
            (201, _) => {
                promised.insert(name);
                Err("still room".to_owned())
            }
            (status, body) => {
                assert_eq!(status, 507, "{body}");
                Ok(())
            }
        }
    })
    .await;
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(add_user(&mut connection, &name).await.0, 201, "there is room again");
    promised.insert(name);
    assert_eq!(user_names(&mut connection).await, promised);
    program.stop().await;
}
