//! virtio-input (Virtio 1.2, section 5.8): a keyboard and a tablet, with the codes of Linux's evdev.
//!
//! What must stay true: the guest gets whole frames in order, or not at all; one that takes none makes nothing grow.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};

use vm_memory::GuestAddressSpace as _;

use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, QueueStates, VirtioDevice};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, Rings, read_config};
use crate::virtio::worker::{Engine, Poller, Worker};

pub const EV_SYN: u16 = 0;
pub const EV_KEY: u16 = 1;
pub const EV_REL: u16 = 2;
pub const EV_ABS: u16 = 3;
const EV_LED: u16 = 0x11;
const EV_REP: u16 = 0x14;

pub const BTN_LEFT: u16 = 0x110;
pub const BTN_RIGHT: u16 = 0x111;
pub const BTN_MIDDLE: u16 = 0x112;
const BTN_SIDE: u16 = 0x113;
const BTN_EXTRA: u16 = 0x114;
pub const REL_HWHEEL: u16 = 6;
pub const REL_WHEEL: u16 = 8;
pub const ABS_X: u16 = 0;
pub const ABS_Y: u16 = 1;
/// Positions of the tablet go from 0 to this.
pub const ABS_MAX: u32 = 0x7fff;
/// The last code of a key.
const LAST_KEY: u16 = 248;

const CONFIG_ID_NAME: u8 = 0x01;
const CONFIG_ID_SERIAL: u8 = 0x02;
const CONFIG_ID_DEVIDS: u8 = 0x03;
const CONFIG_PROP_BITS: u8 = 0x10;
const CONFIG_EV_BITS: u8 = 0x11;
const CONFIG_ABS_INFO: u8 = 0x12;

const BUS_VIRTUAL: u16 = 6;
const VENDOR: u16 = 0x1af4;

const EVENTS: u16 = 0;
const STATUS: u16 = 1;
const EVENT_LENGTH: usize = 8;
/// Events that wait for a guest to take them.
const MAX_WAITING: usize = 512;
const TURN: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    Keyboard,
    Tablet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputEvent {
    pub kind: u16,
    pub code: u16,
    pub value: u32,
}

impl InputEvent {
    pub fn key(code: u16, down: bool) -> Self {
        Self { kind: EV_KEY, code, value: u32::from(down) }
    }
}

/// What types into, and points with, a device while the transport has it.
#[derive(Clone)]
pub struct InputControl {
    worker: Weak<Worker<InputEngine>>,
}

impl InputControl {
    /// One frame: what happened at one moment. The mark at its end is added.
    pub fn send(&self, frame: &[InputEvent]) {
        if let Some(worker) = self.worker.upgrade() {
            let frame = frame.to_vec();
            worker.tell(move |engine, poller| engine.send(&frame, poller));
        }
    }
}

pub struct Input {
    kind: InputKind,
    worker: Arc<Worker<InputEngine>>,
    select: u8,
    subselect: u8,
}

impl Input {
    pub fn new(kind: InputKind) -> io::Result<Self> {
        let name = match kind {
            InputKind::Keyboard => "keyboard",
            InputKind::Tablet => "tablet",
        };
        let engine = InputEngine { rings: Rings::default(), waiting: VecDeque::new() };
        let worker = Arc::new(Worker::new(ThreadKind::Device, "input", name, engine)?);
        Ok(Self { kind, worker, select: 0, subselect: 0 })
    }

    pub fn control(&self) -> InputControl {
        InputControl { worker: Arc::downgrade(&self.worker) }
    }

    /// What the driver selected; empty for what the device does not have.
    fn selected(&self) -> Vec<u8> {
        let keyboard = self.kind == InputKind::Keyboard;
        match (self.select, self.subselect) {
            (CONFIG_ID_NAME, 0) => {
                if keyboard {
                    b"Solostack Keyboard".to_vec()
                } else {
                    b"Solostack Tablet".to_vec()
                }
            }
            (CONFIG_ID_SERIAL, 0) | (CONFIG_PROP_BITS, 0) => Vec::new(),
            (CONFIG_ID_DEVIDS, 0) => {
                let product = if keyboard { 1 } else { 3 };
                [BUS_VIRTUAL, VENDOR, product, 1].iter().flat_map(|id| id.to_le_bytes()).collect()
            }
            (CONFIG_EV_BITS, kind) => match (u16::from(kind), keyboard) {
                (EV_KEY, true) => bits(&(1..=LAST_KEY).collect::<Vec<_>>()),
                // Repetition is the guest's own; the lights are nobody's.
                (EV_REP, true) => bits(&[0, 1]),
                (EV_LED, true) => bits(&[0, 1, 2]),
                (EV_KEY, false) => bits(&[BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA]),
                (EV_REL, false) => bits(&[REL_HWHEEL, REL_WHEEL]),
                (EV_ABS, false) => bits(&[ABS_X, ABS_Y]),
                _ => Vec::new(),
            },
            (CONFIG_ABS_INFO, axis) if !keyboard && u16::from(axis) <= ABS_Y => {
                [0, ABS_MAX, 0, 0, 0].iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn bits(codes: &[u16]) -> Vec<u8> {
    let mut map = vec![0; codes.iter().map(|code| usize::from(*code) / 8 + 1).max().unwrap_or(0)];
    for code in codes {
        map[usize::from(*code) / 8] |= 1 << (code % 8);
    }
    map
}

impl VirtioDevice for Input {
    fn name(&self) -> &'static str {
        "input"
    }

    fn device_type(&self) -> u16 {
        18
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 64]
    }

    fn features(&self) -> u64 {
        F_INDIRECT_DESC | F_EVENT_IDX
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let selected = self.selected();
        // At most 64 bytes long.
        let mut config = vec![self.select, self.subselect, selected.len() as u8, 0, 0, 0, 0, 0];
        config.extend(selected);
        read_config(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in data.iter().enumerate() {
            match offset.checked_add(at as u64) {
                Some(0) => self.select = *byte,
                Some(1) => self.subselect = *byte,
                _ => {}
            }
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.worker.activate(activation)
    }

    fn reset(&mut self) {
        self.worker.reset();
        (self.select, self.subselect) = (0, 0);
    }

    fn pause(&mut self) -> QueueStates {
        self.worker.pause()
    }

    fn resume(&mut self) {
        self.worker.resume();
    }

    fn save(&self) -> serde_json::Value {
        serde_json::json!([self.select, self.subselect])
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), ActivateError> {
        let saved = <(u8, u8) as serde::Deserialize>::deserialize(state);
        (self.select, self.subselect) =
            saved.map_err(|error| ActivateError { device: "input", why: error.to_string() })?;
        Ok(())
    }
}

/// Runs in the device's thread.
pub struct InputEngine {
    rings: Rings,
    waiting: VecDeque<InputEvent>,
}

impl InputEngine {
    fn send(&mut self, frame: &[InputEvent], poller: &Poller) {
        // A guest without a driver is not told later what happened now.
        if frame.is_empty() || !self.rings.is_active() || self.waiting.len() + frame.len() + 1 > MAX_WAITING {
            return;
        }
        self.waiting.extend(frame);
        self.waiting.push_back(InputEvent { kind: EV_SYN, code: 0, value: 0 });
        if !poller.is_held() {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        let Some((ring, memory)) = self.rings.get(EVENTS) else { return };
        let ram = memory.memory();
        let mut delivered = false;
        loop {
            while let Some(event) = self.waiting.front() {
                let Some(mut chain) = ring.pop(&ram) else { break };
                let mut bytes = [0; EVENT_LENGTH];
                bytes[0..2].copy_from_slice(&event.kind.to_le_bytes());
                bytes[2..4].copy_from_slice(&event.code.to_le_bytes());
                bytes[4..8].copy_from_slice(&event.value.to_le_bytes());
                if chain.writable.write(&bytes) < EVENT_LENGTH {
                    ring.fail("an event buffer that is too small");
                    break;
                }
                ring.push(&ram, chain.head, EVENT_LENGTH);
                self.waiting.pop_front();
                delivered = true;
            }
            // Buffers that come while nothing waits need no kick, but the next frame may find none.
            if !ring.rearm(&ram) || self.waiting.is_empty() {
                break;
            }
        }
        if delivered {
            ring.notify(&ram);
        }
    }
}

impl Engine for InputEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        self.rings.start(activation, poller)
    }

    fn stop(&mut self, poller: &Poller) {
        self.rings.stop(poller);
        self.waiting.clear();
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
            EVENTS => self.deliver(),
            STATUS => self.rings.serve(STATUS, TURN, |_, _| Ok(0)),
            _ => {}
        }
    }
}
