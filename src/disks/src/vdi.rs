//! VDI, VirtualBox's format: a header, one map of blocks, the blocks.

use crate::error::Error;
use crate::source::{Source, bytes, bytes16, ceil_div, fill, le32, le64};
use crate::sparse::Sink;

/// At 0x40 of the file, after a text of 64 bytes.
pub(crate) const SIGNATURE: [u8; 4] = [0x7f, 0x10, 0xda, 0xbe];
const MAX_BLOCKS: u64 = 4 << 20;
const BLOCK_FREE: u32 = 0xffff_ffff;
const BLOCK_ZERO: u32 = 0xffff_fffe;
/// The map is read in pieces of this many entries.
const MAP_PIECE: u64 = 1 << 16;

#[derive(Debug)]
pub(crate) struct Vdi {
    size: u64,
    block_bytes: u64,
    map_offset: u64,
    data_offset: u64,
    block_count: u64,
    is_static: bool,
}

impl Vdi {
    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    pub(crate) fn variant(&self) -> String {
        format!("vdi {}", if self.is_static { "static" } else { "dynamic" })
    }

    pub(crate) fn open(source: &dyn Source) -> Result<Self, Error> {
        let head = bytes(source, 0, 512, "the vdi header")?;
        if head.get(0x40..0x44) != Some(&SIGNATURE[..]) {
            return Error::refused("the image is declared as vdi, but its content is something else");
        }
        let version = le32(&head, 0x44);
        if version != 0x0001_0001 {
            return Error::refused(format!("vdi version {}.{} is not supported", version >> 16, version & 0xffff));
        }
        let kind = le32(&head, 0x4c);
        if kind != 1 && kind != 2 {
            return Error::refused("the image has a parent disk");
        }
        if bytes16(&head, 0x1a8) != [0; 16] || bytes16(&head, 0x1b8) != [0; 16] {
            return Error::refused("the image has a parent disk");
        }
        if le32(&head, 0x168) != 512 {
            return Error::refused("vdi sectors must be of 512 bytes");
        }
        let block_bytes = u64::from(le32(&head, 0x178));
        if !block_bytes.is_power_of_two() || !(4096..=64 << 20).contains(&block_bytes) || le32(&head, 0x17c) != 0 {
            return Error::refused(format!("vdi blocks of {block_bytes} bytes are not allowed"));
        }
        let size = le64(&head, 0x170);
        let block_count = u64::from(le32(&head, 0x180));
        if block_count > MAX_BLOCKS {
            return Error::refused("the vdi block map is too large");
        }
        if ceil_div(size, block_bytes) > block_count {
            return Error::refused("the vdi block map is too small for the disk");
        }
        let (map_offset, data_offset) = (u64::from(le32(&head, 0x154)), u64::from(le32(&head, 0x158)));
        if map_offset < 0x1c8 || map_offset + block_count * 4 > data_offset {
            return Error::refused("the vdi block map overlaps the header or the data");
        }
        if map_offset + block_count * 4 > source.len() {
            return Error::refused("the vdi block map lies beyond the end of the image");
        }
        Ok(Vdi { size, block_bytes, map_offset, data_offset, block_count, is_static: kind == 2 })
    }

    fn walk(&self, source: &dyn Source, mut visit: impl FnMut(u64, u64) -> Result<(), Error>) -> Result<(), Error> {
        let (mut index, mut mapped) = (0u64, 0u64);
        while index < self.block_count {
            let piece = MAP_PIECE.min(self.block_count - index);
            let map = bytes(source, self.map_offset + index * 4, piece * 4, "the vdi block map")?;
            for entry in map.chunks_exact(4) {
                let block = le32(entry, 0);
                let guest = index * self.block_bytes;
                index += 1;
                if block == BLOCK_FREE || block == BLOCK_ZERO || guest >= self.size {
                    continue;
                }
                let host = self.data_offset.saturating_add(u64::from(block) * self.block_bytes);
                if host >= source.len() {
                    return Error::refused("a vdi block lies beyond the end of the image");
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

/// Copies a stretch of the file to the disk in small pieces; what lies beyond the end of the file reads as zeros.
pub(crate) fn copy_range(
    source: &dyn Source,
    sink: &mut dyn Sink,
    guest: u64,
    host: u64,
    len: u64,
) -> Result<(), Error> {
    let mut buf = vec![0u8; usize::try_from(len.min(1 << 20)).unwrap_or(0)];
    let mut done = 0u64;
    while done < len {
        let wanted = usize::try_from(len - done).unwrap_or(usize::MAX).min(buf.len());
        let Some(piece) = buf.get_mut(..wanted) else { break };
        let read = fill(source, piece, host + done)?;
        if read == 0 {
            break;
        }
        sink.write(guest + done, piece.get(..read).unwrap_or_default())?;
        done += read as u64;
    }
    Ok(())
}
