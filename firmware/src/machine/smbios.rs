//! The SMBIOS table, where the machine has one.

use firmware::smbios::entry_point;

use super::memory::view;

const SEGMENT: u64 = 0xf_0000;
const SEGMENT_BYTES: usize = 0x1_0000;

/// Empty without one.
pub fn table() -> &'static [u8] {
    // SAFETY: the firmware segment is mapped, and nobody writes to it while we run.
    let segment = unsafe { view(SEGMENT, SEGMENT_BYTES) };
    match entry_point(segment) {
        // SAFETY: as told by the VMM (or SeaBIOS): tables in memory below 4 GiB, which is mapped, and which nobody changes.
        Some((start, bytes)) if start != 0 && start < (1 << 32) - bytes as u64 => unsafe { view(start, bytes) },
        _ => &[],
    }
}
