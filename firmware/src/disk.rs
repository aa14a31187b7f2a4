//! The disk as the parsers see it: byte ranges, through a few large windows.
//!
//! Large reads cost about as much as small ones, so what is read is read by the window. The budget here is what bounds
//! every parser at last, whatever a hostile disk makes it do: so many reads, so many bytes, then [`Error::Limit`].

use alloc::{boxed::Box, vec, vec::Vec};
use core::cell::RefCell;

use crate::{Error, Result};

/// A device of sectors. Offsets and lengths are multiples of `sector_bytes`.
pub trait Sectors {
    fn size_bytes(&self) -> u64;
    fn sector_bytes(&self) -> u32;
    fn read_at(&mut self, offset: u64, to: &mut [u8]) -> Result<()>;
}

/// Windows are aligned to their size. 128 KiB hold a GPT, or the descriptors of 2,048 groups, or most directories' inodes.
const WINDOW_BYTES: u64 = 128 << 10;
const WINDOWS: usize = 24;
/// Far above what any real boot takes (a few hundred, 5 MiB), low enough to be over within seconds.
const CALLS: u32 = 400_000;
const FETCHED_BYTES: u64 = 768 << 20;

struct Window {
    start: u64,
    used_at: u32,
    data: Vec<u8>,
}

struct Inner {
    device: Box<dyn Sectors>,
    windows: Vec<Window>,
    calls: u32,
    fetched_bytes: u64,
}

pub struct Disk {
    size_bytes: u64,
    sector_bytes: u64,
    inner: RefCell<Inner>,
}

impl Disk {
    pub fn new(device: Box<dyn Sectors>) -> Disk {
        let size_bytes = device.size_bytes();
        let sector_bytes = u64::from(device.sector_bytes());
        let sector_bytes =
            if sector_bytes.is_power_of_two() && (512..=65536).contains(&sector_bytes) { sector_bytes } else { 512 };
        let inner = Inner { device, windows: Vec::new(), calls: 0, fetched_bytes: 0 };
        Disk { size_bytes: size_bytes & !(sector_bytes - 1), sector_bytes, inner: RefCell::new(inner) }
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn sector_bytes(&self) -> u64 {
        self.sector_bytes
    }

    /// How many reads were asked for, and how many bytes went over the device for them.
    pub fn spent(&self) -> (u32, u64) {
        let inner = self.inner.borrow();
        (inner.calls, inner.fetched_bytes)
    }

    /// Fills `to` from byte `offset` on.
    pub fn read(&self, mut offset: u64, mut to: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(to.len() as u64).ok_or(Error::Io)?;
        if end > self.size_bytes {
            return Err(Error::Io);
        }
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        inner.calls += 1;
        if inner.calls > CALLS {
            return Err(Error::Limit("reads of the disk"));
        }
        while !to.is_empty() {
            let start = offset & !(WINDOW_BYTES - 1);
            let window = inner.window(start, self.size_bytes)?;
            let skip = (offset - start) as usize;
            let count = to.len().min(window.len().saturating_sub(skip));
            if count == 0 {
                return Err(Error::Io);
            }
            let (now, rest) = to.split_at_mut(count);
            now.copy_from_slice(&window[skip..skip + count]);
            to = rest;
            offset += count as u64;
        }
        Ok(())
    }

    pub fn read_vec(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        if offset.checked_add(bytes as u64).is_none_or(|end| end > self.size_bytes) {
            return Err(Error::Io);
        }
        let mut data = vec![0; bytes];
        self.read(offset, &mut data)?;
        Ok(data)
    }
}

impl Inner {
    fn window(&mut self, start: u64, disk_bytes: u64) -> Result<&[u8]> {
        let now = self.calls;
        if let Some(index) = self.windows.iter().position(|w| w.start == start && !w.data.is_empty()) {
            let window = &mut self.windows[index];
            window.used_at = now;
            return Ok(&window.data);
        }
        let bytes = WINDOW_BYTES.min(disk_bytes - start);
        self.fetched_bytes += bytes;
        if self.fetched_bytes > FETCHED_BYTES {
            return Err(Error::Limit("bytes read from the disk"));
        }
        let index = if self.windows.len() < WINDOWS {
            self.windows.push(Window { start, used_at: now, data: Vec::new() });
            self.windows.len() - 1
        } else {
            self.windows.iter().enumerate().min_by_key(|(_, w)| w.used_at).map_or(0, |(index, _)| index)
        };
        let window = &mut self.windows[index];
        window.start = start;
        window.used_at = now;
        window.data.resize(bytes as usize, 0);
        if let Err(error) = self.device.read_at(start, &mut window.data) {
            // Not remembered: an empty window never matches.
            window.data.clear();
            return Err(error);
        }
        Ok(&window.data)
    }
}

/// A disk in memory, for tests and fuzzing.
pub struct Memory(pub Vec<u8>);

impl Sectors for Memory {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn read_at(&mut self, offset: u64, to: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Error::Io)?;
        let end = start.checked_add(to.len()).ok_or(Error::Io)?;
        to.copy_from_slice(self.0.get(start..end).ok_or(Error::Io)?);
        Ok(())
    }
}
