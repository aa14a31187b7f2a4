//! Guest memory: what its type is. Where it lies in the guest's address space is the machine's business (`kvm::layout`).

use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// The RAM of one guest, mapped into this process.
pub type GuestRam = GuestMemoryMmap<()>;

/// What devices hold: a handle to the RAM that sees each later change of the map.
pub type SharedRam = GuestMemoryAtomic<GuestRam>;
