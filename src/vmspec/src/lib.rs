//! What a VM is, and the protocol between the supervisor and a VM process (DESIGN section 8).
//!
//! - [`spec`]: the versioned description of one VM, written to `spec.json` before its process is spawned.
//! - [`resources`]: what of the host it gets: pages, CPUs, rates.
//! - [`passing`]: open files that go with a message.
//! - [`protocol`]: the messages on `control.sock`, and the bounded reader of lines both sides use.
//! - [`directory`]: the files of `<state>/servers/<id>/`: who writes them, when, and how they are read safely.
//! - [`exit`]: the last word of a VM process.
//! - [`console`]: the log that keeps the newest bytes.
//! - [`cgroup`]: where a VM's cgroup is, made by the VM process and killed by the supervisor.
//! - [`client`] (feature `client`): the supervisor's end of the control socket.
//!
//! Nothing here knows QEMU, KVM, a database or HTTP.

pub mod cgroup;
#[cfg(feature = "client")]
pub mod client;
pub mod console;
pub mod directory;
pub mod exit;
pub mod passing;
pub mod protocol;
pub mod resources;
pub mod spec;

pub use directory::{LockState, ServerDirectory};
pub use exit::{ExitCause, ExitRecord};
pub use resources::{Dedicated, DiskLimits, NicLimits, PageSize};
pub use spec::{
    Cpu, Disk, DiskKind, Driver, Firmware, GuestOs, Mac, Nic, Restore, SecureBoot, Smbios, SpecError, VmSpec,
};

/// Milliseconds since the Unix epoch, the only form of time in files and messages of a VM.
pub fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or(0)
}

/// The boot id of this host: it changes with every boot, so a record that carries another one describes a VM that
/// cannot be running any more.
pub fn host_boot_id() -> std::io::Result<uuid::Uuid> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    uuid::Uuid::parse_str(text.trim()).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}
