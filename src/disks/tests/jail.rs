//! The helper process makes what the library makes, behind its walls, and never survives a cancel or a deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use disks::{CloneKind, Error, Format, JailParams, Limits, clone_file, convert_in_jail, corpus, grow, persist};

const HELPER: &str = env!("CARGO_BIN_EXE_disks-convert");

fn params(format: Format) -> JailParams {
    JailParams { format, limits: Limits::default(), deadline: Duration::from_secs(60), cpu_seconds: 60 }
}

fn files(dir: &Path, bytes: &[u8]) -> (File, File) {
    fs::write(dir.join("source"), bytes).unwrap();
    (File::open(dir.join("source")).unwrap(), File::create(dir.join("dest")).unwrap())
}

#[test]
fn the_helper_converts_every_good_image_behind_its_walls() {
    let dir = tempfile::tempdir().unwrap();
    for (name, format, bytes, disk) in corpus::good() {
        let (source, dest) = files(dir.path(), &bytes);
        let (made, jail) = convert_in_jail(Path::new(HELPER), source, dest, &params(format), &AtomicBool::new(false))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(made.virtual_size_bytes, disk.len() as u64, "{name}");
        assert!(fs::read(dir.path().join("dest")).unwrap() == disk, "{name}");
        assert!(jail.seccomp, "{jail:?}");
        assert_eq!(jail.user, rustix::process::geteuid().is_root(), "{jail:?}");
        assert!(["full", "partial", "none"].contains(&jail.landlock.as_str()), "{jail:?}");
    }
}

#[test]
fn the_helper_refuses_every_hostile_image_with_the_reason_of_the_inspector() {
    let dir = tempfile::tempdir().unwrap();
    // The library's own test goes through all of them; here the way of the reason through the process counts.
    for attack in corpus::hostile().into_iter().step_by(7) {
        let (source, dest) = files(dir.path(), &attack.bytes);
        let params = params(attack.format);
        match convert_in_jail(Path::new(HELPER), source, dest, &params, &AtomicBool::new(false)) {
            Err(Error::Refused(refused)) => {
                assert!(refused.reason.contains(attack.reason), "{}: {refused}", attack.name)
            }
            other => panic!("{}: {other:?}", attack.name),
        }
    }
}

#[test]
fn a_cancelled_helper_and_one_beyond_its_deadline_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (source, dest) = files(dir.path(), &corpus::qcow2().0);
    let result = convert_in_jail(Path::new(HELPER), source, dest, &params(Format::Qcow2), &AtomicBool::new(true));
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    let (source, dest) = files(dir.path(), &corpus::qcow2().0);
    let params = JailParams { deadline: Duration::ZERO, ..params(Format::Qcow2) };
    let result = convert_in_jail(Path::new(HELPER), source, dest, &params, &AtomicBool::new(false));
    assert!(matches!(result, Err(Error::Deadline)), "{result:?}");
}

#[test]
fn a_helper_that_cannot_start_or_dies_is_an_error_with_a_cause() {
    let dir = tempfile::tempdir().unwrap();
    for (exe, cause) in [("/nonexistent/helper", "cannot start"), ("/bin/false", "said nothing")] {
        let (source, dest) = files(dir.path(), &corpus::qcow2().0);
        let result = convert_in_jail(Path::new(exe), source, dest, &params(Format::Qcow2), &AtomicBool::new(false));
        match result {
            Err(Error::Helper(what)) => assert!(what.contains(cause), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_clone_has_the_same_bytes_and_keeps_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let dir = tempfile::tempdir().unwrap();
    let source = File::create_new(dir.path().join("a")).unwrap();
    source.set_len(64 << 20).unwrap();
    source.write_all_at(&corpus::pattern(1, 1 << 20), 8 << 20).unwrap();
    source.write_all_at(b"end", (64 << 20) - 3).unwrap();
    let source = File::open(dir.path().join("a")).unwrap();
    let dest = File::create_new(dir.path().join("b")).unwrap();
    let kind = clone_file(&source, &dest).unwrap();
    assert!(fs::read(dir.path().join("a")).unwrap() == fs::read(dir.path().join("b")).unwrap());
    if kind == CloneKind::Sparse {
        assert!(dest.metadata().unwrap().blocks() * 512 < 4 << 20);
    }
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let file = tempfile::tempfile().unwrap();
    grow(&file, 1 << 20).unwrap();
    grow(&file, 1 << 20).unwrap();
    assert!(matches!(grow(&file, 1000), Err(Error::Refused(_))));
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
}

#[test]
fn a_persisted_file_replaces_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("new"), dir.path().join("name"));
    fs::write(&to, "old").unwrap();
    fs::write(&from, "new").unwrap();
    persist(&File::open(&from).unwrap(), &from, &to).unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), "new");
    assert!(!from.exists());
}
