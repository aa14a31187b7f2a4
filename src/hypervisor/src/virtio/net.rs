//! virtio-net (Virtio 1.2, section 5.1) on a tap: by vhost-net where its descriptors were passed in and work, else in the
//! thread of the card.
//!
//! What must stay true: a packet is delivered whole or not at all; one that the guest has no room for waits, and the tap
//! with it; the control queue acknowledges only what was done.

mod control;
mod engine;
mod packets;

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use serde::Deserialize;

use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, ConfigNotifier, QueueStates, VirtioDevice};
use crate::virtio::rate_limiter::Limits;
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, read_config};
use crate::virtio::tap;
use crate::virtio::worker::Worker;

use self::control::NetState;
use self::engine::{NetEngine, Pair, Throttle};

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

const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;
/// Pairs of queues.
pub const MAX_PAIRS: usize = 8;

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
