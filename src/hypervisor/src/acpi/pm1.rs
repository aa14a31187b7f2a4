//! PM1 status, enable and control (ACPI 6.4, section 4.8.3): what a guest needs to power off, and no events.

use serde::{Deserialize, Serialize};

use super::S5_SLEEP_TYPE;
use crate::bus::Registers;

const ENABLE: usize = 2;
const CONTROL: usize = 4;
/// Timer, global lock, power button, sleep button, RTC: kept, as ACPICA reads back what it has enabled.
const ENABLE_WRITABLE: [u8; 2] = 0x0721_u16.to_le_bytes();
/// Bus master reload, and sleep type. Global release and sleep enable read as zero.
const CONTROL_WRITABLE: [u8; 2] = 0x1c02_u16.to_le_bytes();
/// ACPI is always on: there is no SMI command.
const SCI_ENABLE: u8 = 1;
const SLEEP_ENABLE: u8 = 1 << 5;
/// What SeaBIOS's APM writes, from before any table could tell it.
const APM_SLEEP_TYPE: u8 = 0;

/// Eight ports at [`super::PM1_PORT`].
pub struct Pm1 {
    registers: [u8; 8],
    power_off: Box<dyn FnMut() + Send>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPm1 {
    registers: [u8; 8],
}

const POWER_ON: [u8; 8] = [0, 0, 0, 0, SCI_ENABLE, 0, 0, 0];

impl Pm1 {
    /// `power_off` is called when the guest enters S5, from its vCPU.
    pub fn new(power_off: impl FnMut() + Send + 'static) -> Self {
        Self { registers: POWER_ON, power_off: Box::new(power_off) }
    }

    pub fn reset(&mut self) {
        self.registers = POWER_ON;
    }

    pub fn save(&self) -> SavedPm1 {
        SavedPm1 { registers: self.registers }
    }

    pub fn restore(&mut self, saved: SavedPm1) {
        self.reset();
        for (at, byte) in saved.registers.into_iter().enumerate() {
            self.put(at, byte);
        }
    }

    fn put(&mut self, at: usize, byte: u8) {
        let mask = match at {
            2 | 3 => ENABLE_WRITABLE[at - ENABLE],
            4 | 5 => CONTROL_WRITABLE[at - CONTROL],
            _ => return,
        };
        self.registers[at] = self.registers[at] & !mask | byte & mask;
    }
}

impl Registers for Pm1 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset as usize..).zip(data) {
            *byte = self.registers.get(at).copied().unwrap_or(0);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset as usize..).zip(data) {
            self.put(at, *byte);
            let sleep_type = byte >> 2 & 7;
            let off = [S5_SLEEP_TYPE, APM_SLEEP_TYPE].contains(&sleep_type);
            if at == CONTROL + 1 && byte & SLEEP_ENABLE != 0 && off {
                (self.power_off)();
            }
        }
    }
}
