//! The ports of fw_cfg, and its transfers.

use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _};

use super::source::Source;
use crate::bus::Registers as _;
use crate::memory::{GuestRam, SharedRam};
use crate::platform::fw_cfg::{FwCfg, Items};

const RAM: usize = 8 << 10;
/// Bytes of the files: nothing else may come out, but names, sizes and zeroes.
const FILE: u8 = 0x5a;
/// What RAM holds before; a transfer writes where it was told, and nowhere else.
const BEFORE: u8 = 0xee;

/// Reads, writes and transfers as the bytes say.
pub fn fw_cfg(data: &[u8]) {
    let ram = SharedRam::new(GuestRam::from_ranges(&[(GuestAddress(0x1000), RAM)]).unwrap());
    let mut items = Items::new(2, [7; 16]);
    for (name, length) in [("etc/one", 0), ("etc/two", 3), ("etc/three", 5000)] {
        items.file(name, vec![FILE; length]);
    }
    items.file(&"x".repeat(56), vec![1]);
    let mut device = FwCfg::new(items, ram.clone());
    let mut source = Source::new(data);
    for _ in 0..512 {
        if source.is_empty() {
            break;
        }
        match source.below(8) {
            0 | 1 => {
                let (offset, length) = (source.below(12), source.access());
                let bytes = source.array::<8>();
                device.write(offset, &bytes[..length]);
            }
            2 | 3 => {
                let (offset, length) = (source.below(12), source.access());
                device.read(offset, &mut [0; 8][..length]);
            }
            4 => {
                let saved = device.save();
                device.reset();
                device.restore(saved);
                assert_eq!(device.save(), saved);
            }
            5 => {
                let at = 0x1000 + source.below(RAM as u64);
                let _ = ram.memory().write_slice(source.bytes(16), GuestAddress(at));
            }
            _ => transfer(&mut device, &ram, &mut source),
        }
    }
}

/// One transfer as firmware makes it, and what became of it.
fn transfer(device: &mut FwCfg, ram: &SharedRam, source: &mut Source<'_>) {
    let control = u32::from(source.u8() & 0x1f) | u32::from(source.below(0x30) as u16) << 16;
    let length = if source.u8() == 0 { source.u32() } else { source.below(0x2000) as u32 };
    let target = if source.u8() == 0 { source.u64() } else { 0x1000 + source.below(RAM as u64) };
    let place = 0x1000 + source.below(RAM as u64 + 32);
    let mut words = Vec::new();
    words.extend(control.to_be_bytes());
    words.extend(length.to_be_bytes());
    words.extend(target.to_be_bytes());
    let memory = ram.memory();
    let fits = place + 16 <= 0x1000 + RAM as u64;
    memory.write_slice(&vec![BEFORE; RAM], GuestAddress(0x1000)).unwrap();
    if fits {
        memory.write_slice(&words, GuestAddress(place)).unwrap();
    }
    device.write(4, &((place >> 32) as u32).to_be_bytes());
    device.write(8, &(place as u32).to_be_bytes());
    let mut after = vec![0; RAM];
    memory.read_slice(&mut after, GuestAddress(0x1000)).unwrap();
    let end = target.saturating_add(length.into());
    for (at, byte) in (0x1000_u64..).zip(after) {
        let descriptor = fits && (place..place + 16).contains(&at);
        let asked_for = control & 2 != 0 && (target..end).contains(&at);
        assert!(byte == BEFORE || descriptor || asked_for, "{at:#x} was written");
    }
}
