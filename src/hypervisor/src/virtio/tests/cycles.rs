//! Activate and reset, over and over.

use std::process::Command;

use super::net::{cable, settings};
use super::*;
use crate::virtio::balloon::Balloon;
use crate::virtio::blk::{Blk, BlkSettings};
use crate::virtio::console::Console;
use crate::virtio::input::{Input, InputKind};
use crate::virtio::net::Net;
use crate::virtio::rate_limiter::{DiskLimits, Limit, Limits};
use crate::virtio::rng::Rng;

const INSIDE: &str = "SOLOSTACK_TEST_CYCLES";

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn devices() -> Vec<Box<dyn VirtioDevice>> {
    let blk = Blk::new(BlkSettings {
        name: "disk0".to_owned(),
        file: tempfile::tempfile().unwrap(),
        read_only: false,
        serial: String::new(),
        size_bytes: 1 << 20,
        queues: 4,
        limits: DiskLimits::default(),
    });
    let mut devices: Vec<Box<dyn VirtioDevice>> = vec![
        Box::new(blk.unwrap()),
        Box::new(Rng::new().unwrap()),
        Box::new(Balloon::new().unwrap()),
        Box::new(Console::new().unwrap()),
        Box::new(Input::new(InputKind::Keyboard).unwrap()),
    ];
    // On a tap, where one can be had.
    if let Some(cable) = cable(1) {
        devices.push(Box::new(Net::new(settings(&cable)).unwrap()));
    }
    devices
}

/// Run one test of this module in a process of its own, and what it printed.
fn apart(name: &str, mark: &str) -> String {
    let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(mark, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout).into_owned() + &String::from_utf8_lossy(&inner.stderr);
    assert!(inner.status.success(), "{}: {said}", inner.status);
    said
}

#[test]
fn a_thousand_resets_leave_no_descriptor_and_no_thread() {
    // Other tests open and close descriptors of this process meanwhile, so the counting is done in one of its own.
    if std::env::var_os(INSIDE).is_none() {
        let said = apart("a_thousand_resets_leave_no_descriptor_and_no_thread", INSIDE);
        assert!(said.contains("counted"), "{said}");
        return;
    }
    let empty = (open_descriptors(), threads());
    let mut devices = devices();
    let rig = Rig::new(!(1 << 22));
    let cycle = |devices: &mut Vec<Box<dyn VirtioDevice>>| {
        for device in devices {
            let queues: Vec<_> = (0..device.queue_sizes().len().min(16)).map(|at| rig.queue(at as u16, 64)).collect();
            rig.activate(&mut **device, &queues.iter().collect::<Vec<_>>());
            for queue in &queues {
                queue.kick();
            }
            device.reset();
        }
    };
    cycle(&mut devices);
    let before = (open_descriptors(), threads());
    for _ in 0..1000 {
        cycle(&mut devices);
    }
    assert_eq!((open_descriptors(), threads()), before);
    drop(devices);
    assert_eq!((open_descriptors(), threads()), empty);
    println!("counted");
}

#[test]
fn device_threads_live_under_the_filter_of_their_kind() {
    const INSIDE_JAIL: &str = "SOLOSTACK_TEST_FILTERS";
    if std::env::var_os(INSIDE_JAIL).is_none() {
        let said = apart("device_threads_live_under_the_filter_of_their_kind", INSIDE_JAIL);
        assert!(said.contains("lived"), "{said}");
        return;
    }
    // A system call that is not allowed ends this process.
    crate::jail::seccomp::prepare(crate::jail::Violation::Kill).unwrap();
    assert!(crate::threads::at_start(|kind| crate::jail::seccomp::apply(kind).unwrap()));
    let mut devices = devices();
    for device in &mut devices {
        for seed in 0..64 {
            torment(&mut **device, seed);
        }
    }
    // Every request that a disk knows, of a size for which memory is mapped, slowed down by a limit.
    let limits = Limits { bytes: None, operations: Some(Limit { per_second: 1000, burst: 1 }) };
    let file = tempfile::tempfile().unwrap();
    let settings = |file: &std::fs::File| BlkSettings {
        name: "disk1".to_owned(),
        file: file.try_clone().unwrap(),
        read_only: false,
        serial: "serial".to_owned(),
        size_bytes: 16 << 20,
        queues: 1,
        limits: DiskLimits::default(),
    };
    let mut disk = Blk::new(settings(&file)).unwrap();
    disk.control().set_limits(DiskLimits { all: limits, ..DiskLimits::default() });
    let rig = Rig::new(disk.features());
    let mut queue = rig.queue(0, 256);
    rig.activate(&mut disk, &[&queue]);
    let status = rig.put(&[0xee]);
    for round in 0..200_u32 {
        for kind in [0, 1, 4, 8, 11, 13, 99] {
            if round > 10 && kind != 4 {
                continue;
            }
            let mut header = [0; 16];
            header[..4].copy_from_slice(&u32::to_le_bytes(kind));
            rig.write(DATA + (1 << 20), &header);
            let mut range = [0; 16];
            range[8..12].copy_from_slice(&2048_u32.to_le_bytes());
            rig.write(DATA + (1 << 20) + 16, &range);
            let data = match kind {
                0 | 8 => (HIGH, 2 << 20, WRITE),
                1 => (HIGH, 2 << 20, READ),
                11 | 13 => (DATA + (1 << 20) + 16, 16, READ),
                _ => (HIGH, 0, READ),
            };
            queue.submit(&rig, &[(DATA + (1 << 20), 16, READ), data, (status, 1, WRITE)]);
            queue.wait_used(&rig);
            let expected = if kind == 99 { 2 } else { 0 };
            assert_eq!(rig.read(status, 1), [expected], "{kind}");
        }
    }
    drop(disk);
    drop(devices);
    println!("lived");
}
