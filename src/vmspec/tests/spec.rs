//! What a spec accepts, refuses and keeps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use vmspec::resources::{MAX_HOST_CPUS, MAX_RATE};
use vmspec::{
    Dedicated, Disk, DiskKind, DiskLimits, Mac, NicLimits, PageSize, Restore, ServerDirectory, SpecError, VmSpec,
};

const GOLDEN: &[u8] = include_bytes!("golden/spec-v1.json");
const GOLDEN_2: &[u8] = include_bytes!("golden/spec-v2.json");
/// What the release that wrote version 1 said of the golden file in `hello`.
const HASH_1: &str = "36507c7f1767496897ed7c0cab4f1a00a6c18e83c07f65948d6a6826e7b5fd59";

/// SHA-256 of the second golden file's content, without its white space.
const HASH_2: &str = "1116cc95d173f7fb40f929608a4bbce4711abdce9ed135a68d87bda3f8085098";

fn golden() -> VmSpec {
    VmSpec::parse(GOLDEN).unwrap()
}

fn refused(change: impl FnOnce(&mut VmSpec)) -> String {
    let mut spec = golden();
    change(&mut spec);
    match spec.validate() {
        Err(SpecError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_readable_version_of_the_file_is_read() {
    let spec = golden();
    assert_eq!(spec.vcpus, 2);
    assert_eq!(spec.nics[0].mac, "fa:16:3e:00:00:01".parse::<Mac>().unwrap());
    assert_eq!(spec.disks[1].kind, DiskKind::ConfigDrive);
    assert_eq!(VmSpec::parse(&spec.to_bytes().unwrap()).unwrap(), spec);

    let second = VmSpec::parse(GOLDEN_2).unwrap();
    assert_eq!(second.nics[0].queues, 2);
    assert_eq!(second.restore, Some(Restore { state_descriptor: 4, memory_descriptor: 5 }));
    assert_eq!(second.descriptor_count(), 6);
    assert!(spec.display && !second.display);
    assert_eq!(
        VmSpec { nics: spec.nics.clone(), restore: None, display: true, ..second },
        spec,
        "the rest is the same"
    );
}

#[test]
fn a_vm_started_by_the_previous_release_is_known_by_its_hash() {
    let spec = golden();
    assert!(spec.has_hash(HASH_1));
    assert_ne!(spec.hash(), HASH_1);
    assert!(!VmSpec { generation: 5, ..spec }.has_hash(HASH_1));
    let second = VmSpec::parse(GOLDEN_2).unwrap();
    assert_eq!(second.hash(), HASH_2, "fields that came later are not in it by default");
    assert!(second.has_hash(&second.hash()));
    assert!(!second.has_hash(HASH_1));
    let unseen = VmSpec { display: false, ..golden() };
    assert!(!unseen.has_hash(HASH_1) && unseen.has_hash(&unseen.hash()));
    let huge = VmSpec { page_size: PageSize::TwoMib, ..golden() };
    assert!(!huge.has_hash(HASH_1) && huge.has_hash(&huge.hash()));
}

/// With every field that is left out by default.
fn tuned() -> VmSpec {
    let mut spec = golden();
    spec.page_size = PageSize::TwoMib;
    spec.cpu.dedicated = Some(dedicated(&[&[2], &[3, 5]], &[0, 1]));
    spec.disks[0].limits = DiskLimits { total_bytes_per_second: Some(10 << 20), ..DiskLimits::default() };
    spec.disks[1].limits =
        DiskLimits { read_operations_per_second: Some(100), write_bytes_per_second: Some(1), ..DiskLimits::default() };
    spec.nics[0].limits =
        NicLimits { inbound_bytes_per_second: Some(125_000), outbound_bytes_per_second: Some(MAX_RATE) };
    spec
}

fn dedicated(vcpus: &[&[u16]], others: &[u16]) -> Dedicated {
    let set = |cpus: &[u16]| cpus.iter().copied().collect::<BTreeSet<_>>();
    Dedicated { vcpus: vcpus.iter().map(|cpus| set(cpus)).collect(), others: set(others) }
}

#[test]
fn pages_cpus_and_limits_survive_the_file_and_are_not_written_by_default() {
    let spec = tuned();
    let bytes = spec.to_bytes().unwrap();
    assert_eq!(VmSpec::parse(&bytes).unwrap(), spec);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\"page_size\": \"2MiB\""), "{text}");
    let plain = String::from_utf8(golden().to_bytes().unwrap()).unwrap();
    for field in ["page_size", "dedicated", "limits", "others"] {
        assert!(text.contains(field) && !plain.contains(field), "{field}");
    }
    let error = VmSpec::parse(text.replace("\"version\": 2,", "\"version\": 1,").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("version 1"), "{error}");
}

#[test]
fn memory_is_made_of_whole_pages() {
    for (page_size, memory_mib, fits) in [
        (PageSize::Any, 3, true),
        (PageSize::Small, 3, true),
        (PageSize::Large, 3, false),
        (PageSize::Large, 514, true),
        (PageSize::TwoMib, 513, false),
        (PageSize::OneGib, 1536, false),
        (PageSize::OneGib, 3072, true),
    ] {
        let spec = VmSpec { page_size, memory_mib, ..golden() };
        assert_eq!(spec.validate().is_ok(), fits, "{page_size:?} {memory_mib}");
    }
}

#[test]
fn dedicated_cpus_and_limits_that_make_no_sense_are_refused() {
    let with = |wrong: Dedicated| refused(|spec| spec.cpu.dedicated = Some(wrong));
    assert!(with(dedicated(&[&[1]], &[])).contains("1 vcpus of 2"));
    assert!(with(dedicated(&[&[1], &[2], &[3]], &[])).contains("3 vcpus of 2"));
    assert!(with(dedicated(&[&[1], &[]], &[])).contains("vcpu 1"));
    assert!(with(dedicated(&[&[1], &[MAX_HOST_CPUS]], &[])).contains("1024"));
    assert!(with(dedicated(&[&[1], &[2]], &[u16::MAX])).contains("65535"));

    let disk = |limits: DiskLimits| refused(|spec| spec.disks[0].limits = limits);
    let none = DiskLimits::default();
    assert!(disk(DiskLimits { read_bytes_per_second: Some(0), ..none }).contains("bytes"));
    assert!(disk(DiskLimits { write_operations_per_second: Some(MAX_RATE + 1), ..none }).contains("operations"));
    let both = DiskLimits { total_bytes_per_second: Some(1), read_bytes_per_second: Some(1), ..none };
    assert!(disk(both).contains("direction"));
    let both = DiskLimits { total_operations_per_second: Some(1), write_operations_per_second: Some(1), ..none };
    assert!(disk(both).contains("direction"));
    let nic = |inbound| NicLimits { inbound_bytes_per_second: Some(inbound), ..NicLimits::default() };
    assert!(refused(|spec| spec.nics[0].limits = nic(0)).contains("limit of nic 0"));
    assert!(refused(|spec| spec.nics[0].limits = nic(u64::MAX)).contains("limit of nic 0"));
}

#[test]
fn every_server_has_a_vsock_address_of_a_guest() {
    let spec = golden();
    assert_eq!(spec.vsock_cid(), 2_460_354_351);
    for id in [uuid::Uuid::from_u128(u128::MAX), uuid::Uuid::from_u128(0xffff_ffff), uuid::Uuid::from_u128(0xffff_fffc)]
    {
        let cid = VmSpec { server_id: id, ..spec.clone() }.vsock_cid();
        assert!((3..u32::MAX).contains(&cid), "{cid}");
    }
}

#[test]
fn what_came_with_version_2_is_refused_in_version_1() {
    let text = String::from_utf8(GOLDEN_2.to_vec()).unwrap().replace("\"version\": 2,", "\"version\": 1,");
    let error = VmSpec::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("version 1"), "{error}");
}

#[test]
fn a_newer_version_is_refused_by_its_number_and_not_by_its_fields() {
    let text = String::from_utf8(GOLDEN.to_vec()).unwrap().replace("\"version\": 1,", "\"version\": 3, \"new\": true,");
    assert!(matches!(VmSpec::parse(text.as_bytes()), Err(SpecError::Version { found: 3 })));
}

#[test]
fn an_unknown_field_is_refused_at_every_level() {
    for (from, to) in [
        ("\"vcpus\": 2,", "\"vcpus\": 2, \"x\": 1,"),
        ("\"serial\": \"\",", "\"serial\": \"\", \"x\": 1,"),
        ("\"mtu\": 1500,", "\"mtu\": 1500, \"x\": 1,"),
        ("\"sockets\": 1,", "\"sockets\": 1, \"x\": 1,"),
        ("\"product\":", "\"x\": 1, \"product\":"),
    ] {
        let text = String::from_utf8(GOLDEN.to_vec()).unwrap();
        assert!(text.contains(from));
        let error = VmSpec::parse(text.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("unknown field `x`"), "{error}");
    }
}

#[test]
fn the_hash_changes_with_anything_and_with_nothing_else() {
    let spec = golden();
    assert_eq!(spec.hash(), golden().hash());
    assert_eq!(spec.hash().len(), 64);
    for change in [
        (|spec: &mut VmSpec| spec.memory_mib += 1) as fn(&mut VmSpec),
        |spec| spec.disks[1].read_only = false,
        |spec| spec.generation += 1,
        |spec| spec.run_as = None,
        |spec| spec.nics[0].mtu = 1400,
        |spec| spec.page_size = PageSize::Small,
        |spec| spec.cpu.dedicated = tuned().cpu.dedicated,
        |spec| spec.disks[1].limits = tuned().disks[1].limits,
        |spec| spec.nics[0].limits = tuned().nics[0].limits,
    ] {
        let mut changed = golden();
        change(&mut changed);
        assert_ne!(changed.hash(), spec.hash());
    }
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    assert!(refused(|spec| spec.vcpus = 0).contains("vcpus"));
    assert!(refused(|spec| spec.memory_mib = 0).contains("memory_mib"));
    assert!(refused(|spec| spec.run_as = Some(0)).contains("root"));
    assert!(refused(|spec| spec.name = "a\nb".to_owned()).contains("control"));
    assert!(refused(|spec| spec.disks[1].slot = 0).contains("twice"));
    assert!(refused(|spec| spec.disks[1].kind = DiskKind::Root).contains("root disk"));
    assert!(refused(|spec| spec.disks[1].descriptor = 0).contains("twice"));
    assert!(refused(|spec| spec.nics[0].descriptor = 3).contains("gap"));
    assert!(refused(|spec| spec.nics[0].queues = 0).contains("queues"));
    assert!(refused(|spec| spec.nics[0].queues = 9).contains("queues"));
    let twice = Restore { state_descriptor: 3, memory_descriptor: 3 };
    assert!(refused(|spec| spec.restore = Some(twice)).contains("twice"));
    assert!(refused(|spec| spec.disks[0].size_bytes = 513).contains("512"));
    assert!(refused(|spec| spec.disks[0].serial = "a,b".to_owned()).contains("serial"));
    assert!(refused(|spec| spec.smbios.product = "a\nb".to_owned()).contains("smbios"));
    assert!(refused(|spec| spec.cpu.model = Some("max,host".to_owned())).contains("model"));
    assert!(refused(|spec| spec.cpu.topology.as_mut().unwrap().cores = 3).contains("topology"));
    assert!(refused(|spec| spec.console_log_bytes = 1).contains("console_log_bytes"));
    for mac in
        ["01:00:00:00:00:00", "00:00:00:00:00:00", "fa:16:3e:00:00", "fa:16:3e:00:00:001", "+a:16:3e:00:00:00", ""]
    {
        assert!(mac.parse::<Mac>().is_err(), "{mac}");
    }
}

#[test]
fn a_spec_of_any_size_of_garbage_is_an_error_and_never_a_panic() {
    assert!(matches!(VmSpec::parse(&vec![b'['; 1 << 20]), Err(SpecError::TooLarge)));
    assert!(VmSpec::parse(&vec![b'['; 100_000]).is_err());
    assert!(VmSpec::parse(b"").is_err());
}

#[test]
fn files_of_a_hostile_vm_process_are_read_with_a_bound_and_without_following_links() {
    let state = tempfile::tempdir().unwrap();
    let directory = ServerDirectory::of(state.path(), golden().server_id);
    directory.ensure().unwrap();
    directory.ensure().unwrap();
    assert!(directory.read_spec().unwrap().is_none());
    directory.write_spec(&golden()).unwrap();
    assert_eq!(directory.read_spec().unwrap().unwrap(), golden());

    std::fs::write(directory.file("exit.json"), b"{\"version\":1,").unwrap();
    assert_eq!(directory.read_exit().unwrap(), None, "a torn record is none");
    std::fs::write(directory.file("exit.json"), vec![b' '; 1 << 20]).unwrap();
    assert!(directory.read_exit().is_err(), "an endless record is refused");
    std::fs::remove_file(directory.file("exit.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.file("exit.json")).unwrap();
    assert!(directory.read_exit().is_err(), "a link is not followed");
    nix::unistd::mkfifo(&directory.file("console.log"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(directory.console_tail(100).is_err(), "a pipe does not block the reader");
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = VmSpec::parse(&bytes);
    }

    #[test]
    fn what_validates_survives_the_file(memory in 1_u64..100_000, serial in "[A-Za-z0-9_-]{0,20}", name in "[^\\p{C}]{0,40}") {
        let mut spec = golden();
        spec.memory_mib = memory;
        spec.name = name;
        spec.disks.truncate(1);
        spec.nics[0].descriptor = 1;
        spec.disks[0] = Disk { serial, ..spec.disks[0].clone() };
        let read = VmSpec::parse(&spec.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(read.hash(), spec.hash());
        prop_assert_eq!(read, spec);
    }
    #[test]
    fn what_of_the_host_a_vm_gets_is_validated_and_survives_the_file(
        memory_mib in 1_u64..5000,
        page_size in page_sizes(),
        vcpus in proptest::option::of(proptest::collection::vec(cpus(), 1..4)),
        others in cpus(),
        limits in disk_limits(),
        nic in (rate(), rate()),
    ) {
        let mut spec = VmSpec { memory_mib, page_size, ..golden() };
        spec.cpu.dedicated = vcpus.map(|vcpus| Dedicated { vcpus, others });
        spec.disks[0].limits = limits;
        spec.nics[0].limits = NicLimits { inbound_bytes_per_second: nic.0, outbound_bytes_per_second: nic.1 };
        // What is valid comes back the same, and what is not is not read either.
        match spec.to_bytes() {
            Ok(bytes) => {
                let read = VmSpec::parse(&bytes).unwrap();
                prop_assert_eq!(read.hash(), spec.hash());
                prop_assert_eq!(read, spec);
            }
            Err(SpecError::Invalid(_)) => {
                prop_assert!(VmSpec::parse(&serde_json::to_vec(&spec).unwrap()).is_err());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn page_sizes() -> impl Strategy<Value = PageSize> {
    use PageSize::{Any, Large, OneGib, Small, TwoMib};
    proptest::sample::select(vec![Any, Small, Large, TwoMib, OneGib])
}

fn cpus() -> impl Strategy<Value = BTreeSet<u16>> {
    proptest::collection::btree_set(0_u16..MAX_HOST_CPUS + 2, 0..4)
}

fn rate() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![4 => Just(None), 4 => (1..=MAX_RATE).prop_map(Some), 1 => any::<u64>().prop_map(Some)]
}

fn disk_limits() -> impl Strategy<Value = DiskLimits> {
    (rate(), rate(), rate(), rate(), rate(), rate()).prop_map(|(a, b, c, d, e, f)| DiskLimits {
        read_bytes_per_second: a,
        write_bytes_per_second: b,
        total_bytes_per_second: c,
        read_operations_per_second: d,
        write_operations_per_second: e,
        total_operations_per_second: f,
    })
}
