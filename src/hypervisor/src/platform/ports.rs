//! Ports that are one register or less.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Wish, Wishes};
use crate::bus::{Registers, SharedRegisters};

/// 0xcf8 to 0xcff: the PCI configuration ports, with the reset control register between them at 0xcf9.
pub struct PciAndReset {
    pci: SharedRegisters,
    wishes: Arc<Wishes>,
    reset_control: u8,
}

impl PciAndReset {
    pub fn new(pci: SharedRegisters, wishes: Arc<Wishes>) -> Self {
        Self { pci, wishes, reset_control: 0 }
    }
}

impl Registers for PciAndReset {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match data {
            [byte] if offset == 1 => *byte = self.reset_control,
            _ => self.pci.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match data {
            // Bit 2 going up resets, whatever kind of reset bits 1 and 3 say.
            [value] if offset == 1 => {
                self.reset_control = value & 0x0a;
                if value & 4 != 0 {
                    self.wishes.make(Wish::Reset);
                }
            }
            _ => self.pci.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data),
        }
    }
}

/// pvpanic (QEMU's docs/specs/pvpanic.rst): the guest's kernel says that it has panicked.
#[derive(Debug)]
pub struct Pvpanic(pub Arc<Wishes>);

const PANICKED: u8 = 1 << 0;

impl Registers for Pvpanic {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(PANICKED);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|bits| bits & PANICKED != 0) {
            self.0.make(Wish::Panicked);
        }
    }
}

/// The ports of our firmware (`firmware/README.md`): a sign at 0, a request at 4, the reason of a fall back at 8. They answer
/// from the start of the firmware until it hands over, and are nobody's to poke after that.
#[derive(Debug)]
pub struct FirmwarePort {
    wishes: Arc<Wishes>,
    /// Which start of the firmware the reason is of.
    start: u32,
    reason: Vec<u8>,
}

pub const FIRMWARE_PORTS: u64 = 9;
const FIRMWARE_SIGN: u32 = 0x534f_4c4f;
const FALL_BACK: u32 = 0x4641_4c42;
const STARTED: u32 = 0x424f_4f54;
const LONGEST_REASON: usize = 1500;

impl FirmwarePort {
    pub fn new(wishes: Arc<Wishes>) -> Self {
        Self { wishes, start: 0, reason: Vec::new() }
    }
}

impl Registers for FirmwarePort {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if !self.wishes.firmware_runs() {
            data.fill(0xff);
            return;
        }
        data.fill(0);
        if offset == 0 {
            for (place, byte) in data.iter_mut().zip(FIRMWARE_SIGN.to_le_bytes()) {
                *place = byte;
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if !self.wishes.firmware_runs() {
            return;
        }
        let start = self.wishes.firmware_starts();
        if self.start != start {
            self.start = start;
            self.reason.clear();
        }
        match (offset, data) {
            (4, word) if word == FALL_BACK.to_le_bytes() => {
                let reason = String::from_utf8_lossy(&self.reason).escape_debug().to_string();
                tracing::info!(reason, "the firmware does not start this disk");
                self.reason.clear();
                self.wishes.make(Wish::Bios);
            }
            (4, word) if word == STARTED.to_le_bytes() => self.wishes.firmware_is_done(),
            (8, [byte]) if *byte != b'\n' && self.reason.len() < LONGEST_REASON => self.reason.push(*byte),
            _ => {}
        }
    }
}

/// 0x92: A20 is open, and bit 0 resets.
#[derive(Debug)]
pub struct SystemControlA(pub Arc<Wishes>);

impl Registers for SystemControlA {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(2);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|bits| bits & 1 != 0) {
            self.0.make(Wish::Reset);
        }
    }
}

/// Where SeaBIOS writes its log, if somebody wants it: a line at a time to the trace.
#[derive(Debug, Default)]
pub struct DebugPort {
    line: Vec<u8>,
}

const DEBUG_PORT_SIGN: u8 = 0xe9;
const LONGEST_LINE: usize = 256;

impl Registers for DebugPort {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(DEBUG_PORT_SIGN);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        for byte in data {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= LONGEST_LINE {
                tracing::info!(target: "bios", "{}", String::from_utf8_lossy(&self.line).escape_debug());
                self.line.clear();
            }
        }
    }
}

pub fn shared(device: impl Registers + 'static) -> SharedRegisters {
    Arc::new(Mutex::new(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Registers for Nothing {
        fn read(&mut self, _offset: u64, data: &mut [u8]) {
            data.fill(0x11);
        }

        fn write(&mut self, _offset: u64, _data: &[u8]) {}
    }

    #[test]
    fn reset_control_lies_between_the_pci_ports() {
        let (wishes, mut heard) = Wishes::new();
        let mut ports = PciAndReset::new(shared(Nothing), Arc::new(wishes));
        let mut word = [0; 4];
        ports.read(0, &mut word);
        assert_eq!(word, [0x11; 4]);
        ports.write(0, &0x8000_0600_u32.to_le_bytes());
        ports.write(1, &[2]);
        assert!(heard.try_recv().is_err());
        let mut byte = [0];
        ports.read(1, &mut byte);
        assert_eq!(byte, [2]);
        ports.write(1, &[6]);
        assert_eq!(heard.try_recv(), Ok(Wish::Reset));
    }

    fn port() -> (FirmwarePort, Arc<Wishes>, tokio::sync::mpsc::UnboundedReceiver<Wish>) {
        let (wishes, heard) = Wishes::new();
        let wishes = Arc::new(wishes);
        (FirmwarePort::new(Arc::clone(&wishes)), wishes, heard)
    }

    fn sign(port: &mut FirmwarePort) -> u32 {
        let mut word = [0; 4];
        port.read(0, &mut word);
        u32::from_le_bytes(word)
    }

    #[test]
    fn the_firmware_finds_its_port_and_asks_for_the_bios_with_one_word_only() {
        let (mut port, wishes, mut heard) = port();
        wishes.firmware_begins();
        assert_eq!(sign(&mut port), FIRMWARE_SIGN);
        port.write(4, &FALL_BACK.to_be_bytes());
        port.write(0, &FALL_BACK.to_le_bytes());
        port.write(4, &[0x42]);
        assert!(heard.try_recv().is_err());
        port.write(4, &FALL_BACK.to_le_bytes());
        port.write(4, &FALL_BACK.to_le_bytes());
        assert_eq!(heard.try_recv(), Ok(Wish::Bios));
        assert!(heard.try_recv().is_err(), "once");
    }

    #[test]
    fn a_guest_that_runs_finds_nothing_at_the_ports_and_cannot_ask_for_the_bios() {
        let (mut port, wishes, mut heard) = port();
        wishes.firmware_begins();
        port.write(4, &STARTED.to_le_bytes());
        assert_eq!(sign(&mut port), u32::MAX);
        port.write(4, &FALL_BACK.to_le_bytes());
        for _ in 0..10_000 {
            port.write(8, b"x");
        }
        assert!(heard.try_recv().is_err() && port.reason.is_empty());
        wishes.triple_fault();
        assert_eq!(heard.try_recv(), Ok(Wish::Reset), "the guest's own");
    }

    #[test]
    fn a_triple_fault_of_the_firmware_is_a_fall_back() {
        let (mut port, wishes, mut heard) = port();
        wishes.triple_fault();
        assert_eq!(heard.try_recv(), Ok(Wish::Reset), "no firmware has begun");
        wishes.clear();
        wishes.firmware_begins();
        for _ in 0..10_000 {
            port.write(8, b"x");
        }
        assert_eq!(port.reason.len(), LONGEST_REASON);
        wishes.triple_fault();
        assert_eq!(heard.try_recv(), Ok(Wish::Bios));
        // SeaBIOS and what it boots.
        wishes.clear();
        wishes.firmware_is_done();
        wishes.triple_fault();
        assert_eq!(heard.try_recv(), Ok(Wish::Reset));
        wishes.clear();
        wishes.firmware_begins();
        port.write(8, b"y");
        assert_eq!(port.reason, b"y", "a reason is of one start");
    }

    #[test]
    fn the_debug_port_keeps_no_more_than_a_line() {
        let mut port = DebugPort::default();
        for _ in 0..10_000 {
            port.write(0, b"x");
            assert!(port.line.len() <= LONGEST_LINE);
        }
    }
}
