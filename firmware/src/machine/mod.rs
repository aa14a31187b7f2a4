//! The machine. Memory is mapped one to one, nothing else runs, and there are no interrupts.

pub mod blk;
pub mod entry;
pub mod handover;
pub mod heap;
pub mod io;
pub mod layout;
pub mod memory;
pub mod paging;
pub mod pci;
pub mod screen;
pub mod serial;
pub mod smbios;
pub mod start_info;

pub fn init() {
    entry::catch_exceptions();
    heap::init();
}
