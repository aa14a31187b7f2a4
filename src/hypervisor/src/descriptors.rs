//! Whether the descriptors that come with a spec or a request are what they are said to be. A mistake here would be a guest
//! with the wrong disk.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::fs::FileType;
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
    // By fstat itself: hot-attached disks are checked in the jail, which allows no call that can name a path.
    let stat = rustix::fs::fstat(file).map_err(|error| format!("disk {slot}: {error}"))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
        return Err(format!("disk {slot} is neither a file nor a block device"));
    }
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|error| format!("disk {slot}: {error}"))?;
    let mode = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
    if mode != if disk.read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR } {
        return Err(format!("disk {slot} is not open for what it is: read_only is {}", disk.read_only));
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    if kind == FileType::RegularFile && bytes != disk.size_bytes {
        return Err(format!("disk {slot} has {bytes} bytes, its spec says {}", disk.size_bytes));
    }
    Ok(())
}

/// One queue of a nic's tap.
pub fn check_tap(slot: u8, file: &File) -> Result<(), String> {
    let kind = rustix::fs::fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if kind == Ok(FileType::CharacterDevice) {
        return Ok(());
    }
    Err(format!("nic {slot} is not a tap"))
}
