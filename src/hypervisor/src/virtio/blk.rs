//! virtio-blk (Virtio 1.2, section 5.2): one raw file or block device, read and written straight from guest memory.
//!
//! What must stay true: nothing outside the capacity is touched; a read-only disk is never written; what a flush was
//! answered for is on the disk; a request that makes no sense is answered with an error, as long as there is a place for it.

mod disk;

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use vm_memory::GuestAddressSpace as _;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

use crate::memory::{GuestRam, SharedRam};
use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, ConfigNotifier, QueueStates, VirtioDevice};
use crate::virtio::rate_limiter::{Direction, DiskLimiter, DiskLimits};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, Ring, read_config};
use crate::virtio::worker::{Engine, Poller, Worker};

use self::disk::{Disk, Request};

const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_CONFIG_WCE: u64 = 1 << 11;
const F_MQ: u64 = 1 << 12;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

const SECTOR: u64 = 512;
const QUEUE_SIZE: u16 = 256;
/// With header and status it fills a queue.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
pub const MAX_QUEUES: u16 = 4;
/// 2 GiB: punching a hole is quick.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// 64 MiB: where the file system cannot do it, zeroes are written.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 17;
const MAX_RANGES: u32 = 16;

/// Requests of one queue served before others, and the owner, get their turn.
const TURN: u32 = 64;
/// Finished requests wait this long at most for their interrupt while others are served.
const NOTIFY_WITHIN: Duration = Duration::from_micros(300);

const TOKEN_TIMER: u64 = 1 << 32;

/// What a disk is made from.
pub struct BlkSettings {
    /// For the thread's name and for logs: `disk0` ...
    pub name: String,
    pub file: File,
    pub read_only: bool,
    /// Cut at 20 bytes.
    pub serial: String,
    /// What the guest sees; what lies past the end of the file reads as zeroes, and grows it when written.
    pub size_bytes: u64,
    /// 1 to [`MAX_QUEUES`]; as many as vCPUs is best.
    pub queues: u16,
    pub limits: DiskLimits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlkStatistics {
    pub read_bytes: u64,
    pub read_operations: u64,
    pub written_bytes: u64,
    pub write_operations: u64,
    pub errors: u64,
}

struct Shared {
    sectors: AtomicU64,
    write_back: AtomicBool,
    notifier: ConfigNotifier,
    read_bytes: AtomicU64,
    read_operations: AtomicU64,
    written_bytes: AtomicU64,
    write_operations: AtomicU64,
    errors: AtomicU64,
}

/// What the owner of a disk may do to it while the transport has the device.
#[derive(Clone)]
pub struct BlkControl {
    shared: Arc<Shared>,
    /// The device's: the disk is closed when the device goes, whoever still has this.
    worker: Weak<Worker<BlkEngine>>,
}

impl BlkControl {
    /// The disk has another size from now on, and the guest is told.
    pub fn resize(&self, size_bytes: u64) {
        self.shared.sectors.store(size_bytes / SECTOR, Ordering::Release);
        self.shared.notifier.notify();
    }

    pub fn set_limits(&self, limits: DiskLimits) {
        if let Some(worker) = self.worker.upgrade() {
            worker.tell(move |engine, _| engine.set_limits(limits));
        }
    }

    pub fn statistics(&self) -> BlkStatistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        BlkStatistics {
            read_bytes: get(&shared.read_bytes),
            read_operations: get(&shared.read_operations),
            written_bytes: get(&shared.written_bytes),
            write_operations: get(&shared.write_operations),
            errors: get(&shared.errors),
        }
    }
}

pub struct Blk {
    shared: Arc<Shared>,
    worker: Arc<Worker<BlkEngine>>,
    queue_sizes: Vec<u16>,
    read_only: bool,
    /// What the driver agreed to, while active.
    features: Option<u64>,
}

impl Blk {
    pub fn new(settings: BlkSettings) -> io::Result<Self> {
        let (name, read_only, queues, limits) =
            (settings.name.clone(), settings.read_only, settings.queues, settings.limits);
        let shared = Arc::new(Shared {
            sectors: AtomicU64::new(settings.size_bytes / SECTOR),
            write_back: AtomicBool::new(true),
            notifier: ConfigNotifier::default(),
            read_bytes: AtomicU64::new(0),
            read_operations: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            write_operations: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let engine = BlkEngine {
            disk: Disk::new(settings, Arc::clone(&shared))?,
            rings: Vec::new(),
            memory: None,
            limiter: DiskLimiter::new(limits, Instant::now()),
            timer: TimerFd::new().map_err(io::Error::from)?,
            timer_watched: false,
            throttled: false,
        };
        let worker = Arc::new(Worker::new(ThreadKind::Block, "blk", &name, engine)?);
        let queue_sizes = vec![QUEUE_SIZE; usize::from(queues.clamp(1, MAX_QUEUES))];
        Ok(Self { shared, worker, queue_sizes, read_only, features: None })
    }

    pub fn control(&self) -> BlkControl {
        BlkControl { shared: Arc::clone(&self.shared), worker: Arc::downgrade(&self.worker) }
    }

    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.shared.sectors.load(Ordering::Acquire).to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        // Physical blocks of 4 KiB, the first of which is aligned; best used in no smaller pieces.
        put(24, &[3, 0]);
        put(26, &8_u16.to_le_bytes());
        put(32, &[u8::from(self.shared.write_back.load(Ordering::Acquire))]);
        put(34, &(self.queue_sizes.len() as u16).to_le_bytes());
        if !self.read_only {
            put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
            put(40, &MAX_RANGES.to_le_bytes());
            put(44, &8_u32.to_le_bytes());
            put(48, &MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
            put(52, &1_u32.to_le_bytes());
            put(56, &[1]);
        }
        config
    }
}

impl VirtioDevice for Blk {
    fn name(&self) -> &'static str {
        "blk"
    }

    fn device_type(&self) -> u16 {
        2
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        let mut features = F_INDIRECT_DESC | F_EVENT_IDX | F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH;
        if self.queue_sizes.len() > 1 {
            features |= F_MQ;
        }
        features | if self.read_only { F_RO } else { F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.config(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        // The only field a driver may write, and only one that knows it.
        let knows = self.features.is_none_or(|features| features & F_CONFIG_WCE != 0);
        if let (32, [value, ..], true, false) = (offset, data, knows, self.read_only) {
            let write_back = *value != 0;
            self.shared.write_back.store(write_back, Ordering::Release);
            if self.features.is_some() {
                self.worker.tell(move |engine, _| engine.disk.durable = !write_back);
            }
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let features = activation.features;
        if features & (F_FLUSH | F_CONFIG_WCE) == 0 {
            // A driver that never flushes expects each write to last.
            self.shared.write_back.store(false, Ordering::Release);
        }
        let interrupt = Arc::clone(&activation.interrupt);
        self.worker.activate(activation)?;
        self.shared.notifier.set(Some(interrupt));
        self.features = Some(features);
        Ok(())
    }

    fn reset(&mut self) {
        self.shared.notifier.set(None);
        self.features = None;
        self.worker.reset();
        self.shared.write_back.store(true, Ordering::Release);
    }

    fn pause(&mut self) -> QueueStates {
        self.worker.pause()
    }

    fn resume(&mut self) {
        self.worker.resume();
    }

    fn save(&self) -> serde_json::Value {
        serde_json::json!({ "write_back": self.shared.write_back.load(Ordering::Acquire) })
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), ActivateError> {
        let write_back = state.get("write_back").and_then(serde_json::Value::as_bool);
        let missing = || ActivateError { device: "blk", why: "saved state has no write_back".to_owned() };
        self.shared.write_back.store(write_back.ok_or_else(missing)?, Ordering::Release);
        Ok(())
    }
}

/// Runs in the disk's thread.
pub struct BlkEngine {
    disk: Disk,
    rings: Vec<Ring>,
    memory: Option<SharedRam>,
    limiter: DiskLimiter,
    timer: TimerFd,
    timer_watched: bool,
    throttled: bool,
}

impl BlkEngine {
    fn set_limits(&mut self, limits: DiskLimits) {
        self.limiter = DiskLimiter::new(limits, Instant::now());
        if std::mem::take(&mut self.throttled) {
            self.look_again();
        }
    }

    fn look_again(&self) {
        for ring in &self.rings {
            ring.again();
        }
    }

    fn serve(&mut self, which: usize) {
        let Self { disk, rings, memory: Some(memory), limiter, timer, throttled, .. } = self else { return };
        let Some(ring) = rings.get_mut(which) else { return };
        let guard = memory.memory();
        let ram: &GuestRam = &guard;
        let mut left = TURN;
        ring.quiet(ram);
        loop {
            let mut unsaid: Option<Instant> = None;
            while !*throttled && left > 0 {
                let Some(chain) = ring.pop(ram) else { break };
                let request = match Request::new(chain) {
                    Ok(request) => request,
                    Err(why) => {
                        ring.fail(why);
                        break;
                    }
                };
                let (direction, bytes) = request.cost();
                if let Err(wait) = limiter.take(direction, bytes, Instant::now()) {
                    ring.unpop();
                    // Without its timer the limit cannot be kept; better late than stuck.
                    *throttled = timer.reset(wait.max(Duration::from_micros(50)), None).is_ok();
                    if !*throttled {
                        ring.again();
                        left = 0;
                    }
                    break;
                }
                left -= 1;
                let head = request.head;
                let written = disk.execute(request);
                limiter.pay(Direction::Write, usize::try_from(disk.take_zeroes_written()).unwrap_or(usize::MAX));
                ring.push(ram, head, written);
                let now = Instant::now();
                if now.duration_since(*unsaid.get_or_insert(now)) > NOTIFY_WITHIN {
                    ring.notify(ram);
                    unsaid = None;
                }
            }
            if unsaid.is_some() {
                ring.notify(ram);
            }
            // With the ring quiet no kick comes; the timer, or our own kick, brings us back.
            if *throttled {
                return;
            }
            if left == 0 {
                ring.again();
                return;
            }
            if !ring.rearm(ram) {
                return;
            }
        }
    }
}

impl Engine for BlkEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        let Activation { memory, features, queues, interrupt } = activation;
        self.memory = Some(memory);
        self.throttled = false;
        self.disk.start();
        if !self.timer_watched {
            poller.watch(&self.timer, TOKEN_TIMER, EventSet::IN).map_err(|error| format!("timer: {error}"))?;
            self.timer_watched = true;
        }
        for active in queues {
            let ring = Ring::new(active, features, &interrupt);
            ring.watch(poller)?;
            ring.again();
            self.rings.push(ring);
        }
        Ok(())
    }

    fn stop(&mut self, poller: &Poller) {
        for ring in self.rings.drain(..) {
            ring.forget(poller);
        }
        self.memory = None;
        self.throttled = false;
        let _ = self.timer.clear();
    }

    fn hold(&mut self, _poller: &Poller) -> QueueStates {
        self.rings.iter().map(Ring::state).collect()
    }

    fn go(&mut self, _poller: &Poller) {
        self.throttled = false;
        self.look_again();
    }

    fn ready(&mut self, token: u64, _poller: &Poller) {
        if token == TOKEN_TIMER {
            // Left unread it would fire for ever; a failure is the same as not having fired.
            let _ = self.timer.wait();
            self.throttled = false;
            for which in 0..self.rings.len() {
                self.serve(which);
            }
        } else if let Some(which) = self.rings.iter().position(|ring| u64::from(ring.index()) == token) {
            self.rings[which].kicked();
            self.serve(which);
        }
    }
}
