//! Functions made of parts: registers and memory behind BARs, with no protocol of their own; among them the two bridges
//! by which firmware recognises the machine.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::config::SavedConfiguration;
use super::{BarKind, Configuration, Identity, PciFunction, RestoreError};
use crate::bus::SharedRegisters;

/// Memory that is mapped into the guest where the BAR is, a framebuffer say. While it is mapped the guest's accesses come
/// to nobody's ears; `read` and `write` are for a guest whose access came while it was being moved.
pub trait MemoryBar: Send {
    /// Map it at `address`, and nowhere else any more; None: nowhere.
    fn moved(&mut self, address: Option<u64>);
    fn read(&mut self, offset: u64, data: &mut [u8]);
    fn write(&mut self, offset: u64, data: &[u8]);
}

enum Backing {
    Registers(SharedRegisters),
    Memory(Box<dyn MemoryBar>),
}

pub struct SimpleFunction {
    name: &'static str,
    configuration: Configuration,
    backings: Vec<(u8, Backing)>,
    on_reset: Option<Box<dyn FnMut() + Send>>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    configuration: SavedConfiguration,
}

impl SimpleFunction {
    pub fn new(name: &'static str, configuration: Configuration) -> Self {
        Self { name, configuration, backings: Vec::new(), on_reset: None }
    }

    /// A BAR of registers. `bytes` is a power of two.
    pub fn registers(
        mut self,
        bar: u8,
        kind: BarKind,
        bytes: u64,
        registers: SharedRegisters,
    ) -> Result<Self, super::config::NoRoom> {
        self.configuration.add_bar(bar, kind, bytes)?;
        self.backings.push((bar, Backing::Registers(registers)));
        Ok(self)
    }

    /// A BAR of memory.
    pub fn memory(
        mut self,
        bar: u8,
        kind: BarKind,
        bytes: u64,
        memory: Box<dyn MemoryBar>,
    ) -> Result<Self, super::config::NoRoom> {
        self.configuration.add_bar(bar, kind, bytes)?;
        self.backings.push((bar, Backing::Memory(memory)));
        Ok(self)
    }

    /// Called at reset, for what is behind the registers.
    pub fn on_reset(mut self, on_reset: impl FnMut() + Send + 'static) -> Self {
        self.on_reset = Some(Box::new(on_reset));
        self
    }

    fn backing(&mut self, bar: u8) -> Option<&mut Backing> {
        self.backings.iter_mut().find(|(number, _)| *number == bar).map(|(_, backing)| backing)
    }

    /// 00:00.0: firmware takes this for QEMU's q35. PCIEXBAR says where ECAM is.
    pub fn host_bridge() -> Self {
        let mut space = Configuration::new(bridge(0x29c0, 0x06_00_00));
        // PAM, SMRAM and whatever else firmware keeps there: all of it without effect, as there is RAM everywhere.
        space.allow(0x40, &[0xff; 0x20]);
        space.allow(0x68, &[0xff; 0x98]);
        space.set(PCIEXBAR, &PCIEXBAR_AT_RESET.to_le_bytes());
        space.allow(PCIEXBAR, &0x0000_000f_fc00_0007_u64.to_le_bytes());
        Self::new("host bridge", space)
    }

    /// 00:1f.0: a stub for firmware that sets up interrupt routing and the power management base.
    pub fn lpc_bridge() -> Self {
        let mut space = Configuration::new(bridge(0x2918, 0x06_01_00));
        space.allow(0x40, &[0xff; 0xc0]);
        Self::new("LPC bridge", space)
    }
}

pub(super) const PCIEXBAR: u16 = 0x60;
/// Base 0xb000_0000, 256 MiB, enabled.
const PCIEXBAR_AT_RESET: u64 = 0xb000_0001;

fn bridge(device: u16, class: u32) -> Identity {
    Identity { vendor: 0x8086, device, revision: 2, class, subsystem_vendor: 0x1af4, subsystem: 0x1100 }
}

impl PciFunction for SimpleFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    fn configuration_mut(&mut self) -> &mut Configuration {
        &mut self.configuration
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        match self.backing(bar) {
            Some(Backing::Registers(device)) => {
                device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
            }
            Some(Backing::Memory(memory)) => memory.read(offset, data),
            None => data.fill(0xff),
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        match self.backing(bar) {
            Some(Backing::Registers(device)) => {
                device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
            }
            Some(Backing::Memory(memory)) => memory.write(offset, data),
            None => {}
        }
    }

    fn bar_moved(&mut self, bar: u8, address: Option<u64>) {
        if let Some(Backing::Memory(memory)) = self.backing(bar) {
            memory.moved(address);
        }
    }

    fn reset(&mut self) {
        self.configuration.reset();
        if let Some(on_reset) = &mut self.on_reset {
            on_reset();
        }
    }

    fn save(&mut self) -> serde_json::Value {
        serde_json::to_value(Saved { configuration: self.configuration.save() }).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let saved = Saved::deserialize(state).map_err(|error| RestoreError::new(self.name, error))?;
        self.configuration.restore(&saved.configuration)
    }
}
