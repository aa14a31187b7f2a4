//! Disks and nics that come and go while the guest runs, told by ACPI: a block of ports that the DSDT's methods read and
//! write (`acpi::dsdt`), after the generic event device has called them.
//!
//! | offset | | |
//! | --- | --- | --- |
//! | 0 | up | read: slots that have got a function since the last read; reading clears |
//! | 4 | down | read: slots whose function should go; reading clears |
//! | 8 | eject | write: slots that the guest has let go of (`_EJ0`) |
//!
//! What must stay true: a function leaves the bus only when the guest has ejected it, or when the machine resets; whoever
//! asked for it hears of it once, with the function, which is reset and unmapped by then; a guest that never answers costs
//! its owner a deadline and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{AddError, PciBus, PciFunction, RestoreError, SharedFunction, slots};
use crate::bus::Registers;

/// Length of the block of ports.
pub const PORTS: u16 = 16;

/// How often a guest is told again that something should go, until it has looked: an interrupt from before its kernel
/// listened is lost.
const REMINDER: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub enum HotplugEvent {
    /// The slot is empty now. `requested` is false if the guest ejected it of its own accord.
    Ejected { slot: u8, requested: bool, function: SharedFunction },
    /// The guest has not answered by the deadline. It still may.
    TimedOut { slot: u8 },
}

impl std::fmt::Debug for HotplugEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ejected { slot, requested, .. } => {
                f.debug_struct("Ejected").field("slot", slot).field("requested", requested).finish_non_exhaustive()
            }
            Self::TimedOut { slot } => f.debug_struct("TimedOut").field("slot", slot).finish(),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HotplugError {
    #[error("PCI device {0:#04x} cannot come or go while the guest runs")]
    NotRemovable(u8),
    #[error("PCI device {0:#04x} is not there")]
    Empty(u8),
    #[error(transparent)]
    Add(#[from] AddError),
}

/// Receives events. Called from the thread of the vCPU that ejects, so it must only pass them on.
type Listener = Box<dyn FnMut(HotplugEvent) + Send>;
/// Raises the generic event device's "PCI hotplug".
type Notify = Box<dyn Fn() + Send>;

pub struct Hotplug {
    bus: Arc<PciBus>,
    up: u32,
    down: u32,
    /// Asked to go and not gone: until when the owner waits.
    leaving: [Option<Leaving>; 32],
    told_at: Option<Instant>,
    notify: Notify,
    listener: Listener,
}

#[derive(Clone, Copy)]
struct Leaving {
    deadline: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHotplug {
    up: u32,
    down: u32,
    leaving: u32,
}

fn removable() -> u32 {
    slots::REMOVABLE.fold(0, |mask, slot| mask | 1 << slot)
}

fn bits(mask: u32) -> impl Iterator<Item = u8> {
    (0..32).filter(move |slot| mask >> slot & 1 == 1)
}

impl Hotplug {
    pub fn new(
        bus: Arc<PciBus>,
        notify: impl Fn() + Send + 'static,
        listener: impl FnMut(HotplugEvent) + Send + 'static,
    ) -> Self {
        let (notify, listener) = (Box::new(notify), Box::new(listener));
        Self { bus, up: 0, down: 0, leaving: [None; 32], told_at: None, notify, listener }
    }

    /// Put a function into an empty slot of a running machine, and tell the guest.
    pub fn attach(&mut self, slot: u8, function: impl PciFunction + 'static) -> Result<SharedFunction, HotplugError> {
        if !slots::REMOVABLE.contains(&slot) {
            return Err(HotplugError::NotRemovable(slot));
        }
        let shared = self.bus.add(slot, function)?;
        self.up |= 1 << slot;
        self.down &= !(1 << slot);
        (self.notify)();
        Ok(shared)
    }

    /// Ask the guest to let go of a slot. Comes back at once; the answer is a [`HotplugEvent`]. Asked again, it tells the
    /// guest again and waits until the new deadline.
    pub fn request_eject(&mut self, slot: u8, deadline: Instant) -> Result<(), HotplugError> {
        if !slots::REMOVABLE.contains(&slot) {
            return Err(HotplugError::NotRemovable(slot));
        }
        if self.bus.function(slot).is_none() {
            return Err(HotplugError::Empty(slot));
        }
        self.leaving[usize::from(slot)] = Some(Leaving { deadline: Some(deadline) });
        self.down |= 1 << slot;
        self.told_at = Some(Instant::now());
        (self.notify)();
        Ok(())
    }

    /// When the guest is to be told again. While somebody waits, and it has not even looked.
    fn reminder(&self) -> Option<Instant> {
        let awaited = self.leaving.iter().flatten().any(|leaving| leaving.deadline.is_some());
        self.told_at.filter(|_| awaited && self.down != 0).map(|told_at| told_at + REMINDER)
    }

    /// The next moment at which [`Hotplug::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.leaving.iter().flatten().filter_map(|leaving| leaving.deadline);
        deadlines.chain(self.reminder()).min()
    }

    /// Tell of every request whose deadline has passed, once, and remind the guest of what it has not looked at.
    pub fn expire(&mut self, now: Instant) {
        if self.reminder().is_some_and(|at| at <= now) {
            self.told_at = Some(now);
            (self.notify)();
        }
        for slot in 0..32_u8 {
            if let Some(leaving) = &mut self.leaving[usize::from(slot)]
                && leaving.deadline.is_some_and(|deadline| deadline <= now)
            {
                leaving.deadline = None;
                (self.listener)(HotplugEvent::TimedOut { slot });
            }
        }
    }

    fn eject(&mut self, slot: u8) {
        let requested = self.leaving[usize::from(slot)].take().is_some();
        self.up &= !(1 << slot);
        self.down &= !(1 << slot);
        if let Some(function) = self.bus.remove(slot) {
            tracing::info!(slot, requested, "the guest has let go of a PCI device");
            (self.listener)(HotplugEvent::Ejected { slot, requested, function });
        }
    }

    /// The machine resets: nobody uses anything any more, so whatever should go goes. Called before `PciBus::reset`.
    pub fn reset(&mut self) {
        for slot in 0..32 {
            if self.leaving[usize::from(slot)].is_some() {
                self.eject(slot);
            }
        }
        self.up = 0;
        self.down = 0;
    }

    pub fn save(&self) -> SavedHotplug {
        let leaving = (0..32).filter(|slot| self.leaving[*slot].is_some()).fold(0, |mask, slot| mask | 1 << slot);
        SavedHotplug { up: self.up, down: self.down, leaving }
    }

    /// Deadlines are not restored: who waited is gone. The guest may still answer.
    pub fn restore(&mut self, saved: &SavedHotplug) -> Result<(), RestoreError> {
        if (saved.up | saved.down | saved.leaving) & !removable() != 0 {
            return Err(RestoreError::new("hotplug", "slots that cannot come or go"));
        }
        self.up = saved.up;
        self.down = saved.down;
        self.leaving = [None; 32];
        for slot in bits(saved.leaving) {
            self.leaving[usize::from(slot)] = Some(Leaving { deadline: None });
        }
        if saved.up | saved.down != 0 {
            (self.notify)();
        }
        Ok(())
    }
}

impl Registers for Hotplug {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let [a, b, c, d] = data {
            let value = match offset {
                0 => std::mem::take(&mut self.up),
                4 => std::mem::take(&mut self.down),
                _ => 0,
            };
            [*a, *b, *c, *d] = value.to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (8, [a, b, c, d]) = (offset, data) {
            for slot in bits(u32::from_le_bytes([*a, *b, *c, *d]) & removable()) {
                self.eject(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::config::tests::some;
    use crate::pci::{SimpleFunction, Windows};
    use proptest::prelude::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    struct Bench {
        hotplug: Hotplug,
        bus: Arc<PciBus>,
        heard: Arc<Mutex<Vec<String>>>,
        notified: Arc<AtomicU32>,
    }

    fn disk() -> SimpleFunction {
        SimpleFunction::new("disk", some())
    }

    fn bench() -> Bench {
        let bus = PciBus::new(Windows { low: 0xc000_0000..0xfec0_0000, high: Some(1 << 39..1 << 40) });
        bus.add(0, SimpleFunction::host_bridge()).unwrap();
        bus.add(2, disk()).unwrap();
        bus.add(0x18, disk()).unwrap();
        let (heard, notified) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
        let (listener, bell) = (Arc::clone(&heard), Arc::clone(&notified));
        let hotplug = Hotplug::new(
            Arc::clone(&bus),
            move || {
                bell.fetch_add(1, Ordering::SeqCst);
            },
            move |event| listener.lock().unwrap().push(format!("{event:?}")),
        );
        Bench { hotplug, bus, heard, notified }
    }

    impl Bench {
        fn read(&mut self, offset: u64) -> u32 {
            let mut data = [0xaa; 4];
            self.hotplug.read(offset, &mut data);
            u32::from_le_bytes(data)
        }

        fn heard(&self) -> Vec<String> {
            std::mem::take(&mut *self.heard.lock().unwrap())
        }
    }

    #[test]
    fn a_disk_comes_and_goes_when_the_guest_lets_go_of_it() {
        let mut bench = bench();
        bench.hotplug.attach(3, disk()).unwrap();
        assert_eq!(bench.notified.load(Ordering::SeqCst), 1);
        assert_eq!((bench.read(0), bench.read(0), bench.read(4)), (8, 0, 0));
        let deadline = Instant::now() + Duration::from_secs(60);
        bench.hotplug.request_eject(3, deadline).unwrap();
        assert_eq!((bench.read(4), bench.read(4)), (8, 0));
        assert_eq!(bench.hotplug.next_deadline(), Some(deadline));
        assert!(bench.bus.function(3).is_some());
        bench.hotplug.write(8, &8_u32.to_le_bytes());
        assert!(bench.bus.function(3).is_none());
        assert_eq!(bench.heard(), ["Ejected { slot: 3, requested: true, .. }"]);
        assert_eq!(bench.hotplug.next_deadline(), None);
        // Again and again.
        for _ in 0..20 {
            bench.hotplug.attach(3, disk()).unwrap();
            bench.hotplug.request_eject(3, deadline).unwrap();
            bench.hotplug.write(8, &8_u32.to_le_bytes());
        }
        assert_eq!(bench.heard().len(), 20);
    }

    #[test]
    fn a_guest_that_does_not_answer_is_told_of_once_and_may_still_answer() {
        let mut bench = bench();
        let deadline = Instant::now();
        bench.hotplug.request_eject(2, deadline).unwrap();
        bench.hotplug.expire(deadline);
        bench.hotplug.expire(deadline);
        assert_eq!(bench.heard(), ["TimedOut { slot: 2 }"]);
        assert!(bench.bus.function(2).is_some());
        bench.hotplug.write(8, &4_u32.to_le_bytes());
        assert_eq!(bench.heard(), ["Ejected { slot: 2, requested: true, .. }"]);
    }

    #[test]
    fn a_guest_that_has_not_looked_is_reminded_until_it_does_or_the_owner_gives_up() {
        let mut bench = bench();
        let start = Instant::now();
        bench.hotplug.request_eject(2, start + Duration::from_secs(60)).unwrap();
        let told = |bench: &Bench| bench.notified.load(Ordering::SeqCst);
        bench.hotplug.expire(start);
        assert_eq!(told(&bench), 1);
        for round in 1..4 {
            let next = bench.hotplug.next_deadline().unwrap();
            assert!(next < start + Duration::from_secs(10), "{round}");
            bench.hotplug.expire(next);
            bench.hotplug.expire(next);
            assert_eq!(told(&bench), 1 + round);
        }
        assert_eq!(bench.read(4), 4);
        assert_eq!(bench.hotplug.next_deadline(), Some(start + Duration::from_secs(60)));
        bench.hotplug.request_eject(2, start).unwrap();
        bench.hotplug.expire(start);
        assert_eq!((bench.hotplug.next_deadline(), told(&bench)), (None, 5));
    }

    #[test]
    fn a_reset_finishes_what_the_guest_was_asked_for() {
        let mut bench = bench();
        bench.hotplug.attach(5, disk()).unwrap();
        bench.hotplug.request_eject(2, Instant::now()).unwrap();
        bench.hotplug.reset();
        assert_eq!(bench.heard(), ["Ejected { slot: 2, requested: true, .. }"]);
        assert_eq!((bench.read(0), bench.read(4)), (0, 0));
        assert!(bench.bus.function(5).is_some());
    }

    #[test]
    fn only_disks_and_nics_come_and_go() {
        let mut bench = bench();
        let deadline = Instant::now();
        for slot in [0, 1, 0x18, 0x1f, 32, 255] {
            assert_eq!(bench.hotplug.request_eject(slot, deadline), Err(HotplugError::NotRemovable(slot)));
            assert_eq!(bench.hotplug.attach(slot, disk()).err(), Some(HotplugError::NotRemovable(slot)));
        }
        assert_eq!(bench.hotplug.request_eject(4, deadline), Err(HotplugError::Empty(4)));
        assert_eq!(bench.hotplug.attach(2, disk()).err(), Some(HotplugError::Add(AddError::Taken(2))));
        bench.hotplug.write(8, &[0xff; 4]);
        assert!(bench.bus.function(0).is_some() && bench.bus.function(0x18).is_some());
        assert_eq!(bench.heard(), ["Ejected { slot: 2, requested: false, .. }"]);
    }

    #[test]
    fn what_waits_for_the_guest_survives_suspend() {
        let mut bench = bench();
        bench.hotplug.request_eject(2, Instant::now()).unwrap();
        let saved = bench.hotplug.save();
        let mut other = self::bench();
        other.hotplug.restore(&saved).unwrap();
        assert_eq!(other.notified.load(Ordering::SeqCst), 1);
        assert_eq!(other.read(4), 4);
        assert_eq!(other.hotplug.next_deadline(), None);
        other.hotplug.write(8, &4_u32.to_le_bytes());
        assert_eq!(other.heard(), ["Ejected { slot: 2, requested: true, .. }"]);
        assert!(other.hotplug.restore(&SavedHotplug { up: 1, down: 0, leaving: 0 }).is_err());
    }

    proptest! {
        #[test]
        fn any_access_is_survived(
            accesses in prop::collection::vec((0_u64..16, any::<[u8; 8]>(), 0_usize..9, any::<bool>()), 0..50),
        ) {
            let mut bench = bench();
            for (offset, mut bytes, length, write) in accesses {
                if write {
                    bench.hotplug.write(offset, &bytes[..length]);
                } else {
                    bench.hotplug.read(offset, &mut bytes[..length]);
                }
            }
            prop_assert!(bench.bus.function(0).is_some());
        }
    }
}
