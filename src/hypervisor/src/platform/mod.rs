//! The parts of a PC that are neither CPU, interrupt controller nor PCI function: what firmware and kernels expect to find
//! at fixed ports.
//!
//! What must stay true: nothing that a guest does to a register blocks, panics or grows memory; what a guest asks of the
//! machine as a whole (reset, power off) goes through [`Wishes`] and is done by the control thread.

pub mod acpi;
pub mod cmos;
pub mod fw_cfg;
pub mod i8042;
pub mod ports;
pub mod serial;
pub mod smbios;
pub mod vmgenid;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::mpsc;

/// What a guest, or the kernel for it, asks of the machine as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// By port 0xcf9, the keyboard controller or a triple fault.
    Reset,
    /// ACPI state S5.
    PowerOff,
    /// Our firmware has met something that it does not fully understand.
    Bios,
    /// pvpanic.
    Panicked,
    /// The guest cannot go on, and it is not of its own making or cannot be told.
    Broken(String),
}

/// Where wishes go. Only the first of a kind that ends the present run counts; the vCPU that has made it stops before its
/// next instruction, and all others are stopped by the control thread.
#[derive(Debug)]
pub struct Wishes {
    sender: mpsc::UnboundedSender<Wish>,
    /// A wish is made that ends this run: no vCPU goes on by itself.
    ending: AtomicBool,
    panicked: AtomicBool,
    /// Our firmware has begun and not handed over yet.
    firmware: AtomicBool,
    firmware_starts: AtomicU32,
}

impl Wishes {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Wish>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let wishes = Self {
            sender,
            ending: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            firmware: AtomicBool::new(false),
            firmware_starts: AtomicU32::new(0),
        };
        (wishes, receiver)
    }

    /// Ask. Bounded: until [`Wishes::clear`] at most two are queued.
    pub fn make(&self, wish: Wish) {
        let first = match wish {
            Wish::Panicked => !self.panicked.swap(true, Ordering::SeqCst),
            _ => !self.ending.swap(true, Ordering::SeqCst),
        };
        if first {
            // Nobody listens only when the machine is being taken down.
            let _ = self.sender.send(wish);
        }
    }

    /// A processor met a fault while it told of a fault while it told of a fault. What a PC does then is a reset; if that is
    /// the firmware's, the next start is SeaBIOS's, or it would go on for ever.
    pub fn triple_fault(&self) {
        if self.firmware_runs() {
            tracing::warn!("the firmware ended in a triple fault");
            self.make(Wish::Bios);
        } else {
            self.make(Wish::Reset);
        }
    }

    /// The machine starts with our firmware.
    pub fn firmware_begins(&self) {
        self.firmware_starts.fetch_add(1, Ordering::SeqCst);
        self.firmware.store(true, Ordering::SeqCst);
    }

    /// The next thing is Linux, or a BIOS.
    pub fn firmware_is_done(&self) {
        self.firmware.store(false, Ordering::SeqCst);
    }

    pub fn firmware_runs(&self) -> bool {
        self.firmware.load(Ordering::SeqCst)
    }

    /// How many times it has begun.
    pub fn firmware_starts(&self) -> u32 {
        self.firmware_starts.load(Ordering::SeqCst)
    }

    pub fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// A new run begins. Called with all vCPUs stopped.
    pub fn clear(&self) {
        self.ending.store(false, Ordering::SeqCst);
        self.panicked.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_wishes_is_one_wish() {
        let (wishes, mut heard) = Wishes::new();
        for _ in 0..1000 {
            wishes.make(Wish::Panicked);
            wishes.make(Wish::Reset);
            wishes.make(Wish::PowerOff);
        }
        assert_eq!(heard.try_recv(), Ok(Wish::Panicked));
        assert_eq!(heard.try_recv(), Ok(Wish::Reset));
        assert!(heard.try_recv().is_err());
        assert!(wishes.ending());
        wishes.clear();
        wishes.make(Wish::PowerOff);
        assert_eq!(heard.try_recv(), Ok(Wish::PowerOff));
    }
}
