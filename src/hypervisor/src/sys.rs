//! The few system calls of the VM process that need `unsafe`, each wrapped so that its callers do not.
#![allow(unsafe_code, reason = "inherited descriptors, fork hooks and raw KVM ioctls have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};
use vmspec::spec::FIRST_DESCRIPTOR;

/// Take ownership of the `count` descriptors this process was started with. To be called once, before anything else
/// opens a descriptor; later calls would name somebody else's.
pub fn claim_descriptors(count: usize) -> io::Result<Vec<OwnedFd>> {
    // Whatever else was inherited by mistake must not reach QEMU.
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC only sets a flag on open descriptors; it takes no pointers.
    let done = unsafe {
        libc::close_range(FIRST_DESCRIPTOR.cast_unsigned(), libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed())
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut claimed = Vec::with_capacity(count);
    for (index, number) in (FIRST_DESCRIPTOR..).take(count).enumerate() {
        // SAFETY: the number is only asked about: F_GETFD on a number that is not open answers EBADF.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl(borrowed, FcntlArg::F_GETFD) {
            Ok(flags) if FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC) => {}
            Ok(_) => return Err(io::Error::other("close-on-exec cannot be set")),
            Err(error) => {
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("descriptor {index} is missing: {error}"),
                ));
            }
        }
        // SAFETY: the descriptor is open (just asked), was inherited (nothing was opened since exec but closed again),
        // and nobody else owns it: this function is called once.
        claimed.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(claimed)
}

/// The standard output this process was started with, to say one word on and then close; what is left in its place
/// goes nowhere.
pub fn take_stdout() -> io::Result<File> {
    let taken = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let nowhere = File::options().write(true).open("/dev/null")?;
    // SAFETY: both are open descriptors; dup2 replaces number 1 atomically, and nobody relies on what it was.
    if unsafe { libc::dup2(nowhere.as_raw_fd(), 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken)
}

/// A terminal that goes away is not this process's concern. (`std` has SIGPIPE ignored already.)
pub fn ignore_hangup() {
    // SAFETY: SIG_IGN installs no handler, so nothing of ours can run in signal context.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigIgn) };
}

/// Have the child of `command` killed when the thread that spawns it ends, and not started at all if it has ended by then.
pub fn die_with_this_thread(command: &mut Command) -> io::Result<()> {
    // By a descriptor, because in a pid namespace of its own the child cannot tell its parent's death by getppid.
    let parent = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
    let hook = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        let mut waiting = [PollFd::new(&parent, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut waiting, Some(&now))? != 0 {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the hook only makes two system calls; it neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
    Ok(())
}

/// `/dev/kvm`, opened by whoever could.
pub fn kvm_from(device: OwnedFd) -> kvm_ioctls::Kvm {
    // SAFETY: the descriptor is open and owned by the caller, who gives it away; requests to one that is not KVM's fail.
    unsafe { kvm_ioctls::Kvm::from_raw_fd(device.into_raw_fd()) }
}

/// What the probe needs below `kvm-ioctls`.
pub mod vcpu {
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::thread::JoinHandleExt as _;

    /// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`
    const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

    /// The kernel's `struct kvm_signal_mask` with its flexible array as the kernel's 64-bit set.
    #[repr(C, packed)]
    struct SignalMask {
        len: u32,
        set: [u8; 8],
    }

    /// A signal that nobody else uses here.
    pub fn kick_signal() -> i32 {
        libc::SIGRTMIN() + 7
    }

    /// Block the kick for the calling thread, except while `vcpu` runs. A kick then makes KVM_RUN return with EINTR and
    /// is never delivered, so no handler has to be installed in a process that may have others.
    pub fn prepare_kick(vcpu: &impl AsRawFd) -> io::Result<()> {
        // SAFETY: the set is initialised by sigemptyset before use, and all pointers are to locals.
        let blocked = unsafe {
            let mut set = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, kick_signal());
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
        };
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        // While the vCPU runs every signal but the kick stays blocked: signal n is bit n - 1.
        let all_but_kick = !(1_u64 << (kick_signal() - 1));
        let mask = SignalMask { len: 8, set: all_but_kick.to_le_bytes() };
        // SAFETY: the request takes a pointer to a kvm_signal_mask of len 8, which `mask` is, for the call's duration.
        if unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Kick a thread that has called [`prepare_kick`] out of KVM_RUN, now or as soon as it enters.
    pub fn kick<T>(thread: &std::thread::JoinHandle<T>) {
        // SAFETY: the handle has not been joined, so its pthread is valid even if the thread has ended; the thread
        // blocks the signal, so it is never delivered.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), kick_signal()) };
    }
}
