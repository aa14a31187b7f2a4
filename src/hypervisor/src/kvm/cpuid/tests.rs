//! What guests are told on hosts of which recordings exist (`hosts/`, each with what it is and where it is from), read as a
//! guest's kernel reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
}

/// An Ice Lake server's, asked on its processor 0x47: the leaves that matter here.
fn intel() -> Vec<kvm_cpuid_entry2> {
    vec![
        leaf(0x0, 0, [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        leaf(0x1, 0, [0x0006_06a6, 0x4740_0800, 0xfffa_b223, 0x1f8b_fbff]),
        leaf(0x4, 0, [0x7c00_4121, 0x02c0_003f, 0x3f, 0]),
        leaf(0x4, 1, [0x7c00_4122, 0x01c0_003f, 0x3f, 0]),
        leaf(0x4, 2, [0x7c00_4143, 0x04c0_003f, 0x3ff, 0]),
        leaf(0x4, 3, [0x7c0f_c163, 0x02c0_003f, 0xffff, 4]),
        leaf(0x4, 4, [0, 0, 0, 0]),
        leaf(0x7, 0, [2, 0xf1bf_27eb, 0x0040_5fce, 0xbfc1_0410]),
        leaf(0xa, 0, [0x0830_0802, 0, 0, 0x0603]),
        leaf(0xb, 0, [1, 2, 0x100, 0x47]),
        leaf(0xb, 1, [6, 0x40, 0x201, 0x47]),
        leaf(0xd, 0, [0x6_02e7, 0xa88, 0xa88, 0]),
        leaf(0x1f, 0, [1, 2, 0x100, 0x47]),
        leaf(0x1f, 1, [6, 0x40, 0x201, 0x47]),
        leaf(0x1f, 2, [0, 0, 2, 0x47]),
        leaf(0x4000_0000, 0, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
        leaf(0x4000_0001, 0, [0x0100_7efb, 0, 0, 0]),
        leaf(0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, 0, [0, 0, 0x121, 0x2c10_0800]),
        leaf(0x8000_0008, 0, [0x0030_392e, 0x0100_d200, 0, 0]),
    ]
}

/// A Milan server's, asked on its processor 0x15.
fn amd() -> Vec<kvm_cpuid_entry2> {
    vec![
        leaf(0x0, 0, [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        leaf(0x1, 0, [0x00a0_0f11, 0x1580_0800, 0xfed8_3203, 0x1f8b_fbff]),
        leaf(0x7, 0, [0, 0x219c_97a9, 0x40_068c, 0x10]),
        leaf(0xb, 0, [1, 2, 0x100, 0x15]),
        leaf(0xb, 1, [7, 0x80, 0x201, 0x15]),
        leaf(0x8000_0000, 0, [0x8000_0026, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        leaf(0x8000_0001, 0, [0x00a0_0f11, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        leaf(0x8000_0008, 0, [0x3030, 0x111e_d205, 0x707f, 0x0001_0007]),
        leaf(0x8000_000a, 0, [1, 0x8000, 0, 0x119b_fcff]),
        leaf(0x8000_001d, 0, [0x4121, 0x01c0_003f, 0x3f, 0]),
        leaf(0x8000_001d, 3, [0x0003_c163, 0x03c0_003f, 0x7fff, 1]),
        leaf(0x8000_001e, 0, [0x15, 0x010a, 0, 0]),
        leaf(0x8000_001f, 0, [0x0001_780f, 0x1733, 0x1fd, 1]),
        leaf(0x8000_0026, 0, [1, 2, 0x100, 0x15]),
    ]
}

const PLAIN: Features = Features { nested: false, tsc_deadline: true };

const fn shape(sockets: u32, cores: u32, threads: u32) -> Topology {
    Topology { sockets, cores, threads }
}

fn find(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    *table.iter().find(|entry| entry.function == function && entry.index == index).unwrap()
}

#[test]
fn apic_ids_are_unique_and_their_fields_do_not_run_into_each_other() {
    for shape in [shape(1, 1, 1), shape(2, 1, 1), shape(1, 3, 2), shape(3, 5, 2), shape(2, 16, 2), shape(64, 1, 1)] {
        let mut ids = shape.apic_ids();
        assert_eq!(ids.len(), shape.vcpus() as usize);
        ids.dedup();
        assert_eq!(ids.len(), shape.vcpus() as usize, "{shape:?}");
        assert!(ids.is_sorted());
    }
    assert_eq!(shape(2, 3, 2).apic_ids(), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
}

#[test]
fn a_wish_that_does_not_make_the_vcpus_is_not_followed() {
    let wish = |sockets, cores, threads| Some(CpuTopology { sockets, cores, threads });
    assert_eq!(Topology::new(4, wish(1, 2, 2)), shape(1, 2, 2));
    assert_eq!(Topology::new(4, wish(1, 2, 1)), shape(4, 1, 1));
    assert_eq!(Topology::new(4, wish(u32::MAX, u32::MAX, 4)), shape(4, 1, 1));
    assert_eq!(Topology::new(3, None), shape(3, 1, 1));
}

#[test]
fn no_apic_id_of_the_host_is_left_in_any_leaf() {
    for (host, id) in [(intel(), 0x47), (amd(), 0x15)] {
        let cpuid = Cpuid::new(&host, shape(2, 4, 2), PLAIN);
        for vcpu in 0..16 {
            let own = shape(2, 4, 2).apic_id(vcpu);
            let table = cpuid.of_vcpu(vcpu);
            assert_eq!(find(&table, 1, 0).ebx >> 24, own);
            for entry in &table {
                match entry.function {
                    0xb | 0x1f => assert_eq!(entry.edx, own, "leaf {:#x}.{}", entry.function, entry.index),
                    0x8000_001e => assert_eq!(entry.eax, own),
                    _ => {}
                }
            }
            assert_ne!(own, id);
        }
    }
}

#[test]
fn an_intel_guest_sees_the_topology_it_was_given() {
    let table = Cpuid::new(&intel(), shape(2, 4, 2), PLAIN).of_vcpu(5);
    let features = find(&table, 1, 0);
    assert_eq!(features.ebx >> 16 & 0xff, 8);
    assert_eq!(features.edx >> 28 & 1, 1);
    for function in [0xb, 0x1f] {
        let (threads, cores, end) = (find(&table, function, 0), find(&table, function, 1), find(&table, function, 2));
        assert_eq!((threads.eax, threads.ebx, threads.ecx), (1, 2, 0x100));
        assert_eq!((cores.eax, cores.ebx, cores.ecx), (3, 8, 0x201));
        assert_eq!((end.eax, end.ebx, end.ecx, end.edx), (0, 0, 2, 5));
    }
    // L1 is shared by the threads of a core, L3 by the package; four cores in it.
    assert_eq!(find(&table, 4, 0).eax >> 14, 3 << 12 | 1);
    assert_eq!(find(&table, 4, 3).eax >> 14, 3 << 12 | 7);
    assert_eq!(find(&table, 4, 4).eax, 0);
}

#[test]
fn an_amd_guest_sees_the_topology_it_was_given() {
    let table = Cpuid::new(&amd(), shape(2, 4, 2), PLAIN).of_vcpu(11);
    let own = shape(2, 4, 2).apic_id(11);
    let sizes = find(&table, 0x8000_0008, 0);
    assert_eq!((sizes.ecx & 0xff, sizes.ecx >> 12 & 0xf), (7, 3));
    assert_eq!(sizes.eax, 0x3030);
    let topology = find(&table, 0x8000_001e, 0);
    assert_eq!((topology.eax, topology.ebx, topology.ecx), (own, 0x101, 1));
    assert_eq!(find(&table, 0x8000_0001, 0).ecx >> 22 & 1, 1);
    assert_eq!(find(&table, 0x8000_001d, 3).eax >> 14 & 0xfff, 7);
    assert_eq!(find(&table, 0x8000_001d, 0).eax >> 14 & 0xfff, 1);
    assert!(!table.iter().any(|entry| entry.function == 0x8000_0026 || entry.function == 0x8000_001f));
    assert!(find(&table, 0x8000_0000, 0).eax < 0x8000_0022);
}

#[test]
fn virtualization_is_offered_only_when_asked_for() {
    for nested in [false, true] {
        let features = Features { nested, tsc_deadline: true };
        let intel = Cpuid::new(&intel(), shape(1, 1, 1), features).of_vcpu(0);
        assert_eq!(find(&intel, 1, 0).ecx >> 5 & 1, u32::from(nested));
        let amd = Cpuid::new(&amd(), shape(1, 1, 1), features).of_vcpu(0);
        assert_eq!(find(&amd, 0x8000_0001, 0).ecx >> 2 & 1, u32::from(nested));
        assert_eq!(amd.iter().any(|entry| entry.function == 0x8000_000a), nested);
    }
}

#[test]
fn the_guest_knows_that_it_is_one_and_has_no_counters() {
    let table = Cpuid::new(&intel(), shape(1, 1, 1), PLAIN).of_vcpu(0);
    let features = find(&table, 1, 0);
    assert_eq!(features.ecx >> 31, 1);
    assert_eq!(features.ecx >> 24 & 1, 1);
    assert_eq!(features.edx >> 28 & 1, 0);
    assert_eq!(find(&table, 0xa, 0).eax, 0);
    assert_eq!(find(&table, 0x4000_0000, 0).ebx, 0x4b4d_564b);
    assert_eq!(find(&table, 0, 0).eax, 0x1f);
    assert_eq!(find(&table, 0xd, 0).eax >> 17 & 3, 0);
}

#[test]
fn memory_that_the_host_must_read_is_waited_for() {
    let table = Cpuid::new(&intel(), shape(1, 1, 1), PLAIN).of_vcpu(0);
    assert_eq!(find(&table, 0x4000_0001, 0).eax, 0x0100_7efb & !(1 << 4 | 1 << 10 | 1 << 14));
}

#[test]
fn sixty_four_vcpus_in_one_package_fit_their_fields() {
    let cpuid = Cpuid::new(&amd(), shape(1, 64, 1), PLAIN);
    let table = cpuid.of_vcpu(63);
    assert_eq!(find(&table, 1, 0).ebx >> 24, 63);
    assert_eq!(find(&table, 1, 0).ebx >> 16 & 0xff, 64);
    assert_eq!(find(&table, 0x8000_0008, 0).ecx & 0xff, 63);
    assert_eq!(cpuid.physical_bits(), 48);
    let table = Cpuid::new(&intel(), shape(1, 240, 1), PLAIN).of_vcpu(239);
    assert_eq!(find(&table, 1, 0).ebx, 239 << 24 | 255 << 16 | 0x800);
    assert_eq!(find(&table, 0xb, 1).ebx, 240);
}

/// Recordings: of CPUID itself, which has more than KVM offers, and of what KVM offered.
const HOSTS: [(&str, &str); 6] = [
    ("intel-core-i9-12900k", include_str!("hosts/intel-core-i9-12900k.txt")),
    ("intel-core-i9-10980xe", include_str!("hosts/intel-core-i9-10980xe.txt")),
    ("intel-sapphire-rapids-kvm", include_str!("hosts/intel-sapphire-rapids-kvm.txt")),
    ("amd-threadripper-pro-3955wx", include_str!("hosts/amd-threadripper-pro-3955wx.txt")),
    ("amd-ryzen-9-7900x", include_str!("hosts/amd-ryzen-9-7900x.txt")),
    ("amd-genoa-kvm", include_str!("hosts/amd-genoa-kvm.txt")),
];

/// 1, 2, 3 and 64 vCPUs, and the most, in every way that makes a difference.
const SHAPES: [Topology; 14] = [
    shape(1, 1, 1),
    shape(2, 1, 1),
    shape(1, 2, 1),
    shape(1, 1, 2),
    shape(3, 1, 1),
    shape(1, 3, 1),
    shape(2, 3, 2),
    shape(64, 1, 1),
    shape(1, 64, 1),
    shape(1, 32, 2),
    shape(2, 16, 2),
    shape(4, 16, 1),
    shape(5, 12, 1),
    shape(1, 240, 1),
];

fn recorded(text: &str) -> Vec<kvm_cpuid_entry2> {
    let line = |line: &str| {
        let numbers: Vec<u32> = line.split([' ', '.']).map(|number| u32::from_str_radix(number, 16).unwrap()).collect();
        let [function, index, registers @ ..] = numbers.as_slice() else { panic!("{line}") };
        leaf(*function, *index, registers.try_into().unwrap())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

fn get(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
    table.iter().find(|entry| entry.function == function && entry.index == index).copied()
}

fn is_amd(table: &[kvm_cpuid_entry2]) -> bool {
    find(table, 0, 0).ebx == 0x6874_7541
}

/// Every guest of every host: its name, its shape, and the tables of all its vCPUs.
fn every_guest(mut look: impl FnMut(&str, Topology, &[kvm_cpuid_entry2], &[Vec<kvm_cpuid_entry2>])) {
    for (name, text) in HOSTS {
        let host = recorded(text);
        for shape in SHAPES {
            let cpuid = Cpuid::new(&host, shape, PLAIN);
            let tables: Vec<_> = (0..shape.vcpus()).map(|vcpu| cpuid.of_vcpu(vcpu)).collect();
            look(name, shape, &host, &tables);
        }
    }
}

/// Package, core and thread, as a kernel takes them out of leaf 0xb or 0x1f.
fn by_levels(table: &[kvm_cpuid_entry2], function: u32) -> Option<(u32, u32, u32)> {
    let threads = get(table, function, 0)?;
    let cores = find(table, function, 1);
    assert_eq!((threads.ecx >> 8, cores.ecx >> 8), (1, 2), "threads come first, then cores");
    assert_eq!(threads.edx, cores.edx);
    let id = threads.edx;
    let within = |id: u32, bits: u32| id & ((1 << bits) - 1);
    Some((id >> cores.eax, within(id, cores.eax) >> threads.eax, within(id, threads.eax)))
}

#[test]
fn whichever_way_a_kernel_asks_it_finds_the_topology_of_the_spec() {
    every_guest(|name, shape, _, tables| {
        let mut packages: BTreeMap<u32, BTreeMap<u32, BTreeSet<u32>>> = BTreeMap::new();
        for (vcpu, table) in (0..).zip(tables) {
            let id = shape.apic_id(vcpu);
            let what = format!("{name} {shape:?} vCPU {vcpu}");
            let features = find(table, 1, 0);
            assert_eq!(features.ebx >> 24, id & 0xff, "{what}");
            let (package, core, thread) = by_levels(table, 0xb).expect("every host here has leaf 0xb");
            assert!(packages.entry(package).or_default().entry(core).or_default().insert(thread), "{what}");
            for function in [0xb, 0x1f] {
                let Some(levels) = by_levels(table, function) else { continue };
                assert_eq!(levels, (package, core, thread), "{what}");
                let (threads, cores) = (find(table, function, 0), find(table, function, 1));
                assert_eq!((threads.ebx, cores.ebx), (shape.threads, shape.cores * shape.threads), "{what}");
                for entry in table.iter().filter(|entry| entry.function == function) {
                    assert_eq!((entry.edx, entry.ecx & 0xff), (id, entry.index), "{what}");
                }
            }
            let per_package = shape.cores * shape.threads;
            assert_eq!(features.edx >> 28 & 1, u32::from(per_package > 1), "{what}");
            if is_amd(table) {
                assert_eq!(features.ebx >> 16 & 0xff, per_package, "{what}");
                let sizes = find(table, 0x8000_0008, 0);
                assert_eq!(sizes.ecx & 0xff, per_package - 1, "{what}");
                let bits = sizes.ecx >> 12 & 0xf;
                assert_eq!(id >> bits, package, "{what}");
                let own = find(table, 0x8000_001e, 0);
                assert_eq!((own.eax, own.ebx >> 8 & 0xff), (id, shape.threads - 1), "{what}");
                assert_eq!((own.ebx & 0xff, own.ecx & 0xff, own.ecx >> 8 & 7), (core, package, 0), "{what}");
                assert_eq!(find(table, 0x8000_0001, 0).ecx >> 22 & 1, 1, "{what}");
            } else {
                // Legacy ids: as many for the package as leaf 1 says, as many for a core as leaf 4 leaves.
                let ids = (features.ebx >> 16 & 0xff).next_power_of_two();
                assert!(ids >= 256 || id / ids == package, "{what}");
                let l1 = find(table, 4, 0).eax;
                let cores = (l1 >> 26) + 1;
                assert!(cores == 64 || ids / cores == shape.threads.next_power_of_two() || per_package == 1, "{what}");
            }
        }
        assert_eq!(packages.len() as u32, shape.sockets, "{name} {shape:?}");
        for cores in packages.values() {
            assert_eq!(cores.len() as u32, shape.cores, "{name} {shape:?}");
            assert!(cores.values().all(|threads| threads.len() as u32 == shape.threads), "{name} {shape:?}");
        }
    });
}

#[test]
fn caches_are_shared_by_cores_and_packages_of_the_guest_and_by_nobody_else() {
    every_guest(|name, shape, _, tables| {
        let function = if is_amd(&tables[0]) { 0x8000_001d } else { 4 };
        for entry in tables[0].iter().filter(|entry| entry.function == function && entry.eax & 0x1f != 0) {
            let sharing = (entry.eax >> 14 & 0xfff) + 1;
            let expected = if entry.eax >> 5 & 7 < 3 { shape.threads } else { shape.cores * shape.threads };
            let expected = if function == 4 { expected.next_power_of_two() } else { expected };
            assert_eq!(sharing, expected, "{name} {shape:?} cache {}", entry.index);
        }
    });
}

#[test]
fn nothing_is_announced_that_the_host_does_not_offer() {
    // What is made here: hypervisor, timer with a deadline, several threads; topology.
    let made = |function: u32, register: usize| match (function, register) {
        (1, 2) => 1 << 31 | 1 << 24,
        (1, 3) => 1 << 28,
        (0x8000_0001, 2) => 1 << 22 | 1 << 1,
        _ => 0,
    };
    let of_bits = [(1, 0), (7, 0), (7, 1), (7, 2), (0xd, 1), (0x8000_0001, 0), (0x8000_0007, 0), (0x8000_0021, 0)];
    every_guest(|name, _, host, tables| {
        for table in tables {
            for (function, index) in of_bits {
                let Some(told) = get(table, function, index) else { continue };
                let there = get(host, function, index).expect("a leaf from nowhere");
                let pairs =
                    [(told.eax, there.eax), (told.ebx, there.ebx), (told.ecx, there.ecx), (told.edx, there.edx)];
                for (register, (told, there)) in pairs.into_iter().enumerate() {
                    // Versions of the processor; ids and counts; sizes.
                    if matches!((function, register), (1, 0 | 1) | (0xd, 1)) {
                        continue;
                    }
                    let more = told & !there & !made(function, register);
                    assert_eq!(more, 0, "{name} leaf {function:#x}.{index} register {register}");
                }
            }
            let (xstate, there) = (find(table, 0xd, 0), find(host, 0xd, 0));
            assert_eq!((xstate.eax & !there.eax, xstate.edx & !there.edx), (0, 0), "{name}");
            assert!(xstate.ecx <= there.ecx, "{name}");
            for entry in table {
                let made = matches!(entry.function, 0xb | 0x1f | 0x8000_001e);
                assert!(made || get(host, entry.function, entry.index).is_some(), "{name}: {:#x}", entry.function);
            }
            assert!(find(table, 0, 0).eax <= find(host, 0, 0).eax, "{name}");
            assert!(find(table, 0x8000_0000, 0).eax <= find(host, 0x8000_0000, 0).eax, "{name}");
        }
    });
}

#[test]
fn no_guest_is_offered_virtualization_counters_tiles_or_kinds_of_cores() {
    every_guest(|name, _, _, tables| {
        for table in tables {
            let (features, extended) = (find(table, 1, 0), find(table, 7, 0));
            assert_eq!(features.ecx & (1 << 5 | 1 << 15 | 1 << 2), 0, "{name}: VMX, PDCM, DTES64");
            assert_eq!(features.edx >> 21 & 1, 0, "{name}: debug store");
            assert_eq!(extended.edx & (1 << 22 | 1 << 24 | 1 << 25), 0, "{name}: AMX");
            assert_eq!(extended.edx & (1 << 15 | 1 << 19), 0, "{name}: hybrid, LBR");
            assert_eq!(extended.ebx & (1 << 2 | 1 << 12 | 1 << 15), 0, "{name}: SGX, RDT");
            if is_amd(table) {
                let amd = find(table, 0x8000_0001, 0).ecx;
                assert_eq!(amd & (1 << 2 | 1 << 10 | 1 << 23 | 1 << 24 | 1 << 28), 0, "{name}: SVM, IBS, counters");
            }
            assert_eq!(get(table, 0xa, 0).map_or(0, |leaf| leaf.eax | leaf.ebx | leaf.ecx | leaf.edx), 0, "{name}");
            for hidden in [0x12, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x20, 0x23, 0x24, 0x8000_000a, 0x8000_001b] {
                assert!(get(table, hidden, 0).is_none(), "{name} {hidden:#x}");
            }
            let last = table.iter().map(|entry| entry.function).max().unwrap();
            assert!(last <= 0x8000_0021 && find(table, 0, 0).eax <= 0x1f, "{name} {last:#x}");
        }
    });
}

#[test]
fn the_area_of_xsave_is_as_large_as_what_is_left_of_it() {
    for (name, bytes) in
        [("intel-sapphire-rapids-kvm", 0xa88), ("intel-core-i9-12900k", 0xa88), ("amd-genoa-kvm", 0x988)]
    {
        let (_, text) = HOSTS.into_iter().find(|(host, _)| *host == name).unwrap();
        let table = Cpuid::new(&recorded(text), shape(1, 1, 1), PLAIN).of_vcpu(0);
        let xstate = find(&table, 0xd, 0);
        assert_eq!((xstate.eax >> 17 & 3, xstate.ecx), (0, bytes), "{name}");
        assert!(get(&table, 0xd, 17).is_none() && get(&table, 0xd, 18).is_none());
        assert_eq!(find(&table, 0xd, 1).eax >> 4 & 1, 0, "{name}");
    }
}

#[test]
fn tables_are_in_order_and_fit_what_kvm_takes() {
    every_guest(|name, _, _, tables| {
        for table in tables {
            assert!(table.is_sorted_by_key(|entry| (entry.function, entry.index)), "{name}");
            let places: BTreeSet<_> = table.iter().map(|entry| (entry.function, entry.index)).collect();
            assert_eq!(places.len(), table.len(), "{name}: a leaf twice");
            assert!(table.len() <= kvm_bindings::KVM_MAX_CPUID_ENTRIES);
        }
    });
}
