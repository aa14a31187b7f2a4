//! virtio-balloon (Virtio 1.2, section 5.5): pages that the guest lends back to the host, asked for (inflation) or on its
//! own account (free page reporting).
//!
//! What must stay true: only pages wholly inside guest RAM are given back, and only those the guest named.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vm_memory::{GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _, VolatileSlice};

use crate::memory::{GuestRam, RamRegion};
use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, ConfigNotifier, QueueStates, VirtioDevice};
use crate::virtio::ring::{Buffers, F_EVENT_IDX, F_INDIRECT_DESC, Rings, read_config};
use crate::virtio::scatter;
use crate::virtio::worker::{Engine, Poller, Worker};

const F_STATS_VQ: u64 = 1 << 1;
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
const F_PAGE_REPORTING: u64 = 1 << 5;

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
/// Statistics where the driver takes them, else reporting.
const THIRD: u16 = 2;

const PAGE: u64 = 4096;
const PAGES_PER_MIB: u64 = (1 << 20) / PAGE;
/// Page numbers in one request. Drivers send 256.
const MAX_PAGES: usize = 1 << 16;
/// Requests served before the owner gets a turn.
const TURN: u32 = 16;
/// Tags the specification knows.
const TAGS: usize = 16;

/// What the guest last said about its memory, by tag: swapped in, swapped out, major faults, minor faults, free, total,
/// available, caches, huge pages allocated, failed ...
pub type BalloonStatistics = [Option<u64>; TAGS];

#[derive(Default)]
struct Shared {
    target: AtomicU32,
    actual: AtomicU32,
    statistics: Mutex<BalloonStatistics>,
    notifier: ConfigNotifier,
}

/// What the owner of a balloon may do to it while the transport has the device.
#[derive(Clone)]
pub struct BalloonControl {
    shared: Arc<Shared>,
    worker: Weak<Worker<BalloonEngine>>,
}

impl BalloonControl {
    /// How much of its memory the guest shall lend.
    pub fn set_target_mib(&self, mib: u64) {
        let pages = u32::try_from(mib.saturating_mul(PAGES_PER_MIB)).unwrap_or(u32::MAX);
        self.shared.target.store(pages, Ordering::Release);
        self.shared.notifier.notify();
    }

    /// How much it says it has lent.
    pub fn actual_mib(&self) -> u64 {
        u64::from(self.shared.actual.load(Ordering::Acquire)) / PAGES_PER_MIB
    }

    pub fn statistics(&self) -> BalloonStatistics {
        *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ask the guest for new statistics; they come some time later.
    pub fn refresh_statistics(&self) {
        if let Some(worker) = self.worker.upgrade() {
            worker.tell(|engine, poller| engine.return_statistics(poller));
        }
    }
}

pub struct Balloon {
    shared: Arc<Shared>,
    reporting: bool,
    worker: Arc<Worker<BalloonEngine>>,
}

impl Balloon {
    pub fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let engine =
            BalloonEngine { shared: Arc::clone(&shared), rings: Rings::default(), statistics: None, restored: None };
        let worker = Arc::new(Worker::new(ThreadKind::Device, "balloon", "balloon", engine)?);
        Ok(Self { shared, reporting: true, worker })
    }

    /// For memory whose pages stay: the guest is not asked to report what it does not use.
    #[must_use]
    pub fn without_reporting(self) -> Self {
        Self { reporting: false, ..self }
    }

    pub fn control(&self) -> BalloonControl {
        BalloonControl { shared: Arc::clone(&self.shared), worker: Arc::downgrade(&self.worker) }
    }
}

impl VirtioDevice for Balloon {
    fn name(&self) -> &'static str {
        "balloon"
    }

    fn device_type(&self) -> u16 {
        5
    }

    fn queue_sizes(&self) -> &[u16] {
        // The specification gives reporting number 4; Linux counts only the queues that are used, and takes 3.
        &[128; 5]
    }

    fn features(&self) -> u64 {
        let reporting = if self.reporting { F_PAGE_REPORTING } else { 0 };
        F_INDIRECT_DESC | F_EVENT_IDX | F_STATS_VQ | F_DEFLATE_ON_OOM | reporting
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 8];
        config[..4].copy_from_slice(&self.shared.target.load(Ordering::Acquire).to_le_bytes());
        config[4..].copy_from_slice(&self.shared.actual.load(Ordering::Acquire).to_le_bytes());
        read_config(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let mut actual = self.shared.actual.load(Ordering::Acquire).to_le_bytes();
        for (at, byte) in data.iter().enumerate() {
            let at = offset.checked_add(at as u64).and_then(|at| usize::try_from(at.checked_sub(4)?).ok());
            if let Some(place) = at.and_then(|at| actual.get_mut(at)) {
                *place = *byte;
            }
        }
        self.shared.actual.store(u32::from_le_bytes(actual), Ordering::Release);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let interrupt = Arc::clone(&activation.interrupt);
        self.worker.activate(activation)?;
        self.shared.notifier.set(Some(interrupt));
        Ok(())
    }

    fn reset(&mut self) {
        self.shared.notifier.set(None);
        self.worker.reset();
        // The driver is gone, and with it what it knew of lent pages; the pages come back as they are touched.
        self.shared.actual.store(0, Ordering::Release);
        *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner) = BalloonStatistics::default();
    }

    fn pause(&mut self) -> QueueStates {
        self.worker.pause()
    }

    fn resume(&mut self) {
        self.worker.resume();
    }

    fn save(&self) -> serde_json::Value {
        let held = self.worker.ask(|engine, _| engine.statistics).unwrap_or_default();
        let (target, actual) = (&self.shared.target, &self.shared.actual);
        serde_json::json!({
            "target": target.load(Ordering::Acquire),
            "actual": actual.load(Ordering::Acquire),
            "statistics": held,
        })
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), ActivateError> {
        #[derive(serde::Deserialize)]
        struct Saved {
            target: u32,
            actual: u32,
            statistics: Option<u16>,
        }
        let wrong = |why: String| ActivateError { device: "balloon", why };
        let saved = <Saved as serde::Deserialize>::deserialize(state).map_err(|error| wrong(error.to_string()))?;
        self.shared.target.store(saved.target, Ordering::Release);
        self.shared.actual.store(saved.actual, Ordering::Release);
        let told = self.worker.ask(move |engine, _| engine.restored = saved.statistics);
        told.map_err(|gone| wrong(gone.to_string()))
    }
}

/// Runs in the balloon's thread.
pub struct BalloonEngine {
    shared: Arc<Shared>,
    rings: Rings,
    /// The request of the statistics queue that waits until new ones are wanted.
    statistics: Option<u16>,
    restored: Option<u16>,
}

impl BalloonEngine {
    fn return_statistics(&mut self, poller: &Poller) {
        if poller.is_held() {
            return;
        }
        let Some((ring, memory)) = self.rings.get(THIRD) else { return };
        if let Some(head) = self.statistics.take() {
            let ram = memory.memory();
            ring.push(&ram, head, 0);
            ring.notify(&ram);
        }
    }

    fn take_statistics(&mut self) {
        let Some((ring, memory)) = self.rings.get(THIRD) else { return };
        let ram = memory.memory();
        for _ in 0..TURN {
            let Some(mut chain) = ring.pop(&ram) else { break };
            // The driver has one request there; should it send another, the last one goes back.
            if let Some(head) = self.statistics.replace(chain.head) {
                ring.push(&ram, head, 0);
            }
            let mut statistics = BalloonStatistics::default();
            for _ in 0..4 * TAGS {
                let Some(entry) = chain.readable.array::<10>() else { break };
                let (tag, value) = (u16::from_le_bytes([entry[0], entry[1]]), &entry[2..]);
                if let (Some(place), Ok(value)) = (statistics.get_mut(usize::from(tag)), value.try_into()) {
                    *place = Some(u64::from_le_bytes(value));
                }
            }
            *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
        }
        ring.notify(&ram);
        if ring.rearm(&ram) {
            ring.again();
        }
    }
}

impl Engine for BalloonEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        self.statistics = self.restored.take();
        self.rings.start(activation, poller)
    }

    fn stop(&mut self, poller: &Poller) {
        self.rings.stop(poller);
        self.statistics = None;
    }

    fn hold(&mut self, _poller: &Poller) -> QueueStates {
        self.rings.states()
    }

    fn go(&mut self, _poller: &Poller) {
        self.rings.look_again();
    }

    fn ready(&mut self, token: u64, _poller: &Poller) {
        let Ok(index) = u16::try_from(token) else { return };
        if let Some((ring, _)) = self.rings.get(index) {
            ring.kicked();
        }
        match index {
            INFLATE => self.rings.serve(index, TURN, |ram, chain| inflate(ram, &mut chain.readable)),
            // Lent pages come back when they are touched.
            DEFLATE => self.rings.serve(index, TURN, |_, _| Ok(0)),
            THIRD if self.rings.features & F_STATS_VQ != 0 => self.take_statistics(),
            _ if self.rings.features & F_PAGE_REPORTING != 0 => self.rings.serve(index, TURN, |ram, chain| {
                chain.writable.slices().iter().for_each(|slice| give_back(ram, slice));
                Ok(0)
            }),
            _ => {}
        }
    }
}

fn inflate(ram: &GuestRam, numbers: &mut Buffers<'_>) -> Result<usize, &'static str> {
    if numbers.len() > 4 * MAX_PAGES {
        return Err("a balloon's list of pages that is too long");
    }
    // Neighbours are given back together.
    let mut run: Option<(u64, u64)> = None;
    while let Some(number) = numbers.array::<4>() {
        let number = u64::from(u32::from_le_bytes(number));
        match &mut run {
            Some((first, count)) if *first + *count == number => *count += 1,
            Some((first, count)) if number + 1 == *first => (*first, *count) = (number, *count + 1),
            _ => {
                if let Some((first, count)) = run.replace((number, 1)) {
                    give_back_pages(ram, first, count);
                }
            }
        }
    }
    if let Some((first, count)) = run {
        give_back_pages(ram, first, count);
    }
    Ok(0)
}

fn give_back_pages(ram: &GuestRam, first: u64, count: u64) {
    // The guest may name what it does not have; that changes nothing. Pieces before a hole are its own.
    for slice in ram.get_slices(GuestAddress(first * PAGE), (count * PAGE) as usize) {
        let Ok(slice) = slice else { return };
        give_back(ram, &slice);
    }
}

fn give_back(ram: &GuestRam, slice: &VolatileSlice<'_>) {
    let host = slice.ptr_guard().as_ptr() as usize;
    let holds = |region: &&RamRegion| {
        let start = region.as_ptr() as usize;
        (start..start + region.size()).contains(&host)
    };
    match ram.iter().find(holds).map(|region| region.flags()) {
        // Others would take pages that were set aside for this guest, which dies when it touches them again.
        Some(flags) if flags & libc::MAP_HUGETLB != 0 => {}
        Some(flags) => {
            // A page that the host will not take back stays where it is.
            let _ = scatter::give_back(slice, flags & libc::MAP_SHARED != 0);
        }
        None => {}
    }
}
