//! Activate and reset, over and over.

use std::process::Command;

use super::net::{cable, settings};
use super::*;
use crate::virtio::balloon::Balloon;
use crate::virtio::blk::{Blk, BlkSettings};
use crate::virtio::console::Console;
use crate::virtio::input::{Input, InputKind};
use crate::virtio::net::Net;
use crate::virtio::rate_limiter::Limits;
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
        limits: Limits::default(),
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

#[test]
fn a_thousand_resets_leave_no_descriptor_and_no_thread() {
    // Other tests open and close descriptors of this process meanwhile, so the counting is done in one of its own.
    if std::env::var_os(INSIDE).is_none() {
        let name = "virtio::tests::cycles::a_thousand_resets_leave_no_descriptor_and_no_thread";
        let inner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inner.stdout).into_owned() + &String::from_utf8_lossy(&inner.stderr);
        assert!(inner.status.success() && said.contains("counted"), "{said}");
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
