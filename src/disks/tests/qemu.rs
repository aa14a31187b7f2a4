//! Images made by `qemu-img` (Debian package `qemu-utils`) convert to the same bytes as `qemu-img` makes of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use disks::{Format, Limits, convert_to_raw, corpus, inspect_file};

fn qemu_img(args: &[&str]) {
    let done = Command::new("qemu-img").args(args).output().expect("qemu-img is needed: install qemu-utils");
    assert!(done.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// 24 MiB and a bit: data, a hole, zeros, repeated data, noise at the very end.
fn sample(path: &Path) -> u64 {
    let size = (24 << 20) + 3 * 512;
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&corpus::pattern(1, 3 << 20), 0).unwrap();
    file.write_all_at(&[0; 1 << 20], 5 << 20).unwrap();
    file.write_all_at(&[0xaa; 1 << 20], (8 << 20) + 512).unwrap();
    let mut state = 1u64;
    let noise: Vec<u8> = (0..2 << 20)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    file.write_all_at(&noise, size - noise.len() as u64).unwrap();
    size
}

fn same_as_qemu(format: Format, driver: &str, options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (raw, image, theirs) = (path("raw"), path("image"), path("theirs"));
    sample(Path::new(&raw));
    let mut args = vec!["convert", "-f", "raw", "-O", driver];
    args.extend(options);
    args.extend([raw.as_str(), image.as_str()]);
    qemu_img(&args);
    qemu_img(&["convert", "-f", driver, "-O", "raw", &image, &theirs]);

    let source = File::open(&image).unwrap();
    let found =
        inspect_file(&source, format, &Limits::default()).unwrap_or_else(|e| panic!("{driver} {options:?}: {e}"));
    let theirs = fs::read(theirs).unwrap();
    assert_eq!(found.virtual_size_bytes, theirs.len() as u64, "{driver} {options:?}");
    let dest = tempfile::tempfile().unwrap();
    let made = convert_to_raw(&source, format, &dest, &Limits::default(), &AtomicBool::new(false)).unwrap();
    let mut ours = vec![0; made.virtual_size_bytes as usize];
    dest.read_exact_at(&mut ours, 0).unwrap();
    assert!(ours == theirs, "{driver} {options:?}: the disks differ");
    assert!(made.written_bytes < 9 << 20, "{driver} {options:?}: {} bytes written", made.written_bytes);
}

#[test]
fn qcow2_of_every_kind_converts_as_qemu_does() {
    for options in [
        &[][..],
        &["-o", "compat=0.10"],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "cluster_size=512"],
        &["-o", "lazy_refcounts=on"],
        &["-o", "cluster_size=2M"],
        &["-o", "cluster_size=512"],
        &["-o", "preallocation=metadata"],
        &["-o", "preallocation=falloc"],
        &["-o", "refcount_bits=1"],
        &["-o", "refcount_bits=64"],
        &["-o", "extended_l2=on,cluster_size=128k"],
        &["-c", "-o", "extended_l2=on,cluster_size=64k,compression_type=zstd"],
    ] {
        same_as_qemu(Format::Qcow2, "qcow2", options);
    }
}

#[test]
fn vmdk_files_with_their_own_data_convert_as_qemu_does() {
    same_as_qemu(Format::Vmdk, "vmdk", &[]);
    same_as_qemu(Format::Vmdk, "vmdk", &["-o", "subformat=monolithicSparse,zeroed_grain=on"]);
    same_as_qemu(Format::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]);
}

#[test]
fn vdi_vhd_and_vhdx_convert_as_qemu_does() {
    same_as_qemu(Format::Vdi, "vdi", &[]);
    same_as_qemu(Format::Vhd, "vpc", &["-o", "force_size=on"]);
    same_as_qemu(Format::Vhd, "vpc", &["-o", "subformat=fixed,force_size=on"]);
    same_as_qemu(Format::Vhdx, "vhdx", &[]);
    same_as_qemu(Format::Vhdx, "vhdx", &["-o", "subformat=fixed"]);
    same_as_qemu(Format::Vhdx, "vhdx", &["-o", "block_size=1M"]);
}

#[test]
fn an_image_with_an_internal_snapshot_converts_to_its_active_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (raw, image, theirs) = (path("raw"), path("image"), path("theirs"));
    sample(Path::new(&raw));
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &raw, &image]);
    qemu_img(&["snapshot", "-c", "before", &image]);
    let done = Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 7 0 1M", &image]).output();
    assert!(done.expect("qemu-io is needed: install qemu-utils").status.success());
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw", &image, &theirs]);
    let dest = tempfile::NamedTempFile::new().unwrap();
    let source = File::open(&image).unwrap();
    convert_to_raw(&source, Format::Qcow2, dest.as_file(), &Limits::default(), &AtomicBool::new(false)).unwrap();
    assert!(fs::read(dest.path()).unwrap() == fs::read(theirs).unwrap());
}

#[test]
fn images_of_qemu_that_need_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (raw, backed, external, flat) = (path("raw"), path("backed"), path("external"), path("flat.vmdk"));
    sample(Path::new(&raw));
    qemu_img(&["create", "-f", "qcow2", "-b", &raw, "-F", "raw", &backed]);
    qemu_img(&["create", "-f", "qcow2", "-o", &format!("data_file={}", path("data")), &external, "16M"]);
    qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", &raw, &flat]);
    for (file, format, reason) in [
        (backed, Format::Qcow2, "backing file"),
        (external, Format::Qcow2, "another file"),
        (flat, Format::Vmdk, "descriptor without data"),
    ] {
        let error = inspect_file(&File::open(file).unwrap(), format, &Limits::default()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
