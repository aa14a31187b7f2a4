//! MSI-X (PCI Local Bus 3.0, section 6.8.2): the table that a guest fills, and the routes that follow it.
//!
//! What must stay true: a vector's route carries a message only while MSI-X is on and neither the function nor the vector
//! is masked; an interrupt that comes while it may not be sent is pending and is sent once when it may; nothing here calls
//! back, so the lock of the table is the innermost one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::RestoreError;
use crate::interrupts::{Interrupts, Message, MessageRoute};

pub const CAPABILITY: u8 = 0x11;
pub const ENTRY_BYTES: u64 = 16;
/// As many as fit into one page of table.
pub const MOST_VECTORS: u16 = 256;

const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_MASK_ALL: u16 = 1 << 14;
/// Bits of the control word that a guest may change.
pub const CONTROL_WRITABLE: u16 = CONTROL_ENABLE | CONTROL_MASK_ALL;
const ENTRY_CONTROL: usize = 12;
const ENTRY_MASKED: u8 = 1;

struct Vector {
    /// As in the table: address, data, control.
    entry: [u8; ENTRY_BYTES as usize],
    pending: bool,
    route: Option<Box<dyn MessageRoute>>,
    /// What the route carries.
    live: Option<Message>,
    /// Somebody holds the eventfd and may have written it while the route led nowhere.
    lent: bool,
}

const EMPTY: [u8; ENTRY_BYTES as usize] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENTRY_MASKED, 0, 0, 0];

impl Vector {
    fn message(&self) -> Option<Message> {
        let [a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, control, ..] = self.entry;
        let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let masked = control & ENTRY_MASKED != 0;
        (!masked && address != 0).then_some(Message { address, data: u32::from_le_bytes([d0, d1, d2, d3]) })
    }

    fn fire(&self) {
        if let Some(route) = &self.route {
            // It can only fail when it has been written 2^64 times unread.
            let _ = route.eventfd().write(1);
        }
    }
}

struct Table {
    control: u16,
    vectors: Vec<Vector>,
    complained: bool,
}

pub struct Msix {
    interrupts: Arc<dyn Interrupts>,
    table: Mutex<Table>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMsix {
    control: u16,
    vectors: Vec<([u8; ENTRY_BYTES as usize], bool)>,
}

impl Msix {
    /// With `vectors` vectors, 1 to [`MOST_VECTORS`]. Routes are taken when they are first needed.
    pub fn new(interrupts: Arc<dyn Interrupts>, vectors: u16) -> Self {
        let vector = || Vector { entry: EMPTY, pending: false, route: None, live: None, lent: false };
        let vectors = (0..vectors.clamp(1, MOST_VECTORS)).map(|_| vector()).collect();
        Self { interrupts, table: Mutex::new(Table { control: 0, vectors, complained: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> u16 {
        self.lock().vectors.len() as u16
    }

    pub fn enabled(&self) -> bool {
        self.lock().control & CONTROL_ENABLE != 0
    }

    /// The control word was written. Returns the vectors whose route changed.
    pub fn set_control(&self, control: u16) -> Vec<u16> {
        let mut table = self.lock();
        let control = control & CONTROL_WRITABLE;
        if table.control == control {
            return Vec::new();
        }
        if control & CONTROL_ENABLE == 0 {
            // Pending bits mean nothing to a driver that uses no MSI-X.
            table.vectors.iter_mut().for_each(|vector| vector.pending = false);
        }
        table.control = control;
        let all = 0..table.vectors.len();
        all.filter(|index| self.follow(&mut table, *index)).map(|index| index as u16).collect()
    }

    /// Bring a route in line with the table. True if it changed.
    fn follow(&self, table: &mut Table, index: usize) -> bool {
        let on = table.control & CONTROL_WRITABLE == CONTROL_ENABLE;
        let Table { vectors, complained, .. } = table;
        let Some(vector) = vectors.get_mut(index) else {
            return false;
        };
        let wanted = vector.message().filter(|_| on);
        if vector.live == wanted {
            return false;
        }
        let done = match (&vector.route, wanted) {
            (None, None) => Ok(()),
            (Some(route), wanted) => route.set(wanted),
            (None, Some(_)) => self.interrupts.message_route().and_then(|route| {
                let set = route.set(wanted);
                vector.route = Some(route);
                set
            }),
        };
        let was_silent = vector.live.is_none();
        match done {
            Ok(()) => vector.live = wanted,
            Err(error) => {
                vector.live = None;
                if !std::mem::replace(complained, true) {
                    tracing::warn!(%error, vector = index, message = ?wanted, "an interrupt message leads nowhere");
                }
            }
        }
        if vector.live.is_some() && was_silent && (std::mem::take(&mut vector.pending) || vector.lent) {
            // One too many does no harm, one too few stops a driver.
            vector.fire();
        }
        true
    }

    fn byte(table: &Table, at: u64) -> u8 {
        let vector = table.vectors.get((at / ENTRY_BYTES) as usize);
        vector.map_or(0, |vector| vector.entry[(at % ENTRY_BYTES) as usize])
    }

    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        let table = self.lock();
        for (at, byte) in (offset..).zip(data) {
            *byte = Self::byte(&table, at);
        }
    }

    /// Returns the vectors whose route changed: none or one, two if the access was over the edge of an entry.
    pub fn table_write(&self, offset: u64, data: &[u8]) -> Vec<u16> {
        let mut table = self.lock();
        for (at, byte) in (offset..).zip(data) {
            let within = (at % ENTRY_BYTES) as usize;
            let mask = match within {
                0 => 0xfc,
                ENTRY_CONTROL => ENTRY_MASKED,
                13..16 => 0,
                _ => 0xff,
            };
            if let Some(vector) = table.vectors.get_mut((at / ENTRY_BYTES) as usize) {
                vector.entry[within] = byte & mask;
            }
        }
        let first = offset / ENTRY_BYTES;
        let last = offset.saturating_add(data.len().saturating_sub(1) as u64) / ENTRY_BYTES;
        (first..=last).filter(|index| self.follow(&mut table, *index as usize)).map(|index| index as u16).collect()
    }

    pub fn pending_read(&self, offset: u64, data: &mut [u8]) {
        let table = self.lock();
        for (at, byte) in (offset..).zip(data) {
            let first = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(8);
            let bits = table.vectors.iter().skip(first).take(8);
            *byte = bits.enumerate().fold(0, |byte, (bit, vector)| byte | u8::from(vector.pending) << bit);
        }
    }

    /// Interrupt. Nothing happens where there is no such vector or MSI-X is off.
    pub fn signal(&self, vector: u16) {
        let mut table = self.lock();
        let enabled = table.control & CONTROL_ENABLE != 0;
        if let Some(vector) = table.vectors.get_mut(usize::from(vector)) {
            if vector.live.is_some() {
                vector.fire();
            } else if enabled {
                vector.pending = true;
            }
        }
    }

    /// An eventfd that interrupts; None while it would lead nowhere.
    pub fn eventfd(&self, vector: u16) -> Option<EventFd> {
        let mut table = self.lock();
        let vector = table.vectors.get_mut(usize::from(vector))?;
        vector.live?;
        let eventfd = vector.route.as_ref()?.eventfd().try_clone().ok()?;
        vector.lent = true;
        Some(eventfd)
    }

    /// Off, all vectors masked and empty. Routes are kept, silent.
    pub fn reset(&self) {
        let mut table = self.lock();
        table.control = 0;
        for index in 0..table.vectors.len() {
            let vector = &mut table.vectors[index];
            vector.entry = EMPTY;
            vector.pending = false;
            vector.lent = false;
            self.follow(&mut table, index);
        }
    }

    pub fn save(&self) -> SavedMsix {
        let table = self.lock();
        SavedMsix {
            control: table.control,
            vectors: table.vectors.iter().map(|vector| (vector.entry, vector.pending)).collect(),
        }
    }

    pub fn restore(&self, saved: &SavedMsix) -> Result<(), RestoreError> {
        let mut table = self.lock();
        if saved.vectors.len() != table.vectors.len() {
            return Err(RestoreError::new("an MSI-X table", "its length"));
        }
        table.control = saved.control & CONTROL_WRITABLE;
        for (index, (entry, pending)) in saved.vectors.iter().enumerate() {
            let vector = &mut table.vectors[index];
            vector.entry = *entry;
            vector.pending = *pending;
            self.follow(&mut table, index);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::io;

    use crate::interrupts::Line;

    /// Interrupts that only remember.
    #[derive(Default)]
    pub struct Recorder {
        lines: Arc<Mutex<HashMap<u32, bool>>>,
        routes: Mutex<Vec<Arc<Mutex<Option<Message>>>>>,
        pub refuse: std::sync::atomic::AtomicBool,
    }

    impl Recorder {
        pub fn level(&self, gsi: u32) -> bool {
            self.lines.lock().unwrap().get(&gsi).copied().unwrap_or(false)
        }

        pub fn messages(&self) -> Vec<Option<Message>> {
            self.routes.lock().unwrap().iter().map(|route| *route.lock().unwrap()).collect()
        }
    }

    struct Route(EventFd, Arc<Mutex<Option<Message>>>);

    impl MessageRoute for Route {
        fn eventfd(&self) -> &EventFd {
            &self.0
        }
        fn set(&self, message: Option<Message>) -> io::Result<()> {
            *self.1.lock().unwrap() = message;
            Ok(())
        }
    }

    struct Wire(u32, Arc<Mutex<HashMap<u32, bool>>>);

    impl Line for Wire {
        fn set(&self, high: bool) {
            self.1.lock().unwrap().insert(self.0, high);
        }
    }

    impl Interrupts for Recorder {
        fn message_route(&self) -> io::Result<Box<dyn MessageRoute>> {
            if self.refuse.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(io::Error::other("refused"));
            }
            let cell = Arc::new(Mutex::new(None));
            self.routes.lock().unwrap().push(Arc::clone(&cell));
            Ok(Box::new(Route(EventFd::new(libc::EFD_NONBLOCK)?, cell)))
        }
        fn line(&self, gsi: u32) -> io::Result<Box<dyn Line>> {
            Ok(Box::new(Wire(gsi, Arc::clone(&self.lines))))
        }
    }

    pub fn entry(address: u64, data: u32, masked: bool) -> [u8; 16] {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&address.to_le_bytes());
        entry[8..12].copy_from_slice(&data.to_le_bytes());
        entry[12] = u8::from(masked);
        entry
    }

    fn fired(msix: &Msix, vector: usize) -> u64 {
        msix.lock().vectors[vector].route.as_ref().map_or(0, |route| route.eventfd().read().unwrap_or(0))
    }

    fn pending(msix: &Msix) -> u8 {
        let mut byte = [0];
        msix.pending_read(0, &mut byte);
        byte[0]
    }

    #[test]
    fn a_masked_interrupt_is_pending_and_comes_once_when_unmasked() {
        let recorder = Arc::new(Recorder::default());
        let msix = Msix::new(recorder.clone(), 3);
        assert!(msix.set_control(CONTROL_ENABLE).is_empty());
        msix.table_write(16, &entry(0xfee0_1000, 0x41, true));
        msix.signal(1);
        msix.signal(1);
        assert_eq!(pending(&msix), 2);
        assert_eq!(recorder.messages(), []);
        assert_eq!(msix.table_write(28, &[0, 0, 0, 0]), [1]);
        assert_eq!(recorder.messages(), [Some(Message { address: 0xfee0_1000, data: 0x41 })]);
        assert_eq!((fired(&msix, 1), pending(&msix)), (1, 0));
        msix.signal(1);
        assert_eq!(fired(&msix, 1), 1);
        // The whole function masked.
        assert_eq!(msix.set_control(CONTROL_ENABLE | CONTROL_MASK_ALL), [1]);
        assert_eq!(recorder.messages(), [None]);
        msix.signal(1);
        assert_eq!((fired(&msix, 1), pending(&msix)), (0, 2));
        assert_eq!(msix.set_control(CONTROL_ENABLE), [1]);
        assert_eq!((fired(&msix, 1), pending(&msix)), (1, 0));
    }

    #[test]
    fn turned_off_it_is_silent_and_forgets_what_was_pending() {
        let recorder = Arc::new(Recorder::default());
        let msix = Msix::new(recorder.clone(), 1);
        msix.table_write(0, &entry(0xfee0_0000, 1, false));
        msix.signal(0);
        assert_eq!((pending(&msix), recorder.messages().len()), (0, 0));
        msix.set_control(CONTROL_ENABLE | CONTROL_MASK_ALL);
        msix.signal(0);
        assert_eq!(pending(&msix), 1);
        msix.set_control(0);
        msix.set_control(CONTROL_ENABLE);
        assert_eq!((pending(&msix), fired(&msix, 0)), (0, 0));
        assert!(recorder.messages()[0].is_some());
        msix.reset();
        assert_eq!(recorder.messages(), [None]);
        let mut control = [0; 4];
        msix.table_read(12, &mut control);
        assert_eq!(control, [1, 0, 0, 0]);
    }

    #[test]
    fn a_lent_eventfd_is_rung_after_every_silence() {
        let msix = Msix::new(Arc::new(Recorder::default()), 1);
        assert!(msix.eventfd(0).is_none());
        msix.set_control(CONTROL_ENABLE);
        msix.table_write(0, &entry(0xfee0_0000, 1, false));
        let lent = msix.eventfd(0).unwrap();
        lent.write(1).unwrap();
        assert_eq!(fired(&msix, 0), 1);
        msix.table_write(12, &[1]);
        assert!(msix.eventfd(0).is_none());
        // vhost wrote it a moment too late, and KVM dropped it.
        lent.write(1).unwrap();
        lent.read().unwrap();
        msix.table_write(12, &[0]);
        assert_eq!(lent.read().unwrap(), 1);
        assert!(msix.eventfd(1).is_none());
    }

    #[test]
    fn no_route_to_be_had_stops_the_interrupt_and_nothing_else() {
        let recorder = Arc::new(Recorder::default());
        recorder.refuse.store(true, std::sync::atomic::Ordering::SeqCst);
        let msix = Msix::new(recorder.clone(), 1);
        msix.set_control(CONTROL_ENABLE);
        msix.table_write(0, &entry(0xfee0_0000, 1, false));
        msix.signal(0);
        assert_eq!(pending(&msix), 1);
        recorder.refuse.store(false, std::sync::atomic::Ordering::SeqCst);
        msix.table_write(8, &[2]);
        assert_eq!(fired(&msix, 0), 1);
    }

    #[test]
    fn saved_and_restored_it_has_the_same_routes_and_pending_bits() {
        let msix = Msix::new(Arc::new(Recorder::default()), 2);
        msix.set_control(CONTROL_ENABLE);
        msix.table_write(0, &entry(0xfee0_0000, 1, false));
        msix.table_write(16, &entry(0xfee0_0000, 2, true));
        msix.signal(1);
        let saved = msix.save();
        let recorder = Arc::new(Recorder::default());
        let other = Msix::new(recorder.clone(), 2);
        other.restore(&saved).unwrap();
        assert_eq!(recorder.messages(), [Some(Message { address: 0xfee0_0000, data: 1 })]);
        assert_eq!(pending(&other), 2);
        assert_eq!(other.save(), saved);
        assert!(Msix::new(recorder, 3).restore(&saved).is_err());
    }

    proptest! {
        #[test]
        fn routes_always_say_what_the_table_says(
            steps in prop::collection::vec((0_u8..5, 0_u64..80, any::<[u8; 8]>(), 0_usize..9), 1..200),
        ) {
            let recorder = Arc::new(Recorder::default());
            let msix = Msix::new(recorder.clone(), 4);
            for (step, at, bytes, length) in steps {
                match step {
                    0 => drop(msix.set_control(u16::from_le_bytes([bytes[0], bytes[1]]) | CONTROL_ENABLE)),
                    1 | 2 => drop(msix.table_write(at, &bytes[..length])),
                    3 => msix.signal(at as u16),
                    _ => {
                        let mut data = [0; 8];
                        msix.table_read(at, &mut data[..length]);
                        msix.pending_read(at, &mut data[..length]);
                    }
                }
                let table = msix.lock();
                let on = table.control == CONTROL_ENABLE;
                for vector in &table.vectors {
                    prop_assert_eq!(vector.live, vector.message().filter(|_| on));
                    prop_assert!(!(vector.pending && vector.live.is_some()));
                }
                let live = table.vectors.iter().filter(|vector| vector.live.is_some()).count();
                prop_assert_eq!(recorder.messages().iter().flatten().count(), live);
            }
        }
    }
}
