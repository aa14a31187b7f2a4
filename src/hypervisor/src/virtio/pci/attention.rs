//! What the threads of a device reach without the lock of its transport: its interrupts, and its status.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::{DRIVER_OK, ISR_CONFIG, ISR_QUEUE, NEEDS_RESET, NO_VECTOR};
use crate::interrupts::Line;
use crate::pci::msix::Msix;
use crate::virtio::device::Interrupt;

/// A guest can break rules as often as it likes; this many of its mistakes are worth a line in the log.
const COMPLAINTS: u32 = 16;

/// What the device's threads reach without the lock of the transport.
pub(super) struct Attention {
    pub(super) name: &'static str,
    pub(super) msix: Msix,
    pub(super) queue_vectors: Vec<AtomicU16>,
    pub(super) config_vector: AtomicU16,
    pub(super) status: AtomicU8,
    pub(super) generation: AtomicU8,
    pub(super) intx: Mutex<Intx>,
    pub(super) complaints: AtomicU32,
}

pub(super) struct Intx {
    pub(super) line: Box<dyn Line>,
    pub(super) isr: u8,
    pub(super) disabled: bool,
}

impl Attention {
    pub(super) fn intx(&self) -> MutexGuard<'_, Intx> {
        self.intx.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drive_line(&self, intx: &Intx) {
        intx.line.set(intx.isr != 0 && !intx.disabled && !self.msix.enabled());
    }

    /// The interrupt status register: reading clears it and lowers the line.
    pub(super) fn take_isr(&self) -> u8 {
        let mut intx = self.intx();
        let isr = std::mem::take(&mut intx.isr);
        self.drive_line(&intx);
        isr
    }

    /// Whether INTx waits, as the PCI status register tells it.
    pub(super) fn intx_waits(&self) -> bool {
        self.intx().isr != 0 && !self.msix.enabled()
    }

    pub(super) fn interrupt(&self, vector: u16, isr: u8) {
        if self.msix.enabled() {
            if vector != NO_VECTOR {
                self.msix.signal(vector);
            }
        } else {
            let mut intx = self.intx();
            intx.isr |= isr;
            self.drive_line(&intx);
        }
    }

    pub(super) fn complain(&self, why: &str) {
        if self.complaints.fetch_add(1, Ordering::Relaxed) < COMPLAINTS {
            tracing::warn!(device = self.name, why, "the guest's driver broke a rule");
        }
    }

    pub(super) fn reset(&self) {
        self.msix.reset();
        for vector in self.queue_vectors.iter().chain([&self.config_vector]) {
            vector.store(NO_VECTOR, Ordering::SeqCst);
        }
        let mut intx = self.intx();
        intx.isr = 0;
        self.drive_line(&intx);
        self.status.store(0, Ordering::SeqCst);
    }
}

impl Interrupt for Attention {
    fn signal_queue(&self, index: u16) {
        if let Some(vector) = self.queue_vectors.get(usize::from(index)) {
            self.interrupt(vector.load(Ordering::SeqCst), ISR_QUEUE);
        }
    }

    fn signal_config(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.status.load(Ordering::SeqCst) & DRIVER_OK == 0 {
            return;
        }
        if self.msix.enabled() {
            // The bit is to be set in either case (section 4.1.4.5.1).
            self.intx().isr |= ISR_CONFIG;
        }
        self.interrupt(self.config_vector.load(Ordering::SeqCst), ISR_CONFIG);
    }

    fn queue_eventfd(&self, index: u16) -> Option<EventFd> {
        let vector = self.queue_vectors.get(usize::from(index))?.load(Ordering::SeqCst);
        if vector == NO_VECTOR { None } else { self.msix.eventfd(vector) }
    }

    fn needs_reset(&self, why: &str) {
        let before = self.status.fetch_or(NEEDS_RESET, Ordering::SeqCst);
        if before & NEEDS_RESET == 0 {
            self.complain(why);
            if before & DRIVER_OK != 0 {
                self.signal_config();
            }
        }
    }
}
