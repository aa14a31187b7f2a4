//! What of the host a VM gets: pages of memory, CPUs of its own, and how much its disks and NICs may move.
//!
//! What must stay true: the default of each is what every spec before it meant, and is not written; a validated value can
//! be told to the kernel and to QEMU as it is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::SpecError;

/// CPUs of the host have numbers below this: as many as a `cpu_set_t` holds.
pub const MAX_HOST_CPUS: u16 = 1024;
/// QEMU takes no larger rate.
pub const MAX_RATE: u64 = 1_000_000_000_000_000;

/// The pages of the host that the guest's memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageSize {
    /// The kernel's choice: huge pages where it has them at hand.
    #[default]
    #[serde(rename = "any")]
    Any,
    /// 4 KiB only.
    #[serde(rename = "small")]
    Small,
    /// From the host's pools of huge pages: the largest size that it has enough of and that divides the memory. No start
    /// without.
    #[serde(rename = "large")]
    Large,
    /// From the host's pool of pages of 2 MiB, and no start without.
    #[serde(rename = "2MiB")]
    TwoMib,
    /// From the host's pool of pages of 1 GiB, and no start without.
    #[serde(rename = "1GiB")]
    OneGib,
}

impl PageSize {
    /// Sizes of a pool's pages in MiB that will do, the best first; empty for ordinary memory.
    pub fn pools_mib(self) -> &'static [u64] {
        match self {
            Self::Any | Self::Small => &[],
            Self::Large => &[1024, 2],
            Self::TwoMib => &[2],
            Self::OneGib => &[1024],
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether memory can be made of whole pages.
    pub(crate) fn validate(self, memory_mib: u64) -> Result<(), SpecError> {
        match self.pools_mib().iter().min() {
            Some(page) if !memory_mib.is_multiple_of(*page) => Err(SpecError::Invalid(format!(
                "memory_mib is {memory_mib}, not a multiple of its pages of {page} MiB"
            ))),
            _ => Ok(()),
        }
    }
}

/// CPUs of the host for this VM (the policy `dedicated`). Without one its threads run wherever the host likes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dedicated {
    /// For each vCPU in turn, the numbers of the host's CPUs that it may run on. None is empty.
    pub vcpus: Vec<BTreeSet<u16>>,
    /// The same for all other threads of the VM; empty means anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub others: BTreeSet<u16>,
}

impl Dedicated {
    pub(crate) fn validate(&self, vcpus: u32) -> Result<(), SpecError> {
        let refuse = |why: String| Err(SpecError::Invalid(why));
        if u32::try_from(self.vcpus.len()) != Ok(vcpus) {
            return refuse(format!("dedicated CPUs are named for {} vcpus of {vcpus}", self.vcpus.len()));
        }
        if let Some(index) = self.vcpus.iter().position(BTreeSet::is_empty) {
            return refuse(format!("vcpu {index} has no dedicated CPU"));
        }
        let highest = self.vcpus.iter().chain([&self.others]).filter_map(BTreeSet::last).max();
        match highest {
            Some(cpu) if *cpu >= MAX_HOST_CPUS => refuse(format!("CPU {cpu} of the host is not below {MAX_HOST_CPUS}")),
            _ => Ok(()),
        }
    }
}

/// How much a disk may do in a second. Absent means as much as it can. A total goes with no limit of one direction of the
/// same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_operations_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_operations_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_operations_per_second: Option<u64>,
}

impl DiskLimits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn validate(&self, slot: u8) -> Result<(), SpecError> {
        let Self {
            read_bytes_per_second,
            write_bytes_per_second,
            total_bytes_per_second,
            read_operations_per_second,
            write_operations_per_second,
            total_operations_per_second,
        } = *self;
        for (read, write, total, unit) in [
            (read_bytes_per_second, write_bytes_per_second, total_bytes_per_second, "bytes"),
            (read_operations_per_second, write_operations_per_second, total_operations_per_second, "operations"),
        ] {
            if total.is_some() && (read.is_some() || write.is_some()) {
                let why = format!("disk {slot} has a limit of all {unit} and one of a direction");
                return Err(SpecError::Invalid(why));
            }
            if ![read, write, total].into_iter().all(is_rate) {
                let why = format!("a limit of {unit} of disk {slot} is not 1 to {MAX_RATE}");
                return Err(SpecError::Invalid(why));
            }
        }
        Ok(())
    }
}

/// How much a NIC may move in a second. Absent means as much as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicLimits {
    /// Towards the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_bytes_per_second: Option<u64>,
    /// From the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_bytes_per_second: Option<u64>,
}

impl NicLimits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn validate(&self, slot: u8) -> Result<(), SpecError> {
        if is_rate(self.inbound_bytes_per_second) && is_rate(self.outbound_bytes_per_second) {
            return Ok(());
        }
        Err(SpecError::Invalid(format!("a limit of nic {slot} is not 1 to {MAX_RATE} bytes a second")))
    }
}

fn is_rate(rate: Option<u64>) -> bool {
    rate.is_none_or(|rate| (1..=MAX_RATE).contains(&rate))
}
