//! PCI bus 0 by ports 0xcf8 and 0xcfc. BARs are where the VMM (or SeaBIOS, under QEMU) put them; those at zero get a place.

use firmware::{Error, Result};

use super::{
    io::{Registers, inl, outl},
    paging,
};

/// The 32-bit MMIO window of machine solo-1; also free in QEMU's q35.
const WINDOW: u64 = 0xc000_0000;
const WINDOW_END: u64 = 0xfc00_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(u32);

fn select(function: Function, register: u32) {
    outl(0xcf8, 0x8000_0000 | function.0 << 8 | (register & 0xfc));
}

impl Function {
    pub fn read(self, register: u32) -> u32 {
        select(self, register);
        inl(0xcfc)
    }

    pub fn write(self, register: u32, value: u32) {
        select(self, register);
        outl(0xcfc, value);
    }

    pub fn read_byte(self, register: u32) -> u8 {
        (self.read(register) >> (8 * (register & 3))) as u8
    }

    pub fn command(self) -> u16 {
        self.read(4) as u16
    }

    /// The upper half of that register, status, has bits that are cleared by writing ones: write zeroes.
    pub fn set_command(self, value: u16) {
        self.write(4, u32::from(value));
    }

    /// Address, size and whether it takes two registers; None for an I/O or absent BAR.
    fn bar(self, index: u32) -> Option<(u64, u64, bool)> {
        let register = 0x10 + 4 * index;
        let command = self.command();
        self.set_command(command & !3);
        let low = self.read(register);
        self.write(register, u32::MAX);
        let mask = self.read(register);
        self.write(register, low);
        let wide = low & 6 == 4 && index < 5;
        let (mut address, mut size) = (u64::from(low & !15), u64::from(mask & !15) | 0xffff_ffff_0000_0000);
        if wide {
            let high = self.read(register + 4);
            self.write(register + 4, u32::MAX);
            let mask = self.read(register + 4);
            self.write(register + 4, high);
            address |= u64::from(high) << 32;
            size = size & 0xffff_ffff | u64::from(mask) << 32;
        }
        self.set_command(command);
        (low & 1 == 0 && mask & !15 != 0 && mask != 0).then_some((address, (!size).wrapping_add(1), wide))
    }

    /// The memory BAR, decoded and mapped (at most its first 32 MiB).
    pub fn registers(self, index: u32) -> Result<(u64, Registers)> {
        if index > 5 {
            return Err(Error::Corrupt("PCI BAR number"));
        }
        let (mut address, size, wide) = self.bar(index).ok_or(Error::Unsupported("a device without its memory BAR"))?;
        if address == 0 {
            address = place(size)?;
            self.write(0x10 + 4 * index, address as u32);
            if wide {
                self.write(0x14 + 4 * index, 0);
            }
        }
        self.set_command(self.command() | 2);
        let bytes = size.min(32 << 20);
        paging::map(address, bytes)?;
        // SAFETY: a memory BAR that was just enabled and mapped; the VMM keeps RAM and BARs apart.
        Ok((address, unsafe { Registers::new(address, bytes) }))
    }
}

/// Every function of bus 0, by slot.
pub fn functions() -> impl Iterator<Item = Function> {
    (0..32u32).flat_map(|slot| {
        let first = Function(slot << 3);
        let present = first.read(0) as u16 != 0xffff;
        let count = if !present {
            0
        } else if first.read_byte(0x0e) & 0x80 != 0 {
            8
        } else {
            1
        };
        (0..count)
            .map(move |function| Function(slot << 3 | function))
            .filter(|function| function.read(0) as u16 != 0xffff)
    })
}

/// A free place in the window, from its end down.
fn place(size: u64) -> Result<u64> {
    let full = Error::Unsupported("PCI BARs that do not fit below 4 GiB");
    if size > WINDOW_END - WINDOW {
        return Err(full);
    }
    let mut candidate = (WINDOW_END - size) & !(size - 1);
    'again: while candidate >= WINDOW {
        for function in functions() {
            let mut index = 0;
            // Bridges have two.
            let bars = if function.read_byte(0x0e) & 0x7f == 0 { 6 } else { 2 };
            while index < bars {
                let Some((address, bytes, wide)) = function.bar(index) else {
                    index += 1;
                    continue;
                };
                index += 1 + u32::from(wide);
                if address != 0 && address < candidate + size && candidate < address + bytes {
                    candidate = address.checked_sub(size).map_or(0, |below| below & !(size - 1));
                    continue 'again;
                }
            }
        }
        return Ok(candidate);
    }
    Err(full)
}
