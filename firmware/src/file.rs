//! Where a file lies on the disk. Kernel and initrd go from there straight into their final place in memory.

use alloc::vec::Vec;

use crate::{Error, Result, disk::Disk};

/// A file in more pieces than this is not read.
const EXTENTS: usize = 32_768;

/// A stretch of the file, all in bytes. `disk` is absolute; `None` reads as zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub file: u64,
    pub disk: Option<u64>,
    pub bytes: u64,
}

/// The whole file: extents ascending and without gaps or overlaps, the last one cut at `bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileMap {
    pub bytes: u64,
    pub extents: Vec<Extent>,
}

/// One request of the device: whole sectors, to or from `memory` (a physical address).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    pub disk: Option<u64>,
    pub memory: u64,
    pub bytes: u64,
}

/// Bytes before and after the place of a file that [`FileMap::transfers`] may overwrite.
pub const SLACK_BYTES: u64 = 4096;

/// A part of a file, as an UKI's sections are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub map: FileMap,
    pub offset: u64,
    pub bytes: u64,
}

impl FileMap {
    /// Adds the next stretch. Those with a gap before them are preceded by a hole; those out of order are refused.
    pub(crate) fn push(&mut self, file: u64, disk: Option<u64>, bytes: u64) -> Result<()> {
        let end = self.extents.last().map_or(0, |last| last.file + last.bytes);
        if file < end {
            return Err(Error::Corrupt("overlapping extents"));
        }
        if file > end {
            self.append(end, None, file - end)?;
        }
        self.append(file, disk, bytes)
    }

    fn append(&mut self, file: u64, disk: Option<u64>, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if let Some(last) = self.extents.last_mut() {
            let joins = match (last.disk, disk) {
                (Some(a), Some(b)) => a.checked_add(last.bytes) == Some(b),
                (None, None) => true,
                _ => false,
            };
            if joins {
                last.bytes += bytes;
                return Ok(());
            }
        }
        if self.extents.len() >= EXTENTS {
            return Err(Error::Limit("pieces of a file"));
        }
        self.extents.push(Extent { file, disk, bytes });
        Ok(())
    }

    /// Cuts or extends the map (by a hole) to the size of the file.
    pub(crate) fn finish(mut self, bytes: u64) -> Result<FileMap> {
        self.extents.retain(|extent| extent.file < bytes);
        if let Some(last) = self.extents.last_mut() {
            last.bytes = last.bytes.min(bytes - last.file);
        }
        let end = self.extents.last().map_or(0, |last| last.file + last.bytes);
        if end < bytes {
            self.append(end, None, bytes - end)?;
        }
        self.bytes = bytes;
        Ok(self)
    }

    /// Reads a part of the file through the disk's windows; for what is small.
    pub fn read(&self, disk: &Disk, offset: u64, to: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(to.len() as u64).ok_or(Error::Corrupt("file range"))?;
        if end > self.bytes {
            return Err(Error::Corrupt("read past the end of a file"));
        }
        // Extents ascend: start at the one that holds `offset`, end behind the range.
        let first = self.extents.partition_point(|extent| extent.file + extent.bytes <= offset);
        for extent in &self.extents[first..] {
            let from = offset.max(extent.file);
            let until = end.min(extent.file + extent.bytes);
            if from >= until {
                break;
            }
            let part = &mut to[(from - offset) as usize..(until - offset) as usize];
            match extent.disk {
                Some(at) => disk.read(at + (from - extent.file), part)?,
                None => part.fill(0),
            }
        }
        Ok(())
    }

    pub fn read_all(&self, disk: &Disk, limit: usize) -> Result<Vec<u8>> {
        let bytes = usize::try_from(self.bytes).map_err(|_| Error::Limit("size of a file"))?;
        if bytes > limit {
            return Err(Error::Limit("size of a file"));
        }
        let mut data = alloc::vec![0; bytes];
        self.read(disk, 0, &mut data)?;
        Ok(data)
    }

    /// What brings `bytes` from `offset` on to `memory`, in requests of whole sectors. The first may begin, and each may
    /// end, up to a sector beyond the range: [`SLACK_BYTES`] around the place must be free.
    pub fn transfers(&self, offset: u64, bytes: u64, memory: u64, sector_bytes: u64) -> Result<Vec<Transfer>> {
        let end = offset.checked_add(bytes).ok_or(Error::Corrupt("file range"))?;
        if end > self.bytes || sector_bytes > SLACK_BYTES {
            return Err(Error::Corrupt("file range"));
        }
        let mut transfers = Vec::new();
        for extent in &self.extents {
            let from = offset.max(extent.file);
            let until = end.min(extent.file + extent.bytes);
            if from >= until {
                continue;
            }
            let to = memory + (from - offset);
            let transfer = match extent.disk {
                None => Transfer { disk: None, memory: to, bytes: until - from },
                Some(at) => {
                    let at = at + (from - extent.file);
                    let before = at % sector_bytes;
                    // Only the first may start within a sector: later ones would overwrite what came before them.
                    if before != 0 && from != offset {
                        return Err(Error::Unsupported("extent not on a sector boundary"));
                    }
                    let bytes = (before + until - from).next_multiple_of(sector_bytes);
                    // Nor may one end within a sector, unless it is the last: requests run in any order.
                    if bytes != before + until - from && until != end {
                        return Err(Error::Unsupported("extent not on a sector boundary"));
                    }
                    Transfer { disk: Some(at - before), memory: to - before, bytes }
                }
            };
            transfers.push(transfer);
        }
        Ok(transfers)
    }
}
