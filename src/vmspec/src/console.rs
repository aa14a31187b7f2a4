//! A log file that keeps the newest bytes and never grows beyond twice that.
//!
//! One file, no rename: the VM process has no right to create or rename files once it has dropped root. When the file
//! reaches twice the bound, its newest half is copied to the front, then the file is cut. Between the two, and after a
//! crash between the two, the *end* of the file is right all the time; readers only ever look at the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

#[derive(Debug)]
pub struct BoundedLog {
    file: File,
    size: u64,
    bound: u64,
}

impl BoundedLog {
    /// Continue `file`, which must be open for reading and writing, keeping at least its newest `bound` bytes.
    pub fn new(file: File, bound: u64) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut log = Self { file, size, bound: bound.max(1) };
        // The bound may be smaller than it was when the file was written.
        log.compact()?;
        Ok(log)
    }

    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = usize::try_from((2 * self.bound).saturating_sub(self.size)).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.file.write_all_at(now, self.size)?;
            self.size += now.len() as u64;
            bytes = later;
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        if self.size < 2 * self.bound {
            return Ok(());
        }
        let mut buffer = vec![0_u8; 64 * 1024];
        let (mut from, mut to) = (self.size - self.bound, 0_u64);
        while to < self.bound {
            let want = usize::try_from(self.bound - to).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..want];
            self.file.read_exact_at(chunk, from)?;
            self.file.write_all_at(chunk, to)?;
            from += want as u64;
            to += want as u64;
        }
        self.file.set_len(self.bound)?;
        self.size = self.bound;
        Ok(())
    }
}

/// The newest `bytes` of a log that somebody else may be writing.
pub fn tail(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    // A cut between looking at the size and reading makes the read short: look again. A writer can cut only once per
    // `bound` bytes, so a few rounds are enough.
    for _ in 0..8 {
        let size = file.metadata()?.len();
        let want = size.min(bytes);
        let mut buffer = vec![0_u8; usize::try_from(want).unwrap_or(0)];
        match file.read_exact_at(&mut buffer, size - want) {
            Ok(()) => return Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

/// The last `lines` lines of `text` (a last line without an end counts), as Nova's `length` means them.
pub fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    if lines == 0 {
        return &[];
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let start = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines - 1);
    start.map_or(text, |(at, _)| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_survive_and_the_file_stays_below_twice_the_bound() {
        let file = tempfile::tempfile().unwrap();
        let mut log = BoundedLog::new(file.try_clone().unwrap(), 5000).unwrap();
        let mut all = Vec::new();
        for n in 0..4000_u32 {
            let line = format!("line {n}\n");
            all.extend_from_slice(line.as_bytes());
            log.append(line.as_bytes()).unwrap();
            assert!(file.metadata().unwrap().len() < 10_000);
            let got = tail(&file, 5000).unwrap();
            assert_eq!(got, all[all.len() - got.len()..]);
            assert_eq!(got.len(), all.len().min(5000));
        }
    }

    #[test]
    fn one_write_larger_than_the_file_may_be_keeps_only_its_end() {
        let file = tempfile::tempfile().unwrap();
        let mut log = BoundedLog::new(file.try_clone().unwrap(), 1000).unwrap();
        let flood: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        log.append(&flood).unwrap();
        assert!(file.metadata().unwrap().len() < 2000);
        assert_eq!(tail(&file, 1000).unwrap(), flood[flood.len() - 1000..]);
    }

    #[test]
    fn a_log_continues_where_an_earlier_process_stopped() {
        let file = tempfile::tempfile().unwrap();
        BoundedLog::new(file.try_clone().unwrap(), 1000).unwrap().append(b"before ").unwrap();
        BoundedLog::new(file.try_clone().unwrap(), 1000).unwrap().append(b"after").unwrap();
        assert_eq!(tail(&file, 1000).unwrap(), b"before after");
    }

    #[test]
    fn last_lines_counts_like_tail() {
        let text = b"a\nb\nc\n";
        assert_eq!(last_lines(text, 0), b"");
        assert_eq!(last_lines(text, 1), b"c\n");
        assert_eq!(last_lines(text, 2), b"b\nc\n");
        assert_eq!(last_lines(text, 9), text);
        assert_eq!(last_lines(b"a\nb", 1), b"b");
        assert_eq!(last_lines(b"", 3), b"");
    }
}
