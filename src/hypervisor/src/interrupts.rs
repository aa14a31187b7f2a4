//! Interrupt lines and messages, as devices need them. The machine implements this over KVM's irqfds and GSI routes.

use std::io;

use vmm_sys_util::eventfd::EventFd;

/// The content of one MSI or MSI-X vector, as the guest wrote it (PCI Local Bus Specification 3.0, section 6.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// One route from an eventfd to a vCPU: a GSI of KVM, taken when made and given back when dropped.
pub trait MessageRoute: Send + Sync {
    /// Written to, it interrupts. Stays the same for the life of the route.
    fn eventfd(&self) -> &EventFd;
    /// Where the interrupt goes from now on; None while the vector is masked or has no address.
    fn set(&self, message: Option<Message>) -> io::Result<()>;
}

/// A level-triggered line of the IOAPIC (INTx): asserted until lowered.
pub trait Line: Send + Sync {
    fn set(&self, high: bool);
}

/// Where devices get their interrupts from.
pub trait Interrupts: Send + Sync {
    fn message_route(&self) -> io::Result<Box<dyn MessageRoute>>;
    /// `gsi` 0 to 23.
    fn line(&self, gsi: u32) -> io::Result<Box<dyn Line>>;
}
