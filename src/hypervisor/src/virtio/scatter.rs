//! Input and output straight between descriptors and guest memory.
#![allow(
    unsafe_code,
    reason = "guest memory is shared with the guest, so no reference to it can be made for a safe call"
)]

use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

use crate::virtio::ring::MAX_DESCRIPTORS;

fn iovecs(slices: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    // Guests' maps are plain mappings, so the guards, which only matter to Xen, keep nothing alive.
    let iovec = |slice: &VolatileSlice<'_>| libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    slices.iter().take(MAX_DESCRIPTORS).map(iovec).collect()
}

fn result(done: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

fn count(iovecs: &[libc::iovec]) -> libc::c_int {
    // At most MAX_DESCRIPTORS.
    libc::c_int::try_from(iovecs.len()).unwrap_or(0)
}

fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// `preadv2` into guest memory; may be short.
pub fn read_at(file: &impl AsRawFd, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (iovecs, offset) = (iovecs(slices), position(offset)?);
    // SAFETY: every iovec lies in guest RAM, which stays mapped while `slices` is borrowed; the kernel may write there,
    // as the guest may, and nobody holds a reference into it.
    result(unsafe { libc::preadv2(file.as_raw_fd(), iovecs.as_ptr(), count(&iovecs), offset, 0) })
}

/// `pwritev2` from guest memory; may be short. `durable` is RWF_DSYNC.
pub fn write_at(file: &impl AsRawFd, slices: &[VolatileSlice<'_>], offset: u64, durable: bool) -> io::Result<usize> {
    let (iovecs, offset) = (iovecs(slices), position(offset)?);
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: as in `read_at`; the kernel only reads.
    result(unsafe { libc::pwritev2(file.as_raw_fd(), iovecs.as_ptr(), count(&iovecs), offset, flags) })
}

/// `readv` into guest memory, of something that has no position.
pub fn read(file: &impl AsRawFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let iovecs = iovecs(slices);
    // SAFETY: as in `read_at`.
    result(unsafe { libc::readv(file.as_raw_fd(), iovecs.as_ptr(), count(&iovecs)) })
}

/// `writev` from guest memory, to something that has no position.
pub fn write(file: &impl AsRawFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let iovecs = iovecs(slices);
    // SAFETY: as in `write_at`.
    result(unsafe { libc::writev(file.as_raw_fd(), iovecs.as_ptr(), count(&iovecs)) })
}

/// `getrandom`; may be short.
pub fn random(bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to the slice.
    result(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })
}

/// Give the pages that lie wholly in this piece of guest memory back to the host; they read as zeroes afterwards, or as
/// what a private mapping has below. Of a mapping that others share they are taken from all.
pub fn give_back(slice: &VolatileSlice<'_>, shared: bool) -> io::Result<()> {
    const PAGE: usize = 4096;
    let guard = slice.ptr_guard_mut();
    let start = guard.as_ptr() as usize;
    let (Some(first), last) = (start.checked_next_multiple_of(PAGE), (start + slice.len()) / PAGE * PAGE) else {
        return Ok(());
    };
    if first >= last {
        return Ok(());
    }
    let advice = if shared { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
    // SAFETY: the pages lie in guest RAM, which nobody holds references into, and whose content is the guest's to lose.
    let done = unsafe { libc::madvise((first as *mut libc::c_void).cast(), last - first, advice) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
