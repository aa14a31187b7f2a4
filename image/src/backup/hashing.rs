//! SHA-256 over what passes by.

use std::fmt::Write as _;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};

/// A reader that counts and hashes.
pub(crate) struct Hashing<R> {
    inner: R,
    context: Context,
    pub count: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, context: Context::new(&SHA256), count: 0 }
    }

    /// Lower-case hexadecimal.
    pub fn finish(self) -> String {
        hex(self.context.finish().as_ref())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.context.update(buffer.get(..n).unwrap_or_default());
        self.count += n as u64;
        Ok(n)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads to the end, at most `most` bytes, and answers size and hash.
pub(crate) fn hash(reader: impl Read, most: u64) -> io::Result<(u64, String)> {
    let mut hashing = Hashing::new(reader.take(most));
    let mut buffer = vec![0; 1 << 20];
    while hashing.read(&mut buffer)? > 0 {}
    let count = hashing.count;
    Ok((count, hashing.finish()))
}
