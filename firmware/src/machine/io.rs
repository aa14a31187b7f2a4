//! Ports and memory-mapped registers.

use core::arch::asm;

pub fn outb(port: u16, value: u8) {
    // SAFETY: a port write does not touch memory that Rust knows of; DMA is started by MMIO alone.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

pub fn outw(port: u16, value: u16) {
    // SAFETY: as for outb.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) }
}

pub fn outl(port: u16, value: u32) {
    // SAFETY: as for outb.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) }
}

pub fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: as for outb.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

pub fn inl(port: u16) -> u32 {
    let value;
    // SAFETY: as for outb.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) }
    value
}

/// A block of device registers at a mapped physical address.
#[derive(Debug, Clone, Copy)]
pub struct Registers {
    base: u64,
    bytes: u64,
}

impl Registers {
    /// # Safety
    /// `base..base + bytes` is a memory BAR, decoded and mapped, for as long as this lives, and no RAM.
    pub unsafe fn new(base: u64, bytes: u64) -> Registers {
        Registers { base, bytes }
    }

    fn at<T>(&self, offset: u64) -> Option<*mut T> {
        let size = size_of::<T>() as u64;
        (offset.is_multiple_of(size) && offset + size <= self.bytes).then_some((self.base + offset) as *mut T)
    }

    /// All ones outside the block, as a bus answers.
    pub fn read<T: Copy + From<u8>>(&self, offset: u64) -> T {
        match self.at::<T>(offset) {
            // SAFETY: inside the block that `new` vouches for, and aligned (BARs are).
            Some(place) => unsafe { place.read_volatile() },
            None => T::from(0xff),
        }
    }

    pub fn write<T: Copy>(&self, offset: u64, value: T) {
        if let Some(place) = self.at::<T>(offset) {
            // SAFETY: as for read.
            unsafe { place.write_volatile(value) }
        }
    }

    /// A 64-bit register in two halves, which every device takes.
    pub fn write_halves(&self, offset: u64, value: u64) {
        self.write(offset, value as u32);
        self.write(offset + 4, (value >> 32) as u32);
    }

    pub fn below(&self, offset: u64, bytes: u64) -> Option<Registers> {
        (offset.checked_add(bytes)? <= self.bytes).then_some(Registers { base: self.base + offset, bytes })
    }
}
