//! The memory of the screen: a memfd that the guest draws into.

use std::fs::File;
use std::io;

use vm_memory::{Bytes as _, FileOffset, MmapRegion, VolatileMemory as _};

use super::FRAMEBUFFER_BYTES;

/// Mapped once for the life of the VM; the machine maps the same memory into the guest where BAR 0 is.
pub struct Framebuffer {
    map: MmapRegion<()>,
}

impl Framebuffer {
    pub fn new() -> io::Result<Self> {
        let memory = rustix::fs::memfd_create("framebuffer", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(memory);
        file.set_len(FRAMEBUFFER_BYTES)?;
        let map =
            MmapRegion::from_file(FileOffset::new(file, 0), FRAMEBUFFER_BYTES as usize).map_err(io::Error::other)?;
        Ok(Self { map })
    }

    /// Where it lies in this process, for the machine's memory slot.
    pub fn host_address(&self) -> u64 {
        self.map.as_ptr() as u64
    }

    pub fn len(&self) -> u64 {
        self.map.size() as u64
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// The memfd, for whoever else wants to look at it.
    pub fn file(&self) -> Option<&File> {
        self.map.file_offset().map(FileOffset::file)
    }

    /// Copy out; past the end are zeroes.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let slice = self.map.as_volatile_slice();
        let read = usize::try_from(offset).ok().and_then(|offset| slice.read(data, offset).ok()).unwrap_or(0);
        data[read..].fill(0);
    }

    /// Copy in; what lies past the end is lost.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let slice = self.map.as_volatile_slice();
        let _ = usize::try_from(offset).ok().and_then(|offset| slice.write(data, offset).ok());
    }

    /// Black, and the pages given back.
    pub fn clear(&self) {
        // What cannot be given back is only old content of this guest's own.
        let _ = crate::virtio::scatter::give_back(&self.map.as_volatile_slice(), true);
    }
}
