//! The real `solostack screen` on a pseudo terminal, and the socket by which the real `serve` tells it how it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test that called it")]

#[path = "../../image/tests/screen/terminal.rs"]
#[expect(dead_code, reason = "most of it is for the tests of the crate")]
mod terminal;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use terminal::{DEADLINE, Machine, well};

fn program() -> PathBuf {
    std::env::var_os("SOLOSTACK_BIN").map_or_else(|| env!("CARGO_BIN_EXE_solostack").into(), PathBuf::from)
}

fn real(machine: &Machine, tty: &str) -> Command {
    let mut command = Command::new(program());
    command.args(["screen", "--tty", tty, "--root"]).arg(machine.path(""));
    command.arg("--networkctl").arg(machine.path("bin/networkctl"));
    command
}

#[test]
fn the_real_screen_sets_a_fixed_address() {
    let machine = Machine::new();
    machine.says(well());
    let mut screen = machine.screen(80, 25, real);
    screen.shows("Code to take the cloud over: K7QM-4TXW");
    screen.shows("52:54:00:ab:cd:01");
    screen.press("n\t\x1b[C\t192.0.2.10/24\t192.0.2.1\t\t\r");
    screen.shows("the old ones return in");
    let shown = solostack(&machine, &["network", "show"]);
    assert!(shown.contains("addresses = [\"192.0.2.10/24\"]") && shown.contains("not confirmed"), "{shown}");
    solostack(&machine, &["network", "confirm"]);
    screen.hides("the old ones return in");
    let config = machine.read("var/lib/solostack/solostack.toml");
    assert!(config.contains("192.0.2.10/24") && config.contains("region = \"north\""), "{config}");
    machine.write("wrong.toml", "[network_settings.bond.b]\nmembers = []");
    let file = machine.path("wrong.toml");
    let said = solostack(&machine, &["network", "apply", file.to_str().unwrap()]);
    assert!(said.contains("network_settings.bond.b.members: a bond needs at least one NIC"), "{said}");
}

/// What it says, wherever it says it.
fn solostack(machine: &Machine, arguments: &[&str]) -> String {
    let output = Command::new(program())
        .args(arguments)
        .arg("--root")
        .arg(machine.path(""))
        .arg("--networkctl")
        .arg(machine.path("bin/networkctl"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_real_cloud_says_how_it_is_to_root_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut serve = Command::new(program())
        .args([
            "serve",
            "--listen",
            "127.0.0.1",
            "--https-port",
            "0",
            "--http-port",
            "0",
            "--service-ports",
            "off",
            "--driver",
            "fake",
        ])
        .arg("--state")
        .arg(&state)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = BufReader::new(serve.stdout.take().unwrap()).lines().next();
    let report = line.is_some().then(|| told(&state.join("console.sock")));
    let mode = std::fs::metadata(state.join("console.sock")).map(|metadata| metadata.permissions().mode() & 0o777);
    serve.kill().unwrap();
    serve.wait().unwrap();
    let report = report.expect("it starts");
    assert_eq!(mode.unwrap(), 0o600);
    assert!(report["authority"].as_str().unwrap().starts_with("127.0.0.1:"), "{report}");
    assert_eq!(report["ca_fingerprint"].as_str().unwrap().len(), 95);
    let parts = report["health"]["parts"].as_array().unwrap();
    assert!(parts.iter().any(|part| part["name"] == "database" && part["state"] == "ok"), "{report}");
}

fn told(socket: &Path) -> serde_json::Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}
