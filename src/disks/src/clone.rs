//! Copies of whole disks, and the order of writes that makes a new file survive a power cut.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::error::Error;
use crate::sparse::is_zero;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneKind {
    /// The file system shares the blocks: no data was copied.
    Reflink,
    /// The data was copied, holes stayed holes.
    Sparse,
}

/// Makes `dest` hold what `src` holds. `dest` is an empty file; both may be at any offset.
pub fn clone_file(src: &File, dest: &File) -> Result<CloneKind, Error> {
    match ioctl_ficlone(dest, src) {
        Ok(()) => return Ok(CloneKind::Reflink),
        Err(Errno::NOSPC | Errno::DQUOT) => return Err(Error::NoSpace),
        // Anything else (other file system, no such feature, odd alignment): the slow way decides.
        Err(_) => {}
    }
    let len = src.metadata().map_err(Error::Source)?.len();
    dest.set_len(0).and_then(|()| dest.set_len(len)).map_err(Error::dest)?;
    let mut at = 0;
    while at < len {
        let start = match seek(src, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => at,
            Err(e) => return Err(Error::Source(e.into())),
        };
        let end = match seek(src, SeekFrom::Hole(start)) {
            Ok(end) => end.min(len),
            Err(_) => len,
        };
        copy_stretch(src, dest, start, end)?;
        at = end.max(at + 1);
    }
    Ok(CloneKind::Sparse)
}

fn copy_stretch(src: &File, dest: &File, start: u64, end: u64) -> Result<(), Error> {
    let mut at = start;
    while at < end {
        let (mut from, mut to) = (at, at);
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(64 << 20);
        match copy_file_range(src, Some(&mut from), dest, Some(&mut to), wanted) {
            Ok(0) => break,
            Ok(n) => at += n as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => return copy_bytes(src, dest, at, end),
            Err(e) => return Err(Error::dest(e.into())),
        }
    }
    Ok(())
}

fn copy_bytes(src: &File, dest: &File, start: u64, end: u64) -> Result<(), Error> {
    let mut buf = vec![0u8; 1 << 20];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buf.len());
        let Some(piece) = buf.get_mut(..wanted) else { break };
        match src.read_at(piece, at) {
            Ok(0) => break,
            Ok(n) => {
                let data = piece.get(..n).unwrap_or_default();
                if !is_zero(data) {
                    dest.write_all_at(data, at).map_err(Error::dest)?;
                }
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::Source(e)),
        }
    }
    Ok(())
}

/// Makes a raw disk larger; what is added reads as zeros. Never makes it smaller: that would destroy data.
pub fn grow(disk: &File, size_bytes: u64) -> Result<(), Error> {
    let len = disk.metadata().map_err(Error::Dest)?.len();
    match size_bytes.cmp(&len) {
        std::cmp::Ordering::Less => {
            Error::refused(format!("a disk of {len} bytes cannot be made smaller, to {size_bytes} bytes"))
        }
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => disk.set_len(size_bytes).map_err(Error::dest),
    }
}

/// Gives a finished file its name so that after a power cut there is the whole file or none: file, rename, directory.
pub fn persist(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(from, to)?;
    sync_directory(to.parent().unwrap_or(Path::new("/")))
}

/// Makes renames and removals in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
