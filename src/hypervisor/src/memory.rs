//! Guest memory: what its type is. Where it lies in the guest's address space is the machine's business (`kvm::layout`).
//!
//! What must stay true: memory is mapped for as long as anybody holds a handle to it, and no longer.
#![allow(unsafe_code, reason = "gives back what was mapped for a guest")]

use vm_memory::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap, GuestRegionMmap};

/// The RAM of one guest, mapped into this process.
pub type GuestRam = GuestMemoryMmap<Mapping>;
pub type RamRegion = GuestRegionMmap<Mapping>;

/// What devices hold: a handle to the RAM that sees each later change of the map.
pub type SharedRam = GuestMemoryAtomic<GuestRam>;

/// A mapping that a region of RAM takes with it when it goes. `vm_memory` lets a region carry what tracks its dirty pages;
/// nothing is tracked here, and this is what it carries. The default is none: the region has mapped itself.
#[derive(Debug, Default)]
pub struct Mapping(Option<(usize, usize)>);

impl Mapping {
    /// # Safety
    ///
    /// These bytes are a mapping of the caller's that nobody else unmaps, and that is used only through the region that is
    /// made with this.
    pub unsafe fn of(start: *mut u8, length: usize) -> Self {
        Self(Some((start as usize, length)))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some((start, length)) = self.0.take() {
            // SAFETY: whoever made this has handed the mapping over, and the region that used it goes with this.
            unsafe { libc::munmap(start as *mut libc::c_void, length) };
        }
    }
}

impl WithBitmapSlice<'_> for Mapping {
    type S = ();
}

impl Bitmap for Mapping {
    fn mark_dirty(&self, _offset: usize, _len: usize) {}

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, _offset: usize) {}
}

impl NewBitmap for Mapping {
    fn with_len(_len: usize) -> Self {
        Self::default()
    }
}
