//! Configuration space of a conventional function (PCI Local Bus 3.0, chapter 6): 256 bytes, of which a guest changes what
//! the masks allow.
//!
//! What must stay true: a bit that is not writable never changes by a guest's write; sizing a BAR needs no special case, as
//! its low bits are simply not writable; `reset` gives back every bit of power-on.

use serde::{Deserialize, Serialize};

use super::RestoreError;

pub const BYTES: usize = 256;

pub const COMMAND: u16 = 0x04;
pub const STATUS: u16 = 0x06;
const FIRST_BAR: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const FIRST_CAPABILITY: usize = 0x40;

pub const COMMAND_MEMORY: u16 = 1 << 1;
pub const COMMAND_MASTER: u16 = 1 << 2;
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const COMMAND_WRITABLE: u16 = COMMAND_MEMORY | COMMAND_MASTER | 1 << 6 | 1 << 8 | COMMAND_INTX_DISABLE;
const STATUS_INTERRUPT: u8 = 1 << 3;
const STATUS_CAPABILITIES: u8 = 1 << 4;

/// Who a function is. `class` is class, subclass and programming interface, 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    pub class: u32,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    Memory32,
    /// Takes two registers. Prefetchable.
    Memory64,
}

#[derive(Clone, Copy, Debug)]
struct Bar {
    bytes: u64,
    kind: BarKind,
}

/// A BAR that the function decodes: number, address, length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub bar: u8,
    pub address: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the function has no room for that")]
pub struct NoRoom;

#[derive(Clone)]
pub struct Configuration {
    space: [u8; BYTES],
    writable: [u8; BYTES],
    power_on: [u8; BYTES],
    bars: [Option<Bar>; 6],
    /// Where the link to the next capability goes, and where that capability may lie.
    last_link: usize,
    free: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConfiguration {
    space: Vec<u8>,
}

impl Configuration {
    pub fn new(identity: Identity) -> Self {
        let mut this = Self {
            space: [0; BYTES],
            writable: [0; BYTES],
            power_on: [0; BYTES],
            bars: [None; 6],
            last_link: CAPABILITIES,
            free: FIRST_CAPABILITY,
        };
        this.set(0x00, &identity.vendor.to_le_bytes());
        this.set(0x02, &identity.device.to_le_bytes());
        this.set(0x08, &(identity.class << 8 | u32::from(identity.revision)).to_le_bytes());
        this.set(0x2c, &identity.subsystem_vendor.to_le_bytes());
        this.set(0x2e, &identity.subsystem.to_le_bytes());
        this.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        // Cache line size and latency timer: no meaning, but software expects to keep something there.
        this.allow(0x0c, &[0xff, 0xff]);
        this.allow(INTERRUPT_LINE as u16, &[0xff]);
        this
    }

    /// What a register holds at power-on.
    pub fn set(&mut self, offset: u16, bytes: &[u8]) {
        for (at, byte) in (usize::from(offset)..BYTES).zip(bytes) {
            self.space[at] = *byte;
            self.power_on[at] = *byte;
        }
    }

    /// Which bits of a register the guest may change, those of `mask` added to what it may already.
    pub fn allow(&mut self, offset: u16, mask: &[u8]) {
        for (at, bits) in (usize::from(offset)..BYTES).zip(mask) {
            self.writable[at] |= bits;
        }
    }

    /// Pin A, and the line of the IOAPIC as firmware would note it.
    pub fn set_interrupt(&mut self, line: u8) {
        self.set(INTERRUPT_LINE as u16, &[line, 1]);
    }

    /// `bytes` must be a power of two, from 16 on (4 KiB for peace with KVM's slots and eventfds).
    pub fn add_bar(&mut self, bar: u8, kind: BarKind, bytes: u64) -> Result<(), NoRoom> {
        let index = usize::from(bar);
        let registers = if kind == BarKind::Memory64 { 2 } else { 1 };
        let most = if kind == BarKind::Memory64 { 1 << 62 } else { 1 << 31 };
        let fits = index + registers <= self.bars.len() && bytes.is_power_of_two() && (16..=most).contains(&bytes);
        let behind_a_long_one =
            index > 0 && self.bars.get(index - 1).copied().flatten().is_some_and(|bar| bar.kind == BarKind::Memory64);
        let taken = self.bars.iter().skip(index).take(registers).any(Option::is_some);
        if !fits || behind_a_long_one || taken {
            return Err(NoRoom);
        }
        self.bars[index] = Some(Bar { bytes, kind });
        let offset = (FIRST_BAR + 4 * index) as u16;
        let mask = !(bytes - 1);
        match kind {
            BarKind::Memory32 => self.allow(offset, &(mask as u32).to_le_bytes()),
            BarKind::Memory64 => {
                // Type 64 bits, prefetchable.
                self.set(offset, &[0x0c]);
                self.allow(offset, &mask.to_le_bytes());
            }
        }
        Ok(())
    }

    /// The BARs there are: number, kind, length.
    pub fn bars(&self) -> impl Iterator<Item = (u8, BarKind, u64)> + '_ {
        (0_u8..).zip(&self.bars).filter_map(|(index, bar)| bar.map(|bar| (index, bar.kind, bar.bytes)))
    }

    /// Where a BAR is at power-on. Bits that the register does not have are dropped.
    pub fn preassign(&mut self, bar: u8, address: u64) {
        let Some(Some(Bar { kind, .. })) = self.bars.get(usize::from(bar)).copied() else {
            return;
        };
        let offset = FIRST_BAR + 4 * usize::from(bar);
        let registers = if kind == BarKind::Memory64 { 8 } else { 4 };
        for (at, byte) in (offset..offset + registers).zip(address.to_le_bytes()) {
            let mask = self.writable[at];
            self.space[at] = self.space[at] & !mask | byte & mask;
            self.power_on[at] = self.power_on[at] & !mask | byte & mask;
        }
    }

    /// Append a capability. `body` is what follows its id and link; `writable` the bits of it that a guest may change, or
    /// shorter. Returns the offset of the capability.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Result<u8, NoRoom> {
        let at = self.free;
        let end = at + (2 + body.len()).next_multiple_of(4);
        if end > BYTES || writable.len() > body.len() {
            return Err(NoRoom);
        }
        self.set(at as u16, &[id, 0]);
        self.set(at as u16 + 2, body);
        self.allow(at as u16 + 2, writable);
        self.set(self.last_link as u16, &[at as u8]);
        self.set(STATUS, &[STATUS_CAPABILITIES]);
        self.last_link = at + 1;
        self.free = end;
        Ok(at as u8)
    }

    /// Behind the end there are zeroes: no extended capabilities.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let from = usize::from(offset);
        for (at, byte) in data.iter_mut().enumerate() {
            *byte = self.space.get(from + at).copied().unwrap_or(0);
        }
    }

    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (at, byte) in (usize::from(offset)..BYTES).zip(data) {
            let mask = self.writable[at];
            self.space[at] = self.space[at] & !mask | byte & mask;
        }
    }

    pub fn u16(&self, offset: u16) -> u16 {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    pub fn u32(&self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub fn command(&self) -> u16 {
        self.u16(COMMAND)
    }

    /// What the device itself does to a register, past the mask: a window's data, say.
    pub fn put(&mut self, offset: u16, bytes: &[u8]) {
        for (at, byte) in (usize::from(offset)..BYTES).zip(bytes) {
            self.space[at] = *byte;
        }
    }

    /// Status bit 3: an INTx is waiting (whether or not it is disabled).
    pub fn set_interrupt_status(&mut self, waiting: bool) {
        let status = &mut self.space[usize::from(STATUS)];
        *status = if waiting { *status | STATUS_INTERRUPT } else { *status & !STATUS_INTERRUPT };
    }

    /// The BARs that are decoded, as their registers say; the bus judges whether the place makes sense.
    pub fn decoded(&self) -> Vec<Decoded> {
        if self.command() & COMMAND_MEMORY == 0 {
            return Vec::new();
        }
        self.bars()
            .map(|(bar, kind, bytes)| {
                let offset = (FIRST_BAR + 4 * usize::from(bar)) as u16;
                let low = u64::from(self.u32(offset) & !0xf);
                let high = if kind == BarKind::Memory64 { u64::from(self.u32(offset + 4)) } else { 0 };
                Decoded { bar, address: high << 32 | low, bytes }
            })
            .collect()
    }

    pub fn reset(&mut self) {
        self.space = self.power_on;
    }

    pub fn save(&self) -> SavedConfiguration {
        SavedConfiguration { space: self.space.to_vec() }
    }

    /// Takes over what a guest may have changed; the rest must be the same.
    pub fn restore(&mut self, saved: &SavedConfiguration) -> Result<(), RestoreError> {
        let refused = |why| RestoreError::new("a PCI configuration space", why);
        let space: [u8; BYTES] = saved.space.as_slice().try_into().map_err(|_| refused("its length"))?;
        let volatile = |at: usize| if at == usize::from(STATUS) { STATUS_INTERRUPT } else { 0 };
        if (0..BYTES).any(|at| (space[at] ^ self.power_on[at]) & !self.writable[at] & !volatile(at) != 0) {
            return Err(refused("it is of another function"));
        }
        self.space = space;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn some() -> Configuration {
        let mut some = Configuration::new(Identity {
            vendor: 0x1af4,
            device: 0x1042,
            revision: 1,
            class: 0x01_00_00,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        some.add_bar(0, BarKind::Memory32, 0x8000).unwrap();
        some.add_bar(2, BarKind::Memory64, 1 << 33).unwrap();
        some.set_interrupt(17);
        some
    }

    #[test]
    fn sizing_tells_the_size_and_the_kind_of_each_bar() {
        let mut space = some();
        for offset in [0x10, 0x14, 0x18, 0x1c] {
            space.write(offset, &[0xff; 4]);
        }
        assert_eq!(space.u32(0x10), 0xffff_8000);
        assert_eq!(space.u32(0x14), 0);
        assert_eq!(space.u32(0x18), 0x0000_000c);
        assert_eq!(space.u32(0x1c), 0xffff_fffe);
    }

    #[test]
    fn a_bar_is_decoded_only_with_command_memory_and_where_its_register_says() {
        let mut space = some();
        space.preassign(0, 0xc010_0000);
        assert!(space.decoded().is_empty());
        space.write(COMMAND, &[2]);
        assert_eq!(space.decoded()[0], Decoded { bar: 0, address: 0xc010_0000, bytes: 0x8000 });
        // Half by half.
        space.write(0x1c, &[4, 0, 0, 0]);
        assert_eq!(space.decoded()[1].address, 4 << 32);
        space.write(0x12, &[0xab]);
        assert_eq!(space.decoded()[0].address, 0xc0ab_0000);
        space.reset();
        assert_eq!(space.u32(0x10), 0xc010_0000);
        assert_eq!(space.command(), 0);
    }

    #[test]
    fn capabilities_are_a_list_from_the_pointer_on() {
        let mut space = some();
        let first = space.add_capability(0x11, &[0x22; 10], &[0, 0xff]).unwrap();
        let second = space.add_capability(0x09, &[0x33; 18], &[]).unwrap();
        assert_eq!((first, second), (0x40, 0x4c));
        assert_eq!(space.u32(0x34), 0x40);
        assert_eq!(space.u32(0x40), 0x2222_4c11);
        assert_eq!(space.u32(0x4c), 0x3333_0009);
        assert_eq!(space.u16(STATUS), 0x10);
        space.write(0x40, &[0xff; 8]);
        assert_eq!(space.u32(0x40), 0xff22_4c11);
        assert_eq!(space.u32(0x44), 0x2222_2222);
        assert_eq!(space.add_capability(9, &[0; 200], &[]), Err(NoRoom));
    }

    #[test]
    fn bars_that_overlap_or_have_odd_sizes_are_refused() {
        let mut space = some();
        for (bar, kind, bytes) in [
            (0, BarKind::Memory32, 0x1000),
            (3, BarKind::Memory32, 0x1000),
            (1, BarKind::Memory64, 0x1000),
            (5, BarKind::Memory64, 0x1000),
            (6, BarKind::Memory32, 0x1000),
            (4, BarKind::Memory32, 0x1001),
            (4, BarKind::Memory32, 8),
            (4, BarKind::Memory32, 1 << 32),
        ] {
            assert_eq!(space.add_bar(bar, kind, bytes), Err(NoRoom), "{bar} {bytes:#x}");
        }
    }

    #[test]
    fn a_saved_space_fits_only_the_same_function() {
        let mut space = some();
        space.write(COMMAND, &[6, 4]);
        let saved = space.save();
        let mut other = some();
        other.restore(&saved).unwrap();
        assert_eq!(other.command(), 0x406);
        let mut stranger = some();
        stranger.set(0x02, &[0x41]);
        assert!(stranger.restore(&saved).is_err());
        assert!(other.restore(&SavedConfiguration { space: vec![0; 255] }).is_err());
    }

    proptest! {
        #[test]
        fn no_write_changes_what_is_not_writable(
            writes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..9)), 0..100),
        ) {
            let mut space = some();
            space.add_capability(9, &[1, 2, 3, 4, 5, 6], &[0, 0xf0]).unwrap();
            let before = space.clone();
            for (offset, data) in &writes {
                let offset = offset % 0x140;
                space.write(offset, data);
                let mut read = vec![0; data.len()];
                space.read(offset, &mut read);
            }
            for at in 0..BYTES {
                prop_assert_eq!((space.space[at] ^ before.space[at]) & !space.writable[at], 0, "{:#x}", at);
            }
            for decoded in space.decoded() {
                prop_assert_eq!(decoded.address % decoded.bytes, 0);
            }
            space.reset();
            prop_assert_eq!(space.space, before.space);
        }
    }
}
