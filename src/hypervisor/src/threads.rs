//! The only place where threads of the built-in machine start, so that each begins under the rules of its kind.
//!
//! What must stay true: the entry hook runs in the new thread before anything of the guest can reach it.

use std::io;
use std::sync::OnceLock;
use std::thread::{Builder, JoinHandle};

/// What a thread is for: decides which system calls it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ThreadKind {
    /// Orders, sockets, hotplug.
    Control,
    Vcpu,
    /// Input and output of one disk.
    Block,
    /// The user-space data path of one network card, and its control queue.
    Net,
    /// Serial ports of the guest.
    Console,
    /// Everything small: entropy, balloon, vsock events, input.
    Device,
    /// Those who look at the screen.
    Display,
}

/// Devices need little; what they do not touch costs nothing.
const STACK: usize = 512 * 1024;

type Entry = fn(ThreadKind);

static ENTRY: OnceLock<Entry> = OnceLock::new();

/// Have `entry` called first in each thread started from now on. It ends the process if it cannot confine the thread.
/// False if another hook is in place already.
pub fn at_start(entry: Entry) -> bool {
    ENTRY.set(entry).is_ok()
}

/// Start a thread. Its name is for people; the kernel keeps the first 15 bytes.
pub fn spawn<T: Send + 'static>(
    kind: ThreadKind,
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let name: String = name.chars().filter(|c| *c != '\0').collect();
    Builder::new().name(name).stack_size(STACK).spawn(move || {
        if let Some(entry) = ENTRY.get() {
            entry(kind);
        }
        body()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_under_its_name_even_one_that_the_kernel_would_not_take() {
        let thread = spawn(ThreadKind::Device, "a\0b", || std::thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(thread.join().unwrap().as_deref(), Some("ab"));
    }
}
