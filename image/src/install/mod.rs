//! The medium that this machine was started from, copied to a disk of it: `solostack install`.
//!
//! What is copied is what an image brings: EFI partition, GRUB's core image, root and hashes. The first start from the disk makes the
//! rest, as on a disk that the image was written to. Nothing of the state goes along.
//!
//! ```text
//! asked ── checked ──> start and end of the disk are empty ──> parts written, each read back ──> tables ──> first sector
//! ```
//!
//! A power cut before the last step leaves a disk that nothing is started from and that the next try takes again; after it the disk is whole.

mod disks;
#[cfg(test)]
mod tests;
mod write;

pub use self::disks::{Disk, Disks, Holds};
pub use self::write::{Plan, install};

/// What the image and its state need at least: the README's word.
pub const BYTES_MIN: u64 = 8_000_000_000;
/// On the kernel's command line: the disk to install to, without a question, if there is nothing on it.
pub const WORD: &str = "solostack.install=";

/// The disk that the kernel's command line names.
#[must_use]
pub fn asked_by_kernel(command_line: &str) -> Option<&str> {
    command_line.split_whitespace().filter_map(|word| word.strip_prefix(WORD)).find(|disk| !disk.is_empty())
}
