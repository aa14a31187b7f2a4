//! The two address spaces through which a guest meets devices: I/O ports and memory-mapped registers.
//!
//! What must stay true: ranges never overlap; a device's lock is held for one access only, and no access takes a second
//! device's lock; reading where nobody answers gives all ones, writing there does nothing, as on a real board.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Something with registers. `offset` counts from the start of the device's range; `data` is as long as the access
/// (1, 2, 4 or 8 bytes; string port accesses come one by one) and little-endian, as the guest sees it. Any length and
/// any offset inside the range can come, and none may panic or block for long.
pub trait Registers: Send {
    fn read(&mut self, offset: u64, data: &mut [u8]);
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// A device that may be on a bus and be spoken to by its owner at the same time.
pub type SharedRegisters = Arc<Mutex<dyn Registers>>;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("range {start:#x}+{length:#x} is empty, wraps or overlaps another one")]
pub struct Overlap {
    pub start: u64,
    pub length: u64,
}

struct Range {
    length: u64,
    device: SharedRegisters,
}

/// One address space. Cheap to look up from many vCPU threads; ranges may come and go while the guest runs.
#[derive(Default)]
pub struct Bus {
    ranges: RwLock<BTreeMap<u64, Range>>,
}

impl Bus {
    pub fn new() -> Self {
        Self::default()
    }

    /// Place a device at `start`, `length` addresses long.
    pub fn insert(&self, start: u64, length: u64, device: SharedRegisters) -> Result<(), Overlap> {
        let refused = || Overlap { start, length };
        let end = start.checked_add(length).filter(|_| length > 0).ok_or_else(refused)?;
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        // The last range that starts below our end is the only one that can reach into us.
        if ranges.range(..end).next_back().is_some_and(|(base, range)| base + range.length > start) {
            return Err(refused());
        }
        ranges.insert(start, Range { length, device });
        Ok(())
    }

    /// Take away the device that was placed at exactly `start`.
    pub fn remove(&self, start: u64) -> Option<SharedRegisters> {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        ranges.remove(&start).map(|range| range.device)
    }

    fn find(&self, address: u64, length: usize) -> Option<(u64, SharedRegisters)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let (base, range) = ranges.range(..=address).next_back()?;
        let offset = address - base;
        // An access that leaves the range is nobody's, so that no device sees an offset outside its own.
        let fits = offset.checked_add(length as u64).is_some_and(|end| end <= range.length);
        fits.then(|| (offset, Arc::clone(&range.device)))
    }

    /// What the guest reads at `address`; false if nobody answered and `data` is all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some((offset, device)) = self.find(address, data.len()) else {
            data.fill(0xff);
            return false;
        };
        device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
        true
    }

    /// What the guest writes at `address`; false if nobody took it.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let Some((offset, device)) = self.find(address, data.len()) else {
            return false;
        };
        device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(Vec<u8>);

    impl Registers for Echo {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&mut self, _offset: u64, data: &[u8]) {
            self.0 = data.to_vec();
        }
    }

    fn echo() -> SharedRegisters {
        Arc::new(Mutex::new(Echo(Vec::new())))
    }

    #[test]
    fn an_access_reaches_the_device_whose_range_holds_it_whole() {
        let bus = Bus::new();
        bus.insert(0x100, 8, echo()).unwrap();
        let mut data = [0; 2];
        assert!(bus.read(0x106, &mut data));
        assert_eq!(data, [6, 6]);
        for address in [0xff, 0x107, 0x108, u64::MAX] {
            assert!(!bus.read(address, &mut data), "{address:#x}");
            assert_eq!(data, [0xff, 0xff]);
        }
    }

    #[test]
    fn ranges_never_overlap_and_can_be_taken_away() {
        let bus = Bus::new();
        bus.insert(0x100, 0x10, echo()).unwrap();
        for (start, length) in [(0x10f, 1), (0xff, 2), (0xf0, 0x100), (0x100, 0x10), (0x200, 0), (u64::MAX, 2)] {
            assert_eq!(bus.insert(start, length, echo()), Err(Overlap { start, length }));
        }
        bus.insert(0x110, 1, echo()).unwrap();
        bus.insert(0xff, 1, echo()).unwrap();
        assert!(bus.remove(0x100).is_some());
        assert!(bus.remove(0x100).is_none());
        bus.insert(0x100, 0x10, echo()).unwrap();
    }
}
