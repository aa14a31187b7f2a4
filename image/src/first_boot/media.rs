//! When all that may carry a preseed is there to be looked at: disks, sticks and CDs, whose labels udev knows. What else is plugged in
//! (network cards, sound, sensors) may take its time, and on some machines takes most of a start.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// A stick says late that it is one, and an old disk late what is on it.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Made by the machine itself, of what it has.
const MADE_HERE: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "nbd"];
/// USB's class of sticks, disks and CD drives.
const MASS_STORAGE: &str = "08";
/// Below a USB interface: host, target, unit.
const DEPTH: u32 = 3;

/// Waits for them, but not for ever.
pub(super) fn arrive(root: &Path) {
    let end = Instant::now() + PATIENCE;
    // A container has no udev.
    while root.join("run/udev/data").is_dir() {
        let missing = missing(root);
        if missing.is_empty() {
            return;
        }
        if Instant::now() >= end {
            tracing::warn!(?missing, "not looked at for a preseed: they do not say what they are");
            return;
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

/// Those that are plugged in, and of which udev has not said yet what they are.
fn missing(root: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    for device in entries(&root.join("sys/class/block")) {
        let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A drive without a medium, and what has no number of its own.
        let (size, number) = (said(&device, "size"), said(&device, "dev"));
        if MADE_HERE.iter().any(|made| name.starts_with(made)) || size == "0" || number.is_empty() {
            continue;
        }
        // The line is written when the links below /dev/disk are there.
        let known = fs::read_to_string(root.join("run/udev/data").join(format!("b{number}"))).unwrap_or_default();
        if !known.lines().any(|line| line.starts_with("I:")) {
            missing.push(name);
        }
    }
    for interface in entries(&root.join("sys/bus/usb/devices")) {
        if said(&interface, "bInterfaceClass") == MASS_STORAGE && !has_block_device(&interface, DEPTH) {
            missing.push(interface.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    missing
}

fn has_block_device(folder: &Path, depth: u32) -> bool {
    let has_own = !entries(&folder.join("block")).is_empty();
    // Links lead back up.
    let below = || entries(folder).into_iter().filter(|entry| entry.is_dir() && !entry.is_symlink());
    has_own || depth > 0 && below().any(|entry| has_block_device(&entry, depth - 1))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten();
    found.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

fn said(device: &Path, attribute: &str) -> String {
    fs::read_to_string(device.join(attribute)).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn block(root: &Path, name: &str, number: &str, size: &str) {
        put(root, &format!("sys/class/block/{name}/dev"), &format!("{number}\n"));
        put(root, &format!("sys/class/block/{name}/size"), &format!("{size}\n"));
    }

    #[test]
    fn a_disk_is_waited_for_until_udev_knows_it_and_an_empty_drive_is_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        block(root, "vda", "254:0", "8192");
        block(root, "sr0", "11:0", "0");
        block(root, "loop0", "7:0", "8192");
        block(root, "dm-0", "253:0", "8192");
        assert_eq!(missing(root), ["vda"]);
        // Begun, and not done.
        put(root, "run/udev/data/b254:0", "E:ID_FS_LABEL=SOLOSTACK\n");
        assert_eq!(missing(root), ["vda"]);
        put(root, "run/udev/data/b254:0", "S:disk/by-label/SOLOSTACK\nI:1234\nE:ID_FS_LABEL=SOLOSTACK\n");
        assert_eq!(missing(root), [""; 0]);
        arrive(root);
    }

    #[test]
    fn a_stick_is_waited_for_until_it_is_a_disk_and_a_keyboard_is_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "03\n");
        put(root, "sys/bus/usb/devices/1-2:1.0/bInterfaceClass", "08\n");
        put(root, "sys/bus/usb/devices/1-2:1.0/host6/scsi_host/x", "");
        assert_eq!(missing(root), ["1-2:1.0"]);
        put(root, "sys/bus/usb/devices/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sdb/dev", "8:16\n");
        assert_eq!(missing(root), [""; 0]);
    }

    #[test]
    fn nobody_waits_where_there_is_no_udev() {
        let root = tempfile::tempdir().unwrap();
        block(root.path(), "sda", "8:0", "8192");
        let began = Instant::now();
        arrive(root.path());
        assert!(began.elapsed() < PATIENCE / 2);
    }
}
