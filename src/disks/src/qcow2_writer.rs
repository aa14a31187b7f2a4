//! Writes a raw disk as qcow2 (version 3, clusters of 64 KiB), so that a snapshot is as large as what its disk holds.
//!
//! Clusters that hold nothing but zeros are left out. The header comes last: a file that was cut off is no qcow2.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::error::Error;
use crate::sparse::is_zero;

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Clusters whose places one table holds.
const PER_TABLE: u64 = CLUSTER_BYTES / 8;
/// Clusters whose use one block counts, in 16 bits each.
const PER_REFCOUNT_BLOCK: u64 = CLUSTER_BYTES / 2;
/// The cluster is used once: QEMU may write to it in place.
const COPIED: u64 = 1 << 63;
const HEADER_BYTES: u32 = 104;
const REFCOUNT_ORDER: u32 = 4;

/// Writes the disk `src` into the empty file `dest`, and answers how long that became. Refuses what would be longer than
/// `max_bytes`.
pub fn write_qcow2(src: &File, dest: &File, max_bytes: u64, cancelled: &AtomicBool) -> Result<u64, Error> {
    let size = src.metadata().map_err(Error::Source)?.len();
    let tables = size.div_ceil(CLUSTER_BYTES * PER_TABLE);
    let l1_clusters = (tables * 8).div_ceil(CLUSTER_BYTES).max(1);
    let mut writer = Writer { dest, next: 1 + l1_clusters, max_bytes, cancelled };
    let mut l1 = Vec::new();
    let mut table = vec![0_u64; to_usize(PER_TABLE)];
    let mut cluster = vec![0_u8; to_usize(CLUSTER_BYTES)];
    for index in 0..tables {
        let (start, end) = (index * PER_TABLE, ((index + 1) * PER_TABLE).min(size.div_ceil(CLUSTER_BYTES)));
        table.fill(0);
        let mut used = false;
        let mut at = start;
        while let Some(next) = next_data(src, at * CLUSTER_BYTES, size)?.map(|offset| offset / CLUSTER_BYTES) {
            // The data may begin within a cluster that was looked at already.
            at = next.max(at);
            if at >= end {
                break;
            }
            writer.check_cancelled()?;
            read_cluster(src, at * CLUSTER_BYTES, &mut cluster)?;
            if !is_zero(&cluster) {
                let host = writer.append(&cluster)?;
                if let Some(entry) = table.get_mut(to_usize(at - start)) {
                    *entry = host | COPIED;
                }
                used = true;
            }
            at += 1;
            if at >= end {
                break;
            }
        }
        l1.push(if used { writer.append(&big_endian(&table))? | COPIED } else { 0 });
    }
    writer.finish(size, &l1)
}

struct Writer<'a> {
    dest: &'a File,
    /// The first cluster of the file that nothing is in.
    next: u64,
    max_bytes: u64,
    cancelled: &'a AtomicBool,
}

impl Writer<'_> {
    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Writes whole clusters behind everything that is there; answers where.
    fn append(&mut self, data: &[u8]) -> Result<u64, Error> {
        let offset = self.next * CLUSTER_BYTES;
        self.next += (data.len() as u64).div_ceil(CLUSTER_BYTES);
        if self.next * CLUSTER_BYTES > self.max_bytes {
            return Error::refused(format!("what the disk holds does not fit into {} bytes", self.max_bytes));
        }
        self.dest.write_all_at(data, offset).map_err(Error::dest)?;
        Ok(offset)
    }

    fn finish(mut self, size: u64, l1: &[u64]) -> Result<u64, Error> {
        self.dest.write_all_at(&big_endian(l1), CLUSTER_BYTES).map_err(Error::dest)?;
        // The counts count the clusters that they are in themselves.
        let (mut blocks, mut table_clusters) = (0, 0);
        loop {
            let total = self.next + blocks + table_clusters;
            let needed = total.div_ceil(PER_REFCOUNT_BLOCK);
            let needed_table = (needed * 8).div_ceil(CLUSTER_BYTES);
            if (needed, needed_table) == (blocks, table_clusters) {
                break;
            }
            (blocks, table_clusters) = (needed, needed_table);
        }
        let total = self.next + blocks + table_clusters;
        let mut places = Vec::new();
        for block in 0..blocks {
            self.check_cancelled()?;
            let used = to_usize((total - block * PER_REFCOUNT_BLOCK).min(PER_REFCOUNT_BLOCK));
            let mut counts = [0_u8, 1].repeat(used);
            counts.resize(to_usize(CLUSTER_BYTES), 0);
            places.push(self.append(&counts)?);
        }
        let table = self.append(&padded(big_endian(&places)))?;
        let length = self.next * CLUSTER_BYTES;
        self.dest.set_len(length).map_err(Error::dest)?;
        let header = header(size, l1.len(), table, table_clusters);
        self.dest.write_all_at(&header, 0).map_err(Error::dest)?;
        Ok(length)
    }
}

fn header(size: u64, l1_entries: usize, refcount_table: u64, refcount_table_clusters: u64) -> Vec<u8> {
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend(b"QFI\xfb");
    header.extend(3_u32.to_be_bytes());
    // No backing file.
    header.extend([0; 12]);
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    // Not encrypted.
    header.extend([0; 4]);
    header.extend(small(l1_entries as u64));
    header.extend(CLUSTER_BYTES.to_be_bytes());
    header.extend(refcount_table.to_be_bytes());
    header.extend(small(refcount_table_clusters));
    // No snapshots inside, and no features.
    header.extend([0; 4 + 8 + 3 * 8]);
    header.extend(REFCOUNT_ORDER.to_be_bytes());
    header.extend(HEADER_BYTES.to_be_bytes());
    header
}

/// Where data begins, at `offset` or behind it.
fn next_data(src: &File, offset: u64, size: u64) -> Result<Option<u64>, Error> {
    if offset >= size {
        return Ok(None);
    }
    match seek(src, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(Some(offset)),
        Err(error) => Err(Error::Source(error.into())),
    }
}

/// Reads one cluster; what is behind the end of the disk reads as zeros.
fn read_cluster(src: &File, offset: u64, cluster: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while let Some(rest) = cluster.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match src.read_at(rest, offset + done as u64) {
            Ok(0) => {
                rest.fill(0);
                break;
            }
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Source(error)),
        }
    }
    Ok(())
}

fn big_endian(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(to_usize(CLUSTER_BYTES)), 0);
    bytes
}

/// Numbers of clusters and of entries, which memory holds.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Limits, convert_to_raw, inspect_file};

    const LIMITS: Limits =
        Limits { max_virtual_bytes: 1 << 40, max_output_bytes: 1 << 40, allow_internal_snapshots: false };

    fn disk(size: u64, pieces: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (offset, data) in pieces {
            file.write_all_at(data, *offset).unwrap();
        }
        file
    }

    /// Writes the disk, reads it back, and answers the length of the image.
    fn there_and_back(size: u64, pieces: &[(u64, &[u8])]) -> u64 {
        let (never, image, back) =
            (AtomicBool::new(false), tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let length = write_qcow2(&disk(size, pieces), &image, u64::MAX, &never).unwrap();
        assert_eq!(image.metadata().unwrap().len(), length);
        assert_eq!(inspect_file(&image, Format::Qcow2, &LIMITS).unwrap().virtual_size_bytes, size);
        convert_to_raw(&image, Format::Qcow2, &back, &LIMITS, &never).unwrap();
        assert_eq!(back.metadata().unwrap().len(), size);
        for (offset, data) in pieces {
            let mut read = vec![0; data.len()];
            back.read_exact_at(&mut read, *offset).unwrap();
            assert!(read == *data, "what was at {offset} of {size} is not there");
        }
        length
    }

    #[test]
    fn a_disk_comes_back_as_it_was_and_holes_take_nothing() {
        let table = CLUSTER_BYTES * PER_TABLE;
        assert_eq!(there_and_back(1 << 30, &[]), 4 * CLUSTER_BYTES, "header, tables, and the counts of three");
        let few = there_and_back(3 << 30, &[(0, &[1; 70_000]), (table - 1, &[2; 2]), ((3 << 30) - 1, &[3])]);
        assert!(few <= 16 * CLUSTER_BYTES, "{few}");
        there_and_back(1_000_448, &[(999_999, &[9; 449])]);
        there_and_back(512, &[(0, &[5; 512])]);
        // Zeros that were written take nothing either.
        assert_eq!(there_and_back(1 << 20, &[(0, &[0; 1 << 20])]), 4 * CLUSTER_BYTES);
    }

    #[test]
    fn a_disk_so_full_that_its_counts_need_several_blocks_comes_back() {
        let full: Vec<u8> = (0..(6 << 20)).map(|at: u32| (at % 251) as u8).collect();
        let pieces: Vec<(u64, &[u8])> = (0..4).map(|at| (at * (600 << 20), full.as_slice())).collect();
        there_and_back(3 << 30, &pieces);
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_is_cancelled_ends() {
        let source = disk(1 << 20, &[(0, &[1; 1 << 20])]);
        let image = tempfile::tempfile().unwrap();
        let refused = write_qcow2(&source, &image, 5 * CLUSTER_BYTES, &AtomicBool::new(false));
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        let cancelled = write_qcow2(&source, &image, u64::MAX, &AtomicBool::new(true));
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
    }
}
