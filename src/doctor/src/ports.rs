//! Whether the ports of the configuration are free, and who has them otherwise.

use std::io;
use std::net::{SocketAddr, TcpListener};

use config::Config;

use super::Row;

pub fn ports(config: &Config) -> Vec<Row> {
    const CHECK: &str = "ports";
    let mut rows = Vec::new();
    let mut free = Vec::new();
    for (port, key) in config.ports() {
        let address = SocketAddr::new(config.listen_address(), port);
        let error = match TcpListener::bind(address) {
            Ok(_) => {
                free.push(port.to_string());
                continue;
            }
            Err(error) => error,
        };
        rows.push(match error.kind() {
            io::ErrorKind::AddrInUse => match holder(port) {
                Some((pid, name)) if name == "solostack" => {
                    Row::ok(CHECK, format!("{port} is served by solostack (process {pid})"))
                }
                Some((pid, name)) => Row::fail(
                    CHECK,
                    format!("{port} ({key}) is taken by {name} (process {pid})"),
                    format!("end it, or change {key}"),
                ),
                None => Row::fail(
                    CHECK,
                    format!("{port} ({key}) is taken"),
                    format!("change {key}; `ss -ltnp` shows by whom"),
                ),
            },
            io::ErrorKind::PermissionDenied => {
                Row::fail(CHECK, format!("{port} ({key}) may not be used"), "run it as root")
            }
            io::ErrorKind::AddrNotAvailable => {
                let found = format!("{} is not an address of this machine", config.listen);
                Row::fail(CHECK, found, "change listen")
            }
            _ => Row::fail(CHECK, format!("{address}: {error}"), "change listen"),
        });
    }
    rows.dedup();
    if !free.is_empty() {
        rows.insert(0, Row::ok(CHECK, format!("free: {}", free.join(" "))));
    }
    rows
}

/// The process that listens on a port of this namespace, where we may see it.
fn holder(port: u16) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| {
            let inodes = table.lines().filter_map(|line| listening_inode(line, port));
            inodes.map(|inode| format!("socket:[{inode}]")).collect::<Vec<_>>()
        })
        .collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The inode in a line of `/proc/net/tcp`, if that line is a listener on `port`.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let own = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (own == port && *state == "0A").then_some(*inode)
}

#[cfg(test)]
mod tests {
    use super::super::{Health, tests::config};
    use super::*;

    #[test]
    fn a_port_that_another_program_holds_is_named_with_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let rows = ports(&Config { https_port: port, listen: "127.0.0.1".parse().unwrap(), ..config() });
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].status, Health::Fail);
        let us = std::process::id().to_string();
        assert!(rows[0].found.contains(&us) && rows[0].found.contains("https_port"), "{rows:?}");
        drop(listener);
        let rows = ports(&Config { https_port: port, listen: "127.0.0.1".parse().unwrap(), ..config() });
        assert_eq!(rows, [Row::ok("ports", format!("free: {port}"))]);
    }

    #[test]
    fn an_address_that_is_not_ours_is_said_once() {
        let rows = ports(&Config {
            https_port: 4430,
            http_port: Some(4431),
            listen: "192.0.2.1".parse().unwrap(),
            ..config()
        });
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].found.contains("192.0.2.1 is not an address of this machine"), "{rows:?}");
    }

    #[test]
    fn only_listeners_of_that_port_are_found() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1";
        assert_eq!(listening_inode(line, 8080), Some("4242"));
        assert_eq!(listening_inode(line, 80), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 8080), None);
        assert_eq!(listening_inode("  sl  local_address rem_address   st", 8080), None);
    }
}
