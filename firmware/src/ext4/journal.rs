//! The jbd2 journal of a file system that was not unmounted: which blocks it replaces.
//!
//! Two passes, as the kernel does: find what was committed and what was revoked, then collect the replacements. Nothing is
//! written. Only committed transactions count; the first block that does not fit ends the log.

use alloc::{collections::BTreeMap, vec::Vec};

use super::Ext4;
use crate::{Error, Result, bytes::u32_be, checksum::crc32c, file::FileMap};

const MAGIC: u32 = 0xc03b_3998;
/// 256 MiB at 4 KiB a block, a quarter of what mke2fs makes at most; a longer log is cut here, as if it had ended.
const LOG_BLOCKS: u32 = 65_536;
const REPLACED: usize = 131_072;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_1: u32 = 3;
const SUPERBLOCK_2: u32 = 4;
const REVOKE: u32 = 5;

const REVOKES: u32 = 0x1;
const BIT64: u32 = 0x2;
const ASYNC_COMMIT: u32 = 0x4;
const CHECKSUM_2: u32 = 0x8;
const CHECKSUM_3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;

const TAG_ESCAPED: u32 = 0x1;
const TAG_SAME_UUID: u32 = 0x2;
const TAG_LAST: u32 = 0x8;

struct Log<'a> {
    fs: &'a Ext4,
    map: FileMap,
    /// Blocks of the log proper are `first..end`, as a ring.
    first: u32,
    end: u32,
    features: u32,
    seed: u32,
}

pub(super) fn replay(fs: &Ext4, inode: u32) -> Result<BTreeMap<u64, u64>> {
    let mut journal = fs.inode(inode)?;
    // The kernel's own, which our size limit for boot files does not concern.
    journal.bytes = journal.bytes.min(super::FILE_BYTES);
    let map = fs.map(&journal)?;
    let mut superblock = alloc::vec![0; 1024];
    map.read(&fs.disk, 0, &mut superblock)?;
    let kind = u32_be(&superblock, 4);
    if u32_be(&superblock, 0) != MAGIC || !matches!(kind, SUPERBLOCK_1 | SUPERBLOCK_2) {
        return Err(Error::Corrupt("journal superblock"));
    }
    let features = if kind == SUPERBLOCK_2 { u32_be(&superblock, 0x28) } else { 0 };
    if features & !(REVOKES | BIT64 | ASYNC_COMMIT | CHECKSUM_2 | CHECKSUM_3 | FAST_COMMIT) != 0 {
        return Err(Error::Unsupported("a feature of this journal"));
    }
    let blocks = u32_be(&superblock, 0x10);
    // Fast commits are extra, at the end; without them the log is consistent, only a little older.
    let fast = match features & FAST_COMMIT {
        0 => 0,
        _ => match u32_be(&superblock, 0x54) {
            0 => 256,
            told => told,
        },
    };
    let (first, start) = (u32_be(&superblock, 0x14), u32_be(&superblock, 0x1c));
    let end = blocks.saturating_sub(fast).min((map.bytes / fs.block_bytes) as u32);
    if u64::from(u32_be(&superblock, 0xc)) != fs.block_bytes || first == 0 || first >= end {
        return Err(Error::Corrupt("journal superblock"));
    }
    if start == 0 {
        return Ok(BTreeMap::new());
    }
    if start < first || start >= end {
        return Err(Error::Corrupt("journal start"));
    }
    let seed = crc32c(!0, &superblock[0x30..0x40]);
    let log = Log { fs, map, first, end, features, seed };
    let sequence = u32_be(&superblock, 0x18);
    let (committed, revoked) = log.committed(start, sequence)?;
    log.collect(start, sequence, committed, &revoked)
}

/// Compares sequence numbers, which wrap.
fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

impl Log<'_> {
    fn next(&self, block: u32, count: u32) -> u32 {
        let length = u64::from(self.end - self.first);
        self.first + ((u64::from(block - self.first) + u64::from(count)) % length) as u32
    }

    fn read(&self, block: u32) -> Result<Vec<u8>> {
        let mut data = alloc::vec![0; self.fs.block_bytes as usize];
        self.map.read(&self.fs.disk, u64::from(block) * self.fs.block_bytes, &mut data)?;
        Ok(data)
    }

    fn has_checksums(&self) -> bool {
        self.features & (CHECKSUM_2 | CHECKSUM_3) != 0
    }

    /// Whether the block's own checksum, in its last four bytes, is right.
    fn tail_is_right(&self, block: &[u8]) -> bool {
        if !self.has_checksums() {
            return true;
        }
        let at = block.len() - 4;
        let sum = crc32c(crc32c(self.seed, &block[..at]), &[0; 4]);
        sum == u32_be(block, at)
    }

    fn commit_is_right(&self, block: &[u8]) -> bool {
        if !self.has_checksums() {
            return true;
        }
        let sum = crc32c(crc32c(crc32c(self.seed, &block[..16]), &[0; 4]), &block[20..]);
        sum == u32_be(block, 16)
    }

    /// The tags of a descriptor block: block of the file system, flags and checksum.
    fn tags(&self, block: &[u8]) -> Vec<(u64, u32, u32)> {
        let end = block.len() - if self.has_checksums() { 4 } else { 0 };
        let wide = self.features & BIT64 != 0;
        let bytes = if self.features & CHECKSUM_3 != 0 {
            16
        } else {
            8 + if wide { 4 } else { 0 } + if self.features & CHECKSUM_2 != 0 { 2 } else { 0 }
        };
        let mut tags = Vec::new();
        let mut at = 12;
        while at + bytes <= end {
            let low = u64::from(u32_be(block, at));
            let (flags, high, sum) = if self.features & CHECKSUM_3 != 0 {
                (u32_be(block, at + 4), u32_be(block, at + 8), u32_be(block, at + 12))
            } else {
                let both = u32_be(block, at + 4);
                (both & 0xffff, if wide { u32_be(block, at + 8) } else { 0 }, both >> 16)
            };
            let high = if wide { u64::from(high) << 32 } else { 0 };
            tags.push((low | high, flags, sum));
            at += bytes;
            if flags & TAG_SAME_UUID == 0 {
                at += 16;
            }
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        tags
    }

    /// First pass: the sequence number after the last committed transaction, and what was revoked when.
    fn committed(&self, start: u32, first_sequence: u32) -> Result<(u32, BTreeMap<u64, u32>)> {
        let (mut block, mut sequence) = (start, first_sequence);
        let mut revoked = BTreeMap::new();
        let mut pending: Vec<u64> = Vec::new();
        let mut passed = 0u32;
        while passed < LOG_BLOCKS.min(self.end - self.first) {
            let data = self.read(block)?;
            if u32_be(&data, 0) != MAGIC || u32_be(&data, 8) != sequence {
                break;
            }
            let mut count = 1;
            match u32_be(&data, 4) {
                DESCRIPTOR if self.tail_is_right(&data) => count += self.tags(&data).len() as u32,
                COMMIT if self.commit_is_right(&data) => {
                    for block in pending.drain(..) {
                        revoked.insert(block, sequence);
                    }
                    sequence = sequence.wrapping_add(1);
                }
                REVOKE if self.tail_is_right(&data) => {
                    let end = (u32_be(&data, 12) as usize).min(data.len());
                    let each = if self.features & BIT64 != 0 { 8 } else { 4 };
                    for entry in data.get(16..end).unwrap_or_default().chunks_exact(each) {
                        let high = if each == 8 { u64::from(u32_be(entry, 0)) << 32 } else { 0 };
                        pending.push(high | u64::from(u32_be(entry, each - 4)));
                    }
                    if pending.len() + revoked.len() > REPLACED {
                        return Err(Error::Limit("journal revocations"));
                    }
                }
                _ => break,
            }
            block = self.next(block, count);
            passed += count;
        }
        Ok((sequence, revoked))
    }

    /// Second pass: where the newest committed copy of each block is.
    fn collect(&self, start: u32, first: u32, until: u32, revoked: &BTreeMap<u64, u32>) -> Result<BTreeMap<u64, u64>> {
        let (mut block, mut sequence) = (start, first);
        let mut replaced = BTreeMap::new();
        let mut passed = 0u32;
        while sequence != until && passed < LOG_BLOCKS.min(self.end - self.first) {
            let data = self.read(block)?;
            let mut count = 1;
            match u32_be(&data, 4) {
                DESCRIPTOR => {
                    for (index, (target, flags, sum)) in self.tags(&data).into_iter().enumerate() {
                        count += 1;
                        if revoked.get(&target).is_some_and(|&at| at_or_after(at, sequence)) {
                            continue;
                        }
                        // Its first four bytes are the journal's magic, stored as zero: it would have to be patched in
                        // memory. Data does not begin so; give up on the whole journal rather than read it wrong.
                        if flags & TAG_ESCAPED != 0 {
                            return Err(Error::Unsupported("an escaped block in the journal"));
                        }
                        let copy = self.next(block, index as u32 + 1);
                        if self.has_checksums() {
                            let data = self.read(copy)?;
                            let actual = crc32c(crc32c(self.seed, &sequence.to_be_bytes()), &data);
                            let right =
                                if self.features & CHECKSUM_3 != 0 { actual == sum } else { actual & 0xffff == sum };
                            if !right {
                                return Err(Error::Corrupt("checksum in the journal"));
                            }
                        }
                        let mut extents = self.map.extents.iter();
                        let at = u64::from(copy) * self.fs.block_bytes;
                        let extent = extents.find(|e| e.file <= at && at < e.file + e.bytes);
                        let Some(disk) = extent.and_then(|e| e.disk.map(|disk| disk + (at - e.file))) else {
                            return Err(Error::Corrupt("hole in the journal"));
                        };
                        replaced.insert(target, (disk - self.fs.start) / self.fs.block_bytes);
                        if replaced.len() > REPLACED {
                            return Err(Error::Limit("blocks in the journal"));
                        }
                    }
                }
                COMMIT => sequence = sequence.wrapping_add(1),
                REVOKE => {}
                _ => return Err(Error::Corrupt("journal")),
            }
            block = self.next(block, count);
            passed += count;
        }
        Ok(replaced)
    }
}
