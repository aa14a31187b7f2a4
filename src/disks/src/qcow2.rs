//! qcow2, versions 2 and 3, as the format's specification (QEMU, docs/interop/qcow2) describes it.
//!
//! The guest's clusters are found through two levels of tables. An image is taken only if it needs nothing but itself,
//! and if its tables could have been written by an honest program: inside the file, aligned, none used twice. Those
//! three together bound the time of a walk and the output of a conversion by the length of the file.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;

use crate::error::Error;
use crate::inspect::Limits;
use crate::source::{Source, be32, be64, bytes, ceil_div, fill, within};
use crate::sparse::Sink;

const HEADER_V2_BYTES: u64 = 72;
const HEADER_V3_BYTES: u64 = 104;
/// QEMU takes no larger tables either.
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const MAX_SNAPSHOTS: u32 = 65_536;

const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const AUTOCLEAR_RAW_DATA_FILE: u64 = 1 << 1;

const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;

const ENTRY_OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const ENTRY_COMPRESSED: u64 = 1 << 62;
const ENTRY_COPIED: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Qcow2 {
    version: u32,
    cluster_bits: u32,
    size: u64,
    /// File offsets of the L2 tables, 0 where there is none; exactly as many as the disk needs.
    l1: Vec<u64>,
    extended_l2: bool,
    zstd: bool,
}

/// Where one piece of the guest's disk lies in the file.
enum Piece {
    Plain { host: u64, len: u64 },
    Compressed { host: u64, len: u64 },
}

impl Qcow2 {
    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    pub(crate) fn variant(&self) -> String {
        format!("qcow2 v{}", self.version)
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn entry_bytes(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    fn entries_per_table(&self) -> u64 {
        self.cluster_size() / self.entry_bytes()
    }

    pub(crate) fn open(source: &dyn Source, limits: &Limits) -> Result<Self, Error> {
        let head = bytes(source, 0, HEADER_V2_BYTES, "the qcow2 header")?;
        let version = be32(&head, 4);
        if version != 2 && version != 3 {
            return Error::refused(format!("qcow2 version {version} is not supported"));
        }
        let cluster_bits = be32(&head, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Error::refused(format!("qcow2 clusters of 2^{cluster_bits} bytes are not allowed"));
        }
        let cluster_size = 1u64 << cluster_bits;
        if be64(&head, 8) != 0 || be32(&head, 16) != 0 {
            return Error::refused("the image has a backing file");
        }
        if be32(&head, 32) != 0 {
            return Error::refused("the image is encrypted");
        }

        let (mut extended_l2, mut zstd, mut header_length) = (false, false, HEADER_V2_BYTES);
        if version == 3 {
            let head = bytes(source, 0, HEADER_V3_BYTES, "the qcow2 header")?;
            let incompatible = be64(&head, 72);
            if incompatible & INCOMPATIBLE_DATA_FILE != 0 {
                return Error::refused("the image keeps its data in another file");
            }
            if incompatible & INCOMPATIBLE_CORRUPT != 0 {
                return Error::refused("the image is marked as corrupt");
            }
            // Dirty only means that reference counts may be stale (lazy refcounts), and reading needs none.
            let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;
            if incompatible & !known != 0 {
                return Error::refused(format!(
                    "the image needs unknown qcow2 features ({:#x})",
                    incompatible & !known
                ));
            }
            if be64(&head, 88) & AUTOCLEAR_RAW_DATA_FILE != 0 {
                return Error::refused("the image keeps its data in another file");
            }
            let refcount_order = be32(&head, 96);
            if refcount_order > 6 {
                return Error::refused(format!("qcow2 reference counts of 2^{refcount_order} bits are not allowed"));
            }
            header_length = u64::from(be32(&head, 100));
            if header_length < HEADER_V3_BYTES || header_length > cluster_size || header_length % 8 != 0 {
                return Error::refused(format!("a qcow2 header of {header_length} bytes is not allowed"));
            }
            extended_l2 = incompatible & INCOMPATIBLE_EXTENDED_L2 != 0;
            if extended_l2 && cluster_bits < 14 {
                return Error::refused("qcow2 subclusters need clusters of at least 16 KiB");
            }
            let compression = if header_length > HEADER_V3_BYTES {
                bytes(source, HEADER_V3_BYTES, 1, "the qcow2 header")?.first().copied().unwrap_or(0)
            } else {
                0
            };
            zstd = match (compression, incompatible & INCOMPATIBLE_COMPRESSION != 0) {
                (0, false) => false,
                (1, true) => true,
                _ => return Error::refused(format!("qcow2 compression type {compression} is not supported")),
            };
        }
        check_extensions(source, header_length, cluster_size)?;

        let size = be64(&head, 24);
        if size > limits.max_virtual_bytes {
            let max = limits.max_virtual_bytes;
            return Error::refused(format!("the disk in the image is {size} bytes large, and the limit is {max}"));
        }
        let aligned = |offset: u64, what: &str| match offset % cluster_size {
            0 if offset != 0 => Ok(()),
            _ => Error::refused(format!("{what} does not start on a cluster")),
        };

        let refcount_table = be64(&head, 48);
        let refcount_table_bytes = u64::from(be32(&head, 56)) << cluster_bits;
        if refcount_table_bytes > MAX_REFCOUNT_TABLE_BYTES.max(cluster_size) {
            return Error::refused("the reference count table is too large");
        }
        if refcount_table_bytes == 0 {
            return Error::refused("the image has no reference count table");
        }
        aligned(refcount_table, "the reference count table")?;
        within(source, refcount_table, 8, "the reference count table")?;

        let snapshots = be32(&head, 60);
        if snapshots > 0 && !limits.allow_internal_snapshots {
            return Error::refused("the image holds internal snapshots");
        }
        if snapshots > MAX_SNAPSHOTS {
            return Error::refused(format!("the image claims {snapshots} internal snapshots"));
        }
        if snapshots > 0 {
            within(source, be64(&head, 64), u64::from(snapshots) * 40, "the snapshot table")?;
        }

        let l1_entries = u64::from(be32(&head, 36));
        let l1_offset = be64(&head, 40);
        if l1_entries * 8 > MAX_L1_BYTES {
            return Error::refused("the L1 table is too large");
        }
        let image = Qcow2 { version, cluster_bits, size, l1: Vec::new(), extended_l2, zstd };
        let needed = ceil_div(size, cluster_size * image.entries_per_table());
        if needed > l1_entries {
            return Error::refused("the L1 table is too small for the disk");
        }
        let mut l1 = Vec::new();
        if needed > 0 {
            aligned(l1_offset, "the L1 table")?;
            within(source, l1_offset, l1_entries * 8, "the L1 table")?;
            if overlap(l1_offset, l1_entries * 8, refcount_table, refcount_table_bytes) {
                return Error::refused("the L1 table overlaps the reference count table");
            }
            let raw = bytes(source, l1_offset, needed * 8, "the L1 table")?;
            l1.reserve_exact(raw.len() / 8);
            for entry in raw.chunks_exact(8) {
                let entry = be64(entry, 0);
                if entry & !(ENTRY_OFFSET | ENTRY_COPIED) != 0 {
                    return Error::refused("an L1 entry has reserved bits set");
                }
                let table = entry & ENTRY_OFFSET;
                if table != 0 {
                    aligned(table, "an L2 table")?;
                    within(source, table, cluster_size, "an L2 table")?;
                    if overlap(table, cluster_size, l1_offset, l1_entries * 8)
                        || overlap(table, cluster_size, refcount_table, refcount_table_bytes)
                    {
                        return Error::refused("an L2 table overlaps another table");
                    }
                }
                l1.push(table);
            }
            let mut sorted: Vec<u64> = l1.iter().copied().filter(|table| *table != 0).collect();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
                return Error::refused("two L1 entries point to the same L2 table");
            }
        }
        Ok(Qcow2 { l1, ..image })
    }

    /// Calls `visit` with (guest offset, piece) for everything the image holds.
    fn walk(&self, source: &dyn Source, mut visit: impl FnMut(u64, Piece) -> Result<(), Error>) -> Result<(), Error> {
        let cluster_size = self.cluster_size();
        let step = usize::try_from(self.entry_bytes()).unwrap_or(8);
        let mut guest_table = 0u64;
        let (mut plain_bytes, mut compressed_bytes) = (0u64, 0u64);
        let end = source.len();
        for table in &self.l1 {
            if *table != 0 {
                let l2 = bytes(source, *table, cluster_size, "an L2 table")?;
                let mut guest = guest_table;
                for entry in l2.chunks_exact(step) {
                    if guest >= self.size {
                        break;
                    }
                    let word = be64(entry, 0);
                    if word & ENTRY_COMPRESSED != 0 {
                        let piece = self.compressed(word, end)?;
                        if let Piece::Compressed { len, .. } = piece {
                            // Neighbours share sectors, so only what lies beyond the first one certainly is its own.
                            compressed_bytes += len.saturating_sub(511).max(1);
                        }
                        if compressed_bytes > end {
                            return Error::refused("compressed clusters overlap");
                        }
                        visit(guest, piece)?;
                    } else {
                        self.plain(entry, end, &mut plain_bytes, |within, piece| visit(guest + within, piece))?;
                        // No honest program maps a byte of the file twice; a small file cannot claim a huge disk.
                        if plain_bytes > end.saturating_add(cluster_size) {
                            return Error::refused("the image maps the same data more than once");
                        }
                    }
                    guest += cluster_size;
                }
            }
            guest_table = guest_table.saturating_add(cluster_size * self.entries_per_table());
        }
        Ok(())
    }

    fn compressed(&self, word: u64, end: u64) -> Result<Piece, Error> {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let host = word & ((1u64 << offset_bits) - 1);
        let sectors = (word & (ENTRY_COMPRESSED - 1)) >> offset_bits;
        if host == 0 || host >= end {
            return Error::refused("a compressed cluster lies beyond the end of the image");
        }
        let len = (sectors + 1) * 512 - (host & 511);
        Ok(Piece::Compressed { host, len: len.min(end - host) })
    }

    fn plain(
        &self,
        entry: &[u8],
        end: u64,
        mapped: &mut u64,
        mut visit: impl FnMut(u64, Piece) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let word = be64(entry, 0);
        let zero_flag = u64::from(self.version == 3 && !self.extended_l2);
        if word & !(ENTRY_OFFSET | ENTRY_COPIED | zero_flag) != 0 {
            return Error::refused("an L2 entry has reserved bits set");
        }
        let host = word & ENTRY_OFFSET;
        if !host.is_multiple_of(self.cluster_size()) {
            return Error::refused("a data cluster does not start on a cluster");
        }
        // The tail of the last cluster may be missing from the file and then reads as zeros, its start may not.
        if host >= end && host != 0 {
            return Error::refused("a data cluster lies beyond the end of the image");
        }
        if self.extended_l2 {
            let bitmap = be64(entry, 8);
            let (allocated, zero) = (bitmap & 0xffff_ffff, bitmap >> 32);
            if allocated & zero != 0 {
                return Error::refused("a subcluster is both allocated and zero");
            }
            if allocated != 0 && host == 0 {
                return Error::refused("a subcluster is allocated in no cluster");
            }
            if host != 0 {
                *mapped += self.cluster_size();
            }
            let sub = self.cluster_size() / 32;
            let mut index = 0;
            while index < 32 {
                let run = (allocated >> index).trailing_ones().min(32 - index);
                if run > 0 {
                    let within = u64::from(index) * sub;
                    visit(within, Piece::Plain { host: host + within, len: u64::from(run) * sub })?;
                }
                index += run.max(1);
            }
            return Ok(());
        }
        if host != 0 {
            *mapped += self.cluster_size();
            if word & zero_flag == 0 {
                visit(0, Piece::Plain { host, len: self.cluster_size() })?;
            }
        }
        Ok(())
    }

    /// Reads every table; says how many bytes of the disk the image holds data for.
    pub(crate) fn check(&self, source: &dyn Source) -> Result<u64, Error> {
        let mut data = 0u64;
        self.walk(source, |_, piece| {
            data += match piece {
                Piece::Plain { len, .. } => len,
                Piece::Compressed { .. } => self.cluster_size(),
            };
            Ok(())
        })?;
        Ok(data)
    }

    pub(crate) fn copy(&self, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
        let cluster = usize::try_from(self.cluster_size()).unwrap_or(0);
        let mut out = vec![0u8; cluster];
        self.walk(source, |guest, piece| match piece {
            Piece::Plain { host, len } => {
                let Some(buf) = out.get_mut(..usize::try_from(len).unwrap_or(0)) else { return Ok(()) };
                let read = fill(source, buf, host)?;
                sink.write(guest, buf.get(..read).unwrap_or_default())
            }
            Piece::Compressed { host, len } => {
                sink.check_cancelled()?;
                // At most two clusters: the sector count of an entry has no more bits.
                let packed = bytes(source, host, len, "a compressed cluster")?;
                let whole = if self.zstd { unpack_zstd(&packed, &mut out) } else { unpack_deflate(&packed, &mut out) };
                if !whole {
                    return Error::refused("a compressed cluster does not unpack");
                }
                sink.write(guest, &out)
            }
        })
    }
}

/// Fills `out` from a raw deflate stream; false when the stream is broken or too short.
pub(crate) fn unpack_deflate(packed: &[u8], out: &mut [u8]) -> bool {
    unpack(Decompress::new(false), packed, out)
}

/// Fills `out` from a zlib stream.
pub(crate) fn unpack_zlib(packed: &[u8], out: &mut [u8]) -> bool {
    unpack(Decompress::new(true), packed, out)
}

fn unpack(mut decoder: Decompress, packed: &[u8], out: &mut [u8]) -> bool {
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let input = packed.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
        let Some(output) = out.get_mut(usize::try_from(written).unwrap_or(usize::MAX)..) else { return false };
        if output.is_empty() {
            return true;
        }
        match decoder.decompress(input, output, FlushDecompress::Finish) {
            Ok(Status::StreamEnd) => return decoder.total_out() == out.len() as u64,
            Ok(_) if decoder.total_in() != read || decoder.total_out() != written => {}
            Ok(_) | Err(_) => return decoder.total_out() == out.len() as u64,
        }
    }
}

/// Fills `out` from zstd frames. What follows the data up to the end of the sector is not ours to read.
fn unpack_zstd(packed: &[u8], out: &mut [u8]) -> bool {
    let Ok(mut decoder) = StreamingDecoder::new_with_max_window_size(packed, 8 << 20) else { return false };
    decoder.read_exact(out).is_ok()
}

fn overlap(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    a < b.saturating_add(b_len) && b < a.saturating_add(a_len)
}

/// Header extensions lie between the header and the end of the first cluster.
fn check_extensions(source: &dyn Source, header_length: u64, cluster_size: u64) -> Result<(), Error> {
    let mut at = header_length;
    while at + 8 <= cluster_size && at + 8 <= source.len() {
        let head = bytes(source, at, 8, "a header extension")?;
        let (kind, len) = (be32(&head, 0), u64::from(be32(&head, 4)));
        match kind {
            0 => return Ok(()),
            EXTENSION_DATA_FILE => return Error::refused("the image keeps its data in another file"),
            EXTENSION_ENCRYPTION => return Error::refused("the image is encrypted"),
            _ => {}
        }
        at += 8 + len.next_multiple_of(8);
        if at > cluster_size {
            return Error::refused("a header extension reaches beyond the first cluster");
        }
    }
    Ok(())
}
