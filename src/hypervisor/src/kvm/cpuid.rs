//! What the guest's CPUs say of themselves: KVM's table, made right for each vCPU.
//!
//! What must stay true: no number of the host's own topology reaches the guest; every leaf that names an APIC id names the
//! vCPU's own (trap 3 of `reference/hypervisor.md`: APIC ids in leaves 1, 0xb, 0x1f and 0x8000001e); a leaf that is not
//! understood here is not passed on; nothing is announced that KVM does not offer, but for what [`Cpuid::of_vcpu`] makes
//! itself; a guest is not offered virtualization unless it was asked for, and no counters of performance at all.

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
const LEAF_POWER: u32 = 0x6;
const LEAF_EXTENDED_FEATURES: u32 = 0x7;
const LEAF_PERFORMANCE: u32 = 0xa;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_XSTATE: u32 = 0xd;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_HYPERVISOR: u32 = 0x4000_0000;
const LEAF_HYPERVISOR_FEATURES: u32 = 0x4000_0001;
const LEAF_EXTENDED: u32 = 0x8000_0000;
const LEAF_AMD_FEATURES: u32 = 0x8000_0001;
const LEAF_AMD_SIZES: u32 = 0x8000_0008;
const LEAF_SVM: u32 = 0x8000_000a;
const LEAF_AMD_CACHES: u32 = 0x8000_001d;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;
const LEAF_LAST_EXTENDED: u32 = 0x8000_0021;

/// Leaves that are passed on, changed or not. Those that are missing are made here ([`Cpuid::of_vcpu`]), or are the host's own
/// business: 3 and 5 (idle states), 9, 0xf and 0x10 (its caches), 0x12 (SGX has no memory here), 0x17 to 0x1c (its cores
/// and their secrets), 0x1d and 0x1e (AMX), 0x20 and up; of AMD's its performance (0x8000001b, 0x80000022), encrypted
/// memory (0x8000001f), caches (0x80000020) and topology (0x80000026).
const PASSED_ON: [u32; 14] = [
    0x0,
    LEAF_FEATURES,
    0x2,
    LEAF_CACHES,
    LEAF_POWER,
    LEAF_EXTENDED_FEATURES,
    LEAF_PERFORMANCE,
    LEAF_XSTATE,
    0x14,
    0x15,
    0x16,
    LEAF_HYPERVISOR,
    LEAF_HYPERVISOR_FEATURES,
    LEAF_AMD_CACHES,
];
/// And of the extended leaves: names, caches and sizes; TLBs of large pages; what is fast; what is not as it was.
const PASSED_ON_EXTENDED: [std::ops::RangeInclusive<u32>; 3] =
    [LEAF_EXTENDED..=LEAF_AMD_SIZES, 0x8000_0019..=0x8000_001a, LEAF_LAST_EXTENDED..=LEAF_LAST_EXTENDED];

/// Components of XSAVE that no guest has: those of AMX, whose state is larger than what is saved here.
const TILES: u32 = 0b11 << 17;
/// Header and legacy area, whatever else there is.
const XSAVE_LEAST: u32 = 576;

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
        let passed_on = |function: u32| {
            PASSED_ON.contains(&function)
                || PASSED_ON_EXTENDED.iter().any(|range| range.contains(&function))
                || (function == LEAF_SVM && self.features.nested)
        };
        for entry in self.host.iter().filter(|entry| passed_on(entry.function)) {
            let tiles = entry.function == LEAF_XSTATE && entry.index < 32 && TILES >> entry.index & 1 == 1;
            if !tiles {
                table.push(self.changed(*entry, apic_id));
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
        if self.vendor == Vendor::Amd && highest(&self.host, LEAF_EXTENDED) >= LEAF_AMD_TOPOLOGY {
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
                // Intel counts the ids that a package can have, AMD the processors that it has.
                let logical = if self.vendor == Vendor::Intel { per_package.next_power_of_two() } else { per_package };
                let logical = logical.min(255);
                entry.ebx = entry.ebx & 0xff00 | logical << 16 | (apic_id & 0xff) << 24;
                set(&mut entry.edx, 28, per_package > 1); // HTT
                set(&mut entry.ecx, 31, true); // hypervisor
                set(&mut entry.ecx, 24, self.features.tsc_deadline);
                set(&mut entry.ecx, 27, false); // OSXSAVE follows CR4, KVM's business
                set(&mut entry.ecx, 2, false); // debug store of 64 bits
                set(&mut entry.ecx, 4, false); // and by privilege
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
            // Of power management only that the timer of the local APIC never stops.
            LEAF_POWER => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (entry.eax & 1 << 2, 0, 0, 0),
            LEAF_EXTENDED_FEATURES if entry.index == 0 => {
                for bit in [2, 12, 15] {
                    set(&mut entry.ebx, bit, false); // SGX, monitoring and allocation of caches
                }
                set(&mut entry.ecx, 30, false); // SGX with a key of one's own
                for bit in [15, 18, 19] {
                    set(&mut entry.edx, bit, false); // cores of several kinds, PCONFIG, records of branches
                }
                for bit in [22, 24, 25] {
                    set(&mut entry.edx, bit, false); // AMX
                }
            }
            LEAF_EXTENDED_FEATURES if entry.index == 1 => {
                set(&mut entry.eax, 8, false); // extended leaf of performance counters
                set(&mut entry.eax, 21, false); // AMX
                for bit in [8, 19] {
                    set(&mut entry.edx, bit, false); // AMX; AVX10, whose leaf is not passed on
                }
            }
            LEAF_XSTATE if entry.index == 0 => {
                entry.eax &= !TILES;
                entry.ecx = self.xsave_bytes(entry.eax);
            }
            LEAF_XSTATE if entry.index == 1 => set(&mut entry.eax, 4, false), // faults for AMX's state
            LEAF_PERFORMANCE => {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
            }
            LEAF_HYPERVISOR => entry.eax = LEAF_HYPERVISOR_FEATURES,
            // A guest waits for memory that the host has to read, as on any machine: the interrupts that would let it do
            // something else meanwhile are of use to hosts that swap only, and their state is none that is saved.
            LEAF_HYPERVISOR_FEATURES => {
                for bit in [4, 10, 14] {
                    set(&mut entry.eax, bit, false);
                }
            }
            LEAF_EXTENDED => entry.eax = entry.eax.min(LEAF_LAST_EXTENDED),
            LEAF_AMD_FEATURES => {
                if !self.features.nested {
                    set(&mut entry.ecx, 2, false); // SVM
                }
                if self.vendor == Vendor::Amd {
                    set(&mut entry.ecx, 1, per_package > 1); // CmpLegacy
                    set(&mut entry.ecx, 22, true); // TopologyExtensions
                    for bit in [10, 19, 23, 24, 27, 28] {
                        set(&mut entry.ecx, bit, false); // samples, numbers of nodes, performance counters of all kinds
                    }
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

    /// The largest area of XSAVE for these components, as they lie on this host.
    fn xsave_bytes(&self, components: u32) -> u32 {
        let end = |entry: &kvm_cpuid_entry2| entry.eax.saturating_add(entry.ebx);
        let own = |entry: &&kvm_cpuid_entry2| {
            let state = entry.function == LEAF_XSTATE && (2..32).contains(&entry.index);
            state && components >> entry.index & 1 == 1 && entry.ecx & 1 == 0
        };
        self.host.iter().filter(own).map(end).max().unwrap_or(XSAVE_LEAST).max(XSAVE_LEAST)
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
mod tests;
