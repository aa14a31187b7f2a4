//! Who is where below 16 MiB: the image from 1 MiB on (see `layout.ld`), the heap from 3 to 12 MiB, nothing behind. Linux
//! unpacks itself at 16 MiB or higher and copies what we leave it before it uses memory of its own choice.

use alloc::vec::Vec;

use firmware::{
    Error, Result,
    memory::{Free, Region, Span},
};

pub const IMAGE: u64 = 1 << 20;
pub const HEAP: u64 = 3 << 20;
pub const HEAP_END: u64 = 12 << 20;
const CMDLINE_BYTES: usize = 8192;

static mut CMDLINE: [u8; CMDLINE_BYTES] = [0; CMDLINE_BYTES];

/// What no kernel or initrd may be placed on: our own, and the first megabyte with its tables.
pub fn taken() -> [Span; 1] {
    [Span { start: 0, end: HEAP_END }]
}

/// The heap is used before this can be known; what is checked here is that this was right.
pub fn check(map: &[Region]) -> Result<()> {
    firmware::memory::check(map)?;
    match Free::new(map, &[]).has(IMAGE, HEAP_END - IMAGE) {
        true => Ok(()),
        false => Err(Error::Unsupported("a memory map without RAM from 1 to 12 MiB")),
    }
}

/// Copies the command line to its final place, with the NUL that ends it; gives its address.
pub fn put_cmdline(text: &str) -> Result<u64> {
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text.as_bytes());
    line.push(0);
    let place = &raw mut CMDLINE;
    if line.len() > CMDLINE_BYTES {
        return Err(Error::Limit("length of the command line"));
    }
    // SAFETY: only this function uses CMDLINE, on the only processor, and the length was checked.
    unsafe { core::ptr::copy_nonoverlapping(line.as_ptr(), place.cast::<u8>(), line.len()) };
    Ok(place as u64)
}
