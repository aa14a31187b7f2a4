//! The guest's memory: mapped into this process, and given to KVM.
#![allow(unsafe_code, reason = "memory shared with a guest")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap};
use vmspec::PageSize;

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

/// Map `bytes` of RAM, all of it zero and none of it there until it is touched; but pages of a pool are set aside at once,
/// and where there are too few this fails. Huge pages can back ordinary memory too: each region lies in this process as it
/// lies in the guest, modulo the size of one.
///
/// The mapping lasts as long as the last handle to it.
pub fn allocate(bytes: u64, pages: PageSize) -> io::Result<GuestRam> {
    let plain = if pages == PageSize::Small { libc::MADV_NOHUGEPAGE } else { libc::MADV_HUGEPAGE };
    let Some((&last, better)) = pages.pools_mib().split_last() else {
        return map(bytes, |length| reserve(length, plain));
    };
    let of_pool = |mib| map(bytes, |length| from_pool(length, mib));
    for mib in better.iter().filter(|mib| bytes.is_multiple_of(**mib << 20)) {
        match of_pool(*mib) {
            Err(error) => tracing::info!(%error, "other pages will do"),
            done => return done,
        }
    }
    of_pool(last)
}

/// Map RAM that reads as `file`, which holds the regions one after the other, until the guest writes to it. Pages of a pool
/// are no page cache, so they are filled here and now.
pub fn from_file(bytes: u64, file: &File, pages: PageSize) -> io::Result<GuestRam> {
    if !pages.pools_mib().is_empty() {
        let ram = allocate(bytes, pages)?;
        fill(&ram, file)?;
        return Ok(ram);
    }
    let mut offset = 0;
    map(bytes, |length| {
        let mapped = reserve(length, libc::MADV_RANDOM)?;
        let at = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        offset += length as u64;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let start = mapped.start.cast();
        // SAFETY: replaces exactly the range that `reserve` has just mapped for this caller alone.
        let done = unsafe { libc::mmap(start, length, protection, flags, file.as_raw_fd(), at) };
        if done == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above; the advice of the mapping that was replaced went with it.
        let _ = unsafe { libc::madvise(start, length, libc::MADV_RANDOM) };
        Ok(Mapped { flags, ..mapped })
    })
}

/// Memory of one region, before the region has it.
struct Mapped {
    start: *mut u8,
    bytes: usize,
    flags: libc::c_int,
}

fn map(bytes: u64, mut one: impl FnMut(usize) -> io::Result<Mapped>) -> io::Result<GuestRam> {
    let mut regions = Vec::new();
    for (start, length) in layout::ram_regions(bytes) {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mapped = one(length)?;
        // SAFETY: these bytes were mapped for nobody else, and only the region made below uses them.
        let mapping = unsafe { Mapping::of(mapped.start, mapped.bytes) };
        // A kernel that dumps it all the same loses nothing but time.
        // SAFETY: the range is mapped and this process's own; the advice does not change its content.
        let _ = unsafe { libc::madvise(mapped.start.cast(), length, libc::MADV_DONTDUMP) };
        let builder = MmapRegionBuilder::new_with_bitmap(length, mapping)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(mapped.flags);
        // SAFETY: it is the start of a mapping of at least `length` bytes that lasts until the region drops its `Mapping`.
        let region = unsafe { builder.with_raw_mmap_pointer(mapped.start) }.build().map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(region, start).ok_or_else(|| io::Error::other("RAM wraps"))?;
        regions.push(region);
    }
    GuestRam::from_regions(regions).map_err(io::Error::other)
}

/// Memory of huge pages of `mib`, set aside for this mapping in the host's pool.
fn from_pool(length: usize, mib: u64) -> io::Result<Mapped> {
    let size = (mib << 20).trailing_zeros().cast_signed() << libc::MAP_HUGE_SHIFT;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | size;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; nothing that exists is touched.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        let error = io::Error::last_os_error();
        let why = match error.raw_os_error() {
            Some(libc::ENOMEM) => {
                format!("this host has not {} free huge pages of {mib} MiB", length as u64 / (mib << 20))
            }
            Some(libc::EINVAL) => format!("this host has no huge pages of {mib} MiB"),
            _ => format!("huge pages of {mib} MiB: {error}"),
        };
        return Err(io::Error::new(error.kind(), why));
    }
    Ok(Mapped { start: start.cast(), bytes: length, flags })
}

/// Whether the region's pages are those of a pool. They are never given back while the guest lives: another would take
/// them, and the guest die of that.
pub fn is_of_pool(region: &RamRegion) -> bool {
    region.flags() & libc::MAP_HUGETLB != 0
}

/// Copy what `file` has into fresh memory.
fn fill(ram: &GuestRam, file: &File) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let mut chunk = vec![0_u8; 1 << 20];
    let mut base = 0;
    for region in ram.iter() {
        let end = base + region.len();
        let mut at = base;
        while at < end {
            // A file system without holes has data everywhere.
            at = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data.max(at),
                Err(rustix::io::Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let hole = seek(file, SeekFrom::Hole(at))?.clamp(at, end);
            while at < hole {
                let count = usize::try_from(hole - at).unwrap_or(chunk.len()).min(chunk.len());
                let part = chunk.get_mut(..count).unwrap_or_default();
                file.read_exact_at(part, at)?;
                let to = GuestAddress(region.start_addr().0 + (at - base));
                ram.write_slice(part, to).map_err(io::Error::other)?;
                at += count as u64;
            }
        }
        base = end;
    }
    Ok(())
}

/// Anonymous memory at a multiple of a huge page, used as `advice` says.
fn reserve(length: usize, advice: libc::c_int) -> io::Result<Mapped> {
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
    // A kernel without huge pages refuses, and nothing is lost.
    // SAFETY: the range is mapped and this process's own; the advice does not change its content.
    let _ = unsafe { libc::madvise(aligned.cast(), length, advice) };
    Ok(Mapped { start: aligned, bytes: kept, flags })
}

/// Make all of RAM zero, and give its pages back to the host, unless they are a pool's. The guest does not run, and no
/// device works.
pub fn clear(ram: &GuestRam) -> io::Result<()> {
    for region in ram.iter() {
        let pointer = ram.get_host_address(region.start_addr()).map_err(io::Error::other)?;
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        if is_of_pool(region) {
            zero_what_is_there(region)?;
            continue;
        }
        // SAFETY: the range is the region's own mapping, private and anonymous, so its pages read as zero afterwards. The
        // guest does not run and no device works (the caller's duty), and Rust holds no references into guest memory.
        // A mapping of a file would read as the file again: `discard_file` comes first for those.
        if unsafe { libc::madvise(pointer.cast(), length, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Pages of a pool that were never touched are zero, and stay unmade.
fn zero_what_is_there(region: &RamRegion) -> io::Result<()> {
    let pages = region.as_volatile_slice().map_err(io::Error::other)?;
    // Pages of 1 GiB are looked at in as many pieces: each of them says the same.
    for at in (0..pages.len()).step_by(HUGE_PAGE) {
        let piece = pages.subslice(at, HUGE_PAGE.min(pages.len() - at)).map_err(io::Error::other)?;
        let guard = piece.ptr_guard_mut();
        let mut there = 0_u8;
        // SAFETY: asks about one page of the region's own mapping, and is answered with one byte.
        if unsafe { libc::mincore(guard.as_ptr().cast(), PAGE, &raw mut there) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if there & 1 == 1 {
            // SAFETY: the piece lies in the region's mapping. The guest does not run, no device works, and Rust holds no
            // references into guest memory.
            unsafe { std::ptr::write_bytes(guard.as_ptr(), 0, piece.len()) };
        }
    }
    Ok(())
}

/// After a restore: what is still the file's becomes plain zero memory, at the same address.
pub fn discard_file(ram: &GuestRam) -> io::Result<()> {
    for region in ram.iter().filter(|region| !is_of_pool(region)) {
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

/// Back the first two megabytes by small pages: a start touches a few of them, for firmware and tables, and would spend most
/// of its time on zeroing a huge one.
pub fn start_small(ram: &GuestRam) {
    if let Some(region) = ram.iter().next() {
        let length = usize::try_from(region.len()).unwrap_or(HUGE_PAGE).min(HUGE_PAGE);
        // SAFETY: the range is the start of the region's own mapping; the advice does not change its content. Where the
        // kernel does not take it nothing is lost.
        let _ = unsafe { libc::madvise(region.as_ptr().cast(), length, libc::MADV_NOHUGEPAGE) };
    }
}

pub fn errno(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// A mapping for something that is not RAM, at `start` of the guest.
pub fn area(start: u64, bytes: usize) -> io::Result<GuestRam> {
    GuestRam::from_ranges(&[(GuestAddress(start), bytes)]).map_err(io::Error::other)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::pools::tests::Pool;
    use std::io::Write as _;

    #[test]
    fn ram_lies_at_multiples_of_huge_pages_and_is_zero_again_when_cleared() {
        let ram = allocate((2 << 30) + (8 << 20), PageSize::Any).unwrap();
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
        let ram = from_file(4 << 20, &file, PageSize::Any).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1234)).unwrap(), 7);
        ram.write_obj(9_u8, GuestAddress(0x1234)).unwrap();
        let again = from_file(4 << 20, &file, PageSize::Any).unwrap();
        assert_eq!(again.read_obj::<u8>(GuestAddress(0x1234)).unwrap(), 7);
        discard_file(&ram).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1234)).unwrap(), 0);
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x4000)).unwrap(), 0);
    }

    #[test]
    fn memory_of_a_pool_is_set_aside_whole_or_refused_with_a_reason() {
        let refused = allocate(1 << 40, PageSize::TwoMib).unwrap_err().to_string();
        assert!(refused.contains("free huge pages of 2 MiB") || refused.contains("no huge pages"), "{refused}");

        let Some(_pool) = Pool::new(8) else { return };
        let ram = allocate(16 << 20, PageSize::TwoMib).unwrap();
        assert!(ram.iter().all(is_of_pool));
        ram.write_obj(7_u8, GuestAddress(0x30_0000)).unwrap();
        clear(&ram).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x30_0000)).unwrap(), 0);
        discard_file(&ram).unwrap();
        drop(ram);

        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        for at in [0, 0x12_3456, (8 << 20) - 1] {
            file.write_all_at(&[9], at).unwrap();
        }
        let ram = from_file(8 << 20, &file, PageSize::Large).unwrap();
        assert!(ram.iter().all(is_of_pool));
        for (at, value) in [(0, 9), (1, 0), (0x12_3456, 9), (0x50_0000, 0), ((8 << 20) - 1, 9)] {
            assert_eq!(ram.read_obj::<u8>(GuestAddress(at)).unwrap(), value, "{at:#x}");
        }
    }
}
