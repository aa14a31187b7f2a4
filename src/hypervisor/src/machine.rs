//! What a driver is told, and what it tells: the part between the control socket and whatever runs the guest.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};
use vmspec::protocol::{
    Devices, Event, EventKind, Hello, Isolation, KEPT_EVENTS, PROTOCOL, Refusal, RefusalCode, Statistics, Status,
    VmState,
};
use vmspec::{Disk, ExitCause, Nic, VmSpec};

/// A command to the machine, with the place for its answer.
#[derive(Debug)]
pub struct Order {
    pub command: Command,
    pub answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

#[derive(Debug)]
pub enum Command {
    PowerButton,
    Reboot {
        deadline: Duration,
    },
    Stop,
    Reset,
    Pause,
    Resume,
    Statistics,
    Devices,
    /// With the open file.
    AttachDisk(Disk, OwnedFd),
    DetachDisk {
        slot: u8,
    },
    /// With a tap for each queue.
    AttachNic(Nic, Vec<OwnedFd>),
    DetachNic {
        slot: u8,
    },
    ResizeDisk {
        slot: u8,
        size_bytes: u64,
    },
    /// The machine ends with [`ExitCause::Suspended`] after all is written.
    Suspend {
        state: OwnedFd,
        memory: OwnedFd,
    },
}

#[derive(Debug)]
pub enum Outcome {
    Done,
    Statistics(Statistics),
    Devices(Devices),
}

/// How the machine ended.
#[derive(Debug)]
pub struct Ended {
    pub cause: ExitCause,
    pub requested: bool,
    pub detail: Option<String>,
}

impl Ended {
    pub fn new(cause: ExitCause, detail: impl Into<Option<String>>) -> Self {
        Self { cause, requested: false, detail: detail.into() }
    }
}

pub fn refusal(code: RefusalCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

/// What everybody in the process may look at.
#[derive(Debug)]
pub struct Machine {
    pub spec: VmSpec,
    spec_hash: String,
    isolation: Isolation,
    orders: mpsc::Sender<Order>,
    live: Mutex<Live>,
    news: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Live {
    state: VmState,
    shutdown_pending: bool,
    started: Option<Instant>,
    last_event: u64,
    kept: VecDeque<Event>,
}

impl Machine {
    pub fn new(spec: VmSpec, isolation: Isolation) -> (Self, mpsc::Receiver<Order>) {
        let (orders, received) = mpsc::channel(16);
        let live = Live {
            state: VmState::Starting,
            shutdown_pending: false,
            started: None,
            last_event: 0,
            kept: VecDeque::with_capacity(KEPT_EVENTS),
        };
        let machine = Self {
            spec_hash: spec.hash(),
            spec,
            isolation,
            orders,
            live: Mutex::new(live),
            news: broadcast::channel(KEPT_EVENTS).0,
        };
        (machine, received)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            server_id: self.spec.server_id,
            spec_hash: self.spec_hash.clone(),
            boot_id: self.spec.boot_id,
            generation: self.spec.generation,
            driver: self.spec.driver,
            pid: std::process::id(),
            state: self.state(),
            isolation: self.isolation.clone(),
        }
    }

    pub fn status(&self) -> Status {
        let live = self.live();
        let uptime = live.started.map_or(Duration::ZERO, |started| started.elapsed());
        Status {
            state: live.state,
            shutdown_pending: live.shutdown_pending,
            last_event: live.last_event,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub fn state(&self) -> VmState {
        self.live().state
    }

    pub fn shutdown_pending(&self) -> bool {
        self.live().shutdown_pending
    }

    pub fn set_shutdown_pending(&self, pending: bool) {
        self.live().shutdown_pending = pending;
    }

    /// Record a change of state together with the event that tells of it.
    pub fn change(&self, state: VmState, event: EventKind) {
        let mut live = self.live();
        live.state = state;
        if event == EventKind::Started {
            live.started = Some(Instant::now());
        }
        self.keep(&mut live, event);
    }

    /// Record an event that changes no state.
    pub fn tell(&self, event: EventKind) {
        self.keep(&mut self.live(), event);
    }

    /// With the lock held, so that whoever subscribes sees each event exactly once.
    fn keep(&self, live: &mut Live, kind: EventKind) {
        live.last_event += 1;
        let event = Event { number: live.last_event, at_unix_ms: vmspec::unix_ms(), kind };
        if live.kept.len() == KEPT_EVENTS {
            live.kept.pop_front();
        }
        live.kept.push_back(event.clone());
        // Nobody subscribed is fine.
        let _ = self.news.send(event);
    }

    /// The kept events after number `after`, and all that come.
    pub fn subscribe(&self, after: Option<u64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let live = self.live();
        let kept = live.kept.iter().filter(|event| event.number > after.unwrap_or(0)).cloned().collect();
        (kept, self.news.subscribe())
    }

    /// Give an order and wait for what came of it.
    pub async fn order(&self, command: Command) -> Result<Outcome, Refusal> {
        let (answer, answered) = oneshot::channel();
        let ending = || refusal(RefusalCode::State, "the VM is ending");
        self.orders.send(Order { command, answer }).await.map_err(|_| ending())?;
        answered.await.map_err(|_| ending())?
    }
}
