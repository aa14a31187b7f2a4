//! The vCPU threads: one each, in KVM_RUN or at the gate.
//!
//! What must stay true: a thread leaves KVM_RUN whenever it is told to, also with the guest halted for ever (trap 10); a
//! vCPU at the gate has completed its last exit; all others are in KVM_RUN before the
//! boot processor is (trap 11); registers are touched by others only while the thread is at the gate.
#![allow(unsafe_code, reason = "signals, the shared run page and raw KVM structures")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_run, kvm_xsave};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmspec::Dedicated;

use crate::pinning;
use crate::platform::{Wish, Wishes};
use crate::threads::{self, ThreadKind};

/// A vCPU that does not come to the gate in this time is stuck in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
const KICK_AGAIN: Duration = Duration::from_millis(5);

/// Where exits go.
pub trait Dispatch: Send + Sync {
    fn port_read(&self, port: u16, data: &mut [u8]);
    fn port_write(&self, port: u16, data: &[u8]);
    fn memory_read(&self, address: u64, data: &mut [u8]);
    fn memory_write(&self, address: u64, data: &[u8]);
    fn wishes(&self) -> &Wishes;
}

/// The first page of what a vCPU shares with KVM, mapped a second time, so that it can be used while the vCPU runs.
struct RunPage {
    page: NonNull<kvm_run>,
}

const PAGE: usize = 4096;

// SAFETY: the page is shared with the kernel; it is only accessed by atomics and volatile reads.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    fn new(vcpu: &VcpuFd) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new shared mapping of a vCPU's first page at an address of the kernel's choice.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, libc::MAP_SHARED, vcpu.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(page.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { page })
    }

    fn set_immediate_exit(&self, value: bool) {
        // SAFETY: the field is a byte of the mapped page, and this process and the kernel access it as a byte at any time.
        let field = unsafe { AtomicU8::from_ptr(&raw mut (*self.page.as_ptr()).immediate_exit) };
        field.store(value.into(), Ordering::SeqCst);
    }

    /// The size of one access of the port exit that is being handled: string instructions come as many in one.
    fn port_access_size(&self) -> usize {
        // SAFETY: the page is mapped, and KVM writes it only during KVM_RUN, which the calling thread is not in. Any bit
        // pattern is a u8.
        let size = unsafe { (&raw const (*self.page.as_ptr()).__bindgen_anon_1.io.size).read_volatile() };
        usize::from(size).clamp(1, 4)
    }

    /// Of an internal error: which.
    fn internal_error(&self) -> u32 {
        // SAFETY: as above; any bit pattern is a u32.
        unsafe { (&raw const (*self.page.as_ptr()).__bindgen_anon_1.internal.suberror).read_volatile() }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` has mapped, once.
        unsafe { libc::munmap(self.page.as_ptr().cast(), PAGE) };
    }
}

struct Slot {
    index: u32,
    fd: Mutex<VcpuFd>,
    page: RunPage,
    /// Of its thread, once that runs.
    thread_id: AtomicI32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Stopped,
    Running,
    Ended,
}

struct GateState {
    phase: Phase,
    /// Goes up each time the gate opens: a thread passes once each time.
    run: u64,
    waiting: usize,
}

struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    /// The gate is about to close, or closed: whoever is kicked out of KVM_RUN goes to it.
    stopping: AtomicBool,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until the next run; false if there will be none.
    fn pass(&self, slot: &Slot, all: usize, last_run: &mut u64) -> bool {
        let mut state = self.state();
        state.waiting += 1;
        self.changed.notify_all();
        loop {
            let first = slot.index != 0 || state.waiting == 1 || all == 1;
            match state.phase {
                Phase::Ended => return false,
                Phase::Running if state.run != *last_run && first => break,
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        *last_run = state.run;
        state.waiting -= 1;
        self.changed.notify_all();
        true
    }
}

/// All vCPUs of a machine. They wait at the gate until [`Vcpus::go`].
pub struct Vcpus {
    gate: Arc<Gate>,
    slots: Vec<Arc<Slot>>,
    threads: Vec<JoinHandle<()>>,
}

impl Vcpus {
    pub fn new(vcpus: Vec<VcpuFd>) -> io::Result<Self> {
        install_handler()?;
        let slots = (0..).zip(vcpus).map(|(index, vcpu)| {
            let page = RunPage::new(&vcpu)?;
            Ok(Arc::new(Slot { index, fd: Mutex::new(vcpu), page, thread_id: AtomicI32::new(0) }))
        });
        let state = GateState { phase: Phase::Stopped, run: 0, waiting: 0 };
        let gate = Gate { state: Mutex::new(state), changed: Condvar::new(), stopping: AtomicBool::new(true) };
        Ok(Self { gate: Arc::new(gate), slots: slots.collect::<io::Result<_>>()?, threads: Vec::new() })
    }

    /// Start the threads, each on its CPUs of the host if it has its own. Returns when all wait at the gate.
    pub fn start(&mut self, dispatch: &Arc<dyn Dispatch>, dedicated: Option<&Dedicated>) -> io::Result<()> {
        let anywhere = BTreeSet::new();
        let all = self.slots.len();
        for slot in &self.slots {
            let (gate, slot, dispatch) = (Arc::clone(&self.gate), Arc::clone(slot), Arc::clone(dispatch));
            let name = format!("vcpu{}", slot.index);
            let own = dedicated.and_then(|dedicated| dedicated.vcpus.get(slot.index as usize)).unwrap_or(&anywhere);
            let body = move || {
                slot.thread_id.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
                let mut last_run = 0;
                while gate.pass(&slot, all, &mut last_run) {
                    tracing::trace!(target: "hypervisor::entry", vcpu = slot.index, "into the guest");
                    run(&slot, &gate.stopping, dispatch.as_ref());
                }
            };
            let start = || threads::spawn(ThreadKind::Vcpu, &name, body);
            self.threads.push(pinning::with_pinned(&name, own, start)?);
        }
        self.wait_for_all()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Open the gate.
    pub fn go(&self) {
        self.gate.stopping.store(false, Ordering::SeqCst);
        let mut state = self.gate.state();
        if state.phase == Phase::Stopped {
            state.phase = Phase::Running;
            state.run += 1;
        }
        drop(state);
        self.gate.changed.notify_all();
    }

    /// Close the gate. Returns when every vCPU waits at it.
    pub fn stop(&self) -> io::Result<()> {
        self.gate.stopping.store(true, Ordering::SeqCst);
        let mut state = self.gate.state();
        if state.phase == Phase::Running {
            state.phase = Phase::Stopped;
        }
        drop(state);
        self.gate.changed.notify_all();
        self.wait_for_all()
    }

    fn wait_for_all(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.gate.state();
        while state.waiting < self.threads.len() {
            self.kick();
            let (now, _) = self.gate.changed.wait_timeout(state, KICK_AGAIN).unwrap_or_else(PoisonError::into_inner);
            state = now;
            if Instant::now() > until {
                let missing = self.threads.len() - state.waiting;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{missing} vCPUs do not stop")));
            }
        }
        Ok(())
    }

    /// Make every KVM_RUN return, now or as soon as it is entered.
    fn kick(&self) {
        for slot in &self.slots {
            slot.page.set_immediate_exit(true);
            let thread = slot.thread_id.load(Ordering::SeqCst);
            if thread != 0 {
                // SAFETY: tgkill takes no pointers, and its target is in this process. The thread has not been joined;
                // if it has ended, or its number has a new thread, the handler does nothing there.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, kick_signal()) };
            }
        }
    }

    /// Do something with each vCPU, while all wait at the gate.
    pub fn each<T>(&self, mut act: impl FnMut(u32, &VcpuFd) -> io::Result<T>) -> io::Result<Vec<T>> {
        let act = |slot: &Arc<Slot>| act(slot.index, &slot.fd.lock().unwrap_or_else(PoisonError::into_inner));
        self.slots.iter().map(act).collect()
    }

    /// Stop, and have no thread left.
    pub fn end(&mut self) {
        let stopped = self.stop();
        self.gate.state().phase = Phase::Ended;
        self.gate.changed.notify_all();
        if let Err(error) = stopped {
            // Joining would wait for ever; the process ends soon, and takes them with it.
            tracing::error!(%error, "vCPU threads are left behind");
            self.threads.clear();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.end();
    }
}

/// One run: until the gate closes or the guest has asked for an end of it.
fn run(slot: &Slot, stopping: &AtomicBool, dispatch: &dyn Dispatch) {
    let mut vcpu = slot.fd.lock().unwrap_or_else(PoisonError::into_inner);
    let wishes = dispatch.wishes();
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                for part in data.chunks_mut(slot.page.port_access_size()) {
                    dispatch.port_read(port, part);
                }
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                for part in data.chunks(slot.page.port_access_size()) {
                    dispatch.port_write(port, part);
                }
            }
            Ok(VcpuExit::MmioRead(address, data)) => dispatch.memory_read(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => dispatch.memory_write(address, data),
            // The local APIC is the kernel's, so halting does not come here; an interrupt ends it in any case.
            Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen | VcpuExit::Intr) => {}
            // A triple fault.
            Ok(VcpuExit::Shutdown) => {
                if let (Ok(registers), Ok(special)) = (vcpu.get_regs(), vcpu.get_sregs()) {
                    let (rip, cr0, cr2, cr3) = (registers.rip, special.cr0, special.cr2, special.cr3);
                    tracing::info!(
                        vcpu = slot.index,
                        "triple fault at {rip:#x}: cr0 {cr0:#x} cr2 {cr2:#x} cr3 {cr3:#x}"
                    );
                }
                wishes.triple_fault();
            }
            Ok(VcpuExit::SystemEvent(kind, _)) => match kind {
                kvm_bindings::KVM_SYSTEM_EVENT_SHUTDOWN => wishes.make(Wish::PowerOff),
                kvm_bindings::KVM_SYSTEM_EVENT_RESET => wishes.make(Wish::Reset),
                _ => wishes.make(Wish::Panicked),
            },
            Ok(VcpuExit::InternalError) => {
                let which = slot.page.internal_error();
                wishes.make(Wish::Broken(format!("KVM cannot go on with vCPU {}: internal error {which}", slot.index)));
            }
            Ok(other) => {
                wishes.make(Wish::Broken(format!("vCPU {} left with {other:?}", slot.index)));
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                slot.page.set_immediate_exit(false);
                // Set before the kick, so it is seen by whoever has cleared that kick.
                if stopping.load(Ordering::SeqCst) || wishes.ending() {
                    return;
                }
            }
            Err(error) => {
                wishes.make(Wish::Broken(format!("KVM_RUN of vCPU {}: {error}", slot.index)));
                return;
            }
        }
        if wishes.ending() {
            // KVM completes an exit when the vCPU is entered again, and remembers one that is not. What is left of this one would
            // befall whatever runs after a reset, so it is entered once more, for no instruction.
            slot.page.set_immediate_exit(true);
        }
    }
}

fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// The handler does nothing: that it runs is what interrupts KVM_RUN.
fn install_handler() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid; the handler is async-signal-safe, as it does nothing; no SA_RESTART, so that
    // a kick interrupts. Nobody else uses this signal.
    let done = unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(kick_signal(), &raw const action, std::ptr::null_mut())
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// KVM_SET_XSAVE of what KVM_GET_XSAVE gave.
pub fn set_xsave(vcpu: &VcpuFd, state: &kvm_xsave) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: KVM reads more than this structure only after arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM), which this process
    // never calls: guests are not offered AMX.
    unsafe { vcpu.set_xsave(state) }
}

/// The time that a timed wait in `stop` may take at most, for those who must give up before a supervisor does.
pub const STOP_PATIENCE: Duration = PATIENCE;
