//! Writing a raw disk with holes where the image has nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// The grain of zero detection: the block size of every file system we meet.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Whether there is nothing but zeros. By comparing slices: that is `memcmp`, fast in every build.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    data.chunks(BLOCK).all(|chunk| ZEROS.get(..chunk.len()) == Some(chunk))
}

/// What receives the guest's bytes, in any order.
pub(crate) trait Sink {
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error>;
    /// Called once per table or cluster, so that long walks over nothing can be cancelled too.
    fn check_cancelled(&self) -> Result<(), Error>;
}

/// A raw disk being made. The file must be empty: what is not written stays a hole and reads as zeros.
pub(crate) struct SparseWriter<'a> {
    file: &'a File,
    size: u64,
    written: u64,
    max_written: u64,
    cancel: &'a AtomicBool,
}

impl<'a> SparseWriter<'a> {
    pub(crate) fn new(file: &'a File, size: u64, max_written: u64, cancel: &'a AtomicBool) -> Result<Self, Error> {
        file.set_len(0).map_err(Error::dest)?;
        file.set_len(size).map_err(Error::dest)?;
        Ok(SparseWriter { file, size, written: 0, max_written, cancel })
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    fn put(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.written = self.written.saturating_add(data.len() as u64);
        if self.written > self.max_written {
            return Error::refused(format!("the image unpacks to more than {} bytes of data", self.max_written));
        }
        self.file.write_all_at(data, offset).map_err(Error::dest)
    }
}

impl Sink for SparseWriter<'_> {
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_cancelled()?;
        // The last cluster of an image often reaches beyond the end of its disk.
        let room = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let data = data.get(..room.min(data.len())).unwrap_or_default();
        let mut run_start = None;
        let mut at = 0;
        for block in data.chunks(BLOCK) {
            if ZEROS.get(..block.len()) == Some(block) {
                if let Some(start) = run_start.take() {
                    self.put(offset + start as u64, data.get(start..at).unwrap_or_default())?;
                }
            } else if run_start.is_none() {
                run_start = Some(at);
            }
            at += block.len();
        }
        if let Some(start) = run_start {
            self.put(offset + start as u64, data.get(start..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}
