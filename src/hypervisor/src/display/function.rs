//! The device as a PCI function, for the bus.

use super::{Display, FRAMEBUFFER_BYTES, PCI_CLASS, PCI_DEVICE, PCI_VENDOR, REGISTERS_BYTES};
use crate::pci::config::NoRoom;
use crate::pci::{BarKind, Configuration, Identity, MemoryBar, SimpleFunction};

const FRAMEBUFFER_BAR: u8 = 0;
const REGISTERS_BAR: u8 = 2;

impl Display {
    /// The function that shows this display to the guest. `memory` maps the framebuffer where BAR 0 is.
    pub fn function(&self, memory: Box<dyn MemoryBar>) -> Result<SimpleFunction, NoRoom> {
        let identity = Identity {
            vendor: PCI_VENDOR,
            device: PCI_DEVICE,
            revision: 2,
            class: PCI_CLASS,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        };
        let (reset, saved, restored) = (self.clone(), self.clone(), self.clone());
        let function = SimpleFunction::new("display", Configuration::new(identity))
            .memory(FRAMEBUFFER_BAR, BarKind::Memory32, FRAMEBUFFER_BYTES, memory)?
            .registers(REGISTERS_BAR, BarKind::Memory32, REGISTERS_BYTES, self.registers())?
            .on_reset(move || reset.reset())
            .state(
                move || serde_json::json!(saved.save()),
                move |state| {
                    let state = serde::Deserialize::deserialize(state).map_err(|error| error.to_string())?;
                    restored.restore(state);
                    Ok(())
                },
            );
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::pci::PciFunction as _;
    use crate::rfb::{Mode, Screen as _};

    struct Nowhere(Arc<Mutex<Vec<Option<u64>>>>);

    impl MemoryBar for Nowhere {
        fn moved(&mut self, address: Option<u64>) {
            self.0.lock().unwrap().push(address);
        }
        fn read(&mut self, _offset: u64, data: &mut [u8]) {
            data.fill(0);
        }
        fn write(&mut self, _offset: u64, _data: &[u8]) {}
    }

    #[test]
    fn a_driver_sets_a_mode_through_bar_2_and_reset_and_restore_reach_it() {
        let display = Display::new().unwrap();
        let mut function = display.function(Box::new(Nowhere(Arc::default()))).unwrap();
        let mut ids = [0; 4];
        function.config_read(0, &mut ids);
        assert_eq!(ids, [0x34, 0x12, 0x11, 0x11]);
        for (register, value) in [(1_u64, 320_u16), (2, 200), (3, 32), (4, 1)] {
            function.bar_write(REGISTERS_BAR, 0x500 + 2 * register, &value.to_le_bytes());
        }
        let mode = Mode { width: 320, height: 200 };
        assert_eq!(display.mode(), mode);
        let saved = function.save();
        function.reset();
        assert_ne!(display.mode(), mode);
        function.restore(&saved).unwrap();
        assert_eq!(display.mode(), mode);
    }
}
