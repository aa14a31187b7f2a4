//! Virtio devices (Virtual I/O Device version 1.2), and their PCI transport.

pub mod balloon;
pub mod blk;
pub mod console;
pub mod device;
pub mod input;
pub mod net;
pub mod pci;
pub mod rate_limiter;
pub mod ring;
pub mod rng;
pub mod scatter;
pub mod tap;
#[cfg(test)]
mod tests;
pub mod vhost;
pub mod vsock;
pub mod worker;
