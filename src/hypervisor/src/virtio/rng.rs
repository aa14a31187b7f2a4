//! virtio-rng (Virtio 1.2, section 5.4): randomness of the host.

use std::io;

use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, QueueStates, VirtioDevice};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, Rings};
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
        let engine = RngEngine { rings: Rings::default() };
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
    rings: Rings,
}

impl Engine for RngEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        self.rings.start(activation, poller)
    }

    fn stop(&mut self, poller: &Poller) {
        self.rings.stop(poller);
    }

    fn hold(&mut self, _poller: &Poller) -> QueueStates {
        self.rings.states()
    }

    fn go(&mut self, _poller: &Poller) {
        self.rings.look_again();
    }

    fn ready(&mut self, _token: u64, _poller: &Poller) {
        if let Some((ring, _)) = self.rings.get(0) {
            ring.kicked();
        }
        let mut random = [0; PER_REQUEST];
        self.rings.serve(0, TURN, |_, chain| {
            let wanted = chain.writable.len().min(PER_REQUEST);
            // The kernel's pool is filled long before guests run. Should it fail, the guest gets nothing rather than
            // something that is not random.
            let count = scatter::random(&mut random[..wanted]).unwrap_or(0);
            Ok(chain.writable.write(&random[..count]))
        });
    }
}
