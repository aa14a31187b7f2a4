//! Finding our dnsmasq processes again: by pid file, proven by the command line, pinned by a pidfd before it is used.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::{Error, Id, Inner, Result, command};

const END_MS: u16 = 2_000;

pub(crate) struct Process {
    pub pid: i32,
    fd: OwnedFd,
}

/// The argument that names a configuration file; it is how a process is recognised.
pub(crate) fn argument(config: &Path) -> String {
    format!("--conf-file={}", config.display())
}

fn has_argument(pid: i32, argument: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).skip(1).any(|word| word == argument.as_bytes()))
}

fn open(pid: i32, argument: &str) -> Option<Process> {
    if pid <= 1 || !has_argument(pid, argument) {
        return None;
    }
    let fd = command::pidfd(pid).ok()?;
    // The pid may have been given to somebody else before the pidfd pinned it.
    has_argument(pid, argument).then_some(Process { pid, fd })
}

/// The process that runs with this configuration file.
pub(crate) fn find(config: &Path, pid_file: &Path) -> Option<Process> {
    let argument = argument(config);
    let noted = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok());
    noted.and_then(|pid| open(pid, &argument)).or_else(|| pids().into_iter().find_map(|pid| open(pid, &argument)))
}

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All dnsmasq processes of this instance, with the id of their network or router.
pub(crate) fn all(host: &Inner) -> Vec<(Id, i32)> {
    let prefix = format!("--conf-file={}/", host.files.display());
    let mut found = Vec::new();
    for pid in pids() {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let id = line.split(|byte| *byte == 0).skip(1).find_map(|word| {
            let path = std::str::from_utf8(word).ok()?.strip_prefix(&prefix)?;
            path.split('/').next()?.parse::<Id>().ok()
        });
        found.extend(id.map(|id| (id, pid)));
    }
    found.sort();
    found
}

impl Process {
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match command::signal(&self.fd, signal) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => {
                Err(Error::io(format!("signalling process {}", self.pid), e))
            }
            _ => Ok(()),
        }
    }

    pub fn stop(&self) -> Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            self.signal(signal)?;
            if command::wait(&self.fd, END_MS).map_err(|e| Error::io("waiting for a process", e))? {
                return Ok(());
            }
        }
        Err(Error::Timeout(format!("the end of process {}", self.pid)))
    }

    /// Whether it lives in the network namespace of the calling thread.
    pub fn is_in_this_namespace(&self) -> bool {
        let inode = |path: String| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let own = inode("/proc/thread-self/ns/net".to_owned());
        own.is_some() && own == inode(format!("/proc/{}/ns/net", self.pid))
    }
}
