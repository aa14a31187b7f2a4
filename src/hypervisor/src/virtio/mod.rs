//! Virtio devices (Virtual I/O Device version 1.2), and their PCI transport.

pub mod balloon;
pub mod input;
pub mod vsock;
pub mod console;
pub mod device;
pub mod blk;
pub mod rate_limiter;
pub mod ring;
pub mod rng;
pub mod scatter;
pub mod worker;
pub mod net;
pub mod pci;
pub mod tap;
pub mod vhost;
#[cfg(test)]
mod tests;
