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
    state: Option<State>,
}

type Save = Box<dyn FnMut() -> serde_json::Value + Send>;
type Restore = Box<dyn FnMut(&serde_json::Value) -> Result<(), String> + Send>;

/// How to save and restore what is behind the BARs.
struct State {
    save: Save,
    restore: Restore,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    configuration: SavedConfiguration,
    #[serde(default)]
    behind: serde_json::Value,
}

impl SimpleFunction {
    pub fn new(name: &'static str, configuration: Configuration) -> Self {
        Self { name, configuration, backings: Vec::new(), on_reset: None, state: None }
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

    /// Called for suspend, for what is behind the registers.
    pub fn state(
        mut self,
        save: impl FnMut() -> serde_json::Value + Send + 'static,
        restore: impl FnMut(&serde_json::Value) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.state = Some(State { save: Box::new(save), restore: Box::new(restore) });
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
        let behind = self.state.as_mut().map(|state| (state.save)()).unwrap_or_default();
        serde_json::to_value(Saved { configuration: self.configuration.save(), behind }).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let saved = Saved::deserialize(state).map_err(|error| RestoreError::new(self.name, error))?;
        self.configuration.restore(&saved.configuration)?;
        match &mut self.state {
            Some(state) => (state.restore)(&saved.behind).map_err(|why| RestoreError::new(self.name, why)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::bus::Registers;
    use crate::pci::{PciBus, Windows};

    #[derive(Default)]
    struct Mode(u8);

    impl Registers for Mode {
        fn read(&mut self, _offset: u64, data: &mut [u8]) {
            data.fill(self.0);
        }
        fn write(&mut self, _offset: u64, data: &[u8]) {
            self.0 = data.first().copied().unwrap_or_default();
        }
    }

    struct Pixels(Arc<Mutex<Vec<Option<u64>>>>);

    impl MemoryBar for Pixels {
        fn moved(&mut self, address: Option<u64>) {
            self.0.lock().unwrap().push(address);
        }
        fn read(&mut self, _offset: u64, data: &mut [u8]) {
            data.fill(0x77);
        }
        fn write(&mut self, _offset: u64, _data: &[u8]) {}
    }

    struct Bench {
        bus: Arc<PciBus>,
        mode: Arc<Mutex<Mode>>,
        mapped: Arc<Mutex<Vec<Option<u64>>>>,
    }

    fn bench() -> Bench {
        let (mode, mapped) = (Arc::new(Mutex::new(Mode(1))), Arc::default());
        let (at_reset, saved, restored) = (mode.clone(), mode.clone(), mode.clone());
        let display = Configuration::new(bridge(0x1111, 0x03_80_00));
        let display = SimpleFunction::new("display", display)
            .memory(0, BarKind::Memory32, 16 << 20, Box::new(Pixels(Arc::clone(&mapped))))
            .unwrap()
            .registers(2, BarKind::Memory32, 0x1000, mode.clone())
            .unwrap()
            .on_reset(move || at_reset.lock().unwrap().0 = 1)
            .state(
                move || saved.lock().unwrap().0.into(),
                move |value| {
                    let mode = value.as_u64().ok_or("no mode")?;
                    restored.lock().unwrap().0 = mode as u8;
                    Ok(())
                },
            );
        let bus = PciBus::new(Windows { low: 0xc000_0000..0xfec0_0000, high: None });
        bus.add(0, SimpleFunction::host_bridge()).unwrap();
        bus.add(0x1c, display).unwrap();
        Bench { bus, mode, mapped }
    }

    const CONFIG: u64 = 0xb000_0000 + (0x1c << 15);

    #[test]
    fn memory_is_mapped_where_its_bar_is_and_registers_answer() {
        let bench = bench();
        bench.bus.mmio_write(CONFIG + 4, &[2]);
        assert_eq!(*bench.mapped.lock().unwrap(), [Some(0xc200_0000)]);
        let mut byte = [0];
        bench.bus.mmio_read(0xc200_0000, &mut byte);
        assert_eq!(byte, [0x77]);
        let mut registers = [0; 4];
        bench.bus.mmio_read(CONFIG + 0x18, &mut registers);
        let registers = u64::from(u32::from_le_bytes(registers));
        bench.bus.mmio_write(registers, &[9]);
        assert_eq!(bench.mode.lock().unwrap().0, 9);
        bench.bus.mmio_write(CONFIG + 0x10, &0xd000_0000_u32.to_le_bytes());
        bench.bus.mmio_write(CONFIG + 4, &[0]);
        assert_eq!(*bench.mapped.lock().unwrap(), [Some(0xc200_0000), None, Some(0xd000_0000), None]);
        bench.bus.reset();
        assert_eq!(bench.mode.lock().unwrap().0, 1);
    }

    #[test]
    fn what_is_behind_the_bars_is_saved_with_them() {
        let bench = bench();
        bench.bus.mmio_write(CONFIG + 4, &[2]);
        bench.mode.lock().unwrap().0 = 5;
        let saved = bench.bus.save();
        let other = self::bench();
        other.bus.restore(&saved).unwrap();
        assert_eq!(other.mode.lock().unwrap().0, 5);
        assert_eq!(*other.mapped.lock().unwrap(), [Some(0xc200_0000)]);
    }
}
