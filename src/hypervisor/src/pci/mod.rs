//! The PCI bus of the machine: one bus, single-function devices, conventional configuration space reached by ports
//! 0xcf8-0xcff and by ECAM.
//!
//! - [`config`]: configuration space: write masks, BARs, capabilities. - [`bus`]: who answers where.
//! - [`msix`]: MSI-X tables and what becomes of them. - [`intx`]: level lines that several functions share.
//! - [`function`]: a function made of registers and memory, with nothing of its own; the host bridge and the LPC bridge.
//! - [`hotplug`]: coming and going while the guest runs, told by ACPI.
//!
//! What must stay true: a BAR register is the only truth about where a BAR is, and a BAR that lies nowhere sensible is
//! simply not there; nothing a guest writes here panics, and nothing it does makes memory or descriptors grow.
//!
//! Order of locks: configuration ports, then [`PciBus`]'s moves, then one function, then what that function owns. A
//! device's threads take none of the first three.

pub mod bus;
pub mod config;
pub mod function;
pub mod hotplug;
pub mod intx;
pub mod msix;

use std::io;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

pub use bus::{AddError, PciBus, Windows};
pub use config::{BarKind, Configuration, Identity};
pub use function::{MemoryBar, SimpleFunction};
pub use hotplug::{Hotplug, HotplugEvent};
pub use intx::SharedLines;

/// Eventfds that a guest's write to an address triggers without this process: KVM's ioeventfds.
pub trait IoEvents: Send + Sync {
    /// From now on, any write to exactly `address`, of any length and value, writes to `event`.
    fn register(&self, event: &EventFd, address: u64) -> io::Result<()>;
    fn unregister(&self, event: &EventFd, address: u64) -> io::Result<()>;
}

/// A saved state that does not fit this machine.
#[derive(Debug, thiserror::Error)]
#[error("the saved state of {what} does not fit: {why}")]
pub struct RestoreError {
    pub what: String,
    pub why: String,
}

impl RestoreError {
    pub fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// One PCI function. Offsets and lengths come from the guest: any combination that is inside the BAR or the configuration
/// space can come, and none may panic.
pub trait PciFunction: Send {
    /// For logs.
    fn name(&self) -> &str;
    fn configuration(&self) -> &Configuration;
    fn configuration_mut(&mut self) -> &mut Configuration;

    /// Functions whose registers have effects or depend on something override these two.
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.configuration().read(offset, data);
    }
    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.configuration_mut().write(offset, data);
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]);
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]);
    /// The BAR is now decoded at `address`; None: nowhere. Called by the bus, after the map of the bus has changed.
    fn bar_moved(&mut self, _bar: u8, _address: Option<u64>) {}

    /// The state of power-on, BARs where the machine put them first. Cannot fail.
    fn reset(&mut self);
    /// Stop all work of its own with accepted requests done. Idempotent.
    fn pause(&mut self) {}
    /// Go on after `pause` or `restore`.
    fn resume(&mut self) {}
    /// Of a paused function.
    fn save(&mut self) -> serde_json::Value;
    /// Into a fresh function; work begins with `resume`. BARs are told by `bar_moved` later.
    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError>;
}

pub type SharedFunction = Arc<Mutex<dyn PciFunction>>;

/// Device numbers of machine `solo-1` on bus 0.
pub mod slots {
    pub const HOST_BRIDGE: u8 = 0x00;
    pub const FIRST_DISK: u8 = 0x02;
    pub const LAST_DISK: u8 = 0x0f;
    pub const FIRST_NIC: u8 = 0x10;
    pub const LAST_NIC: u8 = 0x17;
    pub const RNG: u8 = 0x18;
    pub const BALLOON: u8 = 0x19;
    pub const VSOCK: u8 = 0x1a;
    pub const VIRTIO_SERIAL: u8 = 0x1b;
    pub const DISPLAY: u8 = 0x1c;
    pub const KEYBOARD: u8 = 0x1d;
    pub const TABLET: u8 = 0x1e;
    pub const LPC: u8 = 0x1f;
    /// Those that may come and go: disks and nics.
    pub const REMOVABLE: std::ops::RangeInclusive<u8> = FIRST_DISK..=LAST_NIC;
}

/// The IOAPIC line of pin A of a device. The DSDT's `_PRT` says the same.
pub fn intx_gsi(slot: u8) -> u32 {
    16 + u32::from(slot % 8)
}
