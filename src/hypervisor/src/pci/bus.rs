//! Who answers where: configuration space by ports and by ECAM, and BARs.
//!
//! What must stay true: the map is made of what the BAR registers say and of nothing else. A BAR that is outside the
//! windows, or over one that was there before it, is not mapped; when the other one goes away, it is. Whoever is told of a
//! move (`PciFunction::bar_moved`) hears every change of the map, in order, and nothing is told twice.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::config::Decoded;
use super::function::PCIEXBAR;
use super::{BarKind, PciFunction, RestoreError, SharedFunction};
use crate::bus::{Registers, SharedRegisters};

const SLOTS: usize = 32;
const CONFIG_ENABLE: u32 = 1 << 31;
const CONFIG_WRITABLE: u32 = 0x80ff_fffc;
const ECAM_FUNCTION_BYTES: u64 = 0x1000;
/// BARs no longer than this, in all, lie at a place that depends on the slot only.
const SLOT_SHARE: u64 = 1 << 20;

/// Where BARs may be. The 32-bit window of machine `solo-1` should reach up to the IOAPIC at 0xfec0_0000: SeaBIOS packs
/// BARs from there downwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    pub low: Range<u64>,
    pub high: Option<Range<u64>>,
}

impl Windows {
    fn hold(&self, address: u64, bytes: u64) -> bool {
        let inside = |window: &Range<u64>| {
            address >= window.start && address.checked_add(bytes).is_some_and(|end| end <= window.end)
        };
        inside(&self.low) || self.high.as_ref().is_some_and(inside)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddError {
    #[error("PCI device {0:#04x} does not exist")]
    NoSuchSlot(u8),
    #[error("PCI device {0:#04x} is taken")]
    Taken(u8),
    #[error("no room for {bytes:#x} bytes of BAR {bar} of PCI device {slot:#04x}")]
    NoRoom { slot: u8, bar: u8, bytes: u64 },
}

/// A place on the bus: slot and BAR.
type Place = (u8, u8);

#[derive(Clone)]
struct Mapping {
    bytes: u64,
    place: Place,
    function: SharedFunction,
}

#[derive(Default)]
struct Map {
    ecam: Option<Range<u64>>,
    bars: BTreeMap<u64, Mapping>,
}

impl Map {
    fn overlaps(&self, address: u64, bytes: u64) -> bool {
        let below_end = self.bars.range(..address.saturating_add(bytes)).next_back();
        below_end.is_some_and(|(base, mapping)| base + mapping.bytes > address)
    }
}

#[derive(Default)]
struct Moves {
    /// What the registers say.
    wanted: BTreeMap<Place, (u64, u64)>,
    /// What is in the map.
    mapped: BTreeMap<Place, (u64, u64)>,
    /// Places at power-on of BARs too long for the share of their slot.
    long: Vec<(u8, Range<u64>)>,
}

pub struct PciBus {
    windows: Windows,
    functions: RwLock<[Option<SharedFunction>; SLOTS]>,
    map: RwLock<Map>,
    moves: Mutex<Moves>,
    /// What was written to port 0xcf8.
    config_address: AtomicU32,
}

/// The bus and all its functions, for suspend.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedBus {
    config_address: u32,
    functions: BTreeMap<u8, serde_json::Value>,
}

impl SavedBus {
    /// Whether there was something in the slot.
    pub fn has(&self, slot: u8) -> bool {
        self.functions.contains_key(&slot)
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PciBus {
    pub fn new(windows: Windows) -> Arc<Self> {
        Arc::new(Self {
            windows,
            functions: RwLock::new(std::array::from_fn(|_| None)),
            map: RwLock::new(Map::default()),
            moves: Mutex::new(Moves::default()),
            config_address: AtomicU32::new(0),
        })
    }

    /// For ports 0xcf8 to 0xcff. Byte accesses to 0xcf9 (reset control) are not for the bus: send them elsewhere.
    pub fn ports(self: &Arc<Self>) -> SharedRegisters {
        Arc::new(Mutex::new(Ports(Arc::clone(self))))
    }

    /// Put a function into a slot. Its BARs get their places of power-on; decoding is off until the guest turns it on.
    pub fn add(&self, slot: u8, function: impl PciFunction + 'static) -> Result<SharedFunction, AddError> {
        let shared: SharedFunction = Arc::new(Mutex::new(function));
        self.add_shared(slot, Arc::clone(&shared))?;
        Ok(shared)
    }

    pub fn add_shared(&self, slot: u8, function: SharedFunction) -> Result<(), AddError> {
        let mut moves = lock(&self.moves);
        {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            match functions.get(usize::from(slot)) {
                None => return Err(AddError::NoSuchSlot(slot)),
                Some(Some(_)) => return Err(AddError::Taken(slot)),
                Some(None) => {}
            }
        }
        self.preassign(&mut moves, slot, &mut *lock(&function))?;
        if let Some(place) = self.functions.write().unwrap_or_else(PoisonError::into_inner).get_mut(usize::from(slot)) {
            *place = Some(Arc::clone(&function));
        }
        self.settle_function(&mut moves, slot, &function);
        Ok(())
    }

    fn preassign(&self, moves: &mut Moves, slot: u8, function: &mut dyn PciFunction) -> Result<(), AddError> {
        let mut bars: Vec<_> = function.configuration().bars().collect();
        // Longest first: then each is aligned when the one before it is.
        bars.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
        let short = bars.iter().map(|(_, _, bytes)| bytes).sum::<u64>() <= SLOT_SHARE;
        let mut next = self.windows.low.start + u64::from(slot) * SLOT_SHARE;
        for (bar, kind, bytes) in bars {
            let address = if short {
                let address = next.next_multiple_of(bytes);
                next = address + bytes;
                Some(address).filter(|address| self.windows.hold(*address, bytes))
            } else {
                self.find_long(moves, kind, bytes)
            };
            let Some(address) = address else {
                moves.long.retain(|(owner, _)| *owner != slot);
                return Err(AddError::NoRoom { slot, bar, bytes });
            };
            if !short {
                moves.long.push((slot, address..address + bytes));
            }
            function.configuration_mut().preassign(bar, address);
        }
        Ok(())
    }

    /// The lowest place behind the shares of the slots, in the low window if it fits there.
    fn find_long(&self, moves: &Moves, kind: BarKind, bytes: u64) -> Option<u64> {
        let low = self.windows.low.start.saturating_add(SLOTS as u64 * SLOT_SHARE)..self.windows.low.end;
        let high = self.windows.high.clone().filter(|_| kind == BarKind::Memory64);
        [Some(low), high].into_iter().flatten().find_map(|window| {
            let mut address = window.start.checked_next_multiple_of(bytes)?;
            loop {
                let end = address.checked_add(bytes).filter(|end| *end <= window.end)?;
                let hit = moves.long.iter().find(|(_, taken)| taken.start < end && address < taken.end);
                match hit {
                    None => return Some(address),
                    Some((_, taken)) => address = taken.end.checked_next_multiple_of(bytes)?,
                }
            }
        })
    }

    /// Take a function away: unmapped and reset, so that it does nothing any more.
    pub fn remove(&self, slot: u8) -> Option<SharedFunction> {
        let mut moves = lock(&self.moves);
        let function =
            self.functions.write().unwrap_or_else(PoisonError::into_inner).get_mut(usize::from(slot))?.take()?;
        moves.wanted.retain(|(owner, _), _| *owner != slot);
        moves.long.retain(|(owner, _)| *owner != slot);
        self.settle(&mut moves, Some((slot, &function)));
        lock(&function).reset();
        Some(function)
    }

    pub fn function(&self, slot: u8) -> Option<SharedFunction> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.get(usize::from(slot)).cloned().flatten()
    }

    fn all(&self) -> Vec<(u8, SharedFunction)> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        (0..).zip(functions.iter()).filter_map(|(slot, function)| Some((slot, function.clone()?))).collect()
    }

    /// Power-on state of everything. Called with all vCPUs stopped.
    pub fn reset(&self) {
        let mut moves = lock(&self.moves);
        moves.wanted.clear();
        self.settle(&mut moves, None);
        self.config_address.store(0, Ordering::SeqCst);
        for (slot, function) in self.all() {
            lock(&function).reset();
            self.settle_function(&mut moves, slot, &function);
        }
    }

    pub fn pause(&self) {
        for (_, function) in self.all() {
            lock(&function).pause();
        }
    }

    pub fn resume(&self) {
        for (_, function) in self.all() {
            lock(&function).resume();
        }
    }

    /// Of a paused bus.
    pub fn save(&self) -> SavedBus {
        SavedBus {
            config_address: self.config_address.load(Ordering::SeqCst),
            functions: self.all().into_iter().map(|(slot, function)| (slot, lock(&function).save())).collect(),
        }
    }

    /// Into a bus with fresh functions in the same slots. [`PciBus::resume`] starts them.
    pub fn restore(&self, saved: &SavedBus) -> Result<(), RestoreError> {
        let mut moves = lock(&self.moves);
        let all = self.all();
        if !all.iter().map(|(slot, _)| slot).eq(saved.functions.keys()) {
            return Err(RestoreError::new("the PCI bus", "other slots are taken"));
        }
        self.config_address.store(saved.config_address & CONFIG_WRITABLE, Ordering::SeqCst);
        for (slot, function) in &all {
            let state = saved.functions.get(slot).unwrap_or(&serde_json::Value::Null);
            lock(function).restore(state)?;
            self.settle_function(&mut moves, *slot, function);
        }
        Ok(())
    }

    /// Read the registers of one function, and bring the map in line.
    fn settle_function(&self, moves: &mut Moves, slot: u8, function: &SharedFunction) {
        let (decoded, pciexbar) = {
            let function = lock(function);
            let space = function.configuration();
            let pciexbar =
                (slot == 0).then(|| u64::from(space.u32(PCIEXBAR)) | u64::from(space.u32(PCIEXBAR + 4)) << 32);
            (space.decoded(), pciexbar)
        };
        if let Some(register) = pciexbar {
            let ecam = ecam_window(register);
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            if map.ecam != ecam {
                tracing::debug!(?ecam, "ECAM moved");
                map.ecam = ecam;
            }
        }
        let now: BTreeMap<Place, (u64, u64)> =
            decoded.into_iter().map(|Decoded { bar, address, bytes }| ((slot, bar), (address, bytes))).collect();
        if moves.wanted.range((slot, 0)..=(slot, u8::MAX)).eq(now.iter()) {
            return;
        }
        moves.wanted.retain(|(owner, _), _| *owner != slot);
        moves.wanted.extend(now);
        self.settle(moves, None);
    }

    /// Make the map what `wanted` says, and tell everybody whose BAR moved. `leaving` is not on the bus any more.
    fn settle(&self, moves: &mut Moves, leaving: Option<(u8, &SharedFunction)>) {
        let mut gone = Vec::new();
        let mut come = Vec::new();
        {
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            let Moves { wanted, mapped, .. } = moves;
            mapped.retain(|place, spot| {
                let stays = wanted.get(place) == Some(spot);
                if !stays {
                    map.bars.remove(&spot.0);
                    gone.push(*place);
                }
                stays
            });
            for (place, (address, bytes)) in wanted.iter() {
                if mapped.contains_key(place) || !self.windows.hold(*address, *bytes) || map.overlaps(*address, *bytes)
                {
                    continue;
                }
                let Some(function) = self.function(place.0) else {
                    continue;
                };
                map.bars.insert(*address, Mapping { bytes: *bytes, place: *place, function });
                mapped.insert(*place, (*address, *bytes));
                come.push((*place, *address));
            }
        }
        // Who goes goes first, so that nobody ever hears of a place that another one still holds.
        let find = |slot: u8| match leaving {
            Some((leaving, function)) if leaving == slot => Some(Arc::clone(function)),
            _ => self.function(slot),
        };
        for (slot, bar) in gone {
            if let Some(function) = find(slot) {
                lock(&function).bar_moved(bar, None);
            }
        }
        for ((slot, bar), address) in come {
            if let Some(function) = find(slot) {
                lock(&function).bar_moved(bar, Some(address));
            }
        }
    }

    /// For tests with hostile input: panics if the map is not what it must be.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn check(&self) {
        let moves = lock(&self.moves);
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let mut end = 0;
        for (base, mapping) in &map.bars {
            assert!(*base >= end, "a BAR at {base:#x} lies over another");
            assert!(self.windows.hold(*base, mapping.bytes), "a BAR at {base:#x} lies outside the windows");
            assert_eq!(moves.mapped.get(&mapping.place), Some(&(*base, mapping.bytes)));
            assert_eq!(moves.wanted.get(&mapping.place), Some(&(*base, mapping.bytes)));
            end = base + mapping.bytes;
        }
        assert_eq!(moves.mapped.len(), map.bars.len());
    }

    fn config_read(&self, bus: u8, device_function: u8, offset: u16, data: &mut [u8]) {
        let function = if bus == 0 && device_function & 7 == 0 { self.function(device_function >> 3) } else { None };
        match function {
            Some(function) => lock(&function).config_read(offset, data),
            // Nobody there: master abort.
            None => data.fill(0xff),
        }
    }

    fn config_write(&self, bus: u8, device_function: u8, offset: u16, data: &[u8]) {
        if bus != 0 || device_function & 7 != 0 {
            return;
        }
        let slot = device_function >> 3;
        let mut moves = lock(&self.moves);
        if let Some(function) = self.function(slot) {
            lock(&function).config_write(offset, data);
            self.settle_function(&mut moves, slot, &function);
        }
    }

    fn find(&self, address: u64, length: usize) -> Found {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(ecam) = map.ecam.as_ref().filter(|ecam| ecam.contains(&address)) {
            let at = address - ecam.start;
            let offset = at % ECAM_FUNCTION_BYTES;
            return Found::Config {
                bus: (at >> 20) as u8,
                device_function: (at >> 12) as u8,
                // An access that leaves the function's space is nobody's.
                offset: (offset + length as u64 <= ECAM_FUNCTION_BYTES).then_some(offset as u16),
            };
        }
        match map.bars.range(..=address).next_back() {
            Some((base, mapping)) if (address - base).saturating_add(length as u64) <= mapping.bytes => {
                Found::Bar { function: Arc::clone(&mapping.function), bar: mapping.place.1, offset: address - base }
            }
            _ => Found::Nobody,
        }
    }

    /// A guest reads memory that is not RAM. False: nobody is there, and `data` is all ones.
    pub fn mmio_read(&self, address: u64, data: &mut [u8]) -> bool {
        match self.find(address, data.len()) {
            Found::Config { bus, device_function, offset: Some(offset) } => {
                self.config_read(bus, device_function, offset, data);
            }
            Found::Config { offset: None, .. } => data.fill(0xff),
            Found::Bar { function, bar, offset } => lock(&function).bar_read(bar, offset, data),
            Found::Nobody => {
                data.fill(0xff);
                return false;
            }
        }
        true
    }

    /// False: nobody took it.
    pub fn mmio_write(&self, address: u64, data: &[u8]) -> bool {
        match self.find(address, data.len()) {
            Found::Config { bus, device_function, offset: Some(offset) } => {
                self.config_write(bus, device_function, offset, data);
            }
            Found::Config { offset: None, .. } => {}
            Found::Bar { function, bar, offset } => lock(&function).bar_write(bar, offset, data),
            Found::Nobody => return false,
        }
        true
    }
}

enum Found {
    Config { bus: u8, device_function: u8, offset: Option<u16> },
    Bar { function: SharedFunction, bar: u8, offset: u64 },
    Nobody,
}

/// PCIEXBAR of the q35's host bridge (Intel 3 Series datasheet, section 5.1.15).
fn ecam_window(register: u64) -> Option<Range<u64>> {
    let bytes: u64 = match register >> 1 & 3 {
        0 => 256 << 20,
        1 => 128 << 20,
        2 => 64 << 20,
        _ => return None,
    };
    let start = register & 0xf_ffff_ffff & !(bytes - 1);
    (register & 1 != 0).then_some(start..start + bytes)
}

/// 0xcf8: the address; 0xcfc to 0xcff: the data.
struct Ports(Arc<PciBus>);

impl Ports {
    fn register(&self, offset: u64) -> Option<(u8, u8, u16)> {
        let address = self.0.config_address.load(Ordering::SeqCst);
        let inside = offset >= 4 && address & CONFIG_ENABLE != 0;
        inside.then_some(((address >> 16) as u8, (address >> 8) as u8, (address & 0xfc) as u16 + (offset as u16 & 3)))
    }
}

impl Registers for Ports {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if offset == 0 && data.len() == 4 {
            data.copy_from_slice(&self.0.config_address.load(Ordering::SeqCst).to_le_bytes());
            return;
        }
        match self.register(offset) {
            Some((bus, device_function, register)) => self.0.config_read(bus, device_function, register, data),
            None => data.fill(0xff),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (0, [a, b, c, d]) = (offset, data) {
            let address = u32::from_le_bytes([*a, *b, *c, *d]) & CONFIG_WRITABLE;
            self.0.config_address.store(address, Ordering::SeqCst);
        } else if let Some((bus, device_function, register)) = self.register(offset) {
            self.0.config_write(bus, device_function, register, data);
        }
    }
}

#[cfg(test)]
mod tests;
