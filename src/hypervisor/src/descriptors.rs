//! Whether the descriptors that come with a spec or a request are what they are said to be. A mistake here would be a guest
//! with the wrong disk.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vmspec::{Disk, VmSpec};

/// All descriptors of a spec.
pub fn check(spec: &VmSpec, descriptors: &[OwnedFd]) -> Result<(), String> {
    let file = |index: u32| -> Result<File, String> {
        let fd = usize::try_from(index).ok().and_then(|index| descriptors.get(index));
        let fd = fd.ok_or_else(|| format!("descriptor {index} is missing"))?;
        Ok(File::from(fd.try_clone().map_err(|error| error.to_string())?))
    };
    for disk in &spec.disks {
        check_disk(disk, &file(disk.descriptor)?)?;
    }
    for nic in &spec.nics {
        for index in (nic.descriptor..).take(nic.queues as usize) {
            check_tap(nic.slot, &file(index)?)?;
        }
    }
    Ok(())
}

/// A disk's file: of its kind, its size and its mode.
pub fn check_disk(disk: &Disk, file: &File) -> Result<(), String> {
    let slot = disk.slot;
    let metadata = file.metadata().map_err(|error| format!("disk {slot}: {error}"))?;
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(format!("disk {slot} is neither a file nor a block device"));
    }
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|error| format!("disk {slot}: {error}"))?;
    let mode = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
    if mode != if disk.read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR } {
        return Err(format!("disk {slot} is not open for what it is: read_only is {}", disk.read_only));
    }
    if kind.is_file() && metadata.len() != disk.size_bytes {
        return Err(format!("disk {slot} has {} bytes, its spec says {}", metadata.len(), disk.size_bytes));
    }
    Ok(())
}

/// One queue of a nic's tap.
pub fn check_tap(slot: u8, file: &File) -> Result<(), String> {
    if file.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device()) {
        return Ok(());
    }
    Err(format!("nic {slot} is not a tap"))
}
