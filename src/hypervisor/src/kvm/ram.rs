//! The guest's memory: mapped into this process, and given to KVM.
#![allow(unsafe_code, reason = "memory shared with a guest")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap};

use super::layout;
use crate::display::Framebuffer;
use crate::memory::{GuestRam, Mapping, RamRegion};

/// Slots of KVM's memory map. Those of RAM come first, one for each region.
pub const BIOS_SLOT: u32 = 8;
pub const GENERATION_SLOT: u32 = 9;
/// Framebuffers and the like: one for each PCI device number.
pub const DEVICE_SLOTS: u32 = 16;

const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4096;

/// Map `bytes` of RAM, all of it zero and none of it there until it is touched. Huge pages can back it: each region lies
/// in this process as it lies in the guest, modulo the size of one.
///
/// The mapping lasts as long as the last handle to it.
pub fn allocate(bytes: u64) -> io::Result<GuestRam> {
    map(bytes, None)
}

/// Map RAM that reads as `file`, which holds the regions one after the other, until the guest writes to it.
pub fn from_file(bytes: u64, file: &File) -> io::Result<GuestRam> {
    map(bytes, Some(file))
}

fn map(bytes: u64, file: Option<&File>) -> io::Result<GuestRam> {
    let mut regions = Vec::new();
    let mut offset = 0_u64;
    for (start, length) in layout::ram_regions(bytes) {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let pointer = reserve(length)?;
        // SAFETY: `reserve` has mapped this for nobody else, whole pages of it, and only the region made below uses it.
        let mapping = unsafe { Mapping::of(pointer, length.next_multiple_of(PAGE)) };
        if let Some(file) = file {
            let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
            // SAFETY: replaces exactly the range that `reserve` has just mapped for this caller alone.
            let done = unsafe { libc::mmap(pointer.cast(), length, protection, flags, file.as_raw_fd(), offset) };
            if done == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        for advice in [libc::MADV_DONTDUMP, if file.is_none() { libc::MADV_HUGEPAGE } else { libc::MADV_RANDOM }] {
            // A kernel without huge pages refuses, and nothing is lost.
            // SAFETY: the range is mapped and this process's own; neither advice changes its content.
            let _ = unsafe { libc::madvise(pointer.cast(), length, advice) };
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let builder = MmapRegionBuilder::new_with_bitmap(length, mapping)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(flags);
        // SAFETY: `pointer` is the start of a mapping of `length` bytes that lasts until the region drops its `Mapping`.
        let region = unsafe { builder.with_raw_mmap_pointer(pointer) }.build().map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(region, start).ok_or_else(|| io::Error::other("RAM wraps"))?;
        regions.push(region);
        offset += length as u64;
    }
    GuestRam::from_regions(regions).map_err(io::Error::other)
}

/// Anonymous memory at a multiple of a huge page.
fn reserve(length: usize) -> io::Result<*mut u8> {
    let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
    let padded = length.checked_add(HUGE_PAGE).ok_or_else(too_large)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice; nothing that exists is touched.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), padded, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start: *mut u8 = start.cast();
    let before = start.align_offset(HUGE_PAGE).min(HUGE_PAGE);
    let kept = length.next_multiple_of(PAGE);
    let after = padded - before - kept.min(padded - before);
    // SAFETY: `before` bytes at the start and `after` at the end of the mapping just made, which nobody uses, are given
    // back; what lies between stays.
    let aligned = unsafe {
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        let aligned = start.add(before);
        if after > 0 {
            libc::munmap(aligned.add(kept).cast(), after);
        }
        aligned
    };
    Ok(aligned)
}

/// Make all of RAM zero, and give its pages back to the host.
pub fn clear(ram: &GuestRam) -> io::Result<()> {
    for region in ram.iter() {
        let pointer = ram.get_host_address(region.start_addr()).map_err(io::Error::other)?;
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        // SAFETY: the range is the region's own mapping, private and anonymous, so its pages read as zero afterwards. The
        // guest does not run and no device works (the caller's duty), and Rust holds no references into guest memory.
        // A mapping of a file would read as the file again: `discard_file` comes first for those.
        if unsafe { libc::madvise(pointer.cast(), length, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// After a restore: what is still the file's becomes plain zero memory, at the same address.
pub fn discard_file(ram: &GuestRam) -> io::Result<()> {
    for region in ram.iter() {
        let pointer = ram.get_host_address(region.start_addr()).map_err(io::Error::other)?;
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: replaces the region's own mapping by one of the same size; KVM follows the address space. The guest
        // does not run and no device works (the caller's duty).
        let done = unsafe { libc::mmap(pointer.cast(), length, protection, flags, -1, 0) };
        if done == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SlotFlags {
    pub read_only: bool,
    pub log_dirty: bool,
}

/// Let the guest see `region` as slot `slot`.
pub fn give(vm: &VmFd, slot: u32, region: &RamRegion, flags: SlotFlags) -> io::Result<()> {
    let read_only = if flags.read_only { KVM_MEM_READONLY } else { 0 };
    let log_dirty = if flags.log_dirty { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
    let described = kvm_userspace_memory_region {
        slot,
        flags: read_only | log_dirty,
        guest_phys_addr: region.start_addr().0,
        memory_size: region.len(),
        userspace_addr: region.as_ptr() as u64,
    };
    // SAFETY: the memory is mapped, and outlives the VM: RAM and device memory are mapped for the life of the process or
    // taken from the VM (`take`) before they are unmapped. Rust holds no references into it.
    unsafe { vm.set_user_memory_region(described) }.map_err(errno)
}

/// Let the guest see a framebuffer at `address`. Whoever does this takes the slot away before the framebuffer goes.
pub fn give_framebuffer(vm: &VmFd, slot: u32, address: u64, framebuffer: &Framebuffer) -> io::Result<()> {
    let described = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: address,
        memory_size: framebuffer.len(),
        userspace_addr: framebuffer.host_address(),
    };
    // SAFETY: the framebuffer is mapped for as long as it lives, and `screen::MappedFramebuffer`, which owns a handle to it,
    // takes the slot from the VM before it lets go of that. Rust holds no references into it.
    unsafe { vm.set_user_memory_region(described) }.map_err(errno)
}

/// Take a slot away.
pub fn take(vm: &VmFd, slot: u32) -> io::Result<()> {
    let nothing = kvm_userspace_memory_region { slot, ..Default::default() };
    // SAFETY: an empty region removes the slot; no memory is named.
    unsafe { vm.set_user_memory_region(nothing) }.map_err(errno)
}

/// Give all regions of RAM, in slots from 0 on.
pub fn give_all(vm: &VmFd, ram: &GuestRam) -> io::Result<()> {
    for (slot, region) in (0..).zip(ram.iter()) {
        give(vm, slot, region, SlotFlags::default())?;
    }
    Ok(())
}

pub fn errno(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// A mapping for something that is not RAM, at `start` of the guest.
pub fn area(start: u64, bytes: usize) -> io::Result<GuestRam> {
    GuestRam::from_ranges(&[(GuestAddress(start), bytes)]).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use vm_memory::Bytes as _;

    #[test]
    fn ram_lies_at_multiples_of_huge_pages_and_is_zero_again_when_cleared() {
        let ram = allocate((2 << 30) + (8 << 20)).unwrap();
        assert_eq!(ram.num_regions(), 2);
        for region in ram.iter() {
            assert_eq!(region.as_ptr() as usize % HUGE_PAGE, 0);
        }
        for at in [0, (2 << 30) - 4, layout::HIGH_RAM + (8 << 20) - 4] {
            ram.write_obj(0xdead_beef_u32, GuestAddress(at)).unwrap();
        }
        clear(&ram).unwrap();
        for at in [0, (2 << 30) - 4, layout::HIGH_RAM + (8 << 20) - 4] {
            assert_eq!(ram.read_obj::<u32>(GuestAddress(at)).unwrap(), 0);
        }
    }

    #[test]
    fn restored_ram_reads_as_its_file_and_never_changes_it() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 4 << 20]).unwrap();
        let ram = from_file(4 << 20, &file).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1234)).unwrap(), 7);
        ram.write_obj(9_u8, GuestAddress(0x1234)).unwrap();
        let again = from_file(4 << 20, &file).unwrap();
        assert_eq!(again.read_obj::<u8>(GuestAddress(0x1234)).unwrap(), 7);
        discard_file(&ram).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1234)).unwrap(), 0);
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x4000)).unwrap(), 0);
    }
}
