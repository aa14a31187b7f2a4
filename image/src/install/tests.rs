use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::*;
use crate::points::{Points, PowerCut};
use crate::update::gpt::{self, Partition, Table};

const MIB: u64 = 1 << 20;

/// A machine with a medium that it runs from (`sr`), and disks that are files.
struct Room {
    folder: tempfile::TempDir,
    disks: Disks,
}

fn parts() -> Vec<Partition> {
    let part = |index: usize, kind, name: &str, size: u64| Partition {
        index,
        kind,
        id: [index as u8 + 1; 16],
        name: name.into(),
        flags: 1 << 60,
        start: (1 + index as u64 * 4) * MIB,
        size,
    };
    vec![
        part(0, gpt::ESP, "solostack-esp", 3 * MIB),
        part(1, gpt::BIOS, "solostack-bios", MIB),
        part(2, gpt::ROOT, "solostack_1.0", 2 * MIB + 512),
        part(3, gpt::ROOT_VERITY, "solostack_1.0", MIB),
    ]
}

fn content(part: &Partition) -> Vec<u8> {
    (0..part.size).map(|at| (at % 253) as u8 ^ part.index as u8).collect()
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (sys, dev) = (folder.path().join("sys"), folder.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        let disks = Disks { sys, dev, running: "medium".into() };
        let room = Self { folder, disks };
        let medium = room.add("medium", 64 * MIB);
        Table::create(64 * MIB, [7; 16], &parts()).unwrap().write(&medium, &|| ()).unwrap();
        for part in parts() {
            medium.write_all_at(&content(&part), part.start).unwrap();
        }
        medium.write_all_at(&[0xc3; 440], 0).unwrap();
        // The file system of a CD lies in front of the first partition.
        medium.write_all_at(b"\x01CD001", 32 << 10).unwrap();
        room
    }

    fn add(&self, name: &str, bytes: u64) -> File {
        let folder = self.disks.sys.join(name);
        fs::create_dir_all(folder.join("device")).unwrap();
        fs::create_dir_all(folder.join("queue")).unwrap();
        fs::write(folder.join("size"), format!("{}\n", bytes / 512)).unwrap();
        fs::write(folder.join("ro"), "0\n").unwrap();
        fs::write(folder.join("queue/logical_block_size"), "512\n").unwrap();
        fs::write(folder.join("device/model"), "A \x1b[31mDisk   \n").unwrap();
        let file = File::create_new(self.disks.dev.join(name)).unwrap();
        file.set_len(bytes).unwrap();
        File::options().read(true).write(true).open(self.disks.dev.join(name)).unwrap()
    }

    fn say(&self, name: &str, file: &str, text: &str) {
        fs::write(self.disks.sys.join(name).join(file), text).unwrap();
    }

    fn medium(&self) -> PathBuf {
        self.disks.dev.join("medium")
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.medium(), "1.0", &["1.0".into()]).unwrap()
    }

    fn why_not(&self, asked: &str) -> String {
        self.disks.find(asked).unwrap_err().to_string()
    }
}

/// Whether all that the image brings is on the disk, as it is on the medium.
fn is_whole(disk: &File) -> bool {
    let Ok(found) = Table::read(disk).and_then(|table| table.partitions()) else { return false };
    assert_eq!(found, parts(), "a table that is there tells of all that is there");
    for part in found {
        let mut bytes = vec![0; usize::try_from(part.size).unwrap()];
        disk.read_exact_at(&mut bytes, part.start).unwrap();
        assert!(bytes == content(&part), "{} is not what the medium has", part.name);
    }
    true
}

#[test]
fn a_disk_becomes_what_the_image_would_have_made_of_it() {
    let room = Room::new();
    let target = room.add("sda", 9_000_000_000);
    target.write_all_at(&[0xaa; 4096], 8_999_000_000).unwrap();
    target.write_all_at(&[0xaa; 4096], 32 << 10).unwrap();
    let disk = room.disks.find("sda").unwrap();
    assert_eq!((disk.holds.clone(), disk.model.contains('\x1b')), (Holds::Something, false));
    let (plan, mut seen) = (room.plan(), 0);
    install(&plan, &room.disks, &disk, &Points::default(), &mut |done| seen = done).unwrap();
    assert_eq!(seen, plan.bytes());
    assert!(is_whole(&target));
    let mut front = vec![0; 64 << 10];
    target.read_exact_at(&mut front, 0).unwrap();
    assert!(front[..440] == [0xc3; 440] && front[510..512] == [0x55, 0xaa] && front[450] == 0xee);
    assert!(front[32 << 10..].iter().all(|byte| *byte == 0), "it is no CD any more, nor what it was");
    let Holds::Partitions(names) = room.disks.find("sda").unwrap().holds else { panic!("no partitions") };
    assert_eq!(names, ["solostack-esp", "solostack-bios", "solostack_1.0", "solostack_1.0"]);
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_whole_disk_or_one_that_is_taken_again() {
    std::panic::set_hook(Box::new(|panic| {
        if !panic.payload().is::<PowerCut>() {
            eprintln!("{panic}");
        }
    }));
    let (mut without, mut whole) = (0, 0);
    for nth in 1.. {
        let room = Room::new();
        let target = room.add("sda", 9_000_000_000);
        // There was a system on it.
        Table::create(9_000_000_000, [9; 16], &parts()[..1]).unwrap().write(&target, &|| ()).unwrap();
        let (plan, disk) = (room.plan(), room.disks.find("sda").unwrap());
        let points = Points::cut_at(nth);
        let done = match catch_unwind(AssertUnwindSafe(|| install(&plan, &room.disks, &disk, &points, &mut |_| ()))) {
            Ok(done) => {
                done.unwrap();
                true
            }
            Err(cause) if cause.is::<PowerCut>() => false,
            Err(other) => std::panic::resume_unwind(other),
        };
        if nth > 1 && is_whole(&target) {
            whole += 1;
        } else {
            without += 1;
            let disk = room.disks.find("sda").unwrap();
            install(&plan, &room.disks, &disk, &Points::default(), &mut |_| ()).unwrap();
            assert!(is_whole(&target));
        }
        if done {
            break;
        }
    }
    assert!(without > 8 && whole > 2, "{without} without a table, {whole} whole: the points are not where they matter");
}

#[test]
fn what_is_no_disk_to_install_to_is_refused_with_its_reason() {
    let room = Room::new();
    for name in ["sda", "small", "locked", "large", "sr0", "loop0"] {
        room.add(name, if name == "small" { 7_999_999_488 } else { 9_000_000_000 });
    }
    room.say("locked", "ro", "1");
    room.say("large", "queue/logical_block_size", "4096");
    fs::remove_dir_all(room.disks.sys.join("loop0/device")).unwrap();
    let names: Vec<(String, bool)> =
        room.disks.list().unwrap().into_iter().map(|disk| (disk.name, disk.reason.is_none())).collect();
    let wanted = [("large", false), ("locked", false), ("sda", true), ("small", false)];
    assert_eq!(names, wanted.map(|(name, fine)| (name.to_owned(), fine)));
    assert!(room.why_not("medium").contains("runs from"));
    assert!(room.why_not("small").contains("7 GB, and 8 are needed"));
    assert!(room.why_not("locked").contains("cannot be written"));
    assert!(room.why_not("large").contains("4096"));
    assert!(room.why_not("sdz").contains("no disk of this machine"));
    assert!(room.why_not("loop0").contains("no disk that a machine starts from"));
    let elsewhere = room.disks.sys.join("sda/size");
    assert!(room.why_not(elsewhere.to_str().unwrap()).contains("no whole disk"));
    // By another name for it.
    let link = room.folder.path().join("by-id");
    std::os::unix::fs::symlink(room.disks.dev.join("sda"), &link).unwrap();
    assert_eq!(room.disks.find(link.to_str().unwrap()).unwrap().name, "sda");
}

#[test]
fn a_medium_that_is_not_as_it_was_made_is_not_copied() {
    let room = Room::new();
    let why = |version: &str, versions: &[&str]| {
        let versions: Vec<String> = versions.iter().map(|version| (*version).to_owned()).collect();
        Plan::new(&room.medium(), version, &versions).unwrap_err().to_string()
    };
    assert!(why("1.0", &["1.0", "1.1"]).contains("other versions"));
    assert!(why("1.1", &["1.1"]).contains("has not the partitions of an image"));
    room.add("sda", 9_000_000_000);
    let plan = room.plan();
    File::options().write(true).open(room.medium()).unwrap().set_len(10 * MIB).unwrap();
    let disk = room.disks.find("sda").unwrap();
    let error = install(&plan, &room.disks, &disk, &Points::default(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("the medium ends within solostack_1.0"), "{error}");
    assert_eq!(room.disks.find("sda").unwrap().holds, Holds::Nothing, "what is not whole has no table");
}

#[test]
fn the_kernels_command_line_names_one_disk() {
    assert_eq!(asked_by_kernel("quiet solostack.install=/dev/sda console=tty0\n"), Some("/dev/sda"));
    assert_eq!(asked_by_kernel("quiet solostack.install= xsolostack.install=/dev/sda"), None);
    assert_eq!(asked_by_kernel("solostack.install"), None);
}
