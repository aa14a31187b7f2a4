//! The VM process, `solostack vm <dir>`, and the question whether this host can run one under KVM.
//!
//! - [`vm_process`]: the life of the process: lock, walls, machine, exit record. The same for every driver.
//! - `control`: its control socket. `console`: its serial line, log and `serial.sock`.
//! - `machine`: what a driver is told and what it tells.
//! - [`kvm`]: the built-in machine on KVM, with [`pci`], [`virtio`], [`acpi`] and [`platform`] as its parts.
//! - `qemu`: the `tcg` driver: a QEMU behind the same socket.
//! - `walls`: what the process gives up before it meets anything of the guest.
//! - [`mod@probe`]: what this host offers, found out by trying.
//!
//! Nothing here sees the database, HTTP or another server.

pub mod acpi;
pub mod bus;
mod console;
mod control;
mod descriptors;
pub mod display;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod heap;
pub mod interrupts;
pub mod jail;
pub mod kvm;
mod machine;
pub mod memory;
pub mod pci;
mod pinning;
pub mod platform;
mod pools;
pub mod probe;
mod qemu;
pub mod rfb;
mod sockets;
mod sys;
pub mod threads;
pub mod virtio;
pub mod vm_process;
mod walls;

pub use probe::{KvmVerdict, Probe, probe};
