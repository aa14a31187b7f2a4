//! `<state>/servers/<id>/`, the directory of one server.
//!
//! | file | written by | when |
//! | --- | --- | --- |
//! | `spec.json` | supervisor | before spawn; complete and fsynced, or absent |
//! | `lock` | VM process | flock held from its first act to its end; it is the truth about "running" |
//! | `control.sock`, `serial.sock` | VM process | bound after the lock is held; stale ones are left behind by a kill |
//! | `vnc.sock`, `agent.sock` | VM process | the same: its screen (RFB), and the port of the guest agent |
//! | `console.log` | VM process | bounded ([`crate::console`]) |
//! | `vm.log` | VM process | its own and QEMU's messages, bounded |
//! | `exit.json` | VM process | emptied at start, filled last, fsynced ([`crate::exit`]) |
//! | `suspended.state`, `suspended.memory` | VM process, into files that the supervisor opened | while it suspends |
//! | `suspended.json` | supervisor | once both are whole; the guest may go on from them |
//! | `fake.json` | fake driver | its whole state |
//!
//! The directory is root's, mode 0700, and a VM process opens what it needs before it gives up root. It can still put
//! any bytes into the files it has open, so everything it may have written is read with a bound and without following
//! links. Sockets are reached through `/proc/self/fd/<directory>/<name>`: a socket's address holds 108 bytes, a path of
//! the state directory may be longer.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;
use uuid::Uuid;

use crate::exit::ExitRecord;
use crate::spec::{MAX_SPEC_BYTES, SpecError, VmSpec};

pub const SPEC: &str = "spec.json";
pub const LOCK: &str = "lock";
pub const CONTROL: &str = "control.sock";
pub const SERIAL: &str = "serial.sock";
/// The screen, by RFB 3.8; absent without one.
pub const VNC: &str = "vnc.sock";
/// The port of the guest agent. Who connects last has it.
pub const AGENT: &str = "agent.sock";
pub const CONSOLE: &str = "console.log";
pub const VM_LOG: &str = "vm.log";
pub const EXIT: &str = "exit.json";
/// The machine of a suspended VM, without its memory.
pub const SUSPENDED_STATE: &str = "suspended.state";
/// The memory of a suspended VM; sparse.
pub const SUSPENDED_MEMORY: &str = "suspended.memory";
/// Says that both are whole, and which start of the VM they are of.
pub const SUSPENDED: &str = "suspended.json";

const MAX_EXIT_BYTES: u64 = 16 * 1024;

/// Whether a VM process (or somebody about to be one) holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    Free,
    Held,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDirectory {
    path: PathBuf,
}

impl ServerDirectory {
    /// The directory of `server_id` below `<state>/servers`.
    pub fn of(servers: &Path, server_id: Uuid) -> Self {
        Self { path: servers.join(server_id.hyphenated().to_string()) }
    }

    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Make the directory, mode 0700, and make it durable.
    pub fn ensure(&self) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Write `spec.json` so that it is whole and on the disk, or the old one still is.
    pub fn write_spec(&self, spec: &VmSpec) -> Result<(), DirectoryError> {
        self.replace(SPEC, &spec.to_bytes()?, true)?;
        Ok(())
    }

    /// `None` if there is none.
    pub fn read_spec(&self) -> Result<Option<VmSpec>, DirectoryError> {
        match self.read_bounded(SPEC, MAX_SPEC_BYTES as u64)? {
            Some(bytes) => Ok(Some(VmSpec::parse(&bytes)?)),
            None => Ok(None),
        }
    }

    /// The last word of the last VM process; `None` if it was killed before it could say one.
    pub fn read_exit(&self) -> io::Result<Option<ExitRecord>> {
        let bytes = self.read_bounded(EXIT, MAX_EXIT_BYTES)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Leave a record in the place of a VM process that was killed. The caller holds the lock.
    pub fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        self.replace(EXIT, &serde_json::to_vec(record)?, true)
    }

    /// The newest `bytes` of the console; empty if there is none.
    pub fn console_tail(&self, bytes: u64) -> io::Result<Vec<u8>> {
        match self.open_read(CONSOLE) {
            Ok(file) => crate::console::tail(&file, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody holds the lock now. Looking takes the lock for an instant, so a VM process that starts tries
    /// for a moment before it gives up.
    pub fn lock_state(&self) -> io::Result<LockState> {
        let file = match self.open_read(LOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
            Err(error) => return Err(error),
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_released_here) => Ok(LockState::Free),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(LockState::Held),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Take the lock, making the file if needed; `None` if somebody holds it.
    pub fn try_lock(&self) -> io::Result<Option<Flock<File>>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(self.file(LOCK))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// Replace a file by writing beside it and renaming. With `durable`, it is on the disk afterwards; without, it is
    /// still all or nothing for a process that is killed, though not for a host that loses power.
    pub fn replace(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (beside, place) = (self.file(&format!(".{name}.new")), self.file(name));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&beside)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&beside, &place)?;
        if durable {
            File::open(&self.path)?.sync_all()?;
        }
        Ok(())
    }

    /// Read a file somebody untrusted may have written: no links, no devices or pipes, no more than `limit` bytes.
    /// `None` if it is absent.
    pub fn read_bounded(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_read(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes)?;
        if read as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    fn open_read(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(self.file(name))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not a regular file")));
        }
        Ok(file)
    }

    /// Open the directory itself, to reach its sockets by [`socket_address`].
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(&self.path, flags, Mode::empty())?;
        Ok(File::from(fd))
    }
}

/// An address of at most 108 bytes for a socket in an open directory. Good as long as `directory` stays open.
pub fn socket_address(directory: &File, name: impl AsRef<OsStr>) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name.as_ref())
}

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Io(#[from] io::Error),
}
