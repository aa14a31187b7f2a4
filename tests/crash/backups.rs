//! A backup of the running program, put back elsewhere: what was promised is there, and what is missing says so.

use std::{path::Path, process::Output, time::Duration};

use serde_json::{Value, json};

use crate::{
    kill::place,
    program::{Connection, Place, wait_for},
};

const DEADLINE: Duration = Duration::from_secs(60);

fn run(place: &Place, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(&place.binary);
    command.args(arguments).stdin(std::process::Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn backup(place: &Place, file: &Path, more: &[&str]) -> Output {
    let (file, state) = (file.to_str().unwrap(), place.state.to_str().unwrap());
    run(place, &[&["backup", "create", file, "--state", state], more].concat())
}

fn restore(place: &Place, file: &Path, more: &[&str]) -> Output {
    let (file, state) = (file.to_str().unwrap(), place.state.to_str().unwrap());
    run(place, &[&["backup", "restore", file, "--state", state], more].concat())
}

async fn server(connection: &mut Connection, id: &str) -> Value {
    connection.get(&format!("/compute/v2.1/servers/{id}")).await.unwrap().expect(200)["server"].take()
}

/// An image and a server from it, at work.
async fn boot(connection: &mut Connection) -> (String, String) {
    let body = json!({"name": "base", "disk_format": "raw", "container_format": "bare"});
    let image = connection.post("/image/v2/images", &body).await.unwrap().expect(201);
    let image = image["id"].as_str().unwrap().to_owned();
    connection.upload(&image, vec![7; 64 << 10].into()).await.unwrap().expect(204);
    let networks = connection.get("/network/v2.0/networks?name=private").await.unwrap().expect(200);
    let network = networks["networks"][0]["id"].as_str().unwrap();
    let body = json!({"name": "dear", "imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}]});
    let made = connection.post("/compute/v2.1/servers", &json!({"server": body})).await.unwrap().expect(202);
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    wait_for("the server to run", DEADLINE, async || {
        let status = server(connection, &id).await["status"].as_str().unwrap().to_owned();
        if status == "ACTIVE" { Ok(()) } else { Err(status) }
    })
    .await;
    (image, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_cloud_is_that_cloud_wherever_it_is_restored() {
    let folder = tempfile::Builder::new().prefix("solostack-backup-").tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    let (here, there) = (place(&here, "fake"), place(&there, "fake"));
    let program = here.start().await;
    let mut connection = program.login(&here).await.unwrap();
    let (image, id) = boot(&mut connection).await;
    let token = connection.token.clone();

    let (small, whole) = (folder.path().join("small"), folder.path().join("whole"));
    let said = done(&backup(&here, &small, &[]));
    assert!(said.contains("WITHOUT servers' disks (1)") && said.contains("secret"), "{said}");
    done(&backup(&here, &whole, &["--images", "--disks"]));
    let said = done(&run(&here, &["backup", "verify", whole.to_str().unwrap()]));
    assert!(said.contains("1 servers") && said.contains("can be restored"), "{said}");
    // Not while it runs, and not over what is there.
    assert!(refused(&restore(&here, &small, &["--replace"])).contains("stop `solostack serve` first"));
    program.stop().await;
    assert!(refused(&restore(&here, &small, &[])).contains("--replace"));

    // With everything: the same authority, the same tokens, the server and its disk.
    done(&restore(&there, &whole, &[]));
    assert_eq!(std::fs::read(here.ca()).unwrap(), std::fs::read(there.ca()).unwrap());
    let program = there.start().await;
    let mut connection = program.connect(&there).await.unwrap();
    connection.token.clone_from(&token);
    let status = server(&mut connection, &id).await["status"].clone();
    assert!(status == "ACTIVE" || status == "SHUTOFF", "{status}");
    let data = connection.get(&format!("/image/v2/images/{image}/file")).await.unwrap();
    assert_eq!((data.status.as_u16(), data.bytes.len()), (200, 64 << 10));
    program.stop().await;

    // Without disks, over a cloud that has none of them: in error, with a reason, and it can be deleted.
    std::fs::remove_dir_all(there.state.join("servers").join(&id)).unwrap();
    let said = done(&restore(&there, &small, &["--replace"]));
    assert!(said.contains(&format!("server {id}: its disks are not here")), "{said}");
    let program = there.start().await;
    let mut connection = program.connect(&there).await.unwrap();
    connection.token.clone_from(&token);
    let seen = server(&mut connection, &id).await;
    assert_eq!(seen["status"], "ERROR");
    let reason = seen["fault"]["message"].as_str().unwrap();
    assert!(reason.contains("disks are not on this machine") && reason.contains("backup"), "{reason}");
    connection.delete(&format!("/compute/v2.1/servers/{id}")).await.unwrap().expect(204);
    wait_for("the server to be gone", DEADLINE, async || {
        let status = connection.get(&format!("/compute/v2.1/servers/{id}")).await.unwrap().status;
        if status == 404 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_asked_for_while_the_cloud_runs_and_obeyed_at_the_next_start() {
    let folder = tempfile::Builder::new().prefix("solostack-reset-").tempdir().unwrap();
    let place = place(folder.path(), "fake");
    let program = place.start().await;
    let ca = std::fs::read(place.ca()).unwrap();
    let mut connection = program.login(&place).await.unwrap();
    let (_, id) = boot(&mut connection).await;
    let state = place.state.to_str().unwrap();
    // Without the machine's name nothing happens; nor after it was taken back.
    assert!(refused(&run(&place, &["reset", "everything", "--state", state])).contains("nothing was done"));
    done(&run(&place, &["reset", "everything", "--yes", "--state", state]));
    done(&run(&place, &["reset", "cancel", "--state", state]));
    program.kill().await;
    let program = place.start().await;
    assert_eq!(std::fs::read(place.ca()).unwrap(), ca);

    done(&run(&place, &["reset", "everything", "--yes", "--state", state]));
    let mut connection = program.login(&place).await.unwrap();
    assert_eq!(server(&mut connection, &id).await["id"], id.as_str(), "the cloud goes on until then");
    program.kill().await;
    let program = place.start().await;
    assert_ne!(std::fs::read(place.ca()).unwrap(), ca, "a new cloud has a new authority");
    let mut connection = program.login(&place).await.unwrap();
    let servers = connection.get("/compute/v2.1/servers?all_tenants=1").await.unwrap().expect(200);
    assert_eq!(servers["servers"], json!([]));
    assert!(!place.state.join("servers").join(&id).exists());
    program.stop().await;
}
