//! The VM generation id (Microsoft's "Virtual Machine Generation ID"): 16 bytes of guest memory that change when the guest
//! goes on from a saved state, so that it forgets its random numbers.

use std::io;

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _};

use crate::kvm::layout;
use crate::memory::{GuestRam, RamRegion};

/// A page of its own, outside RAM: no memory map of any firmware can hand it to somebody else.
pub struct GenerationId {
    page: GuestRam,
}

impl GenerationId {
    pub fn new() -> io::Result<Self> {
        let range = [(GuestAddress(layout::VMGENID), layout::VMGENID_BYTES as usize)];
        let page = GuestRam::from_ranges(&range).map_err(|error| io::Error::other(error.to_string()))?;
        let id = Self { page };
        id.renew()?;
        Ok(id)
    }

    /// The memory, to be given to the VM.
    pub fn regions(&self) -> impl Iterator<Item = &RamRegion> {
        self.page.iter()
    }

    /// A new one. The guest is to be told by `acpi::EVENT_GENERATION` afterwards.
    pub fn renew(&self) -> io::Result<()> {
        let new = uuid::Uuid::new_v4();
        let written = self.page.write_slice(&new.to_bytes_le(), GuestAddress(layout::VMGENID));
        written.map_err(|error| io::Error::other(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_renewal_is_a_new_id() {
        let id = GenerationId::new().unwrap();
        let read = || id.page.read_obj::<[u8; 16]>(GuestAddress(layout::VMGENID)).unwrap();
        let first = read();
        id.renew().unwrap();
        assert_ne!(first, read());
        assert_ne!(first, [0; 16]);
    }
}
