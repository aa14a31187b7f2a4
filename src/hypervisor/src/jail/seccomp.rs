//! Which system calls each kind of thread may make.
//!
//! Nothing here allows `open` in any form, `socket`, `connect`, `bind`, `execve`, `ptrace`, `mount`, `setuid`, `kill` or
//! executable memory. glibc and Rust's standard library need a few calls of their own in rare paths (a panic, a thread's
//! end, a growing heap): they are in [`EVERY_THREAD`], with why.

#![allow(unsafe_code, reason = "a handler for SIGSYS has no safe form")]

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::Violation;
use crate::threads::ThreadKind;

const KINDS: [ThreadKind; 7] = [
    ThreadKind::Control,
    ThreadKind::Vcpu,
    ThreadKind::Block,
    ThreadKind::Net,
    ThreadKind::Console,
    ThreadKind::Device,
    ThreadKind::Display,
];

/// Calls that any thread of a Rust program on glibc makes, and none of which reaches out of the process.
const EVERY_THREAD: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    // A thread's stack for overflows, made at its start and taken down at its end.
    libc::SYS_sigaltstack,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_brk,
    // Mostly answered by the vDSO, except where the clock source does not allow it.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    libc::SYS_membarrier,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_poll,
    libc::SYS_ppoll,
    // The heap asks for the size of a new arena by it.
    libc::SYS_getrusage,
];

/// Reading and writing at a place of an open file, and making it durable.
const FILES: &[i64] = &[
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_fallocate,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_timerfd_settime,
];

/// Sockets that are open already.
const SOCKETS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
];

/// Clients of one listening socket. Nobody hands descriptors over.
const VIEWERS: &[i64] = &[libc::SYS_accept4, libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_shutdown];

/// New descriptors that lead nowhere: for devices that are plugged in later.
const NEW_DESCRIPTORS: &[i64] =
    &[libc::SYS_eventfd2, libc::SYS_epoll_create1, libc::SYS_timerfd_create, libc::SYS_socketpair, libc::SYS_dup];

/// `_IOC` types: the second byte of a request.
const KVM: u64 = 0xae;
const VHOST: u64 = 0xaf;
/// Requests of tap devices that are made while the guest runs.
const TUN: [u64; 5] = [
    0x4004_54d0, // TUNSETOFFLOAD
    0x4004_54d8, // TUNSETVNETHDRSZ
    0x4004_54dc, // TUNSETVNETLE
    0x4004_54d9, // TUNSETQUEUE
    0x8004_54d2, // TUNGETIFF
];
const FIONBIO: u64 = 0x5421;
/// What `pthread_create` passes to `clone`.
const THREAD_FLAGS: u64 = 0x003d_0f00;

struct Filters {
    by_kind: BTreeMap<ThreadKind, BpfProgram>,
}

static FILTERS: OnceLock<Filters> = OnceLock::new();

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Length::Qword, Is::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Length::Qword, Is::MaskedEq(mask), value)
}

fn rules(kind: ThreadKind) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = EVERY_THREAD.iter().map(|call| (*call, Vec::new())).collect();
    let mut add = |calls: &[i64]| rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    let mut requests: Vec<SeccompRule> = Vec::new();
    let of_type = |kind: u64| SeccompRule::new(vec![masked(1, 0xff00, kind << 8)?]);
    match kind {
        ThreadKind::Control => {
            // Threads of devices that are plugged in later inherit this filter, so it has to hold theirs.
            add(FILES);
            add(SOCKETS);
            add(NEW_DESCRIPTORS);
            // Which of a guest's huge pages are there, at a reset.
            add(&[libc::SYS_mincore]);
            requests.push(of_type(KVM)?);
            requests.push(of_type(VHOST)?);
        }
        // Moving a BAR, masking a vector, setting up a queue: all are the guest's writes, answered by the vCPU's thread.
        ThreadKind::Vcpu => {
            add(&[libc::SYS_eventfd2, libc::SYS_dup]);
            requests.push(of_type(KVM)?);
        }
        ThreadKind::Block => add(FILES),
        ThreadKind::Net => {
            add(&[libc::SYS_eventfd2, libc::SYS_timerfd_settime]);
            requests.push(of_type(VHOST)?);
        }
        ThreadKind::Console => {
            add(FILES);
            add(SOCKETS);
        }
        ThreadKind::Device => {
            add(&[libc::SYS_eventfd2, libc::SYS_timerfd_settime]);
            requests.push(of_type(VHOST)?);
        }
        ThreadKind::Display => add(VIEWERS),
    }
    if matches!(kind, ThreadKind::Control | ThreadKind::Net) {
        for request in TUN {
            requests.push(SeccompRule::new(vec![equal(1, request)?])?);
        }
    }
    if matches!(kind, ThreadKind::Control | ThreadKind::Console) {
        requests.push(SeccompRule::new(vec![equal(1, FIONBIO)?])?);
    }
    if !requests.is_empty() {
        rules.insert(libc::SYS_ioctl, requests);
    }

    // Memory that is never executable.
    let plain = SeccompRule::new(vec![masked(2, libc::PROT_EXEC.cast_unsigned().into(), 0)?])?;
    rules.insert(libc::SYS_mmap, vec![plain.clone()]);
    rules.insert(libc::SYS_mprotect, vec![plain]);
    // Duplicates and flags of descriptors, and nothing that makes a file executable or asks for signals.
    let mut commands = Vec::new();
    for command in [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC] {
        commands.push(SeccompRule::new(vec![equal(1, command.cast_unsigned().into())?])?);
    }
    rules.insert(libc::SYS_fcntl, commands);
    // A name for the thread, and names for memory of the heap.
    let mut options = vec![libc::PR_SET_NAME, libc::PR_SET_VMA];
    if kind == ThreadKind::Control {
        // A thread that is started later puts itself under its own filter: that only ever takes rights away.
        options.push(libc::PR_SET_NO_NEW_PRIVS);
        let filter = equal(0, libc::SECCOMP_SET_MODE_FILTER.into())?;
        rules.insert(libc::SYS_seccomp, vec![SeccompRule::new(vec![filter])?]);
    }
    let option = |option: libc::c_int| SeccompRule::new(vec![equal(0, option.cast_unsigned().into())?]);
    rules.insert(libc::SYS_prctl, options.into_iter().map(option).collect::<Result<_, _>>()?);
    // Kicking a vCPU out of the guest; a panic's abort. In this process only.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![equal(0, own)?])?]);
    // The default of a signal is restored before an abort; a new handler would need executable code of ours anyway.
    let abort = SeccompRule::new(vec![equal(0, libc::SIGABRT.cast_unsigned().into())?])?;
    rules.insert(libc::SYS_rt_sigaction, vec![abort]);
    if kind == ThreadKind::Control {
        // Threads, never processes. `clone3` passes its flags in memory, where no filter sees them: it is answered with
        // ENOSYS, by the filter of [`prepare`], and glibc takes `clone`.
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![equal(0, THREAD_FLAGS)?])?]);
        rules.insert(libc::SYS_clone3, Vec::new());
        // The lock on the server's directory is given back, never taken again.
        let unlock = equal(1, libc::LOCK_UN.cast_unsigned().into())?;
        rules.insert(libc::SYS_flock, vec![SeccompRule::new(vec![unlock])?]);
    }
    Ok(rules)
}

/// Calls that are compared one after the other. See [`compile`].
const GROUP: usize = 8;

/// A program that finds the group of a call's number first, and takes one instruction for a call without conditions. The plain
/// one would be right too; but when a thread takes a filter the kernel checks it, translates it and runs it for the number of
/// every call there is, and each thread would take milliseconds to start where a VM takes twenty.
fn compile(kind: ThreadKind, violation: Violation) -> Result<BpfProgram, seccompiler::BackendError> {
    let otherwise = match violation {
        Violation::Report => SeccompAction::Trap,
        Violation::Kill => SeccompAction::KillProcess,
    };
    let plain = |rules: BTreeMap<i64, Vec<SeccompRule>>| -> Result<BpfProgram, seccompiler::BackendError> {
        SeccompFilter::new(rules, otherwise.clone(), SeccompAction::Allow, TargetArch::x86_64)?.try_into()
    };
    let verdict = |action: &SeccompAction| instruction(RETURN, 0, u32::from(action.clone()));
    // The check of the architecture and the load of the number are the same in every program.
    let mut head = plain(BTreeMap::from([(0, Vec::new())]))?;
    head.truncate(HEAD);
    let rules: Vec<_> = rules(kind)?.into_iter().collect();
    let mut groups = Vec::new();
    for group in rules.chunks(GROUP) {
        let (free, bound): (Vec<_>, Vec<_>) = group.iter().cloned().partition(|(_, rules)| rules.is_empty());
        let mut body = BpfProgram::new();
        for (left, (number, _)) in (1..=free.len()).rev().zip(&free) {
            // To the second instruction after the last of these.
            body.push(instruction(EQUAL, u8::try_from(left).unwrap_or(0), number_of(*number)));
        }
        if bound.is_empty() {
            body.extend([verdict(&otherwise), verdict(&SeccompAction::Allow)]);
        } else {
            body.extend([instruction(JUMP, 0, 1), verdict(&SeccompAction::Allow)]);
            // Jumps never leave what follows, which ends with the verdict on all other calls.
            body.extend(plain(bound.into_iter().collect())?.into_iter().skip(HEAD));
        }
        groups.push((group.first().map_or(0, |(number, _)| *number), body));
    }
    let mut finder = BpfProgram::new();
    // From the first instruction after the finder to the body of a group.
    let mut distance: usize = groups.iter().map(|(_, body)| body.len()).sum();
    for (index, (first, body)) in groups.iter().enumerate().skip(1).rev() {
        distance -= body.len();
        // What is left of the finder behind this jump: two for each group that comes before this one, but the first.
        let jump = u32::try_from(distance + 2 * (index - 1)).unwrap_or(u32::MAX);
        finder.push(sock_filter { jf: 1, ..instruction(AT_LEAST, 0, number_of(*first)) });
        finder.push(instruction(JUMP, 0, jump));
    }
    let bodies = groups.into_iter().flat_map(|(_, body)| body);
    Ok(head.into_iter().chain(finder).chain(bodies).collect())
}

/// Instructions before the first comparison of a call's number: load and compare the architecture, end, load the number.
const HEAD: usize = 4;
/// `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_JMP | BPF_JA`, `BPF_RET | BPF_K`.
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

fn instruction(code: u16, jt: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf: 0, k }
}

fn number_of(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// The first filter of every thread.
fn without_clone3() -> Result<BpfProgram, seccompiler::BackendError> {
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    SeccompFilter::new(clone3, SeccompAction::Allow, unknown, TargetArch::x86_64)?.try_into()
}

fn compile_all(violation: Violation) -> Result<Filters, seccompiler::BackendError> {
    let mut by_kind = BTreeMap::new();
    for kind in KINDS {
        by_kind.insert(kind, compile(kind, violation)?);
    }
    Ok(Filters { by_kind })
}

/// Compiles the filters of all kinds, so that [`apply`] only hands one to the kernel, and takes `clone3` from the calling thread
/// and all that it starts. The process id is in them: not to be called before a fork.
///
/// # Errors
/// When they cannot be compiled, or the handler of violations cannot be set.
pub fn prepare(violation: Violation) -> io::Result<()> {
    if violation == Violation::Report {
        report_violations()?;
    }
    let filters = compile_all(violation).map_err(io::Error::other)?;
    // Made twice, they are the same.
    let _ = FILTERS.set(filters);
    // Every thread started from now on inherits it: one filter less for each to take.
    seccompiler::apply_filter(&without_clone3().map_err(io::Error::other)?).map_err(io::Error::other)
}

/// Puts the calling thread, and all threads it starts from now on, under the filter of `kind`.
///
/// # Errors
/// When [`prepare`] was not called, or the kernel refuses.
pub fn apply(kind: ThreadKind) -> io::Result<()> {
    let missing = || io::Error::other("the filters are not prepared");
    let filters = FILTERS.get().ok_or_else(missing)?;
    let filter = filters.by_kind.get(&kind).ok_or_else(missing)?;
    seccompiler::apply_filter(filter).map_err(io::Error::other)
}

/// The message of [`on_violation`]; the three digits are overwritten there.
const MESSAGE: &[u8] = b"solostack vm: system call 000 is not allowed here; the VM ends\n";
const DIGITS: usize = 26;

extern "C" fn on_violation(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // struct siginfo of the kernel: signo, errno, code, padding, then for SIGSYS the address and the number.
    const NUMBER_AT: usize = 24;
    // SAFETY: the kernel passes a siginfo_t of 128 bytes to a handler with SA_SIGINFO; the number of the call is the int at
    // byte 24 of it for SIGSYS (asm-generic/siginfo.h), and the pointer is aligned for an int there.
    let number = unsafe { info.cast::<u8>().add(NUMBER_AT).cast::<libc::c_int>().read() };
    let mut message = [0_u8; MESSAGE.len()];
    message.copy_from_slice(MESSAGE);
    let digits = [number / 100 % 10, number / 10 % 10, number % 10];
    for (place, digit) in message.iter_mut().skip(DIGITS).zip(digits) {
        *place = b'0' + digit.unsigned_abs().to_le_bytes()[0];
    }
    // SAFETY: write and _exit are async-signal-safe; the message is on this stack, and descriptor 2 is only written to.
    unsafe {
        libc::write(2, message.as_ptr().cast(), message.len());
        libc::_exit(1);
    }
}

fn report_violations() -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(SigHandler::SigAction(on_violation), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler makes async-signal-safe calls only and does not return.
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_thread_has_a_filter_that_fits_the_kernels_bound() {
        for kind in KINDS {
            let program = compile(kind, Violation::Kill).unwrap();
            assert!(program.len() < 4096, "{kind:?}: {}", program.len());
        }
    }

    /// What a program says about a call: number and arguments. Instructions as in linux/bpf_common.h.
    fn verdict(program: &BpfProgram, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = vec![0_u8; 16];
        data[..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&0xc000_003e_u32.to_le_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                0x20 => a = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x06 => return k,
                other => panic!("what is {other:#x}?"),
            }
        }
    }

    #[test]
    fn finding_the_group_first_changes_no_verdict() {
        let interesting =
            [0, 1, 2, 3, 4, 5, 6, 8, 15, 1030, u64::from(std::process::id()), THREAD_FLAGS, FIONBIO, 0xae80];
        for kind in KINDS {
            let ours = compile(kind, Violation::Kill).unwrap();
            let plain = SeccompFilter::new(
                rules(kind).unwrap(),
                SeccompAction::KillProcess,
                SeccompAction::Allow,
                TargetArch::x86_64,
            );
            let plain: BpfProgram = plain.unwrap().try_into().unwrap();
            assert_eq!(plain[..HEAD], ours[..HEAD]);
            let mut allowed = 0;
            for number in (0..600).chain([0x4000_0000, 0x4000_0010, u32::MAX]) {
                for value in interesting.into_iter().chain(TUN) {
                    for arguments in [[value; 6], [0, value, 0, 0, 0, 0], [3, value, 3, 0, 0, 0]] {
                        let expected = verdict(&plain, number, arguments);
                        assert_eq!(verdict(&ours, number, arguments), expected, "{kind:?} {number} {arguments:?}");
                        allowed += usize::from(expected == 0x7fff_0000);
                    }
                }
            }
            assert!(allowed > 40 * interesting.len(), "{kind:?}");
        }
    }

    #[test]
    fn no_kind_of_thread_can_reach_out() {
        let out = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_kill,
            libc::SYS_pidfd_send_signal,
            libc::SYS_pidfd_getfd,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_setuid,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_memfd_create,
            libc::SYS_unlink,
            libc::SYS_rename,
        ];
        for kind in KINDS {
            let rules = rules(kind).unwrap();
            for call in out {
                assert!(!rules.contains_key(&call), "{kind:?} may make system call {call}");
            }
        }
    }

    #[test]
    fn the_message_of_a_violation_has_its_digits_where_they_are_written() {
        assert_eq!(&MESSAGE[DIGITS..DIGITS + 3], b"000");
    }
}
