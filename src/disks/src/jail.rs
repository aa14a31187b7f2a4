//! The conversion helper: a process of its own that may do nothing but read one descriptor and write another.
//!
//! Our parsers are safe Rust, but they meet hostile input with the rights of the supervisor; the helper has none. The
//! image is its standard input, the raw disk its standard output, the outcome one line of JSON on standard error. Before
//! it looks at the image it drops, as far as the host allows: memory, time and file size (rlimits), its user, the chance
//! of ever gaining rights, the file system and the network (Landlock), and all other system calls (seccomp).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

use crate::convert::{Conversion, convert_to_raw, exit_code};
use crate::error::{Error, Refused};
use crate::format::Format;
use crate::inspect::Limits;

/// Tables of at most 2 x 32 MiB, two clusters and the decoders' windows fit well.
const MEMORY_BYTES: u64 = 512 << 20;
/// `nobody`, on every distribution we know.
const NOBODY: u32 = 65_534;
const MAX_REPLY_BYTES: usize = 64 << 10;

#[derive(Debug, Clone)]
pub struct JailParams {
    pub format: Format,
    pub limits: Limits,
    /// Time on the clock after which the helper is killed.
    pub deadline: Duration,
    /// Processor time after which the kernel kills it.
    pub cpu_seconds: u64,
}

/// Which walls were really up; for the log and for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailReport {
    /// The helper ran as `nobody` (only root can become somebody else).
    pub user: bool,
    /// `full`, `partial` or `none`.
    pub landlock: String,
    pub seccomp: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Done { conversion: Conversion, jail: JailReport },
    Refused { reason: String },
    NoSpace,
    Failed { what: String },
}

/// Runs `exe convert ...` on the two files and waits for it. `exe` is this very program in production.
pub fn convert_in_jail(
    exe: &Path,
    source: File,
    dest: File,
    params: &JailParams,
    cancel: &AtomicBool,
) -> Result<(Conversion, JailReport), Error> {
    let mut command = Command::new(exe);
    command
        .arg("convert")
        .args(["--format", params.format.name()])
        .args(["--max-virtual", &params.limits.max_virtual_bytes.to_string()])
        .args(["--max-output", &params.limits.max_output_bytes.to_string()])
        .args(["--cpu-seconds", &params.cpu_seconds.to_string()])
        .args(["--snapshots", if params.limits.allow_internal_snapshots { "yes" } else { "no" }])
        .args(["--parent", &std::process::id().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(source))
        .stdout(Stdio::from(dest))
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| Error::Helper(format!("cannot start it: {e}")))?;
    // The command still holds our copies of the descriptors.
    drop(command);
    let reply = match child.stderr.take() {
        Some(stderr) => read_reply(stderr, params.deadline, cancel),
        None => Err(Error::Helper("it has no standard error".to_owned())),
    };
    if reply.is_err() {
        // It may have ended by itself meanwhile; wait() tells either way.
        let _ = child.kill();
    }
    let status = wait(&mut child)?;
    let reply = reply?;
    let text = String::from_utf8_lossy(&reply);
    let last = text.lines().next_back().unwrap_or_default();
    match serde_json::from_str::<Outcome>(last) {
        Ok(Outcome::Done { conversion, jail }) => Ok((conversion, jail)),
        Ok(Outcome::Refused { reason }) => Err(Error::Refused(Refused { reason })),
        Ok(Outcome::NoSpace) => Err(Error::NoSpace),
        Ok(Outcome::Failed { what }) => Err(Error::Helper(what)),
        Err(_) => Err(Error::Helper(format!("it ended with {status} and said nothing"))),
    }
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus, Error> {
    child.wait().map_err(|e| Error::Helper(format!("cannot wait for it: {e}")))
}

/// Everything the helper says until it ends, or an error at the deadline or when cancelled.
fn read_reply(mut stderr: ChildStderr, deadline: Duration, cancel: &AtomicBool) -> Result<Vec<u8>, Error> {
    let failed = |e: io::Error| Error::Helper(format!("cannot listen to it: {e}"));
    let started = Instant::now();
    let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let (mut reply, mut buf) = (Vec::new(), [0u8; 4096]);
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if started.elapsed() > deadline {
            return Err(Error::Deadline);
        }
        match poll(&mut [PollFd::new(&stderr, PollFlags::IN)], Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(failed(e.into())),
        }
        match stderr.read(&mut buf) {
            Ok(0) => return Ok(reply),
            Ok(n) if reply.len() < MAX_REPLY_BYTES => reply.extend_from_slice(buf.get(..n).unwrap_or_default()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// `solostack convert`: the helper itself. Reads the image from standard input, writes the disk to standard output.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let result = run(args);
    let (outcome, result) = match result {
        Ok((conversion, jail)) => (Outcome::Done { conversion: conversion.clone(), jail }, Ok(conversion)),
        Err(Error::Refused(refused)) => (Outcome::Refused { reason: refused.reason.clone() }, Err(refused.into())),
        Err(Error::NoSpace) => (Outcome::NoSpace, Err(Error::NoSpace)),
        Err(e) => {
            let cause = std::error::Error::source(&e).map(|source| format!(": {source}")).unwrap_or_default();
            (Outcome::Failed { what: format!("{e}{cause}") }, Err(e))
        }
    };
    if let Ok(mut line) = serde_json::to_vec(&outcome) {
        line.push(b'\n');
        // Nobody is left to be told when this fails.
        let _ = io::stderr().write_all(&line);
    }
    exit_code(&result)
}

struct Arguments {
    params: JailParams,
    parent: Option<i32>,
}

fn parse(args: impl IntoIterator<Item = String>) -> Result<Arguments, Error> {
    let wrong = |what: &str| Error::Helper(format!("usage: convert --format NAME [--max-virtual N] ...: {what}"));
    let mut format = None;
    let mut parsed = Arguments {
        params: JailParams {
            format: Format::Raw,
            limits: Limits::default(),
            deadline: Duration::ZERO,
            cpu_seconds: 24 * 3600,
        },
        parent: None,
    };
    let mut args = args.into_iter().peekable();
    args.next_if(|first| first == "convert");
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| wrong("a value is missing"))?;
        let number = || value.parse::<u64>().map_err(|_| wrong("a value is not a number"));
        match name.as_str() {
            "--format" => format = Format::from_name(&value),
            "--max-virtual" => parsed.params.limits.max_virtual_bytes = number()?,
            "--max-output" => parsed.params.limits.max_output_bytes = number()?,
            "--cpu-seconds" => parsed.params.cpu_seconds = number()?,
            "--snapshots" => parsed.params.limits.allow_internal_snapshots = value == "yes",
            "--parent" => parsed.parent = i32::try_from(number()?).ok(),
            _ => return Err(wrong("unknown option")),
        }
    }
    parsed.params.format = format.ok_or_else(|| wrong("the format is missing or unknown"))?;
    Ok(parsed)
}

fn run(args: impl IntoIterator<Item = String>) -> Result<(Conversion, JailReport), Error> {
    let Arguments { params, parent } = parse(args)?;
    let own = |e: io::Error| Error::Helper(format!("cannot take a descriptor: {e}"));
    let source = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(own)?);
    let dest = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(own)?);
    for (file, what) in [(&source, "standard input"), (&dest, "standard output")] {
        if !file.metadata().map_err(own)?.is_file() {
            return Err(Error::Helper(format!("{what} is not a file")));
        }
    }
    let jail = enter(&params, parent)?;
    let conversion = convert_to_raw(&source, params.format, &dest, &params.limits, &AtomicBool::new(false))?;
    Ok((conversion, jail))
}

/// Gives up everything. What the kernel lacks is reported, what it refuses is an error.
fn enter(params: &JailParams, parent: Option<i32>) -> Result<JailReport, Error> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::Helper(format!("cannot {what}: {e}"));
    let limits = [
        (Resource::Data, MEMORY_BYTES),
        (Resource::Core, 0),
        (Resource::Cpu, params.cpu_seconds.max(1)),
        (Resource::Fsize, params.limits.max_virtual_bytes.saturating_add(1 << 20)),
        (Resource::Nofile, 16),
    ];
    for (resource, value) in limits {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        setrlimit(resource, limit).map_err(|e| failed("limit resources", &e))?;
    }

    let user = Uid::effective().is_root();
    if user {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[]).map_err(|e| failed("drop groups", &e))?;
        setresgid(gid, gid, gid).map_err(|e| failed("drop the group", &e))?;
        setresuid(uid, uid, uid).map_err(|e| failed("drop the user", &e))?;
    }
    // After the change of user, which clears it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| failed("follow the parent", &e))?;
    if parent.is_some() && parent != getppid().map(Pid::as_raw_pid) {
        return Err(Error::Helper("the parent is gone".to_owned()));
    }
    rustix::thread::set_no_new_privs(true).map_err(|e| failed("give up new rights", &e))?;

    let landlock = match restrict_files().map_err(|e| failed("set up landlock", &e))? {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => "none",
    };
    let seccomp = match filter() {
        Some(program) => {
            seccompiler::apply_filter(&program).map_err(|e| failed("set up seccomp", &e))?;
            true
        }
        None => false,
    };
    Ok(JailReport { user, landlock: landlock.to_owned(), seccomp })
}

/// No rule at all: no file may be opened and no port used any more. Open descriptors go on working.
fn restrict_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// The system calls of a program that reads, writes, allocates and ends. None on a processor seccompiler does not know.
fn filter() -> Option<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().ok()?;
    const ALLOWED: &[libc::c_long] = &[
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_lseek,
        libc::SYS_ftruncate,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_close,
        // The standard library asks whether a descriptor is open before it closes it, in builds with assertions.
        libc::SYS_fcntl,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_tgkill,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Memory, but never memory that can be executed.
    let protection = u64::try_from(libc::PROT_EXEC).ok()?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(protection), 0).ok()?;
        rules.insert(call, vec![SeccompRule::new(vec![not_executable]).ok()?]);
    }
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch).ok()?;
    filter.try_into().ok()
}
