//! What the guest firmware knows: partition tables, file systems, boot loader configurations, the Linux boot protocol.
//!
//! Pure code, tested on the host. It reads a disk that the guest controls, so every loop and every allocation in here is
//! bounded, by the limits that stand in each file and by the budget of [`disk::Disk`]. The machine itself (ports, memory,
//! the jump) is in the binary, which also holds all `unsafe`.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bls;
pub mod boot;
pub mod bytes;
pub mod checksum;
pub mod disk;
pub mod error;
pub mod ext4;
pub mod fat;
pub mod file;
pub mod fuzz;
pub mod grub;
pub mod linux;
pub mod lists;
pub mod memory;
pub mod partitions;
pub mod smbios;
pub mod tree;
pub mod uki;
pub mod version;
pub mod volume;

pub use error::{Error, Result};
