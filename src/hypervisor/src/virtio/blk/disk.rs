//! What requests do to the file of a disk.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl};
use vm_memory::VolatileSlice;

use super::{BlkSettings, MAX_DISCARD_SECTORS, MAX_RANGES, MAX_WRITE_ZEROES_SECTORS, SECTOR, Shared};
use crate::virtio::rate_limiter::Direction;
use crate::virtio::ring::{Buffers, Chain};
use crate::virtio::scatter;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

const SERIAL_LENGTH: usize = 20;
const RANGE_LENGTH: usize = 16;
const UNMAP: u32 = 1;
/// What is asked for by direct input and output, and no file system wants more.
const DIRECT_ALIGNMENT: u64 = 4096;
const LOG_EVERY: Duration = Duration::from_secs(10);
/// A request, taken from its chain once: what a guest changes afterwards changes nothing.
pub(super) struct Request<'m> {
    pub head: u16,
    kind: u32,
    sector: u64,
    readable: Buffers<'m>,
    writable: Buffers<'m>,
    status: Buffers<'m>,
}

impl<'m> Request<'m> {
    /// An error is one that has no header or no place for a status.
    pub fn new(chain: Chain<'m>) -> Result<Self, &'static str> {
        let Chain { head, mut readable, mut writable } = chain;
        let header = readable.array::<16>().ok_or("a request without a header")?;
        let status = writable.take_last(1).ok_or("a request without a place for its status")?;
        let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (kind, sector) = (field(0), u64::from(field(8)) | u64::from(field(12)) << 32);
        Ok(Self { head, kind, sector, readable, writable, status })
    }

    /// What it moves which way, as far as that is known before it is done.
    pub fn cost(&self) -> (Direction, usize) {
        match self.kind {
            T_IN => (Direction::Read, self.writable.len()),
            T_OUT => (Direction::Write, self.readable.len()),
            T_DISCARD | T_WRITE_ZEROES => (Direction::Write, 0),
            _ => (Direction::Neither, 0),
        }
    }
}

/// The file behind a disk, and what is done to it.
pub(super) struct Disk {
    name: String,
    file: File,
    read_only: bool,
    id: [u8; SERIAL_LENGTH],
    /// 1, or what direct input and output asks for.
    alignment: u64,
    /// Each write is on the disk before it is answered.
    pub durable: bool,
    shared: Arc<Shared>,
    /// Zeroes that had to be written since this was asked last.
    zeroes_written: Cell<u64>,
    logged: Option<Instant>,
    unlogged: u64,
}

/// What becomes of a request.
enum Failure {
    /// Refused for what it asks.
    Refused,
    Unsupported,
    Host(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY) => Self::Unsupported,
            _ => Self::Host(error),
        }
    }
}

impl Disk {
    pub fn new(settings: BlkSettings, shared: Arc<Shared>) -> io::Result<Self> {
        let BlkSettings { name, file, read_only, serial, .. } = settings;
        let mut id = [0; SERIAL_LENGTH];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        let direct = fcntl_getfl(&file)?.contains(OFlags::DIRECT);
        Ok(Self {
            name,
            file,
            read_only,
            id,
            alignment: if direct { DIRECT_ALIGNMENT } else { 1 },
            durable: false,
            shared,
            zeroes_written: Cell::new(0),
            logged: None,
            unlogged: 0,
        })
    }

    /// A driver begins: what it last wanted of its writes holds.
    pub fn start(&mut self) {
        self.durable = !self.shared.write_back.load(Ordering::Acquire);
    }

    /// Zeroes that had to be written since this was asked last, where the host has no shorter way.
    pub fn take_zeroes_written(&self) -> u64 {
        self.zeroes_written.take()
    }

    /// Do what the request asks and write its status; how many bytes of it were written.
    pub fn execute(&mut self, request: Request<'_>) -> usize {
        let Request { kind, sector, mut readable, mut writable, mut status, .. } = request;
        let done = match kind {
            T_IN => self.read(sector, &mut writable),
            T_OUT => self.write(sector, &mut readable).map(|()| 0),
            T_FLUSH => self.flush().map(|()| 0),
            T_GET_ID => Ok(writable.write(&self.id)),
            T_DISCARD => self.ranges(&mut readable, MAX_RANGES, MAX_DISCARD_SECTORS, false).map(|()| 0),
            T_WRITE_ZEROES => self.ranges(&mut readable, 1, MAX_WRITE_ZEROES_SECTORS, true).map(|()| 0),
            _ => Err(Failure::Unsupported),
        };
        let (code, written) = match done {
            Ok(written) => (S_OK, written),
            Err(Failure::Unsupported) => (S_UNSUPP, 0),
            Err(Failure::Refused) => (S_IOERR, 0),
            Err(Failure::Host(error)) => {
                self.report(kind, sector, &error);
                (S_IOERR, 0)
            }
        };
        if code != S_OK {
            self.shared.errors.fetch_add(1, Ordering::Relaxed);
        }
        status.write(&[code]);
        written + 1
    }

    /// A guest must not fill the log by filling its disk.
    fn report(&mut self, kind: u32, sector: u64, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            self.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut self.unlogged);
        self.logged = Some(now);
        tracing::warn!(disk = self.name, request = kind, sector, %error, unlogged, "the host could not serve a disk");
    }

    /// Where in the file, if all of it is inside the disk.
    fn place(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let start = sector.checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(length));
        let capacity = self.shared.sectors.load(Ordering::Acquire).saturating_mul(SECTOR);
        match (start, end) {
            (Some(start), Some(end)) if length.is_multiple_of(SECTOR) && end <= capacity => Ok(start),
            _ => Err(Failure::Refused),
        }
    }

    fn read(&self, sector: u64, buffers: &mut Buffers<'_>) -> Result<usize, Failure> {
        let length = buffers.len();
        let start = self.place(sector, length as u64)?;
        if self.misaligned(start, buffers.slices()) {
            self.read_bounced(start, buffers)?;
        } else {
            let mut offset = start;
            while !buffers.is_empty() {
                match again(|| scatter::read_at(&self.file, buffers.slices(), offset))? {
                    // Past the end of a file that is shorter than its disk.
                    0 => {
                        buffers.zero();
                        break;
                    }
                    count => {
                        buffers.advance(count);
                        offset += count as u64;
                    }
                }
            }
        }
        self.shared.read_bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.shared.read_operations.fetch_add(1, Ordering::Relaxed);
        Ok(length)
    }

    fn write(&self, sector: u64, buffers: &mut Buffers<'_>) -> Result<(), Failure> {
        let length = buffers.len() as u64;
        let start = self.place(sector, length)?;
        self.writable()?;
        if self.misaligned(start, buffers.slices()) {
            self.write_bounced(start, buffers)?;
        } else {
            let mut offset = start;
            while !buffers.is_empty() {
                match again(|| scatter::write_at(&self.file, buffers.slices(), offset, self.durable))? {
                    0 => return Err(Failure::Host(io::ErrorKind::WriteZero.into())),
                    count => {
                        buffers.advance(count);
                        offset += count as u64;
                    }
                }
            }
        }
        self.shared.written_bytes.fetch_add(length, Ordering::Relaxed);
        self.shared.write_operations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn writable(&self) -> Result<(), Failure> {
        if self.read_only { Err(Failure::Refused) } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Failure> {
        if self.read_only {
            return Ok(());
        }
        Ok(again(|| self.file.sync_data())?)
    }

    /// Discard and write-zeroes: a list of ranges.
    fn ranges(&self, list: &mut Buffers<'_>, most: u32, longest: u32, zeroes: bool) -> Result<(), Failure> {
        self.writable()?;
        let count = list.len() / RANGE_LENGTH;
        if count == 0 || !list.len().is_multiple_of(RANGE_LENGTH) || count > most as usize {
            return Err(Failure::Refused);
        }
        // All is judged before anything is done.
        let mut ranges = Vec::with_capacity(count);
        while let Some(range) = list.array::<RANGE_LENGTH>() {
            let field = |at: usize| u32::from_le_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]);
            let sector = u64::from(field(0)) | u64::from(field(4)) << 32;
            let (sectors, flags) = (field(8), field(12));
            if flags & !UNMAP != 0 || (!zeroes && flags != 0) {
                return Err(Failure::Unsupported);
            }
            if sectors > longest {
                return Err(Failure::Refused);
            }
            let length = u64::from(sectors) * SECTOR;
            ranges.push((self.place(sector, length)?, length, flags & UNMAP != 0));
        }
        for (start, length, unmap) in ranges {
            match (length, zeroes) {
                (0, _) => {}
                (_, false) => self.punch(start, length)?,
                (_, true) => self.zero(start, length, unmap)?,
            }
        }
        Ok(())
    }

    fn allocate(&self, flags: FallocateFlags, start: u64, length: u64) -> io::Result<()> {
        again(|| {
            fallocate(self.file.as_fd(), flags | FallocateFlags::KEEP_SIZE, start, length).map_err(io::Error::from)
        })
    }

    fn punch(&self, start: u64, length: u64) -> Result<(), Failure> {
        Ok(self.allocate(FallocateFlags::PUNCH_HOLE, start, length)?)
    }

    fn zero(&self, start: u64, length: u64, unmap: bool) -> Result<(), Failure> {
        let first = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match self.allocate(first, start, length).map_err(Failure::from) {
            Err(Failure::Unsupported) => self.write_zeroes(start, length)?,
            done => done?,
        }
        if self.durable { self.flush() } else { Ok(()) }
    }

    fn write_zeroes(&self, start: u64, length: u64) -> Result<(), Failure> {
        const PIECE: u64 = 1 << 20;
        let end = start + length;
        let mut offset = start;
        while offset < end {
            // Pieces end at multiples of their size, so that only the outer ones can be misaligned.
            let count = (end - offset).min(PIECE - offset % PIECE);
            self.with_bounce(offset, count, |window| window.fill(0), true)?;
            self.zeroes_written.set(self.zeroes_written.get().saturating_add(count));
            offset += count;
        }
        Ok(())
    }

    fn misaligned(&self, start: u64, slices: &[VolatileSlice<'_>]) -> bool {
        let off = |value: u64| !value.is_multiple_of(self.alignment);
        off(start) || slices.iter().any(|slice| off(slice.ptr_guard().as_ptr() as u64) || off(slice.len() as u64))
    }

    fn read_bounced(&self, start: u64, buffers: &mut Buffers<'_>) -> Result<(), Failure> {
        const PIECE: u64 = 1 << 20;
        let mut offset = start;
        while !buffers.is_empty() {
            let count = (buffers.len() as u64).min(PIECE - offset % PIECE);
            let mut piece = buffers.take(count as usize);
            self.with_bounce(offset, count, |window| piece.write(window), false)?;
            offset += count;
        }
        Ok(())
    }

    fn write_bounced(&self, start: u64, buffers: &mut Buffers<'_>) -> Result<(), Failure> {
        const PIECE: u64 = 1 << 20;
        let mut offset = start;
        while !buffers.is_empty() {
            let count = (buffers.len() as u64).min(PIECE - offset % PIECE);
            let mut piece = buffers.take(count as usize);
            self.with_bounce(offset, count, |window| piece.read(window), true)?;
            offset += count;
        }
        Ok(())
    }

    /// Have `f` see, or with `write` change, `count` bytes of the file at `offset` through an aligned buffer. One thread
    /// serves the disk, so nobody writes between our reading and writing back.
    fn with_bounce<R>(
        &self,
        offset: u64,
        count: u64,
        f: impl FnOnce(&mut [u8]) -> R,
        write: bool,
    ) -> Result<R, Failure> {
        let first = offset - offset % self.alignment;
        let last = (offset + count).next_multiple_of(self.alignment);
        let whole = first == offset && last == offset + count;
        let length = usize::try_from(last - first).map_err(|_| Failure::Refused)?;
        // Vectors of large alignment do not exist; take one that is larger, and start where it is aligned.
        let mut memory = vec![0_u8; length + DIRECT_ALIGNMENT as usize];
        let skip = memory.as_ptr().align_offset(DIRECT_ALIGNMENT as usize).min(DIRECT_ALIGNMENT as usize);
        let buffer = &mut memory[skip..skip + length];
        if !(write && whole) {
            let mut done = 0;
            while done < length {
                use std::os::unix::fs::FileExt as _;
                match again(|| self.file.read_at(&mut buffer[done..], first + done as u64))? {
                    0 => break,
                    count => done += count,
                }
                // A short read ends at the end of the file, where the next one would be misaligned.
                if self.alignment > 1 && done % self.alignment as usize != 0 {
                    break;
                }
            }
        }
        let from = (offset - first) as usize;
        let result = f(&mut buffer[from..from + count as usize]);
        if write {
            let slice = VolatileSlice::from(&mut *buffer);
            let mut done = 0;
            while done < length {
                let rest = slice.offset(done).map_err(|_| Failure::Refused)?;
                match again(|| scatter::write_at(&self.file, &[rest], first + done as u64, self.durable))? {
                    0 => return Err(Failure::Host(io::ErrorKind::WriteZero.into())),
                    count => done += count,
                }
            }
        }
        Ok(result)
    }
}

/// A signal, or a full queue below, is no reason to fail.
fn again<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
