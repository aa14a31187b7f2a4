//! Every attack of the corpus is refused for its own reason, and no mutation of a good image does harm.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use disks::{Error, Format, Limits, convert_to_raw, corpus, inspect, inspect_file};
use proptest::prelude::*;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn convert(format: Format, bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    let dest = tempfile::tempfile().unwrap();
    let made = convert_to_raw(&file_of(bytes), format, &dest, limits, &AtomicBool::new(false))?;
    let mut disk = vec![0; made.virtual_size_bytes as usize];
    dest.read_exact_at(&mut disk, 0).unwrap();
    assert_eq!(dest.metadata().unwrap().len(), made.virtual_size_bytes);
    Ok(disk)
}

#[test]
fn every_hostile_image_is_refused_for_its_own_reason_by_the_inspector_and_by_the_converter() {
    let limits = Limits { max_virtual_bytes: 1 << 42, ..Limits::default() };
    let attacks = corpus::hostile();
    assert!(attacks.len() > 100, "{} attacks", attacks.len());
    for attack in attacks {
        let name = format!("{}: {}", attack.format, attack.name);
        match inspect(&attack.bytes, attack.format, &limits) {
            Err(Error::Refused(refused)) => {
                assert!(refused.reason.contains(attack.reason), "{name}: refused because {refused}");
            }
            other => panic!("{name}: {other:?}"),
        }
        match convert(attack.format, &attack.bytes, &limits) {
            Err(Error::Refused(_)) => {}
            other => panic!("{name}: converted to {:?} bytes", other.map(|disk| disk.len())),
        }
    }
}

#[test]
fn every_good_image_is_accepted_and_converts_to_its_disk() {
    for (name, format, bytes, disk) in corpus::good() {
        let found =
            inspect_file(&file_of(&bytes), format, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.virtual_size_bytes, disk.len() as u64, "{name}");
        assert_eq!(found.format, format);
        assert!(convert(format, &bytes, &Limits::default()).unwrap() == disk, "{name}");
    }
}

#[test]
fn a_disk_larger_than_the_limit_is_refused_in_every_format() {
    for (name, format, bytes, disk) in corpus::good() {
        let limits = Limits { max_virtual_bytes: disk.len() as u64 - 1, ..Limits::default() };
        let error = inspect(&bytes, format, &limits).unwrap_err();
        assert!(error.to_string().contains("limit"), "{name}: {error}");
    }
}

#[test]
fn an_image_that_unpacks_to_more_data_than_allowed_is_stopped() {
    let limits = Limits { max_output_bytes: 64 << 10, ..Limits::default() };
    let error = convert(Format::Qcow2, &corpus::qcow2().0, &limits).unwrap_err();
    assert!(error.to_string().contains("unpacks to more than 65536 bytes"), "{error}");
}

#[test]
fn internal_snapshots_are_refused_where_the_policy_says_so() {
    let (mut bytes, _) = corpus::qcow2();
    bytes[60..64].copy_from_slice(&1u32.to_be_bytes());
    bytes[64..72].copy_from_slice(&0x5_0000u64.to_be_bytes());
    assert!(inspect(&bytes, Format::Qcow2, &Limits::default()).is_ok());
    let limits = Limits { allow_internal_snapshots: false, ..Limits::default() };
    let error = inspect(&bytes, Format::Qcow2, &limits).unwrap_err();
    assert!(error.to_string().contains("internal snapshots"), "{error}");
}

#[test]
fn nothing_but_data_takes_space_in_the_converted_disk() {
    let dest = tempfile::NamedTempFile::new().unwrap();
    let source = file_of(&corpus::vdi().0);
    convert_to_raw(&source, Format::Vdi, dest.as_file(), &Limits::default(), &AtomicBool::new(false)).unwrap();
    let meta = dest.as_file().metadata().unwrap();
    assert_eq!(meta.len(), 2 << 20);
    assert!(meta.blocks() * 512 <= (1 << 20) + (64 << 10), "{} blocks", meta.blocks());
}

#[test]
fn a_cancelled_conversion_stops() {
    let dest = tempfile::tempfile().unwrap();
    let source = file_of(&corpus::qcow2().0);
    let result = convert_to_raw(&source, Format::Qcow2, &dest, &Limits::default(), &AtomicBool::new(true));
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
}

/// Where the structures of each format are: mutations of data would only make other data.
fn mutable_places(format: Format, len: usize) -> Vec<(usize, usize)> {
    let ranges: &[(usize, usize)] = match format {
        Format::Qcow2 => &[(0, 128), (0x1_0000, 64), (0x2_0000, 64), (0x3_0000, 256), (0x6_0000, 64)],
        Format::Vmdk => &[(0, 96), (512, 400), (21 * 512, 64), (22 * 512, 128), (128 * 512, 16)],
        Format::Vdi => &[(0x40, 0x1c8), (0x200, 8)],
        Format::Vhd => &[(0, 100), (512, 100), (1536, 8)],
        Format::Vhdx => {
            &[(64 << 10, 80), (192 << 10, 100), (1 << 20, 160), ((1 << 20) + (64 << 10), 24), (2 << 20, 64)]
        }
        _ => &[(0, 512)],
    };
    let mut places: Vec<_> = ranges.iter().copied().filter(|(at, n)| at + n <= len).collect();
    places.push((len.saturating_sub(1024), 1024.min(len)));
    places
}

/// Making the images takes longer than trying them.
static GOOD: LazyLock<Vec<corpus::Good>> = LazyLock::new(corpus::good);

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_good_image_panics_hangs_or_takes_much_memory(
        which in 0usize..9,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(),
            prop_oneof![Just(0u8), Just(0xff), Just(0x80), Just(1), any::<u8>()], 1usize..9), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        // An allocation beyond this ends the test process.
        let limit = rustix::process::Rlimit { current: Some(512 << 20), maximum: Some(512 << 20) };
        rustix::process::setrlimit(rustix::process::Resource::Data, limit).unwrap();
        let (_, format, bytes, _) = &GOOD[which];
        let mut bytes = bytes.clone();
        let places = mutable_places(*format, bytes.len());
        for (place, at, value, width) in edits {
            let (start, len) = places[place.index(places.len())];
            let at = start + at.index(len);
            for byte in bytes.iter_mut().skip(at).take(width) {
                *byte = value;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { max_virtual_bytes: 64 << 20, max_output_bytes: 64 << 20, ..Limits::default() };
        let started = Instant::now();
        let inspected = inspect(&bytes, *format, &limits);
        let converted = convert_to_raw(&file_of(&bytes), *format, &tempfile::tempfile().unwrap(), &limits,
            &AtomicBool::new(false));
        // What the inspector refuses must not convert either.
        if inspected.is_err() {
            prop_assert!(converted.is_err());
        }
        prop_assert!(started.elapsed().as_secs() < 20);
    }

    #[test]
    fn no_file_of_random_bytes_behind_a_right_magic_panics(
        magic in prop::sample::select(vec![
            (Format::Qcow2, &b"QFI\xfb\0\0\0\x03"[..]), (Format::Vmdk, &b"KDMV\x01\0\0\0"[..]), (Format::Vhd, &b"conectix"[..]),
            (Format::Vhdx, &b"vhdxfile"[..]), (Format::Iso, &b""[..]), (Format::Raw, &b""[..])]),
        rest in prop::collection::vec(any::<u8>(), 0..4096),
    ) {
        let mut bytes = magic.1.to_vec();
        bytes.extend(rest);
        let limits = Limits { max_virtual_bytes: 64 << 20, max_output_bytes: 64 << 20, ..Limits::default() };
        let _ = inspect(&bytes, magic.0, &limits);
    }
}
