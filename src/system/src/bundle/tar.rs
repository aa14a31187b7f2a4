//! A tar archive (ustar), compressed as it grows.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

const BLOCK: usize = 512;

/// The archive so far. What is compressed is taken out with [`Archive::taken`].
pub struct Archive {
    encoder: GzEncoder<Vec<u8>>,
    folder: String,
    seconds: i64,
}

impl Archive {
    /// All files stand in `folder` and are of this time.
    pub fn new(folder: &str, unix_seconds: i64) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        Self { encoder, folder: folder.to_owned(), seconds: unix_seconds.max(0) }
    }

    /// # Errors
    /// Never with memory below; a name of more than 100 bytes.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let header = header(&format!("{}/{name}", self.folder), content.len(), self.seconds)?;
        self.encoder.write_all(&header)?;
        self.encoder.write_all(content)?;
        let rest = content.len() % BLOCK;
        if rest > 0 {
            self.encoder.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }

    /// What was compressed since the last time.
    ///
    /// # Errors
    /// Never with memory below.
    pub fn taken(&mut self) -> io::Result<Bytes> {
        self.encoder.flush()?;
        Ok(std::mem::take(self.encoder.get_mut()).into())
    }

    /// The end.
    ///
    /// # Errors
    /// Never with memory below.
    pub fn finish(mut self) -> io::Result<Bytes> {
        self.encoder.write_all(&[0; 2 * BLOCK])?;
        Ok(self.encoder.finish()?.into())
    }
}

fn header(name: &str, size: usize, seconds: i64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        for (place, byte) in block.iter_mut().skip(at).zip(text.bytes()) {
            *place = byte;
        }
    };
    if name.len() > 100 {
        return Err(io::Error::other("a name that is too long for an archive"));
    }
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{seconds:011o}\0"));
    // The sum is made with spaces in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    put(265, "root");
    put(297, "root");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (place, byte) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *place = byte;
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn tar_unpacks_what_was_put_in() {
        let mut archive = Archive::new("bundle", 1_800_000_000);
        let long = "x".repeat(1025);
        let mut all = Vec::new();
        for (name, content) in [("empty", ""), ("short.txt", "hello\n"), ("long.txt", &long)] {
            archive.add(name, content.as_bytes()).unwrap();
            all.extend_from_slice(&archive.taken().unwrap());
        }
        all.extend_from_slice(&archive.finish().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            Command::new("tar").args(["-xzf", "-", "-C"]).arg(folder.path()).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&all).unwrap();
        assert!(child.wait().unwrap().success());
        let read = |name: &str| std::fs::read_to_string(folder.path().join("bundle").join(name)).unwrap();
        assert_eq!((read("empty").as_str(), read("short.txt").as_str()), ("", "hello\n"));
        assert_eq!(read("long.txt"), long);
    }
}
