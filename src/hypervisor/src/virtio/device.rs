//! What a virtio device is to its transport (Virtio 1.2, sections 2 and 3).
//!
//! What must stay true: firmware, boot loader and kernel drive the same device one after the other, so `reset` brings
//! back the state of power-on whatever happened before, and never fails; a device trusts nothing that it reads from guest
//! memory; no method blocks for longer than the input or output that is under way.

use std::sync::{Arc, Mutex, PoisonError};

use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::SharedRam;

/// How a device gets the guest's attention. The transport maps it to MSI-X vectors, or to INTx where the driver uses none.
/// Called from the devices' threads while another thread may be waiting for them in `reset` or `pause` with the transport
/// locked: an implementation must not take that lock.
pub trait Interrupt: Send + Sync {
    /// A used buffer: interrupt of queue `index`. The caller has asked `Queue::needs_notification` already.
    fn signal_queue(&self, index: u16);
    /// The configuration space changed (section 2.5): raises its generation and interrupts.
    fn signal_config(&self);
    /// An eventfd that interrupts for queue `index` when written, for vhost. None where the vector is masked or absent;
    /// the transport calls [`VirtioDevice::vector_changed`] when that changes.
    fn queue_eventfd(&self, index: u16) -> Option<EventFd>;
    /// The guest broke a rule that the device cannot go on from: sets DEVICE_NEEDS_RESET (section 2.1.2) and tells it.
    fn needs_reset(&self, why: &str);
}

/// For the owner of a device: tells the guest of changed configuration while a driver is there, and nobody otherwise.
#[derive(Default)]
pub struct ConfigNotifier(Mutex<Option<Arc<dyn Interrupt>>>);

impl ConfigNotifier {
    /// From activation on, by this interrupt; from reset on, by none.
    pub fn set(&self, interrupt: Option<Arc<dyn Interrupt>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = interrupt;
    }

    pub fn notify(&self) {
        // The lock is free again while the guest is told, so that a reset never waits for that.
        let interrupt = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(interrupt) = interrupt {
            interrupt.signal_config();
        }
    }
}

/// A queue as the driver set it up, with the eventfd that is written when the driver kicks it.
pub struct ActiveQueue {
    pub index: u16,
    pub queue: Queue,
    pub kick: EventFd,
}

/// Everything that a device needs to start working. Queues that the driver did not enable are absent.
pub struct Activation {
    pub memory: SharedRam,
    /// The features that both sides agreed on, those of the transport included.
    pub features: u64,
    pub queues: Vec<ActiveQueue>,
    pub interrupt: Arc<dyn Interrupt>,
}

#[derive(Debug, thiserror::Error)]
#[error("{device} cannot start: {why}")]
pub struct ActivateError {
    pub device: &'static str,
    pub why: String,
}

/// The state of the queues of a paused device: as much as the transport must keep for suspend.
pub type QueueStates = Vec<(u16, virtio_queue::QueueState)>;

pub trait VirtioDevice: Send {
    /// For logs: `blk`, `net` ...
    fn name(&self) -> &'static str;
    /// Section 5: 1 net, 2 block ...
    fn device_type(&self) -> u16;
    /// The largest size of each queue; a power of two each.
    fn queue_sizes(&self) -> &[u16];
    /// What the device itself offers (bits 0 to 23 and 50 on, and from 24 to 41 what it can really do). The transport adds
    /// VIRTIO_F_VERSION_1.
    fn features(&self) -> u64;
    /// Device-specific configuration. Reads past its end give zeroes.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Writes to read-only or absent fields do nothing.
    fn write_config(&mut self, offset: u64, data: &[u8]);
    /// DRIVER_OK was set.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;
    /// Status 0 was written, or the machine resets: stop all work, forget queues and features. Input and output under way
    /// is waited for, so that nothing touches guest memory afterwards.
    fn reset(&mut self);
    /// The vector of queue `index` was masked, unmasked or changed.
    fn vector_changed(&mut self, _index: u16) {}
    /// Stop work with all accepted requests done, and say where the queues are. Without effect on a device that is not active.
    fn pause(&mut self) -> QueueStates;
    /// Go on after `pause`, and look at every queue once: kicks may have come in between.
    fn resume(&mut self);
    /// The device's own state for suspend, beyond features and queues. Asked of a paused device.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Take the state that `save` gave; called before `activate`.
    fn restore(&mut self, _state: &serde_json::Value) -> Result<(), ActivateError> {
        Ok(())
    }
}
