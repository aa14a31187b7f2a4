//! The PM timer and the generic event device. (PM1 and hotplug are `acpi`'s and `pci`'s.)

use std::time::Instant;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Registers;

/// Ticks a second of every PM timer.
const FREQUENCY: u128 = 3_579_545;

/// 32 bits that count up for ever (ACPI 6.4, section 4.8.3.3).
#[derive(Debug)]
pub struct PmTimer {
    since: Instant,
}

impl PmTimer {
    pub fn new() -> Self {
        Self { since: Instant::now() }
    }
}

impl Default for PmTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Registers for PmTimer {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let ticks = (self.since.elapsed().as_nanos() * FREQUENCY / 1_000_000_000) as u32;
        copy(&ticks.to_le_bytes(), offset, data);
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}

fn copy(register: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = register.get(from.saturating_add(at)).copied().unwrap_or(0);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEvents {
    pending: u8,
}

/// Which of the machine's events wait for the guest's ACPI code. One interrupt tells of all of them.
#[derive(Debug)]
pub struct Events {
    pending: u8,
    interrupt: EventFd,
}

impl Events {
    pub fn new(interrupt: EventFd) -> Self {
        Self { pending: 0, interrupt }
    }

    /// `bits` of `acpi::EVENT_*`.
    pub fn raise(&mut self, bits: u8) {
        self.pending |= bits;
        let _ = self.interrupt.write(1);
    }

    pub fn reset(&mut self) {
        self.pending = 0;
    }

    pub fn save(&self) -> SavedEvents {
        SavedEvents { pending: self.pending }
    }

    pub fn restore(&mut self, saved: SavedEvents) {
        self.pending = saved.pending;
        if self.pending != 0 {
            let _ = self.interrupt.write(1);
        }
    }
}

impl Registers for Events {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, [byte, ..]) = (offset, data) {
            *byte = std::mem::take(&mut self.pending);
        }
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_runs_at_its_frequency() {
        let mut timer = PmTimer::new();
        let mut read = || {
            let mut data = [0; 4];
            timer.read(0, &mut data);
            u32::from_le_bytes(data)
        };
        let (start, first) = (Instant::now(), read());
        while start.elapsed() < std::time::Duration::from_millis(20) {}
        let ticks = u128::from(read() - first);
        let most = start.elapsed().as_nanos() * FREQUENCY / 1_000_000_000;
        assert!((70_000..=most).contains(&ticks), "{ticks} of {most}");
    }

    #[test]
    fn events_wait_until_read_and_interrupt_each_time() {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let mut events = Events::new(interrupt.try_clone().unwrap());
        events.raise(crate::acpi::EVENT_POWER_BUTTON);
        events.raise(crate::acpi::EVENT_PCI_HOTPLUG);
        assert_eq!(interrupt.read().unwrap(), 2);
        let mut byte = [0];
        events.read(0, &mut byte);
        assert_eq!(byte, [3]);
        events.read(0, &mut byte);
        assert_eq!(byte, [0]);
    }
}
