//! virtio-blk (Virtio 1.2, section 5.2): one raw file or block device, read and written straight from guest memory.
//!
//! What must stay true: nothing outside the capacity is touched; a read-only disk is never written; what a flush was
//! answered for is on the disk; a request that makes no sense is answered with an error, as long as there is a place for it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl};
use vm_memory::{GuestAddressSpace as _, VolatileSlice};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

use crate::memory::{GuestRam, SharedRam};
use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, ConfigNotifier, QueueStates, VirtioDevice};
use crate::virtio::rate_limiter::{Limits, RateLimiter};
use crate::virtio::ring::{Buffers, Chain, F_EVENT_IDX, F_INDIRECT_DESC, Ring, read_config};
use crate::virtio::scatter;
use crate::virtio::worker::{Engine, Poller, Worker};

const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_CONFIG_WCE: u64 = 1 << 11;
const F_MQ: u64 = 1 << 12;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

const SECTOR: u64 = 512;
const QUEUE_SIZE: u16 = 256;
/// With header and status it fills a queue.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
pub const MAX_QUEUES: u16 = 4;
const SERIAL_LENGTH: usize = 20;
/// 2 GiB: punching a hole is quick.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// 64 MiB: where the file system cannot do it, zeroes are written.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 17;
const MAX_RANGES: u32 = 16;
const RANGE_LENGTH: usize = 16;
const UNMAP: u32 = 1;

/// Requests of one queue served before others, and the owner, get their turn.
const TURN: u32 = 64;
/// Finished requests wait this long at most for their interrupt while others are served.
const NOTIFY_WITHIN: Duration = Duration::from_micros(300);
/// What is asked for by direct input and output, and no file system wants more.
const DIRECT_ALIGNMENT: u64 = 4096;
const LOG_EVERY: Duration = Duration::from_secs(10);

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
    pub limits: Limits,
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

    pub fn set_limits(&self, limits: Limits) {
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
        let BlkSettings { name, file, read_only, serial, size_bytes, queues, limits } = settings;
        let shared = Arc::new(Shared {
            sectors: AtomicU64::new(size_bytes / SECTOR),
            write_back: AtomicBool::new(true),
            notifier: ConfigNotifier::default(),
            read_bytes: AtomicU64::new(0),
            read_operations: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            write_operations: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let mut id = [0; SERIAL_LENGTH];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        let direct = fcntl_getfl(&file)?.contains(OFlags::DIRECT);
        let disk = Disk {
            name: name.clone(),
            file,
            read_only,
            id,
            alignment: if direct { DIRECT_ALIGNMENT } else { 1 },
            durable: false,
            shared: Arc::clone(&shared),
            logged: None,
            unlogged: 0,
        };
        let engine = BlkEngine {
            disk,
            rings: Vec::new(),
            memory: None,
            limiter: RateLimiter::new(limits, Instant::now()),
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
    limiter: RateLimiter,
    timer: TimerFd,
    timer_watched: bool,
    throttled: bool,
}

impl BlkEngine {
    fn set_limits(&mut self, limits: Limits) {
        self.limiter = RateLimiter::new(limits, Instant::now());
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
                let cost = chain.readable.len().max(chain.writable.len()).saturating_sub(1);
                if let Err(wait) = limiter.take(cost, Instant::now()) {
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
                let head = chain.head;
                match disk.execute(chain) {
                    Ok(written) => ring.push(ram, head, written),
                    Err(why) => ring.fail(why),
                }
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
        self.disk.durable = !self.disk.shared.write_back.load(Ordering::Acquire);
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

struct Disk {
    name: String,
    file: File,
    read_only: bool,
    id: [u8; SERIAL_LENGTH],
    /// 1, or what direct input and output asks for.
    alignment: u64,
    /// Each write is on the disk before it is answered.
    durable: bool,
    shared: Arc<Shared>,
    logged: Option<Instant>,
    unlogged: u64,
}

/// What becomes of a request.
enum Failure {
    /// Refused for what it asks.
    Refused,
    Unsupported,
    Host(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY) => Self::Unsupported,
            _ => Self::Host(error),
        }
    }
}

impl Disk {
    /// Do what the request asks and write its status; how many bytes of it were written. An error is a request that has
    /// no header or no place for a status.
    fn execute(&mut self, chain: Chain<'_>) -> Result<usize, &'static str> {
        let Chain { mut readable, mut writable, .. } = chain;
        let header = readable.array::<16>().ok_or("a request without a header")?;
        let mut status = writable.take_last(1).ok_or("a request without a place for its status")?;
        let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (kind, sector) = (field(0), u64::from(field(8)) | u64::from(field(12)) << 32);
        let done = match kind {
            T_IN => self.read(sector, &mut writable),
            T_OUT => self.write(sector, &mut readable).map(|()| 0),
            T_FLUSH => self.flush().map(|()| 0),
            T_GET_ID => Ok(writable.write(&self.id)),
            T_DISCARD => self.ranges(&mut readable, MAX_RANGES, MAX_DISCARD_SECTORS, false).map(|()| 0),
            T_WRITE_ZEROES => self.ranges(&mut readable, 1, MAX_WRITE_ZEROES_SECTORS, true).map(|()| 0),
            _ => Err(Failure::Unsupported),
        };
        let (code, written) = match done {
            Ok(written) => (S_OK, written),
            Err(Failure::Unsupported) => (S_UNSUPP, 0),
            Err(Failure::Refused) => (S_IOERR, 0),
            Err(Failure::Host(error)) => {
                self.report(kind, sector, &error);
                (S_IOERR, 0)
            }
        };
        if code != S_OK {
            self.shared.errors.fetch_add(1, Ordering::Relaxed);
        }
        status.write(&[code]);
        Ok(written + 1)
    }

    /// A guest must not fill the log by filling its disk.
    fn report(&mut self, kind: u32, sector: u64, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            self.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut self.unlogged);
        self.logged = Some(now);
        tracing::warn!(disk = self.name, request = kind, sector, %error, unlogged, "the host could not serve a disk");
    }

    /// Where in the file, if all of it is inside the disk.
    fn place(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let start = sector.checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(length));
        let capacity = self.shared.sectors.load(Ordering::Acquire).saturating_mul(SECTOR);
        match (start, end) {
            (Some(start), Some(end)) if length.is_multiple_of(SECTOR) && end <= capacity => Ok(start),
            _ => Err(Failure::Refused),
        }
    }

    fn read(&self, sector: u64, buffers: &mut Buffers<'_>) -> Result<usize, Failure> {
        let length = buffers.len();
        let start = self.place(sector, length as u64)?;
        if self.misaligned(start, buffers.slices()) {
            self.read_bounced(start, buffers)?;
        } else {
            let mut offset = start;
            while !buffers.is_empty() {
                match again(|| scatter::read_at(&self.file, buffers.slices(), offset))? {
                    // Past the end of a file that is shorter than its disk.
                    0 => {
                        buffers.zero();
                        break;
                    }
                    count => {
                        buffers.advance(count);
                        offset += count as u64;
                    }
                }
            }
        }
        self.shared.read_bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.shared.read_operations.fetch_add(1, Ordering::Relaxed);
        Ok(length)
    }

    fn write(&self, sector: u64, buffers: &mut Buffers<'_>) -> Result<(), Failure> {
        let length = buffers.len() as u64;
        let start = self.place(sector, length)?;
        self.writable()?;
        if self.misaligned(start, buffers.slices()) {
            self.write_bounced(start, buffers)?;
        } else {
            let mut offset = start;
            while !buffers.is_empty() {
                match again(|| scatter::write_at(&self.file, buffers.slices(), offset, self.durable))? {
                    0 => return Err(Failure::Host(io::ErrorKind::WriteZero.into())),
                    count => {
                        buffers.advance(count);
                        offset += count as u64;
                    }
                }
            }
        }
        self.shared.written_bytes.fetch_add(length, Ordering::Relaxed);
        self.shared.write_operations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn writable(&self) -> Result<(), Failure> {
        if self.read_only { Err(Failure::Refused) } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Failure> {
        if self.read_only {
            return Ok(());
        }
        Ok(again(|| self.file.sync_data())?)
    }

    /// Discard and write-zeroes: a list of ranges.
    fn ranges(&self, list: &mut Buffers<'_>, most: u32, longest: u32, zeroes: bool) -> Result<(), Failure> {
        self.writable()?;
        let count = list.len() / RANGE_LENGTH;
        if count == 0 || !list.len().is_multiple_of(RANGE_LENGTH) || count > most as usize {
            return Err(Failure::Refused);
        }
        // All is judged before anything is done.
        let mut ranges = Vec::with_capacity(count);
        while let Some(range) = list.array::<RANGE_LENGTH>() {
            let field = |at: usize| u32::from_le_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]);
            let sector = u64::from(field(0)) | u64::from(field(4)) << 32;
            let (sectors, flags) = (field(8), field(12));
            if flags & !UNMAP != 0 || (!zeroes && flags != 0) {
                return Err(Failure::Unsupported);
            }
            if sectors > longest {
                return Err(Failure::Refused);
            }
            let length = u64::from(sectors) * SECTOR;
            ranges.push((self.place(sector, length)?, length, flags & UNMAP != 0));
        }
        for (start, length, unmap) in ranges {
            match (length, zeroes) {
                (0, _) => {}
                (_, false) => self.punch(start, length)?,
                (_, true) => self.zero(start, length, unmap)?,
            }
        }
        Ok(())
    }

    fn allocate(&self, flags: FallocateFlags, start: u64, length: u64) -> io::Result<()> {
        again(|| {
            fallocate(self.file.as_fd(), flags | FallocateFlags::KEEP_SIZE, start, length).map_err(io::Error::from)
        })
    }

    fn punch(&self, start: u64, length: u64) -> Result<(), Failure> {
        Ok(self.allocate(FallocateFlags::PUNCH_HOLE, start, length)?)
    }

    fn zero(&self, start: u64, length: u64, unmap: bool) -> Result<(), Failure> {
        let first = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match self.allocate(first, start, length).map_err(Failure::from) {
            Err(Failure::Unsupported) => self.write_zeroes(start, length)?,
            done => done?,
        }
        if self.durable { self.flush() } else { Ok(()) }
    }

    fn write_zeroes(&self, start: u64, length: u64) -> Result<(), Failure> {
        const PIECE: u64 = 1 << 20;
        let end = start + length;
        let mut offset = start;
        while offset < end {
            // Pieces end at multiples of their size, so that only the outer ones can be misaligned.
            let count = (end - offset).min(PIECE - offset % PIECE);
            self.with_bounce(offset, count, |window| window.fill(0), true)?;
            offset += count;
        }
        Ok(())
    }

    fn misaligned(&self, start: u64, slices: &[VolatileSlice<'_>]) -> bool {
        let off = |value: u64| !value.is_multiple_of(self.alignment);
        off(start) || slices.iter().any(|slice| off(slice.ptr_guard().as_ptr() as u64) || off(slice.len() as u64))
    }

    fn read_bounced(&self, start: u64, buffers: &mut Buffers<'_>) -> Result<(), Failure> {
        const PIECE: u64 = 1 << 20;
        let mut offset = start;
        while !buffers.is_empty() {
            let count = (buffers.len() as u64).min(PIECE - offset % PIECE);
            let mut piece = buffers.take(count as usize);
            self.with_bounce(offset, count, |window| piece.write(window), false)?;
            offset += count;
        }
        Ok(())
    }

    fn write_bounced(&self, start: u64, buffers: &mut Buffers<'_>) -> Result<(), Failure> {
        const PIECE: u64 = 1 << 20;
        let mut offset = start;
        while !buffers.is_empty() {
            let count = (buffers.len() as u64).min(PIECE - offset % PIECE);
            let mut piece = buffers.take(count as usize);
            self.with_bounce(offset, count, |window| piece.read(window), true)?;
            offset += count;
        }
        Ok(())
    }

    /// Have `f` see, or with `write` change, `count` bytes of the file at `offset` through an aligned buffer. One thread
    /// serves the disk, so nobody writes between our reading and writing back.
    fn with_bounce<R>(
        &self,
        offset: u64,
        count: u64,
        f: impl FnOnce(&mut [u8]) -> R,
        write: bool,
    ) -> Result<R, Failure> {
        let first = offset - offset % self.alignment;
        let last = (offset + count).next_multiple_of(self.alignment);
        let whole = first == offset && last == offset + count;
        let length = usize::try_from(last - first).map_err(|_| Failure::Refused)?;
        // Vectors of large alignment do not exist; take one that is larger, and start where it is aligned.
        let mut memory = vec![0_u8; length + DIRECT_ALIGNMENT as usize];
        let skip = memory.as_ptr().align_offset(DIRECT_ALIGNMENT as usize).min(DIRECT_ALIGNMENT as usize);
        let buffer = &mut memory[skip..skip + length];
        if !(write && whole) {
            let mut done = 0;
            while done < length {
                use std::os::unix::fs::FileExt as _;
                match again(|| self.file.read_at(&mut buffer[done..], first + done as u64))? {
                    0 => break,
                    count => done += count,
                }
                // A short read ends at the end of the file, where the next one would be misaligned.
                if self.alignment > 1 && done % self.alignment as usize != 0 {
                    break;
                }
            }
        }
        let from = (offset - first) as usize;
        let result = f(&mut buffer[from..from + count as usize]);
        if write {
            let slice = VolatileSlice::from(&mut *buffer);
            let mut done = 0;
            while done < length {
                let rest = slice.offset(done).map_err(|_| Failure::Refused)?;
                match again(|| scatter::write_at(&self.file, &[rest], first + done as u64, self.durable))? {
                    0 => return Err(Failure::Host(io::ErrorKind::WriteZero.into())),
                    count => done += count,
                }
            }
        }
        Ok(result)
    }
}

/// A signal, or a full queue below, is no reason to fail.
fn again<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
