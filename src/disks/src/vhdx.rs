//! VHDX, fixed and dynamic, as [MS-VHDX] describes it. A disk that was not closed cleanly has a log to replay and is
//! refused: replaying would mean to change what the user uploaded.

use crate::error::Error;
use crate::source::{Source, bytes, bytes16, ceil_div, le16, le32, le64, within};
use crate::sparse::Sink;
use crate::vdi::copy_range;

const MIB: u64 = 1 << 20;
const MAX_REGION_BYTES: u64 = 256 << 20;
const TABLE_PIECE: u64 = 1 << 16;

pub(crate) const REGION_BAT: [u8; 16] =
    guid(0x2dc2_7766, 0xf623, 0x4200, [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08]);
pub(crate) const REGION_METADATA: [u8; 16] =
    guid(0x8b7c_a206, 0x4790, 0x4b9a, [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
pub(crate) const ITEM_FILE: [u8; 16] =
    guid(0xcaa1_6737, 0xfa36, 0x4d43, [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
pub(crate) const ITEM_SIZE: [u8; 16] =
    guid(0x2fa5_4224, 0xcd1b, 0x4876, [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
const ITEM_PAGE_83: [u8; 16] = guid(0xbeca_12ab, 0xb2e6, 0x4523, [0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46]);
pub(crate) const ITEM_LOGICAL: [u8; 16] =
    guid(0x8141_bf1d, 0xa96f, 0x4709, [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f]);
const ITEM_PHYSICAL: [u8; 16] = guid(0xcda3_48c7, 0x445d, 0x4471, [0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56]);
pub(crate) const ITEM_PARENT: [u8; 16] =
    guid(0xa8d3_5f2d, 0xb30b, 0x454d, [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c]);

const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

#[derive(Debug)]
pub(crate) struct Vhdx {
    size: u64,
    block_bytes: u64,
    /// After so many blocks of data the table has one entry for a bitmap that only differencing disks use.
    chunk_ratio: u64,
    table_offset: u64,
}

impl Vhdx {
    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    pub(crate) fn variant(&self) -> String {
        "vhdx".to_owned()
    }

    pub(crate) fn open(source: &dyn Source) -> Result<Self, Error> {
        check_headers(source)?;
        let (bat, metadata) = regions(source)?;
        let items = metadata_items(source, metadata)?;
        let block_bytes = u64::from(items.block_bytes);
        if !block_bytes.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_bytes) {
            return Error::refused(format!("vhdx blocks of {block_bytes} bytes are not allowed"));
        }
        if items.logical_sector != 512 && items.logical_sector != 4096 {
            return Error::refused(format!("vhdx sectors of {} bytes are not allowed", items.logical_sector));
        }
        if items.size % u64::from(items.logical_sector) != 0 || items.size > 64 << 40 {
            return Error::refused(format!("a vhdx disk of {} bytes is not allowed", items.size));
        }
        let chunk_ratio = ((1u64 << 23) * u64::from(items.logical_sector)) / block_bytes;
        let blocks = ceil_div(items.size, block_bytes);
        let entries = blocks + blocks.saturating_sub(1) / chunk_ratio.max(1);
        if entries * 8 > bat.len {
            return Error::refused("the vhdx block table is too small for the disk");
        }
        Ok(Vhdx { size: items.size, block_bytes, chunk_ratio: chunk_ratio.max(1), table_offset: bat.offset })
    }

    fn walk(&self, source: &dyn Source, mut visit: impl FnMut(u64, u64) -> Result<(), Error>) -> Result<(), Error> {
        let blocks = ceil_div(self.size, self.block_bytes);
        let entries = blocks + blocks.saturating_sub(1) / self.chunk_ratio;
        let (mut index, mut block, mut mapped) = (0u64, 0u64, 0u64);
        while index < entries {
            let piece = TABLE_PIECE.min(entries - index);
            let map = bytes(source, self.table_offset + index * 8, piece * 8, "the vhdx block table")?;
            for entry in map.chunks_exact(8) {
                let is_bitmap = index % (self.chunk_ratio + 1) == self.chunk_ratio;
                index += 1;
                if is_bitmap {
                    continue;
                }
                let guest = block * self.block_bytes;
                block += 1;
                let word = le64(entry, 0);
                match word & 7 {
                    // Not present, undefined, zero, unmapped: nothing a new guest may see.
                    0..=3 => continue,
                    6 => {}
                    state => return Error::refused(format!("vhdx blocks in state {state} are not supported")),
                }
                let host = word & !(MIB - 1);
                if host < MIB || host >= source.len() {
                    return Error::refused("a vhdx block lies beyond the end of the image");
                }
                mapped += self.block_bytes;
                if mapped > source.len().saturating_add(self.block_bytes) {
                    return Error::refused("the image maps the same data more than once");
                }
                visit(guest, host)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check(&self, source: &dyn Source) -> Result<u64, Error> {
        let mut data = 0u64;
        self.walk(source, |_, _| {
            data += self.block_bytes;
            Ok(())
        })?;
        Ok(data)
    }

    pub(crate) fn copy(&self, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
        self.walk(source, |guest, host| copy_range(source, sink, guest, host, self.block_bytes))
    }
}

/// Two headers, written in turn; the valid one with the higher sequence number counts.
fn check_headers(source: &dyn Source) -> Result<(), Error> {
    let mut newest: Option<(u64, Vec<u8>)> = None;
    for at in [64 << 10, 128 << 10] {
        let head = bytes(source, at, 4096, "the vhdx header")?;
        if head.starts_with(b"head") && le32(&head, 4) == crc32c_without_sum(&head) {
            let sequence = le64(&head, 8);
            if newest.as_ref().is_none_or(|(other, _)| sequence > *other) {
                newest = Some((sequence, head));
            }
        }
    }
    let Some((_, head)) = newest else { return Error::refused("the image has no valid vhdx header") };
    if le16(&head, 66) != 1 {
        return Error::refused(format!("vhdx version {} is not supported", le16(&head, 66)));
    }
    if bytes16(&head, 48) != [0; 16] {
        return Error::refused("the vhdx image was not closed cleanly: its log has entries still to be written");
    }
    Ok(())
}

struct Region {
    offset: u64,
    len: u64,
}

fn regions(source: &dyn Source) -> Result<(Region, Region), Error> {
    let mut table = None;
    for at in [192 << 10, 256 << 10] {
        let candidate = bytes(source, at, 64 << 10, "the vhdx region table")?;
        if candidate.starts_with(b"regi") && le32(&candidate, 4) == crc32c_without_sum(&candidate) {
            table = Some(candidate);
            break;
        }
    }
    let Some(table) = table else { return Error::refused("the image has no valid vhdx region table") };
    let count = le32(&table, 8);
    if count > 2047 {
        return Error::refused("the vhdx region table has too many entries");
    }
    let (mut bat, mut metadata) = (None, None);
    for entry in table.get(16..).unwrap_or_default().chunks_exact(32).take(count as usize) {
        let region = Region { offset: le64(entry, 16), len: u64::from(le32(entry, 24)) };
        if region.offset < MIB || !region.offset.is_multiple_of(MIB) || region.len > MAX_REGION_BYTES {
            return Error::refused("a vhdx region is not where or as large as it may be");
        }
        within(source, region.offset, region.len, "a vhdx region")?;
        let slot = match bytes16(entry, 0) {
            REGION_BAT => &mut bat,
            REGION_METADATA => &mut metadata,
            _ if le32(entry, 28) & 1 != 0 => return Error::refused("the image needs an unknown vhdx region"),
            _ => continue,
        };
        if slot.replace(region).is_some() {
            return Error::refused("a vhdx region is listed twice");
        }
    }
    match (bat, metadata) {
        (Some(bat), Some(metadata)) => Ok((bat, metadata)),
        _ => Error::refused("the image lacks a vhdx region"),
    }
}

#[derive(Default)]
struct Items {
    block_bytes: u32,
    size: u64,
    logical_sector: u32,
}

fn metadata_items(source: &dyn Source, region: Region) -> Result<Items, Error> {
    let table = bytes(source, region.offset, (64 << 10).min(region.len), "the vhdx metadata")?;
    if !table.starts_with(b"metadata") {
        return Error::refused("the image has no valid vhdx metadata");
    }
    let count = le16(&table, 10);
    if count > 2047 {
        return Error::refused("the vhdx metadata has too many entries");
    }
    let mut items = Items::default();
    for entry in table.get(32..).unwrap_or_default().chunks_exact(32).take(usize::from(count)) {
        let (offset, len, flags) = (u64::from(le32(entry, 16)), u64::from(le32(entry, 20)), le32(entry, 24));
        if offset.saturating_add(len) > region.len {
            return Error::refused("a vhdx metadata item lies beyond its region");
        }
        let value = |wanted: u64| match len >= wanted {
            true => bytes(source, region.offset + offset, wanted, "a vhdx metadata item"),
            false => Error::refused("a vhdx metadata item is too short"),
        };
        match bytes16(entry, 0) {
            ITEM_FILE => {
                let raw = value(8)?;
                items.block_bytes = le32(&raw, 0);
                if le32(&raw, 4) & 2 != 0 {
                    return Error::refused("the image has a parent disk");
                }
            }
            ITEM_SIZE => items.size = le64(&value(8)?, 0),
            ITEM_LOGICAL => items.logical_sector = le32(&value(4)?, 0),
            ITEM_PARENT => return Error::refused("the image has a parent disk"),
            ITEM_PAGE_83 | ITEM_PHYSICAL => {}
            _ if flags & 4 != 0 => return Error::refused("the image needs an unknown vhdx metadata item"),
            _ => {}
        }
    }
    Ok(items)
}

/// CRC-32C over a structure whose own sum, four bytes at 4, counts as zeros.
fn crc32c_without_sum(data: &[u8]) -> u32 {
    let zeroed = data.iter().enumerate().map(|(i, byte)| if (4..8).contains(&i) { 0 } else { *byte });
    !zeroed.fold(!0u32, |crc, byte| {
        let index = usize::from((crc as u8) ^ byte);
        (crc >> 8) ^ CRC32C.get(index).copied().unwrap_or(0)
    })
}

static CRC32C: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// Writes the sum that a structure must carry.
#[cfg(feature = "corpus")]
pub(crate) fn seal(data: &mut [u8]) {
    let sum = crc32c_without_sum(data);
    if let Some(field) = data.get_mut(4..8) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}
