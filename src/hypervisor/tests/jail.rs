//! Breaking out of the jail: each attempt is made by a process of its own, after the walls are up, and must fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test that called it")]
#![allow(unsafe_code, reason = "the attempts are made of bare system calls")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use hypervisor::jail::{self, Violation};
use hypervisor::threads::ThreadKind;
use vmspec::protocol::Isolation;

const KINDS: [(&str, ThreadKind); 7] = [
    ("control", ThreadKind::Control),
    ("vcpu", ThreadKind::Vcpu),
    ("block", ThreadKind::Block),
    ("net", ThreadKind::Net),
    ("console", ThreadKind::Console),
    ("device", ThreadKind::Device),
    ("display", ThreadKind::Display),
];
const GUEST_BYTES: u64 = 64 << 20;
/// What an attempt answers that the kernel let it make.
const BROKE_OUT: i32 = 77;

fn raw(call: i64, arguments: [i64; 4]) -> i64 {
    let [a, b, c, d] = arguments;
    // SAFETY: pointers among the arguments are null or of statics; a call that succeeds is what the tests look for.
    unsafe { libc::syscall(call, a, b, c, d) }
}

fn passwd() -> i64 {
    c"/etc/passwd".as_ptr() as i64
}

/// A name for people, and the attempt: it answers without panicking whether it worked, should the kernel let it.
type Attempt = (&'static str, fn() -> bool);

const ATTEMPTS: &[Attempt] = &[
    ("open a file", || raw(libc::SYS_openat, [libc::AT_FDCWD.into(), passwd(), 0, 0]) >= 0),
    ("open a file the old way", || raw(libc::SYS_open, [passwd(), 0, 0, 0]) >= 0),
    ("remove a file", || raw(libc::SYS_unlink, [passwd(), 0, 0, 0]) >= 0),
    ("make a socket", || raw(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0]) >= 0),
    ("signal another process", || raw(libc::SYS_kill, [parent(), 0, 0, 0]) >= 0),
    ("signal a thread of another process", || raw(libc::SYS_tgkill, [parent(), parent(), 0, 0]) >= 0),
    ("see another process's descriptors", || raw(libc::SYS_pidfd_open, [parent(), 0, 0, 0]) >= 0),
    ("read another process's memory", || raw(libc::SYS_process_vm_readv, [parent(), 0, 0, 0]) >= 0),
    ("trace another process", || raw(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), parent(), 0, 0]) >= 0),
    ("start a program", || raw(libc::SYS_execve, [c"/bin/true".as_ptr() as i64, 0, 0, 0]) >= 0),
    ("fork", || raw(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]) >= 0),
    ("run what it wrote", || {
        let exec = i64::from(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
        raw(libc::SYS_mmap, [0, 4096, exec, i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)]) > 0
    }),
    ("become another user", || raw(libc::SYS_setuid, [0, 0, 0, 0]) >= 0),
    ("push input into a terminal", || raw(libc::SYS_ioctl, [2, 0x5412, c"x".as_ptr() as i64, 0]) >= 0),
    ("enter a namespace", || raw(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]) >= 0),
    ("load a program into the kernel", || raw(libc::SYS_bpf, [0, 0, 0, 0]) >= 0),
];

fn parent() -> i64 {
    // Told before the walls went up: asking for it is not allowed after.
    PARENT.load(std::sync::atomic::Ordering::Relaxed)
}

static PARENT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

struct Viewing {
    runtime: tokio::runtime::Runtime,
    listener: tokio::net::UnixListener,
    client: tokio::net::UnixStream,
}

/// What there is before the walls: a listener, and a client that waits.
fn viewing() -> Viewing {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("vnc.sock");
    let (listener, client) = runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(&place).unwrap();
        (listener, tokio::net::UnixStream::connect(&place).await.unwrap())
    });
    Viewing { runtime, listener, client }
}

struct Blank;

impl hypervisor::rfb::Screen for Blank {
    fn mode(&self) -> hypervisor::rfb::Mode {
        hypervisor::rfb::Mode { width: 2000, height: 1000 }
    }
    fn read(&self, mode: hypervisor::rfb::Mode, pixels: &mut Vec<u32>) {
        pixels.clear();
        pixels.resize(usize::from(mode.width) * usize::from(mode.height), 0);
    }
}

impl hypervisor::rfb::Input for Blank {
    fn key(&self, _code: u16, _down: bool) {}
    fn pointer(&self, _x: u16, _y: u16, _buttons: hypervisor::rfb::Buttons, _wheel: i8, _sideways: i8) {}
}

/// Serve the client a whole picture.
fn look(Viewing { runtime, listener, mut client }: Viewing) {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let looking = async {
        client.write_all(b"RFB 003.008\n\x01\x01").await.unwrap();
        let mut greeting = [0; 12 + 2 + 4 + 24 + 4];
        client.read_exact(&mut greeting).await.unwrap();
        client.write_all(&[3, 0, 0, 0, 0, 0, 0x07, 0xd0, 0x03, 0xe8]).await.unwrap();
        let mut picture = vec![0; 2000 * 1000 * 4];
        client.read_exact(&mut picture).await.unwrap();
    };
    runtime.block_on(async {
        tokio::select! {
            _ = hypervisor::rfb::serve(listener, "work".to_owned(), Arc::new(Blank), Arc::new(Blank)) => panic!("served"),
            () = looking => {}
        }
    });
}

fn child(attempt: &str, kind: &str, violation: &str) -> (ExitStatus, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture", "--test-threads=1"])
        // As in a VM process, which bounds its heap before it starts a thread; the test's thread is there already.
        .env("MALLOC_ARENA_MAX", "1")
        .env("JAIL_ATTEMPT", attempt)
        .env("JAIL_KIND", kind)
        .env("JAIL_VIOLATION", violation)
        .output()
        .unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[ignore = "the other tests run this in processes of their own"]
#[test]
fn inside() {
    let variable = |name| std::env::var(name).unwrap();
    let (attempt, kind, violation) = (variable("JAIL_ATTEMPT"), variable("JAIL_KIND"), variable("JAIL_VIOLATION"));
    let kind = KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
    PARENT.store(i64::from(std::os::unix::process::parent_id()), std::sync::atomic::Ordering::Relaxed);
    let mut isolation = Isolation::default();
    nix::sys::prctl::set_no_new_privs().unwrap();
    let violation = if violation == "kill" { Violation::Kill } else { Violation::Report };
    let mut file = tempfile::tempfile().unwrap();
    let viewing = (attempt == "work" && kind == ThreadKind::Display).then(viewing);
    jail::enter(GUEST_BYTES, violation, &mut isolation).unwrap();
    match attempt.as_str() {
        "landlock" => {
            let lacks = isolation.missing.iter().any(|missing| missing.starts_with("landlock"));
            let code = match File::open("/etc/passwd") {
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => 0,
                Ok(_) if lacks => 3,
                _ => BROKE_OUT,
            };
            std::process::exit(code);
        }
        "memory" => {
            let much = usize::try_from(GUEST_BYTES + (2 << 30)).unwrap();
            let mut bytes: Vec<u8> = Vec::new();
            std::process::exit(if bytes.try_reserve_exact(much).is_err() { 0 } else { BROKE_OUT });
        }
        "work" => {
            jail::confine_this_thread(kind).unwrap();
            if kind == ThreadKind::Display {
                look(viewing.unwrap());
            }
            if kind == ThreadKind::Control {
                // A device that is plugged in brings a thread.
                let text = hypervisor::threads::spawn(ThreadKind::Block, "late", || "worked".to_owned()).unwrap();
                assert_eq!(text.join().unwrap(), "worked");
                let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
                here.write_all(b"x").unwrap();
                assert_eq!(there.read(&mut [0; 8]).unwrap(), 1);
            }
            if matches!(kind, ThreadKind::Control | ThreadKind::Block) {
                file.write_all(b"disk").unwrap();
                file.sync_all().unwrap();
            }
            let heap: Vec<Vec<u8>> = (1..200).map(|n| vec![1; n * 4096]).collect();
            drop(heap);
            std::process::exit(0);
        }
        _ => {
            let make = ATTEMPTS.iter().find(|(name, _)| *name == attempt).unwrap().1;
            jail::confine_this_thread(kind).unwrap();
            let worked = make();
            std::process::exit(if worked { BROKE_OUT } else { 0 });
        }
    }
}

#[test]
fn every_attempt_of_every_kind_of_thread_ends_the_process() {
    for (kind, _) in KINDS {
        for (attempt, _) in ATTEMPTS {
            let (status, stderr) = child(attempt, kind, "kill");
            assert_eq!(status.signal(), Some(libc::SIGSYS), "{kind}: {attempt}: {status}: {stderr}");
        }
    }
}

#[test]
fn a_violation_is_reported_by_the_number_of_its_call() {
    let (status, stderr) = child("make a socket", "block", "report");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("system call {:03} is not allowed", libc::SYS_socket)), "{stderr}");
}

#[test]
fn what_threads_are_there_for_is_allowed() {
    for (kind, _) in KINDS {
        let (status, stderr) = child("work", kind, "report");
        assert!(status.success(), "{kind}: {status}: {stderr}");
    }
}

#[test]
fn memory_beyond_the_guests_is_refused_even_without_filters() {
    let (status, stderr) = child("memory", "control", "kill");
    assert!(status.success(), "{status}: {stderr}");
}

#[test]
fn paths_lead_nowhere_even_without_filters() {
    let (status, stderr) = child("landlock", "control", "kill");
    match status.code() {
        Some(3) => eprintln!("this kernel has no Landlock: nothing was tried"),
        code => assert_eq!(code, Some(0), "{stderr}"),
    }
}
