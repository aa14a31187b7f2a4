//! Virtio devices (Virtual I/O Device version 1.2), and their PCI transport.

pub mod device;
