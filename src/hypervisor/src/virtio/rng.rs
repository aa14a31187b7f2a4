//! virtio-rng (Virtio 1.2, section 5.4): randomness of the host.

use std::io;

use vm_memory::GuestAddressSpace as _;

use crate::memory::SharedRam;
use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, QueueStates, VirtioDevice};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, Ring};
use crate::virtio::scatter;
use crate::virtio::worker::{Engine, Poller, Worker};

/// Bytes given for one request; a driver that wants more asks again.
const PER_REQUEST: usize = 4096;
/// Requests served before the owner gets a turn.
const TURN: u32 = 16;

pub struct Rng {
    worker: Worker<RngEngine>,
}

impl Rng {
    pub fn new() -> io::Result<Self> {
        let engine = RngEngine { ring: None, memory: None };
        Ok(Self { worker: Worker::new(ThreadKind::Device, "rng", "rng", engine)? })
    }
}

impl VirtioDevice for Rng {
    fn name(&self) -> &'static str {
        "rng"
    }

    fn device_type(&self) -> u16 {
        4
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn features(&self) -> u64 {
        F_INDIRECT_DESC | F_EVENT_IDX
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
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
}

struct RngEngine {
    ring: Option<Ring>,
    memory: Option<SharedRam>,
}

impl Engine for RngEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        let Activation { memory, features, queues, interrupt } = activation;
        self.memory = Some(memory);
        for active in queues {
            let ring = Ring::new(active, features, &interrupt);
            ring.watch(poller)?;
            ring.again();
            self.ring = Some(ring);
        }
        Ok(())
    }

    fn stop(&mut self, poller: &Poller) {
        if let Some(ring) = self.ring.take() {
            ring.forget(poller);
        }
        self.memory = None;
    }

    fn hold(&mut self, _poller: &Poller) -> QueueStates {
        self.ring.iter().map(Ring::state).collect()
    }

    fn go(&mut self, _poller: &Poller) {
        if let Some(ring) = &self.ring {
            ring.again();
        }
    }

    fn ready(&mut self, _token: u64, _poller: &Poller) {
        let Self { ring: Some(ring), memory: Some(memory) } = self else { return };
        ring.kicked();
        let ram = memory.memory();
        let mut random = [0; PER_REQUEST];
        let mut left = TURN;
        loop {
            while left > 0 {
                let Some(mut chain) = ring.pop(&ram) else { break };
                left -= 1;
                let wanted = chain.writable.len().min(PER_REQUEST);
                // The kernel's pool is filled long before guests run. Should it fail, the guest gets nothing rather than
                // something that is not random.
                let count = scatter::random(&mut random[..wanted]).unwrap_or(0);
                let written = chain.writable.write(&random[..count]);
                ring.push(&ram, chain.head, written);
            }
            ring.notify(&ram);
            if left == 0 {
                ring.again();
                return;
            }
            if !ring.rearm(&ram) {
                return;
            }
        }
    }
}
