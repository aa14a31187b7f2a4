//! What a PVH loader hands over (`hvm_start_info`, version 1).

use alloc::vec::Vec;

use firmware::{
    Error, Result,
    bytes::{u32_le, u64_le},
    memory::{REGIONS, Region},
};

use super::memory::view;

#[derive(Debug)]
pub struct StartInfo {
    pub map: Vec<Region>,
    pub rsdp: u64,
}

impl StartInfo {
    /// Copies all that is needed, since the memory that it lies in is not reserved.
    pub fn read(address: u64) -> Result<StartInfo> {
        if address == 0 || address >= 1 << 32 {
            return Err(Error::Corrupt("PVH start info"));
        }
        // SAFETY: the loader's structure, in low memory that is mapped and that nobody changes.
        let info = unsafe { view(address, 56) };
        if u32_le(info, 0) != 0x336e_c578 || u32_le(info, 4) < 1 {
            return Err(Error::Unsupported("a start without a memory map"));
        }
        let (table, entries) = (u64_le(info, 40), u32_le(info, 48) as usize);
        if table == 0 || table >= 1 << 32 || entries > REGIONS {
            return Err(Error::Unsupported("a memory map of more than 128 regions"));
        }
        // SAFETY: as above, the loader's table of 24-byte entries.
        let raw = unsafe { view(table, 24 * entries) };
        let map = raw
            .chunks_exact(24)
            .map(|entry| Region { start: u64_le(entry, 0), bytes: u64_le(entry, 8), kind: u32_le(entry, 16) })
            .collect();
        Ok(StartInfo { map, rsdp: u64_le(info, 32) })
    }
}
