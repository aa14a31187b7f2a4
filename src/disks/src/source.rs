//! Reading at an offset, with bounds, and numbers out of bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::Error;

/// Something of a known length that can be read at any offset.
pub trait Source {
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `buf.len()` bytes; 0 only at or after the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A file whose length was taken once: one that shrinks meanwhile reads as ended, one that grows is not followed.
#[derive(Debug)]
pub struct FileSource<'a> {
    file: &'a File,
    len: u64,
}

impl<'a> FileSource<'a> {
    pub fn new(file: &'a File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(FileSource { file, len })
    }
}

impl Source for FileSource<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = self.len.saturating_sub(offset);
        let wanted = usize::try_from(room).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..wanted) else { return Ok(0) };
        loop {
            match self.file.read_at(buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(Vec::len(self));
        let rest = self.get(start..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }
}

/// Nothing larger than this is ever read in one piece, whatever a header says.
pub(crate) const MAX_PIECE_BYTES: u64 = 32 << 20;

/// Reads exactly `len` bytes of a structure called `what`; refuses when it does not lie inside the file.
pub(crate) fn bytes(source: &dyn Source, offset: u64, len: u64, what: &str) -> Result<Vec<u8>, Error> {
    within(source, offset, len, what)?;
    if len > MAX_PIECE_BYTES {
        return Error::refused(format!("{what} of {len} bytes is too large"));
    }
    let mut buf = vec![0; usize::try_from(len).unwrap_or(0)];
    let filled = fill(source, &mut buf, offset)?;
    if filled as u64 != len {
        return Error::refused(format!("the image ends inside {what}"));
    }
    Ok(buf)
}

/// Refuses when a structure does not lie inside the file.
pub(crate) fn within(source: &dyn Source, offset: u64, len: u64, what: &str) -> Result<(), Error> {
    match offset.checked_add(len) {
        Some(end) if end <= source.len() => Ok(()),
        _ => Error::refused(format!("{what} lies beyond the end of the image")),
    }
}

/// Reads until `buf` is full or the source ends; says how many bytes were read.
pub(crate) fn fill(source: &dyn Source, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
    let mut done = 0;
    while done < buf.len() {
        let Some(rest) = buf.get_mut(done..) else { break };
        match source.read_at(rest, offset.saturating_add(done as u64)).map_err(Error::Source)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// The bytes at `offset`, or zeros where the buffer is too short: callers read structures whose size they fixed.
fn field<const N: usize>(buf: &[u8], offset: usize) -> [u8; N] {
    let end = offset.saturating_add(N);
    buf.get(offset..end).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

pub(crate) fn be32(buf: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(field(buf, offset))
}
pub(crate) fn be64(buf: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(field(buf, offset))
}
pub(crate) fn le16(buf: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(field(buf, offset))
}
pub(crate) fn le32(buf: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(buf, offset))
}
pub(crate) fn le64(buf: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(buf, offset))
}
pub(crate) fn bytes16(buf: &[u8], offset: usize) -> [u8; 16] {
    field(buf, offset)
}

/// `value / unit`, rounded up.
pub(crate) fn ceil_div(value: u64, unit: u64) -> u64 {
    if unit == 0 { 0 } else { value.div_ceil(unit) }
}
