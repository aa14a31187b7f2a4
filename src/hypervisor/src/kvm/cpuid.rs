//! What the guest's CPUs say of themselves: KVM's table, made right for each vCPU.
//!
//! What must stay true: no number of the host's own topology reaches the guest; every leaf that names an APIC id names the
//! vCPU's own (trap 3 of `reference/hypervisor.md`: APIC ids in leaves 1, 0xb, 0x1f and 0x8000001e); a guest is not
//! offered virtualization unless it was asked for.

use std::fmt;

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use vmspec::spec::CpuTopology;

/// Packages, cores in each, threads in each core, as APIC ids encode them: fields whose widths are rounded up, so ids have
/// gaps where a count is no power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

/// The number of bits that count to `n`.
fn width(n: u32) -> u32 {
    n.max(1).next_power_of_two().trailing_zeros()
}

impl Topology {
    /// As the spec wants it; without a wish each vCPU is a package of its own.
    pub fn new(vcpus: u32, wanted: Option<CpuTopology>) -> Self {
        match wanted {
            Some(CpuTopology { sockets, cores, threads })
                if sockets.checked_mul(cores).and_then(|n| n.checked_mul(threads)) == Some(vcpus) =>
            {
                Self { sockets, cores, threads }
            }
            _ => Self { sockets: vcpus, cores: 1, threads: 1 },
        }
    }

    pub fn vcpus(&self) -> u32 {
        self.sockets * self.cores * self.threads
    }

    /// The APIC id of the vCPU with this index, which is also its id in KVM.
    pub fn apic_id(&self, index: u32) -> u32 {
        let (thread, rest) = (index % self.threads, index / self.threads);
        let (core, socket) = (rest % self.cores, rest / self.cores);
        socket << (width(self.cores) + width(self.threads)) | core << width(self.threads) | thread
    }

    pub fn apic_ids(&self) -> Vec<u32> {
        (0..self.vcpus()).map(|index| self.apic_id(index)).collect()
    }

    fn threads_per_package(&self) -> u32 {
        self.cores * self.threads
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Intel,
    Amd,
    Other,
}

/// What the guest is given beyond what KVM supports as a matter of course.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// VMX or SVM for guests of the guest.
    pub nested: bool,
    /// The local APIC has a deadline timer.
    pub tsc_deadline: bool,
}

const LEAF_FEATURES: u32 = 0x1;
const LEAF_CACHES: u32 = 0x4;
const LEAF_EXTENDED_FEATURES: u32 = 0x7;
const LEAF_PERFORMANCE: u32 = 0xa;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_XSTATE: u32 = 0xd;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_HYPERVISOR: u32 = 0x4000_0000;
const LEAF_HYPERVISOR_FEATURES: u32 = 0x4000_0001;
const LEAF_AMD_FEATURES: u32 = 0x8000_0001;
const LEAF_AMD_SIZES: u32 = 0x8000_0008;
const LEAF_SVM: u32 = 0x8000_000a;
const LEAF_AMD_CACHES: u32 = 0x8000_001d;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;
const LEAF_AMD_MEMORY_ENCRYPTION: u32 = 0x8000_001f;
const LEAF_AMD_PERFORMANCE: u32 = 0x8000_0022;
const LEAF_AMD_TOPOLOGY_V2: u32 = 0x8000_0026;

/// The table of one host, from which those of all vCPUs are made.
#[derive(Clone)]
pub struct Cpuid {
    host: Vec<kvm_cpuid_entry2>,
    vendor: Vendor,
    topology: Topology,
    features: Features,
}

impl fmt::Debug for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpuid").field("vendor", &self.vendor).field("topology", &self.topology).finish_non_exhaustive()
    }
}

impl Cpuid {
    /// `host` is what KVM_GET_SUPPORTED_CPUID says.
    pub fn new(host: &[kvm_cpuid_entry2], topology: Topology, features: Features) -> Self {
        let vendor = host.iter().find(|entry| entry.function == 0).map_or(Vendor::Other, |leaf| {
            let mut name = [0_u8; 12];
            for (part, register) in name.chunks_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
                part.copy_from_slice(&register.to_le_bytes());
            }
            match &name {
                b"GenuineIntel" => Vendor::Intel,
                b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
                _ => Vendor::Other,
            }
        });
        Self { host: host.to_vec(), vendor, topology, features }
    }

    /// How many bits a physical address has.
    pub fn physical_bits(&self) -> u32 {
        self.host.iter().find(|entry| entry.function == LEAF_AMD_SIZES).map_or(36, |entry| entry.eax & 0xff)
    }

    /// The table of the vCPU with this index.
    pub fn of_vcpu(&self, index: u32) -> Vec<kvm_cpuid_entry2> {
        let apic_id = self.topology.apic_id(index);
        let mut table: Vec<kvm_cpuid_entry2> = Vec::with_capacity(self.host.len() + 4);
        for entry in &self.host {
            match entry.function {
                // Written anew below, whatever the host's are.
                LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 | LEAF_AMD_TOPOLOGY | LEAF_AMD_TOPOLOGY_V2 => {}
                // Kernel same-page encryption and its like are not for guests of ours.
                LEAF_AMD_MEMORY_ENCRYPTION => {}
                LEAF_SVM if !self.features.nested => {}
                _ => table.push(self.changed(*entry, apic_id)),
            }
        }
        let highest = |table: &[kvm_cpuid_entry2], function: u32| {
            table.iter().find(|entry| entry.function == function).map_or(0, |entry| entry.eax)
        };
        let basic = highest(&self.host, 0);
        if basic >= LEAF_TOPOLOGY {
            table.extend(self.topology_leaves(LEAF_TOPOLOGY, apic_id));
        }
        if basic >= LEAF_TOPOLOGY_V2 && self.vendor == Vendor::Intel {
            table.extend(self.topology_leaves(LEAF_TOPOLOGY_V2, apic_id));
        }
        if self.vendor == Vendor::Amd && highest(&self.host, 0x8000_0000) >= LEAF_AMD_TOPOLOGY {
            table.push(self.amd_topology(apic_id));
        }
        // KVM answers for absent leaves above the highest as real CPUs do: the order and the highest must be right.
        table.sort_by_key(|entry| (entry.function, entry.index));
        table
    }

    fn changed(&self, mut entry: kvm_cpuid_entry2, apic_id: u32) -> kvm_cpuid_entry2 {
        let per_package = self.topology.threads_per_package();
        match entry.function {
            0 => {
                // No leaf of the host above 0x1f is understood here.
                entry.eax = entry.eax.min(LEAF_TOPOLOGY_V2);
            }
            LEAF_FEATURES => {
                // CLFLUSH line size stays; the rest of EBX is ours (SDM volume 2, CPUID, leaf 1).
                let logical = if per_package > 1 { per_package.next_power_of_two().min(255) } else { 1 };
                entry.ebx = entry.ebx & 0xff00 | logical << 16 | (apic_id & 0xff) << 24;
                set(&mut entry.edx, 28, per_package > 1); // HTT
                set(&mut entry.ecx, 31, true); // hypervisor
                set(&mut entry.ecx, 24, self.features.tsc_deadline);
                set(&mut entry.ecx, 27, false); // OSXSAVE follows CR4, KVM's business
                set(&mut entry.ecx, 15, false); // PDCM: no performance counters
                set(&mut entry.edx, 21, false); // debug store
                if !self.features.nested {
                    set(&mut entry.ecx, 5, false); // VMX
                }
            }
            LEAF_CACHES if self.vendor == Vendor::Intel && entry.eax & 0x1f != 0 => {
                let level = entry.eax >> 5 & 7;
                // The first two levels belong to a core, those above to the package.
                let sharing = if level < 3 { self.topology.threads } else { per_package };
                let cores = self.topology.cores.next_power_of_two().min(64);
                entry.eax = entry.eax & 0x3fff | (sharing.next_power_of_two().min(4096) - 1) << 14 | (cores - 1) << 26;
            }
            LEAF_EXTENDED_FEATURES if entry.index == 0 => {
                // AMX: its state is larger than what is saved.
                for bit in [22, 24, 25] {
                    set(&mut entry.edx, bit, false);
                }
            }
            LEAF_XSTATE if entry.index == 0 => {
                entry.eax &= !(0b11 << 17);
            }
            LEAF_PERFORMANCE => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
            }
            LEAF_HYPERVISOR => entry.eax = LEAF_HYPERVISOR_FEATURES,
            0x8000_0000 => entry.eax = entry.eax.min(LEAF_AMD_PERFORMANCE - 1),
            LEAF_AMD_FEATURES => {
                if !self.features.nested {
                    set(&mut entry.ecx, 2, false); // SVM
                }
                if self.vendor == Vendor::Amd {
                    set(&mut entry.ecx, 1, per_package > 1); // CmpLegacy
                    set(&mut entry.ecx, 22, true); // TopologyExtensions
                    set(&mut entry.ecx, 23, false); // performance counters
                    set(&mut entry.ecx, 24, false);
                    set(&mut entry.ecx, 28, false);
                }
            }
            LEAF_AMD_SIZES if self.vendor == Vendor::Amd => {
                let bits = width(self.topology.cores) + width(self.topology.threads);
                entry.ecx = entry.ecx & !0xf0ff | bits << 12 | (per_package - 1).min(255);
            }
            LEAF_AMD_CACHES if entry.eax & 0x1f != 0 => {
                let level = entry.eax >> 5 & 7;
                let sharing = if level < 3 { self.topology.threads } else { per_package };
                entry.eax = entry.eax & !(0xfff << 14) | (sharing - 1).min(0xfff) << 14;
            }
            _ => {}
        }
        entry
    }

    /// Leaf 0xb or 0x1f: threads, cores, and the end. EDX is the x2APIC id in every one.
    fn topology_leaves(&self, function: u32, apic_id: u32) -> [kvm_cpuid_entry2; 3] {
        let threads = width(self.topology.threads);
        let cores = threads + width(self.topology.cores);
        [(threads, self.topology.threads, 1_u32), (cores, self.topology.threads_per_package(), 2), (0, 0, 0)].map({
            let mut index = 0;
            move |(shift, count, kind)| {
                let leaf = kvm_cpuid_entry2 {
                    function,
                    index,
                    flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                    eax: shift,
                    ebx: count,
                    ecx: kind << 8 | index,
                    edx: apic_id,
                    ..Default::default()
                };
                index += 1;
                leaf
            }
        })
    }

    fn amd_topology(&self, apic_id: u32) -> kvm_cpuid_entry2 {
        let core = apic_id >> width(self.topology.threads) & ((1 << width(self.topology.cores)) - 1);
        kvm_cpuid_entry2 {
            function: LEAF_AMD_TOPOLOGY,
            eax: apic_id,
            ebx: (self.topology.threads - 1) << 8 | core & 0xff,
            // One node, numbered by its package.
            ecx: (apic_id >> (width(self.topology.cores) + width(self.topology.threads))) & 0xff,
            ..Default::default()
        }
    }
}

fn set(register: &mut u32, bit: u32, value: bool) {
    *register = *register & !(1 << bit) | u32::from(value) << bit;
}

#[cfg(test)]
mod tests {
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

    fn shape(sockets: u32, cores: u32, threads: u32) -> Topology {
        Topology { sockets, cores, threads }
    }

    fn find(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *table.iter().find(|entry| entry.function == function && entry.index == index).unwrap()
    }

    #[test]
    fn apic_ids_are_unique_and_their_fields_do_not_run_into_each_other() {
        for shape in [shape(1, 1, 1), shape(2, 1, 1), shape(1, 3, 2), shape(3, 5, 2), shape(2, 16, 2), shape(64, 1, 1)]
        {
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
            let (threads, cores, end) =
                (find(&table, function, 0), find(&table, function, 1), find(&table, function, 2));
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
}
