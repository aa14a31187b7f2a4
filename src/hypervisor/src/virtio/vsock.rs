//! virtio-vsock (Virtio 1.2, section 5.10) by vhost-vsock: the kernel moves the packets, here is only its setting up.

use std::fs::File;
use std::io;
use std::sync::Arc;

use vm_memory::GuestAddressSpace as _;
use vmm_sys_util::epoll::EventSet;

use crate::threads::ThreadKind;
use crate::virtio::device::{ActivateError, Activation, QueueStates, VirtioDevice};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC, Rings, read_config};
use crate::virtio::vhost::{self, VhostQueue, VhostVsock};
use crate::virtio::worker::{Engine, Poller, Worker};

const F_SEQPACKET: u64 = 1 << 1;

const EVENT: u16 = 2;
/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`: every connection is gone.
const TRANSPORT_RESET: [u8; 4] = 0_u32.to_le_bytes();

const TOKEN_CALL: u64 = 1 << 32;
const TOKEN_ERROR: u64 = 2 << 32;

/// The first number that is a guest's: 0 to 2 are hypervisor, loopback and host.
pub const FIRST_CID: u64 = 3;

pub struct Vsock {
    cid: u64,
    features: u64,
    worker: Worker<VsockEngine>,
}

impl Vsock {
    /// `vhost` is an open `/dev/vhost-vsock`; `cid` is unique on the host, and below 2^32 - 1.
    pub fn new(vhost: File, cid: u64) -> io::Result<Self> {
        if !(FIRST_CID..u64::from(u32::MAX)).contains(&cid) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("context id {cid} is not a guest's")));
        }
        let offered = vhost::features(&vhost)?;
        let file = Arc::new(vhost);
        let engine = VsockEngine { file, cid, rings: Rings::default(), serving: None, lost_connections: false };
        let worker = Worker::new(ThreadKind::Device, "vsock", "vsock", engine)?;
        Ok(Self { cid, features: offered & (F_SEQPACKET | F_INDIRECT_DESC | F_EVENT_IDX), worker })
    }
}

impl VirtioDevice for Vsock {
    fn name(&self) -> &'static str {
        "vsock"
    }

    fn device_type(&self) -> u16 {
        19
    }

    fn queue_sizes(&self) -> &[u16] {
        &[256, 256, 64]
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.cid.to_le_bytes(), offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.worker.activate(activation)
    }

    fn reset(&mut self) {
        self.worker.reset();
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

    fn restore(&mut self, _state: &serde_json::Value) -> Result<(), ActivateError> {
        let told = self.worker.ask(|engine, _| engine.lost_connections = true);
        told.map_err(|gone| ActivateError { device: "vsock", why: gone.to_string() })
    }
}

struct Serving {
    vhost: VhostVsock,
    queues: Vec<VhostQueue>,
}

struct VsockEngine {
    file: Arc<File>,
    cid: u64,
    rings: Rings,
    serving: Option<Serving>,
    /// The guest was restored, and has to be told that nobody it was connected to is there.
    lost_connections: bool,
}

impl VsockEngine {
    fn begin(&mut self, poller: &Poller) -> io::Result<()> {
        let features = self.rings.features;
        let (Some(memory), Some(interrupt)) = (self.rings.memory().cloned(), self.rings.interrupt().cloned()) else {
            return Ok(());
        };
        let vhost = VhostVsock::new(Arc::clone(&self.file), memory, features, self.cid)?;
        let serving = self.serving.insert(Serving { vhost, queues: Vec::new() });
        for index in 0..2 {
            let Some((ring, _)) = self.rings.get(index) else {
                return Err(io::Error::other(format!("queue {index} is missing")));
            };
            // The kicks are the kernel's from now on.
            ring.forget(poller);
            let queue = serving.vhost.start_queue(usize::from(index), ring, &*interrupt)?;
            poller.watch(queue.call(), TOKEN_CALL | u64::from(index), EventSet::IN)?;
            poller.watch(queue.error(), TOKEN_ERROR | u64::from(index), EventSet::IN)?;
            serving.queues.push(queue);
        }
        serving.vhost.set_running(true)?;
        for index in 0..2 {
            if let Some((ring, _)) = self.rings.get(index) {
                ring.again();
            }
        }
        Ok(())
    }

    fn end(&mut self, poller: &Poller) {
        let Some(serving) = self.serving.take() else { return };
        if let Err(error) = serving.vhost.set_running(false) {
            tracing::error!(%error, "vhost-vsock does not stop");
        }
        for queue in &serving.queues {
            poller.forget(queue.call());
            poller.forget(queue.error());
            if let Some((ring, memory)) = self.rings.get(queue.index()) {
                queue.stop(&serving.vhost, ring, &memory.memory());
            }
        }
    }

    fn vector_changed(&mut self, index: u16) {
        let Some(interrupt) = self.rings.interrupt().cloned() else { return };
        let queues = self.serving.iter_mut().flat_map(|serving| &mut serving.queues);
        for queue in queues.filter(|queue| queue.index() == index) {
            queue.route(&*interrupt);
        }
    }

    fn tell_of_lost_connections(&mut self) {
        if !self.lost_connections {
            return;
        }
        let Some((ring, memory)) = self.rings.get(EVENT) else { return };
        let ram = memory.memory();
        if let Some(mut chain) = ring.pop(&ram) {
            let written = chain.writable.write(&TRANSPORT_RESET);
            ring.push(&ram, chain.head, written);
            ring.notify(&ram);
            self.lost_connections = false;
        }
        let _ = ring.rearm(&ram);
    }
}

impl Engine for VsockEngine {
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        self.rings.start(activation, poller)?;
        self.begin(poller).map_err(|error| error.to_string())
    }

    fn stop(&mut self, poller: &Poller) {
        // Whoever drives the device next has no connections to lose; but what was restored has not been active yet.
        self.lost_connections &= !self.rings.is_active();
        self.end(poller);
        self.rings.stop(poller);
    }

    fn hold(&mut self, poller: &Poller) -> QueueStates {
        self.end(poller);
        self.rings.states()
    }

    fn go(&mut self, poller: &Poller) {
        if let Err(error) = self.begin(poller) {
            self.end(poller);
            if let Some(interrupt) = self.rings.interrupt() {
                interrupt.needs_reset(&format!("vhost-vsock does not go on: {error}"));
            }
        }
        self.rings.look_again();
    }

    fn ready(&mut self, token: u64, _poller: &Poller) {
        let queues = self.serving.iter().flat_map(|serving| &serving.queues);
        match token {
            2 => {
                if let Some((ring, _)) = self.rings.get(EVENT) {
                    ring.kicked();
                }
                self.tell_of_lost_connections();
            }
            _ => {
                let Some(interrupt) = self.rings.interrupt() else { return };
                for queue in queues {
                    let index = u64::from(queue.index());
                    if token == TOKEN_CALL | index && queue.call().read().is_ok() {
                        interrupt.signal_queue(queue.index());
                    } else if token == TOKEN_ERROR | index && queue.error().read().is_ok() {
                        interrupt.needs_reset("vhost found an error in a queue");
                    }
                }
            }
        }
    }
}
