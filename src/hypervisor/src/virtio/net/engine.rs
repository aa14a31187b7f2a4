//! What runs in the thread of a network card: its queues and its tap, brought to what driver and owner want.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vm_memory::GuestAddressSpace as _;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use super::control::NetState;
use super::{F_CTRL_VQ, F_GUEST_CSUM, F_GUEST_ECN, F_GUEST_TSO4, F_GUEST_TSO6, F_MQ, GUEST_OFFLOADS, Shared};
use crate::memory::SharedRam;
use crate::virtio::device::{Activation, Interrupt, QueueStates};
use crate::virtio::rate_limiter::{Limits, RateLimiter};
use crate::virtio::ring::Ring;
use crate::virtio::tap::{self, HEADER, Offloads};
use crate::virtio::vhost::{VhostNet, VhostQueue};
use crate::virtio::worker::{Engine, Poller};

/// The largest IP packet, with a link header with room for tags.
pub(super) const MAX_FRAME: usize = 65_535 + 22;
const LOG_EVERY: Duration = Duration::from_secs(10);

// Tokens of queues are their indices.
const TOKEN_TAP: u64 = 1 << 32;
const TOKEN_CALL: u64 = 2 << 32;
const TOKEN_ERROR: u64 = 3 << 32;
const TOKEN_RX_TIMER: u64 = 4 << 32;
const TOKEN_TX_TIMER: u64 = 5 << 32;
const TOKEN_INDEX: u64 = (1 << 32) - 1;

/// A rate limit with its alarm clock.
pub(super) struct Throttle {
    pub(super) limiter: RateLimiter,
    pub(super) timer: TimerFd,
    pub(super) waiting: bool,
    pub(super) limited: bool,
}

impl Throttle {
    pub(super) fn new(limits: Limits, now: Instant) -> io::Result<Self> {
        let timer = TimerFd::new().map_err(io::Error::from)?;
        Ok(Self { limiter: RateLimiter::new(limits, now), timer, waiting: false, limited: limits != Limits::default() })
    }

    pub(super) fn set(&mut self, limits: Limits) {
        self.limiter = RateLimiter::new(limits, Instant::now());
        self.limited = limits != Limits::default();
        self.waiting = false;
    }

    /// Whether a packet may pass now; if not, the timer will say when.
    pub(super) fn pass(&mut self, bytes: usize) -> bool {
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

    pub(super) fn stop(&mut self) {
        self.waiting = false;
        let _ = self.timer.clear();
    }
}

/// A pair of queues with its queue of the tap.
pub(super) struct Pair {
    pub(super) tap: File,
    pub(super) rx: Option<Ring>,
    pub(super) tx: Option<Ring>,
    /// A packet with its header, and how much of it is one; 0 for none.
    pub(super) packet: Vec<u8>,
    pub(super) pending: usize,
    pub(super) watched: EventSet,
    /// The kernel would not take the last packet yet.
    pub(super) tx_full: bool,
    /// Reading gave an error, whose event would come for ever; the next kick tries again.
    pub(super) failed: bool,
    pub(super) vhost: Option<VhostPair>,
}

/// A pair that vhost serves. The rings lie still meanwhile.
pub(super) struct VhostPair {
    net: VhostNet,
    queues: Vec<VhostQueue>,
}

impl Pair {
    pub(super) fn new(tap: File) -> Self {
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

    pub(super) fn rings(&self) -> impl Iterator<Item = &Ring> {
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
    pub(super) name: String,
    pub(super) vhost_files: Vec<Arc<File>>,
    pub(super) pairs: Vec<Pair>,
    pub(super) control: Option<Ring>,
    pub(super) memory: Option<SharedRam>,
    pub(super) interrupt: Option<Arc<dyn Interrupt>>,
    pub(super) features: u64,
    pub(super) state: NetState,
    pub(super) restored: Option<NetState>,
    pub(super) receive: Throttle,
    pub(super) transmit: Throttle,
    pub(super) timers_watched: bool,
    pub(super) shared: Arc<Shared>,
    pub(super) logged: Option<Instant>,
}

impl NetEngine {
    pub(super) fn log(&mut self, what: &str, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_none_or(|last| now.duration_since(last) >= LOG_EVERY) {
            self.logged = Some(now);
            tracing::warn!(nic = self.name, %error, "{what}");
        }
    }

    pub(super) fn set_limits(&mut self, receive: Limits, transmit: Limits, poller: &Poller) {
        self.receive.set(receive);
        self.transmit.set(transmit);
        if poller.is_held() {
            return;
        }
        for index in 0..self.pairs.len() {
            self.serve(index, poller);
        }
    }

    pub(super) fn link_changed(&mut self, poller: &Poller) {
        if self.memory.is_none() || poller.is_held() {
            return;
        }
        // vhost does not know of links: its backend is taken away while the cable is out.
        self.apply_pairs(poller);
    }

    pub(super) fn vector_changed(&mut self, index: u16) {
        let Some(interrupt) = self.interrupt.clone() else { return };
        for queue in self.pairs.iter_mut().filter_map(|pair| pair.vhost.as_mut()).flat_map(|vhost| &mut vhost.queues) {
            if queue.index() == index {
                queue.route(&*interrupt);
            }
        }
    }

    pub(super) fn apply_offloads(&mut self) -> bool {
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
    pub(super) fn apply_pairs(&mut self, poller: &Poller) -> bool {
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

    pub(super) fn serve(&mut self, index: usize, poller: &Poller) {
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
