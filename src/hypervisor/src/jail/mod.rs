//! The last walls of the built-in machine, raised after all files are open: no path of any file system, no more memory
//! than the guest's and a little, and for each thread only the system calls it works with (DESIGN sections 9 and 15).
//!
//! Order: [`enter`] before the first thread of the machine is started, then each thread confines itself as its first act
//! ([`crate::threads`]), and [`confine_this_thread`] on the main thread at last, when nothing is left to open.
//!
//! What must stay true: a thread can only lose rights; a filter allows no call that names a file by its path, makes a
//! socket, starts a process or makes memory executable.

mod landlock;
pub mod seccomp;

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use vmspec::protocol::Isolation;

use crate::threads::{self, ThreadKind};

/// Address space beside the guest's memory: code, stacks, the heap, rings, a frame buffer.
const OWN_ADDRESS_SPACE: u64 = 1 << 30;
/// Descriptors: four for each queue of each device that can be plugged in, and some.
const MOST_DESCRIPTORS: u64 = 1024;

/// What is done about a system call that no filter allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The process says which call it was, and ends.
    Report,
    /// The kernel kills the process.
    Kill,
}

/// Raises the walls that hold for the whole process. What is missing on this host is told in `isolation`.
///
/// # Errors
/// When a limit cannot be set or the filters cannot be made: the guest must not run then.
pub fn enter(guest_bytes: u64, violation: Violation, isolation: &mut Isolation) -> io::Result<()> {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, limit(guest_bytes.saturating_add(OWN_ADDRESS_SPACE)))?;
    setrlimit(Resource::Nofile, limit(MOST_DESCRIPTORS))?;
    if let Err(why) = landlock::deny_all() {
        isolation.missing.push(format!("landlock: {why}"));
    }
    seccomp::prepare(violation)?;
    crate::heap::bound(1);
    threads::at_start(confine_or_end);
    Ok(())
}

/// Confines the calling thread for good.
///
/// # Errors
/// When the kernel does not take the filter.
pub fn confine_this_thread(kind: ThreadKind) -> io::Result<()> {
    seccomp::apply(kind)
}

/// A thread that cannot be confined must not meet the guest.
fn confine_or_end(kind: ThreadKind) {
    if let Err(error) = confine_this_thread(kind) {
        tracing::error!(?kind, %error, "a thread cannot be confined");
        std::process::abort();
    }
}
