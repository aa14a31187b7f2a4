//! virtio-serial (Virtio 1.2, section 5.3) with one port, the guest agent's: bytes between the guest and a stream socket
//! whose other end the owner holds.
//!
//! What must stay true: neither side can make the other's bytes pile up here: each waits for the other. Without a stream
//! what the guest says is lost, as on an open cable.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddressSpace as _;
use vmm_sys_util::epoll::EventSet;

use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, QueueStates, VirtioDevice};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, Rings, read_config};
use crate::virtio::scatter;
use crate::virtio::worker::{Engine, Poller, Worker};

/// The name by which qemu-guest-agent finds its port.
pub const AGENT_PORT: &str = "org.qemu.guest_agent.0";

const F_MULTIPORT: u64 = 1 << 1;

// Queues: port 0 (a console, which this device does not have), control, port 1.
const CONTROL_RX: u16 = 2;
const CONTROL_TX: u16 = 3;
const PORT_RX: u16 = 4;
const PORT_TX: u16 = 5;
const PORTS: u32 = 2;
const PORT: u32 = 1;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// Messages that wait for the driver's buffers. An honest one needs four.
const MAX_MESSAGES: usize = 32;
const TURN: u32 = 32;
/// Bytes of one request passed on at once.
const MAX_PIECE: usize = 64 << 10;

const TOKEN_STREAM: u64 = 1 << 32;

/// What the owner of the serial device may do to it while the transport has it.
#[derive(Clone)]
pub struct ConsoleControl {
    open: Arc<AtomicBool>,
    worker: Weak<Worker<ConsoleEngine>>,
}

impl ConsoleControl {
    /// Plug this stream into the port, in place of another.
    pub fn connect(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        if let Some(worker) = self.worker.upgrade() {
            worker.tell(move |engine, poller| engine.connect(Some(stream), poller));
        }
        Ok(())
    }

    pub fn disconnect(&self) {
        if let Some(worker) = self.worker.upgrade() {
            worker.tell(|engine, poller| engine.connect(None, poller));
        }
    }

    /// Whether a program in the guest has the port open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

pub struct Console {
    open: Arc<AtomicBool>,
    worker: Arc<Worker<ConsoleEngine>>,
}

impl Console {
    pub fn new() -> io::Result<Self> {
        let open = Arc::new(AtomicBool::new(false));
        let engine = ConsoleEngine {
            rings: Rings::default(),
            stream: None,
            watched: EventSet::empty(),
            driver: Driver::default(),
            restored: None,
            messages: VecDeque::new(),
            sent: 0,
            blocked: false,
            no_room: false,
            open: Arc::clone(&open),
        };
        let worker = Arc::new(Worker::new(ThreadKind::Console, "console", "serial", engine)?);
        Ok(Self { open, worker })
    }

    pub fn control(&self) -> ConsoleControl {
        ConsoleControl { open: Arc::clone(&self.open), worker: Arc::downgrade(&self.worker) }
    }
}

impl VirtioDevice for Console {
    fn name(&self) -> &'static str {
        "console"
    }

    fn device_type(&self) -> u16 {
        3
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64; 6]
    }

    fn features(&self) -> u64 {
        F_INDIRECT_DESC | F_EVENT_IDX | F_MULTIPORT
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 12];
        config[4..8].copy_from_slice(&PORTS.to_le_bytes());
        read_config(&config, offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.worker.activate(activation)
    }

    fn reset(&mut self) {
        self.worker.reset();
    }

    fn pause(&mut self) -> QueueStates {
        self.worker.pause()
    }

    fn resume(&mut self) {
        self.worker.resume();
    }

    fn save(&self) -> serde_json::Value {
        self.worker.ask(|engine, _| serde_json::json!(engine.driver)).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), ActivateError> {
        let wrong = |why: String| ActivateError { device: "console", why };
        let saved = Driver::deserialize(state).map_err(|error| wrong(error.to_string()))?;
        let told = self.worker.ask(move |engine, _| engine.restored = Some(saved));
        told.map_err(|gone| wrong(gone.to_string()))
    }
}

/// What the driver has said so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Driver {
    port_ready: bool,
    open: bool,
    /// What it was last told about our end.
    told_connected: bool,
}

/// Runs in the device's thread.
pub struct ConsoleEngine {
    rings: Rings,
    stream: Option<UnixStream>,
    watched: EventSet,
    driver: Driver,
    restored: Option<Driver>,
    messages: VecDeque<Vec<u8>>,
    /// Bytes of the guest's oldest request that the stream has taken.
    sent: usize,
    /// The stream takes nothing now.
    blocked: bool,
    /// The guest has no buffers for what the stream says.
    no_room: bool,
    open: Arc<AtomicBool>,
}

impl ConsoleEngine {
    fn connect(&mut self, stream: Option<UnixStream>, poller: &Poller) {
        self.unwatch(poller);
        self.stream = stream;
        self.blocked = false;
        self.sent = 0;
        if !poller.is_held() {
            self.tell_connected();
            self.serve(poller);
        }
    }

    fn unwatch(&mut self, poller: &Poller) {
        if let Some(stream) = &self.stream
            && !self.watched.is_empty()
        {
            poller.forget(stream);
        }
        self.watched = EventSet::empty();
    }

    fn watch(&mut self, poller: &Poller) {
        let mut wanted = EventSet::empty();
        if self.driver.open && !self.no_room {
            wanted |= EventSet::IN;
        }
        if self.blocked {
            wanted |= EventSet::OUT;
        }
        if wanted == self.watched {
            return;
        }
        self.unwatch(poller);
        if let Some(stream) = &self.stream
            && self.rings.is_active()
            && !wanted.is_empty()
        {
            match poller.watch(stream, TOKEN_STREAM, wanted) {
                Ok(()) => self.watched = wanted,
                Err(error) => tracing::warn!(%error, "the guest agent's stream cannot be watched"),
            }
        }
    }

    fn post(&mut self, event: u16, value: u16, text: &str) {
        if self.messages.len() >= MAX_MESSAGES {
            return;
        }
        let mut message = Vec::with_capacity(8 + text.len());
        message.extend(PORT.to_le_bytes());
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        message.extend(text.as_bytes());
        self.messages.push_back(message);
    }

    /// Have the driver know whether somebody is at our end.
    fn tell_connected(&mut self) {
        let connected = self.stream.is_some();
        if self.driver.port_ready && self.driver.told_connected != connected {
            self.driver.told_connected = connected;
            self.post(PORT_OPEN, u16::from(connected), "");
            self.deliver_messages();
        }
    }

    fn deliver_messages(&mut self) {
        let Some((ring, memory)) = self.rings.get(CONTROL_RX) else { return };
        let ram = memory.memory();
        loop {
            while let Some(message) = self.messages.front() {
                let Some(mut chain) = ring.pop(&ram) else { break };
                if chain.writable.write(message) < message.len() {
                    ring.fail("a control buffer that is too small");
                    break;
                }
                ring.push(&ram, chain.head, message.len());
                self.messages.pop_front();
                ring.notify(&ram);
            }
            if !ring.rearm(&ram) || self.messages.is_empty() {
                break;
            }
        }
    }

    fn take_messages(&mut self) {
        let mut said = Vec::new();
        self.rings.serve(CONTROL_TX, TURN, |_, chain| {
            let message = chain.readable.array::<8>().ok_or("a control message that is too short")?;
            said.push(message);
            Ok(0)
        });
        for message in said {
            let [a, b, c, d, event_low, event_high, value_low, value_high] = message;
            let port = u32::from_le_bytes([a, b, c, d]);
            let event = u16::from_le_bytes([event_low, event_high]);
            let value = u16::from_le_bytes([value_low, value_high]);
            match (event, port, value) {
                (DEVICE_READY, _, 1) => self.post(PORT_ADD, 0, ""),
                (PORT_READY, PORT, 1) => {
                    self.driver = Driver { port_ready: true, ..Driver::default() };
                    self.post(PORT_NAME, 1, AGENT_PORT);
                    self.tell_connected();
                }
                (PORT_OPEN, PORT, value) => {
                    self.driver.open = value == 1;
                    self.open.store(self.driver.open, Ordering::Release);
                }
                // A device or port that the driver could not set up, or nothing that we know of.
                _ => {}
            }
        }
        self.deliver_messages();
    }

    /// From the guest to the stream.
    fn transmit(&mut self) {
        if self.blocked {
            return;
        }
        let Some((ring, memory)) = self.rings.get(PORT_TX) else { return };
        let ram = memory.memory();
        let mut left = TURN;
        let mut gone = false;
        'serve: loop {
            while left > 0 {
                let Some(mut chain) = ring.pop(&ram) else { break };
                left -= 1;
                // A request that is given back counts from where the stream stopped taking.
                chain.readable.advance(self.sent);
                while let (Some(stream), false, false) = (&self.stream, gone, chain.readable.is_empty()) {
                    match scatter::write(stream, chain.readable.slices()) {
                        Ok(count) => {
                            self.sent += count;
                            chain.readable.advance(count);
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.blocked = true;
                            ring.unpop();
                            break 'serve;
                        }
                        Err(_) => gone = true,
                    }
                }
                self.sent = 0;
                ring.push(&ram, chain.head, 0);
            }
            if left == 0 {
                ring.again();
                break;
            }
            if !ring.rearm(&ram) {
                break;
            }
        }
        ring.notify(&ram);
        if gone {
            self.hang_up();
        }
    }

    /// From the stream to the guest.
    fn receive(&mut self) {
        self.no_room = false;
        if !self.driver.open {
            return;
        }
        let Some(stream) = &self.stream else { return };
        let Some((ring, memory)) = self.rings.get(PORT_RX) else { return };
        let ram = memory.memory();
        let mut gone = false;
        let mut delivered = false;
        for _ in 0..TURN {
            let Some(mut chain) = ring.pop(&ram) else {
                if ring.is_broken() || !ring.rearm(&ram) {
                    self.no_room = true;
                    break;
                }
                continue;
            };
            let piece = chain.writable.take(MAX_PIECE);
            if piece.is_empty() {
                ring.push(&ram, chain.head, 0);
                continue;
            }
            match scatter::read(stream, piece.slices()) {
                Ok(0) => gone = true,
                Ok(count) => {
                    ring.push(&ram, chain.head, count);
                    delivered = true;
                    continue;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => gone = true,
            }
            ring.unpop();
            break;
        }
        if delivered {
            ring.notify(&ram);
        }
        if gone {
            self.hang_up();
        }
    }

    /// The other end is closed. What it had said is delivered.
    fn hang_up(&mut self) {
        // Closing takes it out of epoll: it has no duplicate.
        self.stream = None;
        self.watched = EventSet::empty();
        self.blocked = false;
        self.sent = 0;
        self.tell_connected();
    }

    fn serve(&mut self, poller: &Poller) {
        self.transmit();
        self.receive();
        self.watch(poller);
    }
}

impl Engine for ConsoleEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        self.driver = self.restored.take().unwrap_or_default();
        self.open.store(self.driver.open, Ordering::Release);
        self.rings.start(activation, poller)?;
        self.tell_connected();
        Ok(())
    }

    fn stop(&mut self, poller: &Poller) {
        self.unwatch(poller);
        self.rings.stop(poller);
        self.driver = Driver::default();
        self.open.store(false, Ordering::Release);
        self.messages.clear();
        (self.sent, self.blocked, self.no_room) = (0, false, false);
    }

    fn hold(&mut self, _poller: &Poller) -> QueueStates {
        self.rings.states()
    }

    fn go(&mut self, poller: &Poller) {
        self.rings.look_again();
        self.tell_connected();
        self.serve(poller);
    }

    fn ready(&mut self, token: u64, poller: &Poller) {
        if token == TOKEN_STREAM {
            self.blocked = false;
            self.serve(poller);
            return;
        }
        let Ok(index) = u16::try_from(token) else { return };
        if let Some((ring, _)) = self.rings.get(index) {
            ring.kicked();
        }
        match index {
            CONTROL_RX => self.deliver_messages(),
            CONTROL_TX => self.take_messages(),
            PORT_TX | PORT_RX => {}
            // A port that the driver was not told of: what it says is lost, what it offers stays.
            1 => self.rings.serve(index, TURN, |_, _| Ok(0)),
            _ => return,
        }
        self.serve(poller);
    }
}
