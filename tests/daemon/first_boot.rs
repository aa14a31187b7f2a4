//! `solostack first-boot` and the `serve` after it, in a folder that stands for the machine.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};

use tempfile::TempDir;

use crate::{PATIENCE, PROGRAM, Service};

const HASH: &str = "$argon2id$v=19$m=8192,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

fn stick(root: &Path, text: &str) {
    let folder = root.join("dev/disk/by-label/SOLOSTACK");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("solostack.toml"), text).unwrap();
}

fn first_boot(root: &Path) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["first-boot", "--metadata", "http://127.0.0.1:1", "--root"]).arg(root);
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A service on what the first boot left, which is to be claimed.
fn serve(root: &Path, claim: &Path) -> (Service, PathBuf) {
    let state = root.join("var/lib/solostack");
    let log = root.join("serve.log");
    let config = state.join("solostack.toml");
    let service = Service::start("", |command| {
        let own: Vec<_> = ["serve", "--listen", "127.0.0.1", "--https-port", "0", "--http-port", "0"].into();
        *command = Command::new(PROGRAM);
        command.args(own).args(["--service-ports", "off", "--driver", "fake", "--state"]).arg(&state);
        let mut text = std::fs::read_to_string(&config).unwrap_or_default();
        text.push_str(&format!("\n[claim]\nmode = \"on\"\nfile = \"{}\"\n", claim.display()));
        let file = root.join("serve.toml");
        std::fs::write(&file, text).unwrap();
        command.arg("--config").arg(file).stderr(std::fs::File::create(&log).unwrap());
    });
    (service, log)
}

#[test]
fn a_stick_names_the_machine_and_its_administrator_and_is_applied_once() {
    let root = TempDir::new().unwrap();
    let state = root.path().join("var/lib/solostack");
    stick(
        root.path(),
        &format!(
            "region = \"Home\"\n[machine]\nhostname = \"cloud\"\n[first_boot]\nadmin_password_hash = \"{HASH}\"\n"
        ),
    );
    let done = first_boot(root.path());
    assert!(done.status.success(), "{done:?}");
    assert_eq!(out(&done), "applied the preseed of the medium labelled SOLOSTACK\n");
    assert_eq!(std::fs::read_to_string(root.path().join("run/solostack/hostname")).unwrap(), "cloud");
    assert!(state.join("admin-password-hash").exists());

    let claim = root.path().join("run/solostack/claim");
    let (mut service, log) = serve(root.path(), &claim);
    service.stop();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("the administrator has the password that was brought"), "{log}");
    for gone in [state.join("admin-password-hash"), state.join("unclaimed"), state.join("admin-openrc"), claim] {
        assert!(!gone.exists(), "{} is there", gone.display());
    }
    // The stick stays, with something else on it.
    stick(root.path(), "region = \"Elsewhere\"\n[first_boot]\nadmin_password = \"of a thief\"\n");
    assert_eq!(out(&first_boot(root.path())), "a preseed was applied before\n");
    assert!(!state.join("admin-password-hash").exists());
}

#[test]
fn a_machine_without_a_preseed_waits_for_its_claim_and_takes_a_later_stick_until_then() {
    let root = TempDir::new().unwrap();
    let state = root.path().join("var/lib/solostack");
    assert_eq!(out(&first_boot(root.path())), "there is no preseed\n");
    let claim = root.path().join("run/solostack/claim");
    let (mut service, _) = serve(root.path(), &claim);
    let code = std::fs::read_to_string(&claim).unwrap();
    assert_eq!(code.trim_end().len(), 19, "{code}");
    service.stop();
    assert!(state.join("unclaimed").exists());

    stick(root.path(), "regon = \"Home\"\n");
    let done = first_boot(root.path());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("line 1: unknown key regon"), "{said}");
    stick(root.path(), "[first_boot]\nadmin_password = \"correct horse\"\n");
    assert!(first_boot(root.path()).status.success());
    let (mut service, log) = serve(root.path(), &claim);
    service.stop();
    assert!(!claim.exists() && !state.join("unclaimed").exists(), "{}", std::fs::read_to_string(log).unwrap());
    // From here on nobody looks any more.
    std::fs::remove_file(state.join("first-boot.json")).unwrap();
    assert_eq!(out(&first_boot(root.path())), "the cloud has its administrator: no preseed is looked for\n");
}

#[test]
fn a_machine_that_dies_at_any_moment_of_its_first_boot_has_all_of_the_preseed_in_the_end() {
    let text =
        format!("region = \"Home\"\n[machine]\nhostname = \"cloud\"\n[first_boot]\nadmin_password_hash = \"{HASH}\"\n");
    let began = Instant::now();
    for wait_us in (0..12).map(|step| step * 1500) {
        let root = TempDir::new().unwrap();
        stick(root.path(), &text);
        let mut command = Command::new(PROGRAM);
        command.args(["first-boot", "--metadata", "http://127.0.0.1:1", "--root"]).arg(root.path());
        let mut process = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(wait_us));
        let _ = process.kill();
        process.wait().unwrap();
        assert!(first_boot(root.path()).status.success());
        let state = root.path().join("var/lib/solostack");
        let config = std::fs::read_to_string(state.join("solostack.toml")).unwrap();
        assert!(config.contains("region = \"Home\"") && config.contains("hostname = \"cloud\""), "{config}");
        assert_eq!(std::fs::read_to_string(state.join("admin-password-hash")).unwrap(), HASH);
        let record = std::fs::read_to_string(state.join("first-boot.json")).unwrap();
        assert!(record.contains("\"applied\"") && !state.join("first-boot.staged").exists(), "{record}");
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn elsewhere_than_in_the_appliance_it_does_nothing() {
    if Path::new("/usr/lib/solostack/appliance").exists() {
        return;
    }
    let done = Command::new(PROGRAM).arg("first-boot").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("this is not the appliance"), "{said}");
}
