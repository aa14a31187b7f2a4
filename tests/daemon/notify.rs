//! What systemd hears: sd_notify(3), on a socket of the test's own.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Instant,
};

use tempfile::TempDir;

use crate::{PATIENCE, Service};

/// Every line, until one is `last`.
fn heard(socket: &UnixDatagram, last: &str) -> Vec<String> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (began, mut lines, mut bytes) = (Instant::now(), Vec::new(), [0; 4096]);
    loop {
        let count = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {last} but {error} after {lines:?}"));
        lines.extend(String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned));
        if lines.iter().any(|line| line == last) {
            return lines;
        }
        assert!(began.elapsed() < PATIENCE, "no {last} in {lines:?}");
    }
}

#[test]
fn systemd_hears_that_the_program_is_ready_lives_and_stops() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut service = Service::start("", |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    let lines = heard(&socket, "READY=1");
    assert_eq!(lines[0], "STATUS=starting", "{lines:?}");
    let lines = heard(&socket, "WATCHDOG=1");
    assert!(lines.iter().any(|line| line.starts_with("STATUS=ready: https://127.0.0.1:")), "{lines:?}");
    heard(&socket, "WATCHDOG=1");
    service.stop();
    heard(&socket, "STOPPING=1");
}

#[test]
fn a_socket_without_a_path_will_do_and_no_watchdog_is_fed_that_nobody_asked_for() {
    let name = format!("solostack-daemon-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut service = Service::start("", |command| {
        command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    });
    heard(&socket, "READY=1");
    service.stop();
    let lines = heard(&socket, "STOPPING=1");
    assert!(!lines.contains(&"WATCHDOG=1".to_owned()), "{lines:?}");
}

/// The sandbox of a program that `serve` starts begins with its environment.
#[test]
fn programs_that_the_service_starts_know_nothing_of_systemd() {
    let dir = TempDir::new().unwrap();
    let (path, found) = (dir.path().join("notify"), dir.path().join("found"));
    let socket = UnixDatagram::bind(&path).unwrap();
    // The first program of the probe of this host, as the search path has it.
    let program = dir.path().join("nft");
    std::fs::write(&program, format!("#!/bin/sh\nset > {}\n", found.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let done = std::process::Command::new(crate::PROGRAM)
        .args(["doctor", "--state"])
        .arg(dir.path().join("state"))
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .env("SOLOSTACK_SECRET", "secret")
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&found).unwrap_or_else(|error| panic!("nft was not asked: {error}; {done:?}"));
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "SOLOSTACK_SECRET"] {
        assert!(!text.contains(name), "{name} is handed on: {text}");
    }
    drop(socket);
}
