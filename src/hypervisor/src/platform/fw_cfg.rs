//! QEMU's firmware configuration device at 0x510 (its specification: docs/specs/fw_cfg.rst of QEMU), read-only, with the
//! DMA interface. SeaBIOS learns from it everything about the machine.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _};

use crate::bus::Registers;
use crate::memory::SharedRam;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const UUID: u16 = 0x02;
const CPUS: u16 = 0x05;
const MOST_CPUS: u16 = 0x0f;
const DIRECTORY: u16 = 0x19;
const FIRST_FILE: u16 = 0x20;
/// The traditional interface and the DMA one.
const FEATURES: u32 = 1 | 1 << 1;
const FILE_NAME_BYTES: usize = 56;
/// As much as a device in a guest's reach copies at once. The largest file is a few KiB.
const MOST_AT_ONCE: usize = 1 << 20;

const DMA_ERROR: u32 = 1 << 0;
const DMA_READ: u32 = 1 << 1;
const DMA_SKIP: u32 = 1 << 2;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;

/// What is offered. Names are at most 55 bytes.
#[derive(Clone, Debug, Default)]
pub struct Items {
    items: BTreeMap<u16, Vec<u8>>,
    directory: Vec<(String, u16)>,
}

impl Items {
    pub fn new(vcpus: u16, uuid: [u8; 16]) -> Self {
        let mut items = Self::default();
        items.items.insert(SIGNATURE, b"QEMU".to_vec());
        items.items.insert(ID, FEATURES.to_le_bytes().to_vec());
        items.items.insert(UUID, uuid.to_vec());
        items.items.insert(CPUS, vcpus.to_le_bytes().to_vec());
        items.items.insert(MOST_CPUS, vcpus.to_le_bytes().to_vec());
        items
    }

    pub fn file(&mut self, name: &str, content: Vec<u8>) {
        let Some(key) = u16::try_from(self.directory.len()).ok().and_then(|count| FIRST_FILE.checked_add(count)) else {
            return;
        };
        if name.len() >= FILE_NAME_BYTES {
            return;
        }
        self.items.insert(key, content);
        self.directory.push((name.to_owned(), key));
    }

    fn sealed(mut self) -> BTreeMap<u16, Vec<u8>> {
        let mut directory = Vec::new();
        // Sorted by name, as the specification of the directory says for its readers.
        self.directory.sort();
        directory.extend(u32::try_from(self.directory.len()).unwrap_or(0).to_be_bytes());
        for (name, key) in &self.directory {
            let size = self.items.get(key).map_or(0, Vec::len);
            directory.extend(u32::try_from(size).unwrap_or(0).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut padded = [0_u8; FILE_NAME_BYTES];
            for (place, byte) in padded.iter_mut().zip(name.bytes()) {
                *place = byte;
            }
            directory.extend(padded);
        }
        self.items.insert(DIRECTORY, directory);
        self.items
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFwCfg {
    selected: u16,
    offset: u64,
    dma_high: u32,
}

#[derive(Debug)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    state: SavedFwCfg,
    ram: SharedRam,
    /// Reused between transfers, so that a guest cannot make this process allocate at will.
    buffer: Mutex<Vec<u8>>,
}

impl FwCfg {
    pub fn new(items: Items, ram: SharedRam) -> Self {
        Self { items: items.sealed(), state: SavedFwCfg::default(), ram, buffer: Mutex::default() }
    }

    /// Other tables, after the machine has changed.
    pub fn replace(&mut self, items: Items) {
        self.items = items.sealed();
    }

    pub fn reset(&mut self) {
        self.state = SavedFwCfg::default();
    }

    pub fn save(&self) -> SavedFwCfg {
        self.state
    }

    pub fn restore(&mut self, saved: SavedFwCfg) {
        self.state = saved;
    }

    fn next(&mut self) -> u8 {
        let item = self.items.get(&self.state.selected);
        let byte = usize::try_from(self.state.offset).ok().and_then(|at| item?.get(at).copied());
        self.state.offset = self.state.offset.saturating_add(1);
        byte.unwrap_or(0)
    }

    /// One transfer, as the structure at `at` describes it: control, length and address, all big-endian.
    fn dma(&mut self, at: u64) {
        let ram = self.ram.memory();
        let at = GuestAddress(at);
        let mut words = [0_u8; 16];
        if ram.read_slice(&mut words, at).is_err() {
            return;
        }
        let word = |from: usize| {
            words.get(from..from + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
        };
        let (control, length) = (word(0), word(4));
        let address = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & DMA_SELECT != 0 {
            self.state.selected = (control >> 16) as u16;
            self.state.offset = 0;
        }
        let result = if control & DMA_READ != 0 {
            self.copy(&ram, GuestAddress(address), length)
        } else if control & DMA_WRITE != 0 {
            // Nothing here can be written.
            DMA_ERROR
        } else {
            if control & DMA_SKIP != 0 {
                self.state.offset = self.state.offset.saturating_add(u64::from(length));
            }
            0
        };
        let _ = ram.write_slice(&result.to_be_bytes(), at);
    }

    fn copy(&mut self, ram: &crate::memory::GuestRam, to: GuestAddress, length: u32) -> u32 {
        let Ok(length) = usize::try_from(length) else { return DMA_ERROR };
        if length > MOST_AT_ONCE || !ram.check_range(to, length) {
            return DMA_ERROR;
        }
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        buffer.resize(length, 0);
        let item = self.items.get(&self.state.selected);
        let rest = usize::try_from(self.state.offset).ok().and_then(|from| item?.get(from..)).unwrap_or_default();
        for (place, byte) in buffer.iter_mut().zip(rest) {
            *place = *byte;
        }
        self.state.offset = self.state.offset.saturating_add(length as u64);
        let written = ram.write_slice(&buffer, to);
        buffer.shrink_to(4096);
        if written.is_ok() { 0 } else { DMA_ERROR }
    }
}

impl Registers for FwCfg {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match (offset, data.len()) {
            (1, 1) => data.fill_with(|| self.next()),
            // The DMA register reads as "QEMU CFG", big-endian.
            (4.., _) => {
                let sign = b"QEMU CFG";
                for (at, byte) in data.iter_mut().enumerate() {
                    let from = usize::try_from(offset).unwrap_or(usize::MAX).saturating_sub(4).saturating_add(at);
                    *byte = sign.get(from).copied().unwrap_or(0);
                }
            }
            _ => data.fill(0),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (0, [low, high]) => {
                self.state.selected = u16::from_le_bytes([*low, *high]);
                self.state.offset = 0;
            }
            (4, [a, b, c, d]) => self.state.dma_high = u32::from_be_bytes([*a, *b, *c, *d]),
            (8, [a, b, c, d]) => {
                let at = u64::from(self.state.dma_high) << 32 | u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                self.state.dma_high = 0;
                self.dma(at);
            }
            (4, [a, b, c, d, e, f, g, h]) => {
                self.state.dma_high = 0;
                self.dma(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GuestRam;

    fn device() -> (FwCfg, SharedRam) {
        let ram = SharedRam::new(GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
        let mut items = Items::new(2, [7; 16]);
        items.file("opt/b", b"hello".to_vec());
        items.file("opt/a", vec![1; 3]);
        (FwCfg::new(items, ram.clone()), ram)
    }

    fn select(device: &mut FwCfg, key: u16) {
        device.write(0, &key.to_le_bytes());
    }

    fn bytes(device: &mut FwCfg, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| {
                let mut byte = [0];
                device.read(1, &mut byte);
                byte[0]
            })
            .collect()
    }

    fn dma(device: &mut FwCfg, ram: &SharedRam, control: u32, length: u32, to: u64) -> u32 {
        let ram = ram.memory();
        ram.write_slice(&control.to_be_bytes(), GuestAddress(0x100)).unwrap();
        ram.write_slice(&length.to_be_bytes(), GuestAddress(0x104)).unwrap();
        ram.write_slice(&to.to_be_bytes(), GuestAddress(0x108)).unwrap();
        device.write(4, &0_u32.to_be_bytes());
        device.write(8, &0x100_u32.to_be_bytes());
        u32::from_be_bytes(ram.read_obj(GuestAddress(0x100)).unwrap())
    }

    #[test]
    fn items_and_directory_are_read_byte_by_byte() {
        let (mut device, _) = device();
        select(&mut device, SIGNATURE);
        assert_eq!(bytes(&mut device, 6), b"QEMU\0\0");
        select(&mut device, CPUS);
        assert_eq!(bytes(&mut device, 2), [2, 0]);
        select(&mut device, DIRECTORY);
        let directory = bytes(&mut device, 4 + 2 * 64);
        assert_eq!(directory[..8], [0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(&directory[12..18], b"opt/a\0");
        select(&mut device, u16::from_be_bytes([directory[4 + 64 + 4], directory[4 + 64 + 5]]));
        assert_eq!(bytes(&mut device, 5), b"hello");
    }

    #[test]
    fn files_are_read_by_dma_and_the_end_reads_as_zeroes() {
        let (mut device, ram) = device();
        let control = u32::from(FIRST_FILE) << 16 | DMA_SELECT | DMA_READ;
        assert_eq!(dma(&mut device, &ram, control, 8, 0x200), 0);
        let got: [u8; 8] = ram.memory().read_obj(GuestAddress(0x200)).unwrap();
        assert_eq!(&got, b"hello\0\0\0");
        assert_eq!(dma(&mut device, &ram, u32::from(FIRST_FILE) << 16 | DMA_SELECT | DMA_SKIP, 3, 0), 0);
        assert_eq!(dma(&mut device, &ram, DMA_READ, 2, 0x200), 0);
        let got: [u8; 2] = ram.memory().read_obj(GuestAddress(0x200)).unwrap();
        assert_eq!(&got, b"lo");
    }

    #[test]
    fn hostile_transfers_end_in_an_error() {
        let (mut device, ram) = device();
        for (control, length, to) in [
            (DMA_READ, u32::MAX, 0),
            (DMA_READ, 16, (1 << 20) - 8),
            (DMA_READ, 16, u64::MAX - 4),
            (DMA_WRITE, 16, 0x200),
        ] {
            assert_eq!(dma(&mut device, &ram, control, length, to), DMA_ERROR, "{control:#x} {length:#x} {to:#x}");
        }
        // Structures that are nowhere.
        device.write(4, &u64::MAX.to_be_bytes());
        device.write(4, &((1_u64 << 20) - 8).to_be_bytes());
        for length in [1, 2, 4, 8] {
            for offset in 0..12 {
                device.write(offset, &[0xff; 8][..length]);
                device.read(offset, &mut [0; 8][..length]);
            }
        }
        select(&mut device, 0x4242);
        assert_eq!(bytes(&mut device, 2), [0, 0]);
    }
}
