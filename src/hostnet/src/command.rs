//! Running `nft` and `dnsmasq`: input and output through memory files, so that no pipe can fill up, and a deadline.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{Error, Result};

/// Enough for the largest rule set; the caller's deadline is longer.
const TIMEOUT_MS: u16 = 15_000;
/// How much of a program's complaint is kept.
const OUTPUT_BYTES: u64 = 4096;

/// Runs a program in the namespace of the calling thread. Its output is returned, its complaint is in the error.
pub(crate) fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let failed = |e: std::io::Error| Error::io(format!("running {program}"), e);
    let memory = || memfd_create(c"hostnet", MFdFlags::MFD_CLOEXEC).map(File::from).map_err(|e| failed(e.into()));
    let mut stdout = memory()?;
    let mut stderr = memory()?;
    let stdin = match input {
        None => Stdio::null(),
        Some(text) => {
            let mut file = memory()?;
            file.write_all(text.as_bytes()).map_err(failed)?;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            file.into()
        }
    };
    let path = find(program)
        .ok_or_else(|| Error::Unsupported { what: program.to_owned(), reason: "it is not installed".to_owned() })?;
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(stdin)
        .stdout(stdout.try_clone().map_err(failed)?)
        .stderr(stderr.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let in_time = pidfd(child.id() as i32).map_err(failed).and_then(|fd| wait(&fd, TIMEOUT_MS).map_err(failed));
    if !matches!(in_time, Ok(true)) {
        let _ = child.kill();
        let _ = child.wait();
        in_time?;
        return Err(Error::Timeout(program.to_owned()));
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return text(&mut stdout, u64::MAX).map_err(failed);
    }
    let mut complaint = text(&mut stderr, OUTPUT_BYTES).map_err(failed)?;
    if complaint.trim().is_empty() {
        complaint = text(&mut stdout, OUTPUT_BYTES).map_err(failed)?;
    }
    Err(Error::Command { program: program.to_owned(), status: status.to_string(), stderr: complaint.trim().to_owned() })
}

fn text(file: &mut File, limit: u64) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The full path of a system program; root's PATH is not trusted to have `sbin`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .into_iter()
        .map(|directory| PathBuf::from(directory).join(program))
        .find(|path| path.is_file())
}

pub(crate) fn pidfd(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor (close-on-exec by definition) or an error.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub(crate) fn signal(pidfd: &OwnedFd, signal: nix::sys::signal::Signal) -> std::io::Result<()> {
    // SAFETY: a valid descriptor, a signal number, and the null pointer that stands for "as kill(2) would fill it".
    let sent = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as i32,
            std::ptr::null::<nix::libc::siginfo_t>(),
            0,
        )
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the process to end; false at the timeout.
pub(crate) fn wait(pidfd: &OwnedFd, timeout_ms: u16) -> std::io::Result<bool> {
    let end = std::time::Instant::now() + std::time::Duration::from_millis(timeout_ms.into());
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now()).as_millis();
        let left = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], left) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}
