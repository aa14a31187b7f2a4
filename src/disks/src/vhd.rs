//! VHD, fixed and dynamic, as Microsoft's "Virtual Hard Disk Image Format Specification" describes it.
//!
//! The size is the footer's current size, never the product of the geometry: programs disagree about which of the two
//! counts, and taking the geometry would cut the end off disks of the others.

use crate::error::Error;
use crate::source::{Source, be32, be64, bytes, bytes16, ceil_div};
use crate::sparse::Sink;
use crate::vdi::copy_range;

const SECTOR: u64 = 512;
const NO_BLOCK: u32 = 0xffff_ffff;
const MAX_BLOCKS: u64 = 4 << 20;
const TABLE_PIECE: u64 = 1 << 16;

#[derive(Debug)]
pub(crate) struct Vhd {
    size: u64,
    /// None for a fixed disk: its data is the file without the footer.
    table: Option<Table>,
}

#[derive(Debug)]
struct Table {
    offset: u64,
    entries: u64,
    block_bytes: u64,
    bitmap_bytes: u64,
}

impl Vhd {
    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    pub(crate) fn variant(&self) -> String {
        format!("vhd {}", if self.table.is_some() { "dynamic" } else { "fixed" })
    }

    pub(crate) fn open(source: &dyn Source) -> Result<Self, Error> {
        // Footers of 511 bytes exist (Virtual PC before 2004) and nobody has such a disk any more.
        let Some(footer_at) = source.len().checked_sub(SECTOR) else {
            return Error::refused("the image is declared as vhd, but its content is something else");
        };
        let footer = bytes(source, footer_at, SECTOR, "the vhd footer")?;
        if !footer.starts_with(b"conectix") {
            return Error::refused("the image is declared as vhd, but it does not end with a vhd footer");
        }
        check_sum(&footer, 64, "footer")?;
        let version = be32(&footer, 12);
        if version != 0x0001_0000 {
            return Error::refused(format!("vhd version {}.{} is not supported", version >> 16, version & 0xffff));
        }
        let size = be64(&footer, 48);
        match be32(&footer, 60) {
            2 => {
                if size > footer_at {
                    return Error::refused("the vhd footer claims a larger disk than the image holds");
                }
                Ok(Vhd { size, table: None })
            }
            3 => Ok(Vhd { size, table: Some(open_dynamic(source, be64(&footer, 16), size)?) }),
            4 => Error::refused("the image has a parent disk"),
            kind => Error::refused(format!("vhd disks of type {kind} are not supported")),
        }
    }

    fn walk(
        &self,
        source: &dyn Source,
        mut visit: impl FnMut(u64, u64, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(table) = &self.table else { return visit(0, 0, self.size) };
        let (mut index, mut mapped) = (0u64, 0u64);
        while index < table.entries {
            let piece = TABLE_PIECE.min(table.entries - index);
            let map = bytes(source, table.offset + index * 4, piece * 4, "the vhd block table")?;
            for entry in map.chunks_exact(4) {
                let sector = be32(entry, 0);
                let guest = index * table.block_bytes;
                index += 1;
                if sector == NO_BLOCK || guest >= self.size {
                    continue;
                }
                // The bitmap before the data says which sectors were ever written; the others are zeros in the file too.
                let host = u64::from(sector) * SECTOR + table.bitmap_bytes;
                if host >= source.len() {
                    return Error::refused("a vhd block lies beyond the end of the image");
                }
                mapped += table.block_bytes;
                if mapped > source.len().saturating_add(table.block_bytes) {
                    return Error::refused("the image maps the same data more than once");
                }
                visit(guest, host, table.block_bytes)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check(&self, source: &dyn Source) -> Result<u64, Error> {
        let mut data = 0u64;
        self.walk(source, |_, _, len| {
            data += len;
            Ok(())
        })?;
        Ok(data)
    }

    pub(crate) fn copy(&self, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
        // The footer ends the file, and the last block of a dynamic disk may be shorter than a block.
        let end = source.len().saturating_sub(SECTOR);
        self.walk(source, |guest, host, len| copy_range(source, sink, guest, host, len.min(end.saturating_sub(host))))
    }
}

fn open_dynamic(source: &dyn Source, header_at: u64, size: u64) -> Result<Table, Error> {
    let header = bytes(source, header_at, 1024, "the vhd header")?;
    if !header.starts_with(b"cxsparse") {
        return Error::refused("the vhd header is missing");
    }
    check_sum(&header, 36, "header")?;
    if bytes16(&header, 40) != [0; 16] || be32(&header, 576) != 0 {
        return Error::refused("the image has a parent disk");
    }
    let (offset, entries) = (be64(&header, 16), u64::from(be32(&header, 28)));
    let block_bytes = u64::from(be32(&header, 32));
    if !block_bytes.is_power_of_two() || !(4096..=256 << 20).contains(&block_bytes) {
        return Error::refused(format!("vhd blocks of {block_bytes} bytes are not allowed"));
    }
    if entries > MAX_BLOCKS {
        return Error::refused("the vhd block table is too large");
    }
    if ceil_div(size, block_bytes) > entries {
        return Error::refused("the vhd block table is too small for the disk");
    }
    if offset < SECTOR {
        return Error::refused("the vhd block table overlaps the footer");
    }
    crate::source::within(source, offset, entries * 4, "the vhd block table")?;
    let bitmap_bytes = ceil_div(block_bytes / SECTOR, 8).next_multiple_of(SECTOR);
    Ok(Table { offset, entries, block_bytes, bitmap_bytes })
}

/// The one's complement of the sum of all bytes but the sum itself.
fn check_sum(data: &[u8], at: usize, what: &str) -> Result<(), Error> {
    let skipped = at..at + 4;
    let sum = data
        .iter()
        .enumerate()
        .filter(|(i, _)| !skipped.contains(i))
        .fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    if !sum == be32(data, at) { Ok(()) } else { Error::refused(format!("the checksum of the vhd {what} is wrong")) }
}
