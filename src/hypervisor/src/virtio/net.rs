//! virtio-net (Virtio 1.2, section 5.1) on a tap: by vhost-net where its descriptors were passed in and work, else in the
//! thread of the card.
//!
//! What must stay true: a packet is delivered whole or not at all; one that the guest has no room for waits, and the tap
//! with it; the control queue acknowledges only what was done.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddressSpace as _;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use crate::memory::{GuestRam, SharedRam};
use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, ConfigNotifier, Interrupt, QueueStates, VirtioDevice};
use crate::virtio::rate_limiter::{Limits, RateLimiter};
use crate::virtio::ring::{Buffers, Chain, F_EVENT_IDX, F_INDIRECT_DESC, Ring, read_config};
use crate::virtio::scatter;
use crate::virtio::tap::{self, HEADER, Offloads};
use crate::virtio::vhost::{VhostNet, VhostQueue};
use crate::virtio::worker::{Engine, Poller, Worker};

const F_CSUM: u64 = 1 << 0;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
const F_GUEST_TSO4: u64 = 1 << 7;
const F_GUEST_TSO6: u64 = 1 << 8;
const F_GUEST_ECN: u64 = 1 << 9;
const F_HOST_TSO4: u64 = 1 << 11;
const F_HOST_TSO6: u64 = 1 << 12;
const F_HOST_ECN: u64 = 1 << 13;
const F_MRG_RXBUF: u64 = 1 << 15;
const F_STATUS: u64 = 1 << 16;
const F_CTRL_VQ: u64 = 1 << 17;
const F_CTRL_RX: u64 = 1 << 18;
const F_CTRL_RX_EXTRA: u64 = 1 << 20;
const F_GUEST_ANNOUNCE: u64 = 1 << 21;
const F_MQ: u64 = 1 << 22;
const F_CTRL_MAC_ADDR: u64 = 1 << 23;

/// What a driver may switch at run time, as feature bits.
const GUEST_OFFLOADS: u64 = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN;

const STATUS_LINK_UP: u16 = 1;
const STATUS_ANNOUNCE: u16 = 2;

const CTRL_RX: u8 = 0;
const CTRL_MAC: u8 = 1;
const CTRL_ANNOUNCE: u8 = 3;
const CTRL_MQ: u8 = 4;
const CTRL_GUEST_OFFLOADS_CLASS: u8 = 5;
const ACK_OK: u8 = 0;
const ACK_ERR: u8 = 1;

const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;
/// Pairs of queues.
pub const MAX_PAIRS: usize = 8;
/// The largest IP packet, with a link header with room for tags.
const MAX_FRAME: usize = 65_535 + 22;
/// Packets of one queue moved before others, and the owner, get their turn.
const TURN: u32 = 128;
/// Longer lists of addresses are not kept; what they would let in is let in then.
const MAX_ADDRESSES: usize = 64;
const LOG_EVERY: Duration = Duration::from_secs(10);

// Tokens of queues are their indices.
const TOKEN_TAP: u64 = 1 << 32;
const TOKEN_CALL: u64 = 2 << 32;
const TOKEN_ERROR: u64 = 3 << 32;
const TOKEN_RX_TIMER: u64 = 4 << 32;
const TOKEN_TX_TIMER: u64 = 5 << 32;
const TOKEN_INDEX: u64 = (1 << 32) - 1;

/// What a network card is made from.
pub struct NetSettings {
    /// For the thread's name and for logs: `nic0` ...
    pub name: String,
    /// One queue of the tap for each pair of queues; made with IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, and IFF_MULTI_QUEUE if
    /// there are several.
    pub taps: Vec<File>,
    /// As many open `/dev/vhost-net` as taps, or none.
    pub vhost: Vec<Arc<File>>,
    pub mac: [u8; 6],
    pub mtu: u16,
    pub link_up: bool,
    /// Towards the guest.
    pub receive_limits: Limits,
    /// From the guest. Limits need the user-space path: with any, vhost is not used.
    pub transmit_limits: Limits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStatistics {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_dropped: u64,
    pub transmitted_bytes: u64,
    pub transmitted_packets: u64,
    pub transmitted_dropped: u64,
    /// vhost moves the packets, and the counters are those of the tap.
    pub vhost: bool,
}

struct Shared {
    mac: Mutex<[u8; 6]>,
    link_up: AtomicBool,
    announce: AtomicBool,
    notifier: ConfigNotifier,
    vhost: AtomicBool,
    received_bytes: AtomicU64,
    received_packets: AtomicU64,
    received_dropped: AtomicU64,
    transmitted_bytes: AtomicU64,
    transmitted_packets: AtomicU64,
    transmitted_dropped: AtomicU64,
}

/// What the owner of a card may do to it while the transport has the device.
#[derive(Clone)]
pub struct NetControl {
    shared: Arc<Shared>,
    worker: Weak<Worker<NetEngine>>,
}

impl NetControl {
    /// The cable is in or out, and the guest is told. While out no packet passes.
    pub fn set_link(&self, up: bool) {
        self.shared.link_up.store(up, Ordering::Release);
        if let Some(worker) = self.worker.upgrade() {
            worker.tell(move |engine, poller| engine.link_changed(poller));
        }
        self.shared.notifier.notify();
    }

    /// Have the guest tell the network where it is (after a restore).
    pub fn announce(&self) {
        self.shared.announce.store(true, Ordering::Release);
        self.shared.notifier.notify();
    }

    /// Limits of a card that runs in user space; one that vhost serves takes them at its next reset.
    pub fn set_limits(&self, receive: Limits, transmit: Limits) {
        if let Some(worker) = self.worker.upgrade() {
            worker.tell(move |engine, poller| engine.set_limits(receive, transmit, poller));
        }
    }

    pub fn statistics(&self) -> NetStatistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        NetStatistics {
            received_bytes: get(&shared.received_bytes),
            received_packets: get(&shared.received_packets),
            received_dropped: get(&shared.received_dropped),
            transmitted_bytes: get(&shared.transmitted_bytes),
            transmitted_packets: get(&shared.transmitted_packets),
            transmitted_dropped: get(&shared.transmitted_dropped),
            vhost: shared.vhost.load(Ordering::Relaxed),
        }
    }
}

pub struct Net {
    shared: Arc<Shared>,
    worker: Arc<Worker<NetEngine>>,
    queue_sizes: Vec<u16>,
    mtu: u16,
    /// What it is again after a reset.
    permanent_mac: [u8; 6],
    /// What the driver agreed to, while active.
    features: Option<u64>,
}

impl Net {
    pub fn new(settings: NetSettings) -> io::Result<Self> {
        let NetSettings { name, taps, vhost, mac, mtu, link_up, receive_limits, transmit_limits } = settings;
        if taps.is_empty() || taps.len() > MAX_PAIRS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} queues of a tap", taps.len())));
        }
        for tap in &taps {
            tap::prepare(tap)?;
        }
        let pairs = taps.len();
        let vhost = if vhost.len() == pairs { vhost } else { Vec::new() };
        let shared = Arc::new(Shared {
            mac: Mutex::new(mac),
            link_up: AtomicBool::new(link_up),
            announce: AtomicBool::new(false),
            notifier: ConfigNotifier::default(),
            vhost: AtomicBool::new(false),
            received_bytes: AtomicU64::new(0),
            received_packets: AtomicU64::new(0),
            received_dropped: AtomicU64::new(0),
            transmitted_bytes: AtomicU64::new(0),
            transmitted_packets: AtomicU64::new(0),
            transmitted_dropped: AtomicU64::new(0),
        });
        let now = Instant::now();
        let engine = NetEngine {
            name: name.clone(),
            vhost_files: vhost,
            pairs: taps.into_iter().map(Pair::new).collect(),
            control: None,
            memory: None,
            interrupt: None,
            features: 0,
            state: NetState::default(),
            restored: None,
            receive: Throttle::new(receive_limits, now)?,
            transmit: Throttle::new(transmit_limits, now)?,
            timers_watched: false,
            shared: Arc::clone(&shared),
            logged: None,
        };
        let worker = Arc::new(Worker::new(ThreadKind::Net, "net", &name, engine)?);
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * pairs];
        queue_sizes.push(CONTROL_QUEUE_SIZE);
        // A driver that does not know of several pairs has its control queue at 2, whose largest size then is a data queue's.
        Ok(Self { shared, worker, queue_sizes, mtu, permanent_mac: mac, features: None })
    }

    pub fn control(&self) -> NetControl {
        NetControl { shared: Arc::clone(&self.shared), worker: Arc::downgrade(&self.worker) }
    }

    fn pairs(&self) -> u16 {
        (self.queue_sizes.len() / 2) as u16
    }

    fn config(&self) -> [u8; 12] {
        let mut status = 0;
        if self.shared.link_up.load(Ordering::Acquire) {
            status |= STATUS_LINK_UP;
        }
        if self.shared.announce.load(Ordering::Acquire) {
            status |= STATUS_ANNOUNCE;
        }
        let mut config = [0; 12];
        config[0..6].copy_from_slice(&*self.shared.mac.lock().unwrap_or_else(PoisonError::into_inner));
        config[6..8].copy_from_slice(&status.to_le_bytes());
        config[8..10].copy_from_slice(&self.pairs().to_le_bytes());
        config[10..12].copy_from_slice(&self.mtu.to_le_bytes());
        config
    }
}

impl VirtioDevice for Net {
    fn name(&self) -> &'static str {
        "net"
    }

    fn device_type(&self) -> u16 {
        1
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        let transport = F_INDIRECT_DESC | F_EVENT_IDX;
        let offloads = GUEST_OFFLOADS | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN | F_MRG_RXBUF;
        let facts = F_MAC | F_MTU | F_STATUS;
        let control =
            F_CTRL_VQ | F_CTRL_RX | F_CTRL_RX_EXTRA | F_CTRL_MAC_ADDR | F_CTRL_GUEST_OFFLOADS | F_GUEST_ANNOUNCE;
        transport | offloads | facts | control | if self.pairs() > 1 { F_MQ } else { 0 }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.config(), offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {
        // The address is set by the control queue; everything else is read-only.
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let interrupt = Arc::clone(&activation.interrupt);
        let features = activation.features;
        self.worker.activate(activation)?;
        self.shared.notifier.set(Some(interrupt));
        self.features = Some(features);
        Ok(())
    }

    fn reset(&mut self) {
        self.shared.notifier.set(None);
        self.features = None;
        self.worker.reset();
        *self.shared.mac.lock().unwrap_or_else(PoisonError::into_inner) = self.permanent_mac;
        self.shared.announce.store(false, Ordering::Release);
    }

    fn vector_changed(&mut self, index: u16) {
        self.worker.tell(move |engine, _| engine.vector_changed(index));
    }

    fn pause(&mut self) -> QueueStates {
        self.worker.pause()
    }

    fn resume(&mut self) {
        self.worker.resume();
    }

    fn save(&self) -> serde_json::Value {
        let mac = *self.shared.mac.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.worker.ask(|engine, _| engine.state.clone()).unwrap_or_default();
        serde_json::json!({ "mac": mac, "state": state })
    }

    fn restore(&mut self, saved: &serde_json::Value) -> Result<(), ActivateError> {
        #[derive(Deserialize)]
        struct Saved {
            mac: [u8; 6],
            state: NetState,
        }
        let wrong = |why: String| ActivateError { device: "net", why };
        let saved = Saved::deserialize(saved).map_err(|error| wrong(error.to_string()))?;
        if saved.state.pairs > self.pairs() {
            return Err(wrong("saved with more queues than there are".to_owned()));
        }
        *self.shared.mac.lock().unwrap_or_else(PoisonError::into_inner) = saved.mac;
        let told = self.worker.ask(move |engine, _| engine.restored = Some(saved.state));
        told.map_err(|gone| wrong(gone.to_string()))
    }
}

/// What the driver chose over the control queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NetState {
    /// How many pairs of queues are in use.
    pairs: u16,
    /// As feature bits.
    offloads: u64,
    filter: Filter,
}

impl Default for NetState {
    fn default() -> Self {
        Self { pairs: 1, offloads: 0, filter: Filter::default() }
    }
}

/// Which packets the guest wants. Everything, until it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Filter {
    promiscuous: bool,
    all_multicast: bool,
    all_unicast: bool,
    no_multicast: bool,
    no_unicast: bool,
    no_broadcast: bool,
    addresses: Vec<[u8; 6]>,
    /// The driver named more addresses than are kept.
    many_unicast: bool,
    many_multicast: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            addresses: Vec::new(),
            many_unicast: false,
            many_multicast: false,
        }
    }
}

impl Filter {
    fn lets_in(&self, frame: &[u8], own: [u8; 6]) -> bool {
        let Some(&to) = frame.first_chunk::<6>() else { return false };
        if self.promiscuous {
            return true;
        }
        if to == [0xff; 6] {
            return !self.no_broadcast;
        }
        if to[0] & 1 == 1 {
            return !self.no_multicast && (self.all_multicast || self.many_multicast || self.addresses.contains(&to));
        }
        !self.no_unicast && (to == own || self.all_unicast || self.many_unicast || self.addresses.contains(&to))
    }
}

/// A rate limit with its alarm clock.
struct Throttle {
    limiter: RateLimiter,
    timer: TimerFd,
    waiting: bool,
    limited: bool,
}

impl Throttle {
    fn new(limits: Limits, now: Instant) -> io::Result<Self> {
        let timer = TimerFd::new().map_err(io::Error::from)?;
        Ok(Self { limiter: RateLimiter::new(limits, now), timer, waiting: false, limited: limits != Limits::default() })
    }

    fn set(&mut self, limits: Limits) {
        self.limiter = RateLimiter::new(limits, Instant::now());
        self.limited = limits != Limits::default();
        self.waiting = false;
    }

    /// Whether a packet may pass now; if not, the timer will say when.
    fn pass(&mut self, bytes: usize) -> bool {
        if !self.limited {
            return true;
        }
        match self.limiter.take(bytes, Instant::now()) {
            Ok(()) => true,
            Err(wait) => {
                // A limit without its timer cannot be kept; better let through than stuck.
                self.waiting = self.timer.reset(wait.max(Duration::from_micros(50)), None).is_ok();
                !self.waiting
            }
        }
    }

    fn stop(&mut self) {
        self.waiting = false;
        let _ = self.timer.clear();
    }
}

/// A pair of queues with its queue of the tap.
struct Pair {
    tap: File,
    rx: Option<Ring>,
    tx: Option<Ring>,
    /// A packet with its header, and how much of it is one; 0 for none.
    packet: Vec<u8>,
    pending: usize,
    watched: EventSet,
    /// The kernel would not take the last packet yet.
    tx_full: bool,
    /// Reading gave an error, whose event would come for ever; the next kick tries again.
    failed: bool,
    vhost: Option<VhostPair>,
}

/// A pair that vhost serves. The rings lie still meanwhile.
struct VhostPair {
    net: VhostNet,
    queues: Vec<VhostQueue>,
}

impl Pair {
    fn new(tap: File) -> Self {
        Self {
            tap,
            rx: None,
            tx: None,
            packet: Vec::new(),
            pending: 0,
            watched: EventSet::empty(),
            tx_full: false,
            failed: false,
            vhost: None,
        }
    }

    fn rings(&self) -> impl Iterator<Item = &Ring> {
        self.rx.iter().chain(self.tx.iter())
    }

    /// Watch the tap for exactly `events`.
    fn watch_tap(&mut self, events: EventSet, token: u64, poller: &Poller) {
        if self.watched == events {
            return;
        }
        let done = if events.is_empty() {
            poller.forget(&self.tap);
            Ok(())
        } else if self.watched.is_empty() {
            poller.watch(&self.tap, token, events)
        } else {
            poller.change(&self.tap, token, events)
        };
        match done {
            Ok(()) => self.watched = events,
            Err(error) => tracing::warn!(%error, "a tap cannot be watched"),
        }
    }
}

/// Runs in the card's thread.
pub struct NetEngine {
    name: String,
    vhost_files: Vec<Arc<File>>,
    pairs: Vec<Pair>,
    control: Option<Ring>,
    memory: Option<SharedRam>,
    interrupt: Option<Arc<dyn Interrupt>>,
    features: u64,
    state: NetState,
    restored: Option<NetState>,
    receive: Throttle,
    transmit: Throttle,
    timers_watched: bool,
    shared: Arc<Shared>,
    logged: Option<Instant>,
}

impl NetEngine {
    fn log(&mut self, what: &str, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_none_or(|last| now.duration_since(last) >= LOG_EVERY) {
            self.logged = Some(now);
            tracing::warn!(nic = self.name, %error, "{what}");
        }
    }

    fn set_limits(&mut self, receive: Limits, transmit: Limits, poller: &Poller) {
        self.receive.set(receive);
        self.transmit.set(transmit);
        if poller.is_held() {
            return;
        }
        for index in 0..self.pairs.len() {
            self.serve(index, poller);
        }
    }

    fn link_changed(&mut self, poller: &Poller) {
        if self.memory.is_none() || poller.is_held() {
            return;
        }
        // vhost does not know of links: its backend is taken away while the cable is out.
        self.apply_pairs(poller);
    }

    fn vector_changed(&mut self, index: u16) {
        let Some(interrupt) = self.interrupt.clone() else { return };
        for queue in self.pairs.iter_mut().filter_map(|pair| pair.vhost.as_mut()).flat_map(|vhost| &mut vhost.queues) {
            if queue.index() == index {
                queue.route(&*interrupt);
            }
        }
    }

    fn apply_offloads(&mut self) -> bool {
        let on = |bit| self.state.offloads & bit != 0;
        let offloads = Offloads {
            checksum: on(F_GUEST_CSUM),
            tso4: on(F_GUEST_TSO4),
            tso6: on(F_GUEST_TSO6),
            ecn: on(F_GUEST_ECN),
        };
        // One queue speaks for the whole tap.
        let done = self.pairs.iter().take(1).try_for_each(|pair| tap::set_offloads(&pair.tap, offloads));
        if let Err(error) = &done {
            self.log("the tap refuses offloads", error);
        }
        done.is_ok()
    }

    /// Bring the queues of the tap, and vhost, to what `state.pairs` and the link say.
    fn apply_pairs(&mut self, poller: &Poller) -> bool {
        let link_up = self.shared.link_up.load(Ordering::Acquire);
        let mut all_done = true;
        for index in 0..self.pairs.len() {
            let wanted = index < usize::from(self.state.pairs);
            let pair = &mut self.pairs[index];
            let mut done = Ok(());
            if !wanted {
                pair.watch_tap(EventSet::empty(), 0, poller);
                pair.pending = 0;
                pair.tx_full = false;
                if let Some(vhost) = &pair.vhost {
                    done = vhost.net.set_backend(None);
                }
            }
            done = done.and(tap::set_queue(&pair.tap, wanted));
            if wanted && let Some(vhost) = &pair.vhost {
                done = done.and(vhost.net.set_backend(link_up.then_some(&pair.tap)));
            }
            pair.failed = false;
            if let Err(error) = done {
                self.log("a queue of the tap cannot be switched", &error);
                all_done = false;
            }
            if wanted {
                self.serve(index, poller);
            }
        }
        all_done
    }

    /// Have vhost serve all pairs; none of them if one cannot.
    fn start_vhost(&mut self, poller: &Poller) -> io::Result<()> {
        let (Some(memory), Some(interrupt)) = (&self.memory, &self.interrupt) else { return Ok(()) };
        for (pair, file) in self.pairs.iter_mut().zip(&self.vhost_files) {
            let (Some(rx), Some(tx)) = (&pair.rx, &pair.tx) else { continue };
            let net = VhostNet::new(Arc::clone(file), memory.clone(), self.features)?;
            let mut vhost = VhostPair { net, queues: Vec::new() };
            for (local, ring) in [rx, tx].into_iter().enumerate() {
                let queue = vhost.net.start_queue(local, ring, &**interrupt)?;
                poller.watch(queue.call(), TOKEN_CALL | u64::from(ring.index()), EventSet::IN)?;
                poller.watch(queue.error(), TOKEN_ERROR | u64::from(ring.index()), EventSet::IN)?;
                vhost.queues.push(queue);
            }
            pair.vhost = Some(vhost);
        }
        Ok(())
    }

    /// Take the rings back from vhost, with where it left them.
    fn stop_vhost(&mut self, poller: &Poller) {
        let Some(memory) = &self.memory else { return };
        let ram = memory.memory();
        for pair in &mut self.pairs {
            let Some(vhost) = pair.vhost.take() else { continue };
            if let Err(error) = vhost.net.set_backend(None) {
                tracing::error!(nic = self.name, %error, "vhost does not let go of its tap");
            }
            for (queue, ring) in vhost.queues.iter().zip([&mut pair.rx, &mut pair.tx]) {
                poller.forget(queue.call());
                poller.forget(queue.error());
                if let Some(ring) = ring {
                    queue.stop(&vhost.net, ring, &ram);
                }
            }
        }
    }

    /// Watch kicks of what user space serves.
    fn watch_rings(&self, poller: &Poller) -> Result<(), String> {
        for ring in self.pairs.iter().filter(|pair| pair.vhost.is_none()).flat_map(Pair::rings).chain(&self.control) {
            ring.watch(poller)?;
            ring.again();
        }
        Ok(())
    }

    fn begin(&mut self, poller: &Poller) -> Result<(), String> {
        let limited = self.receive.limited || self.transmit.limited;
        if !self.vhost_files.is_empty()
            && !limited
            && let Err(error) = self.start_vhost(poller)
        {
            self.stop_vhost(poller);
            tracing::warn!(nic = self.name, %error, "vhost-net does not work; packets go through user space");
        }
        let vhost = self.pairs.iter().any(|pair| pair.vhost.is_some());
        self.shared.vhost.store(vhost, Ordering::Relaxed);
        if !vhost {
            for pair in self.pairs.iter_mut().filter(|pair| pair.packet.is_empty()) {
                // Untouched until a packet comes.
                pair.packet = vec![0; HEADER + MAX_FRAME];
            }
        }
        self.watch_rings(poller)?;
        self.apply_pairs(poller);
        Ok(())
    }

    fn serve(&mut self, index: usize, poller: &Poller) {
        if index < usize::from(self.state.pairs) && self.pairs.get(index).is_some_and(|pair| pair.vhost.is_none()) {
            self.serve_tx(index);
            self.serve_rx(index);
            self.watch_again(index, poller);
        }
    }

    /// Wait for what could not be done yet.
    fn watch_again(&mut self, index: usize, poller: &Poller) {
        let waiting = self.receive.waiting;
        let Some(pair) = self.pairs.get_mut(index) else { return };
        let mut events = EventSet::empty();
        // A packet that waits for room waits for a kick, not for the tap.
        if pair.rx.as_ref().is_some_and(|ring| !ring.is_broken()) && pair.pending == 0 && !waiting && !pair.failed {
            events |= EventSet::IN;
        }
        if pair.tx_full {
            events |= EventSet::OUT;
        }
        pair.watch_tap(events, TOKEN_TAP | index as u64, poller);
    }

    fn serve_rx(&mut self, index: usize) {
        let mergeable = self.features & F_MRG_RXBUF != 0;
        let mut trouble = None;
        {
            let Self { pairs, memory: Some(memory), receive, state, shared, .. } = self else { return };
            let Some(Pair { tap, rx: Some(ring), packet, pending, .. }) = pairs.get_mut(index) else { return };
            let own = *shared.mac.lock().unwrap_or_else(PoisonError::into_inner);
            let link_up = shared.link_up.load(Ordering::Acquire);
            let guard = memory.memory();
            let ram: &GuestRam = &guard;
            let mut delivered = false;
            for turn in 0..TURN {
                if ring.is_broken() || receive.waiting {
                    break;
                }
                if *pending == 0 {
                    match rustix::io::read(&*tap, &mut packet[..]) {
                        Ok(count) if count > HEADER => {
                            let frame = &packet[HEADER..count];
                            if link_up && state.filter.lets_in(frame, own) {
                                *pending = count;
                            } else {
                                shared.received_dropped.fetch_add(1, Ordering::Relaxed);
                                continue;
                            }
                        }
                        Ok(_) => continue,
                        Err(rustix::io::Errno::AGAIN) => break,
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(error) => {
                            trouble = Some(io::Error::from(error));
                            break;
                        }
                    }
                }
                if !receive.pass(*pending - HEADER) {
                    break;
                }
                match deliver(ring, ram, &mut packet[..*pending], mergeable) {
                    Delivery::Done => {
                        shared.received_bytes.fetch_add((*pending - HEADER) as u64, Ordering::Relaxed);
                        shared.received_packets.fetch_add(1, Ordering::Relaxed);
                        *pending = 0;
                        delivered = true;
                    }
                    Delivery::TooLarge => {
                        shared.received_dropped.fetch_add(1, Ordering::Relaxed);
                        *pending = 0;
                    }
                    Delivery::NoRoom => {
                        // Said before looking again, so that no kick is missed.
                        let before = ring.position();
                        if !(ring.rearm(ram) && turn + 1 < TURN && room_changed(ring, ram, before, *pending, mergeable))
                        {
                            break;
                        }
                    }
                }
            }
            if delivered {
                ring.notify(ram);
            }
        }
        if let Some(error) = trouble {
            self.pairs[index].failed = true;
            self.log("the tap cannot be read", &error);
        }
    }

    fn serve_tx(&mut self, index: usize) {
        let mut trouble = None;
        {
            let Self { pairs, memory: Some(memory), transmit, shared, .. } = self else { return };
            let Some(Pair { tap, tx: Some(ring), tx_full, .. }) = pairs.get_mut(index) else { return };
            if *tx_full || transmit.waiting {
                return;
            }
            let link_up = shared.link_up.load(Ordering::Acquire);
            let guard = memory.memory();
            let ram: &GuestRam = &guard;
            ring.quiet(ram);
            let mut left = TURN;
            loop {
                let mut taken = false;
                while left > 0 {
                    let Some(chain) = ring.pop(ram) else { break };
                    left -= 1;
                    let length = chain.readable.len();
                    if length <= HEADER {
                        ring.fail("a packet without a header or a content");
                        break;
                    }
                    let sent = if length > HEADER + MAX_FRAME || !link_up {
                        Err(io::ErrorKind::InvalidData.into())
                    } else if transmit.pass(length - HEADER) {
                        scatter::write(tap, chain.readable.slices())
                    } else {
                        ring.unpop();
                        break;
                    };
                    match sent {
                        Ok(_) => {
                            shared.transmitted_bytes.fetch_add((length - HEADER) as u64, Ordering::Relaxed);
                            shared.transmitted_packets.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            ring.unpop();
                            *tx_full = true;
                            break;
                        }
                        Err(error) => {
                            shared.transmitted_dropped.fetch_add(1, Ordering::Relaxed);
                            // What the guest made wrong is its own concern, as on a cable.
                            if error.raw_os_error().is_some_and(|code| code != libc::EINVAL) {
                                trouble = Some(error);
                            }
                        }
                    }
                    ring.push(ram, chain.head, 0);
                    taken = true;
                }
                if taken {
                    ring.notify(ram);
                }
                if *tx_full || transmit.waiting {
                    break;
                }
                if left == 0 {
                    ring.again();
                    break;
                }
                if !ring.rearm(ram) {
                    break;
                }
            }
        }
        if let Some(error) = trouble {
            self.log("the tap does not take packets", &error);
        }
    }

    fn serve_control(&mut self, poller: &Poller) {
        let Some(mut ring) = self.control.take() else { return };
        let Some(memory) = self.memory.clone() else { return };
        ring.kicked();
        let guard = memory.memory();
        let ram: &GuestRam = &guard;
        let mut left = 16;
        loop {
            while left > 0 {
                let Some(chain) = ring.pop(ram) else { break };
                left -= 1;
                let Chain { head, mut readable, mut writable } = chain;
                let Some(mut ack) = writable.take_last(1) else {
                    ring.fail("a control command without a place for its answer");
                    break;
                };
                let done = self.command(&mut readable, poller);
                ack.write(&[if done { ACK_OK } else { ACK_ERR }]);
                ring.push(ram, head, 1);
            }
            ring.notify(ram);
            if left == 0 {
                ring.again();
                break;
            }
            if !ring.rearm(ram) {
                break;
            }
        }
        self.control = Some(ring);
    }

    /// Whether the command was done.
    fn command(&mut self, data: &mut Buffers<'_>, poller: &Poller) -> bool {
        let Some([class, command]) = data.array::<2>() else { return false };
        let agreed = |bit| self.features & bit != 0;
        match (class, command) {
            (CTRL_RX, 0..=5) if agreed(F_CTRL_RX) && (command < 2 || agreed(F_CTRL_RX_EXTRA)) => {
                let Some([on @ (0 | 1)]) = data.array::<1>() else { return false };
                let filter = &mut self.state.filter;
                let flag = match command {
                    0 => &mut filter.promiscuous,
                    1 => &mut filter.all_multicast,
                    2 => &mut filter.all_unicast,
                    3 => &mut filter.no_multicast,
                    4 => &mut filter.no_unicast,
                    _ => &mut filter.no_broadcast,
                };
                *flag = on == 1;
                true
            }
            (CTRL_MAC, 0) if agreed(F_CTRL_RX) => {
                let (Some(unicast), Some(multicast)) = (addresses(data), addresses(data)) else { return false };
                let filter = &mut self.state.filter;
                filter.many_unicast = unicast.is_empty_of_many();
                filter.many_multicast = multicast.is_empty_of_many();
                filter.addresses = unicast.kept.into_iter().chain(multicast.kept).collect();
                true
            }
            (CTRL_MAC, 1) if agreed(F_CTRL_MAC_ADDR) => {
                let Some(mac) = data.array::<6>().filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]) else { return false };
                *self.shared.mac.lock().unwrap_or_else(PoisonError::into_inner) = mac;
                true
            }
            (CTRL_ANNOUNCE, 0) if agreed(F_GUEST_ANNOUNCE) => {
                self.shared.announce.store(false, Ordering::Release);
                true
            }
            (CTRL_MQ, 0) if agreed(F_MQ) => {
                let Some(pairs) = data.array::<2>().map(u16::from_le_bytes) else { return false };
                let set_up = |pair: &Pair| pair.rx.is_some() && pair.tx.is_some();
                let ready = self.pairs.iter().take(usize::from(pairs)).all(set_up);
                if pairs == 0 || usize::from(pairs) > self.pairs.len() || !ready {
                    return false;
                }
                self.state.pairs = pairs;
                self.apply_pairs(poller)
            }
            (CTRL_GUEST_OFFLOADS_CLASS, 0) if agreed(F_CTRL_GUEST_OFFLOADS) => {
                let Some(offloads) = data.array::<8>().map(u64::from_le_bytes) else { return false };
                if offloads & !(self.features & GUEST_OFFLOADS) != 0 {
                    return false;
                }
                self.state.offloads = offloads;
                self.apply_offloads()
            }
            _ => false,
        }
    }
}

/// One list of a MAC table.
struct Addresses {
    kept: Vec<[u8; 6]>,
    named: usize,
}

impl Addresses {
    /// More were named than are kept, so none of them decides.
    fn is_empty_of_many(&self) -> bool {
        self.named > self.kept.len()
    }
}

fn addresses(data: &mut Buffers<'_>) -> Option<Addresses> {
    let named = usize::try_from(u32::from_le_bytes(data.array::<4>()?)).ok()?;
    if named.checked_mul(6)? > data.len() {
        return None;
    }
    if named > MAX_ADDRESSES {
        data.advance(named * 6);
        return Some(Addresses { kept: Vec::new(), named });
    }
    let kept = (0..named).map_while(|_| data.array::<6>()).collect();
    Some(Addresses { kept, named })
}

enum Delivery {
    Done,
    /// The guest has too few buffers now.
    NoRoom,
    /// It will never fit the buffers of this driver.
    TooLarge,
}

/// Put one packet with its header into the receive queue.
fn deliver(ring: &mut Ring, ram: &GuestRam, packet: &mut [u8], mergeable: bool) -> Delivery {
    let start = ring.position();
    let mut chains: Vec<Chain<'_>> = Vec::new();
    let mut room = 0;
    while room < packet.len() {
        let Some(chain) = ring.pop(ram) else {
            // Nothing of a ring that is broken is handed back.
            if !ring.is_broken() {
                ring.rewind(start);
            }
            return Delivery::NoRoom;
        };
        room += chain.writable.len();
        if chains.is_empty() && room < HEADER {
            ring.fail("a receive buffer that is too small for a header");
            return Delivery::NoRoom;
        }
        if chain.writable.is_empty() {
            ring.fail("a receive buffer without room");
            return Delivery::NoRoom;
        }
        chains.push(chain);
        if !mergeable {
            break;
        }
    }
    if room < packet.len() {
        ring.rewind(start);
        return Delivery::TooLarge;
    }
    // As many as a queue has entries at most.
    let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
    packet[HEADER - 2..HEADER].copy_from_slice(&count.to_le_bytes());
    let mut rest = &*packet;
    for mut chain in chains {
        let written = chain.writable.write(&rest[..rest.len().min(chain.writable.len())]);
        rest = &rest[written..];
        ring.push(ram, chain.head, written);
    }
    Delivery::Done
}

/// After asking for kicks: whether trying again can succeed now where it did not before.
fn room_changed(ring: &mut Ring, ram: &GuestRam, before: u16, length: usize, mergeable: bool) -> bool {
    let mut room = 0;
    while room < length {
        let Some(chain) = ring.pop(ram) else { break };
        room += chain.writable.len();
        if !mergeable {
            room = length;
        }
    }
    if !ring.is_broken() {
        ring.rewind(before);
    }
    room >= length && !ring.is_broken()
}

impl Engine for NetEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        let Activation { memory, features, queues, interrupt } = activation;
        self.memory = Some(memory);
        self.interrupt = Some(Arc::clone(&interrupt));
        self.features = features;
        let fresh = NetState { offloads: features & GUEST_OFFLOADS, ..NetState::default() };
        self.state = self.restored.take().unwrap_or(fresh);
        if !self.timers_watched {
            for (timer, token) in [(&self.receive.timer, TOKEN_RX_TIMER), (&self.transmit.timer, TOKEN_TX_TIMER)] {
                poller.watch(timer, token, EventSet::IN).map_err(|error| format!("timer: {error}"))?;
            }
            self.timers_watched = true;
        }
        let pairs = if features & F_MQ != 0 { self.pairs.len() } else { 1 };
        for active in queues {
            let index = usize::from(active.index);
            let ring = Ring::new(active, features, &interrupt);
            if index < 2 * pairs {
                let pair = &mut self.pairs[index / 2];
                *(if index.is_multiple_of(2) { &mut pair.rx } else { &mut pair.tx }) = Some(ring);
            } else if index == 2 * pairs && features & F_CTRL_VQ != 0 {
                self.control = Some(ring);
            }
        }
        self.apply_offloads();
        self.begin(poller)
    }

    fn stop(&mut self, poller: &Poller) {
        self.stop_vhost(poller);
        for pair in &mut self.pairs {
            pair.watch_tap(EventSet::empty(), 0, poller);
            for ring in pair.rx.take().iter().chain(&pair.tx.take()) {
                ring.forget(poller);
            }
            pair.packet = Vec::new();
            pair.pending = 0;
            pair.tx_full = false;
        }
        if let Some(ring) = self.control.take() {
            ring.forget(poller);
        }
        self.receive.stop();
        self.transmit.stop();
        self.memory = None;
        self.interrupt = None;
        self.features = 0;
        self.state = NetState::default();
        self.shared.vhost.store(false, Ordering::Relaxed);
    }

    fn hold(&mut self, poller: &Poller) -> QueueStates {
        self.stop_vhost(poller);
        self.pairs.iter().flat_map(Pair::rings).chain(&self.control).map(Ring::state).collect()
    }

    fn go(&mut self, poller: &Poller) {
        if self.memory.is_none() {
            return;
        }
        self.receive.waiting = false;
        self.transmit.waiting = false;
        for ring in self.pairs.iter().flat_map(Pair::rings).chain(&self.control) {
            ring.forget(poller);
        }
        if let Err(why) = self.begin(poller)
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.needs_reset(&why);
        }
    }

    fn ready(&mut self, token: u64, poller: &Poller) {
        let index = (token & TOKEN_INDEX) as usize;
        match token & !TOKEN_INDEX {
            0 if self.control.as_ref().is_some_and(|ring| u64::from(ring.index()) == token) => {
                self.serve_control(poller)
            }
            0 => {
                let Some(pair) = self.pairs.get_mut(index / 2) else { return };
                pair.failed = false;
                for ring in pair.rings().filter(|ring| u64::from(ring.index()) == token) {
                    ring.kicked();
                }
                self.serve(index / 2, poller);
            }
            TOKEN_TAP => {
                if let Some(pair) = self.pairs.get_mut(index) {
                    pair.tx_full = false;
                }
                self.serve(index, poller);
            }
            TOKEN_CALL | TOKEN_ERROR => {
                let queues = self.pairs.iter().filter_map(|pair| pair.vhost.as_ref()).flat_map(|vhost| &vhost.queues);
                let Some(queue) = queues.into_iter().find(|queue| usize::from(queue.index()) == index) else { return };
                let Some(interrupt) = &self.interrupt else { return };
                let read = |event: &EventFd| event.read().is_ok();
                if token & !TOKEN_INDEX == TOKEN_CALL {
                    if read(queue.call()) {
                        interrupt.signal_queue(queue.index());
                    }
                } else if read(queue.error()) {
                    interrupt.needs_reset("vhost found an error in a queue");
                }
            }
            TOKEN_RX_TIMER | TOKEN_TX_TIMER => {
                let throttle = if token == TOKEN_RX_TIMER { &mut self.receive } else { &mut self.transmit };
                let _ = throttle.timer.wait();
                throttle.waiting = false;
                for index in 0..self.pairs.len() {
                    self.serve(index, poller);
                }
            }
            _ => {}
        }
    }
}
