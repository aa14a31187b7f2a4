//! What this host offers, found out by trying: some hosts have a `/dev/kvm` that only emulates, a thousand times too
//! slowly, and the file being there proves nothing.
//!
//! A small long-mode program runs a loop whose result is known, in rounds that grow. This process runs the same loop itself:
//! a true KVM takes as long for it, on a fast machine and on one that is emulated as a whole. Both are timed by the thread's
//! CPU time where it is counted finely, so that a busy host is not taken for a slow KVM. Everything together takes [`TIME_BOX`] at most on a host that is
//! neither slow nor overloaded, also when KVM_RUN does not come back by itself: it is kicked out by a signal.
//! The answer is good for one boot of the host; the caller may keep it under the boot id.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};
use vmspec::Driver;

use crate::{qemu, sys};

/// For all of it, on a host that is not overloaded.
pub const TIME_BOX: Duration = Duration::from_millis(150);
/// CPU time for the payload, once there is a VM; more where this process's own loop is slow.
const PAYLOAD: Duration = Duration::from_millis(80);
const PAYLOAD_IN_LOOPS: u32 = 40;
/// When a payload that does not come back is kicked out: hosts may have much else to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// For making the VM, which takes a few milliseconds on a host with nothing else to do: a busy one must not lose KVM for it.
const SETUP: Duration = Duration::from_secs(10);
/// For QEMU to say its version, which takes seconds where this host is emulated itself.
const VERSION: Duration = Duration::from_secs(10);
/// A vCPU must have this share of the CPU's own speed. True KVM has nearly all of it, also when nested; QEMU's translator a
/// tenth or less; one that interprets a thousandth.
const LEAST_SHARE: f64 = 0.15;
/// Each round is tried so often before it counts against KVM: an interrupt of the host may fall into a short one.
const TRIES: u32 = 3;
/// Times round the loop, from one that an interpreter finishes in the time box to one that drowns the cost of an exit.
const ROUNDS: [u32; 4] = [1_000, 16_000, 128_000, LONGEST];
const LONGEST: u32 = 1_000_000;
/// Instructions of one time round the loop.
const PER_ROUND: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub kvm: KvmVerdict,
    /// QEMU's version, "unknown" if it is there and would not say in time; `None` if there is none.
    pub qemu: Option<String>,
    /// What `--driver auto` means here; `None` if nothing can run a guest.
    pub chosen: Option<Driver>,
    /// Why, in one sentence.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmVerdict {
    Usable { mips: u32 },
    Unusable { reason: String },
}

impl fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable { mips } => write!(f, "usable ({mips} million instructions a second)"),
            Self::Unusable { reason } => write!(f, "not usable: {reason}"),
        }
    }
}

/// Look at everything. Blocks for [`TIME_BOX`] or less where the host has time, for [`SETUP`] and [`PATIENCE`] at most.
pub fn probe() -> Probe {
    let version = thread::spawn(qemu_version);
    let kvm = probe_kvm();
    let qemu = version.join().unwrap_or_default();
    let (chosen, reason) = choose(&kvm, qemu.as_deref());
    Probe { kvm, qemu, chosen, reason }
}

/// The built-in hypervisor wherever KVM is usable; it needs no QEMU but for servers that boot by UEFI.
fn choose(kvm: &KvmVerdict, qemu: Option<&str>) -> (Option<Driver>, String) {
    match (kvm, qemu) {
        (KvmVerdict::Usable { mips }, _) => (
            Some(Driver::Kvm),
            format!("guests run on the built-in hypervisor: /dev/kvm executes {mips} million instructions a second"),
        ),
        (KvmVerdict::Unusable { reason }, Some(version)) => {
            (Some(Driver::Tcg), format!("guests are emulated by QEMU {version}, because {reason}"))
        }
        (KvmVerdict::Unusable { reason }, None) => {
            (None, format!("{reason}, and there is no QEMU on this host (package qemu-system-x86)"))
        }
    }
}

/// `qemu-system-x86_64 --version` takes some 40 ms, most of it its linker's.
fn qemu_version() -> Option<String> {
    let program = qemu::find_program()?;
    let unknown = || Some("unknown".to_owned());
    let started = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return unknown() };
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take();
    // Ends with the child, which is killed below if it takes too long.
    thread::spawn(move || {
        let text = stdout.and_then(|stdout| io::read_to_string(io::Read::take(stdout, 4096)).ok());
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(VERSION).ok().flatten();
    let _ = child.kill();
    let _ = child.wait();
    let version = text.as_deref().and_then(|text| text.split_once(" version ")).map(|(_, rest)| rest);
    version.and_then(|rest| rest.split([' ', '\n']).next()).map(str::to_owned).or_else(unknown)
}

/// Whether `/dev/kvm` executes guest code, rightly and fast enough.
pub fn probe_kvm() -> KvmVerdict {
    let unusable = |reason: String| KvmVerdict::Unusable { reason };
    let (told, heard) = mpsc::channel();
    let (made, is_made) = mpsc::channel();
    let progress = Arc::new(Progress::default());
    let runner = thread::Builder::new().name("kvm-probe".to_owned()).spawn({
        let progress = Arc::clone(&progress);
        move || {
            let ready = || {
                let _ = made.send(());
                Instant::now() + PATIENCE
            };
            let _ = told.send(run_payload(&progress, ready));
        }
    });
    let runner = match runner {
        Ok(runner) => runner,
        Err(error) => return unusable(format!("cannot start a thread: {error}")),
    };
    // A failure drops the sender, and is heard below at once.
    if is_made.recv_timeout(SETUP) == Err(mpsc::RecvTimeoutError::Timeout) {
        return unusable(format!("/dev/kvm did not set up a VM within {} ms", SETUP.as_millis()));
    }
    match heard.recv_timeout(PATIENCE) {
        Ok(Ok(mips)) => KvmVerdict::Usable { mips },
        Ok(Err(reason)) => unusable(reason),
        Err(_) => {
            // The thread has blocked the signal for itself by now, else it would be deadly.
            sys::vcpu::kick(&runner);
            unusable(too_late(progress.instructions.load(Ordering::SeqCst)))
        }
    }
}

/// How far the payload has come.
#[derive(Debug, Default)]
struct Progress {
    /// How many are being executed.
    instructions: AtomicU32,
}

fn too_late(instructions: u32) -> String {
    format!("/dev/kvm only emulates: {instructions} instructions did not finish within {} ms", PATIENCE.as_millis())
}

/// How fast this CPU goes round the loop.
#[derive(Clone, Copy, Debug)]
struct Native {
    seconds_a_round: f64,
}

/// What a timed round says of a KVM.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Judgement {
    /// It has a share of the CPU's speed that will do.
    Enough,
    /// Too slow for all that is known; a longer round may tell otherwise, and there is time for it.
    Unsure,
    /// Too slow, and a longer round would take too long.
    TooSlow,
}

impl Native {
    fn measure(clock: native::Clock) -> Self {
        let once = || {
            let started = clock();
            native::run(LONGEST);
            clock().saturating_sub(started).as_secs_f64() / f64::from(LONGEST)
        };
        let fastest = (0..TRIES).map(|_| once()).fold(f64::INFINITY, f64::min);
        Self { seconds_a_round: fastest.max(f64::MIN_POSITIVE) }
    }

    fn mips(self) -> f64 {
        f64::from(PER_ROUND) / self.seconds_a_round / 1e6
    }

    /// `exit` is what a round of no length takes; `next` the rounds of the next try, if there is one.
    fn judge(self, rounds: u32, took: Duration, exit: Duration, next: Option<u32>) -> Judgement {
        let a_round = took.saturating_sub(exit).as_secs_f64() / f64::from(rounds);
        if a_round * LEAST_SHARE <= self.seconds_a_round {
            return Judgement::Enough;
        }
        let whole = self.seconds_a_round * f64::from(LONGEST);
        let budget = PAYLOAD.as_secs_f64().max(whole * f64::from(PAYLOAD_IN_LOOPS));
        match next {
            Some(next) if a_round * f64::from(next) <= budget => Judgement::Unsure,
            _ => Judgement::TooSlow,
        }
    }
}

/// 64-bit code at 0x4000. The host gives the number of times round the loop in ecx by port 0x10, and gets the result by
/// two writes of 32 bits to ports 0x11 and 0x12.
///
/// ```text
///   again: mov dx, 0x10 ; in eax, dx ; mov ecx, eax
///          mov rax, 1
///          mov rbx, 6364136223846793005
///   loop:  imul rax, rbx ; add rax, rcx ; rol rax, 7 ; dec ecx ; jnz loop
///          mov dx, 0x11 ; out dx, eax ; shr rax, 32 ; mov dx, 0x12 ; out dx, eax
///          jmp again
/// ```
const CODE: [u8; 55] = [
    0x66, 0xba, 0x10, 0x00, // mov dx, 0x10
    0xed, // in eax, dx
    0x89, 0xc1, // mov ecx, eax
    0x48, 0xc7, 0xc0, 0x01, 0x00, 0x00, 0x00, // mov rax, 1
    0x48, 0xbb, 0x2d, 0x7f, 0x95, 0x4c, 0x2d, 0xf4, 0x51, 0x58, // mov rbx, 6364136223846793005
    0x48, 0x0f, 0xaf, 0xc3, // loop: imul rax, rbx
    0x48, 0x01, 0xc8, // add rax, rcx
    0x48, 0xc1, 0xc0, 0x07, // rol rax, 7
    0xff, 0xc9, // dec ecx
    0x75, 0xf1, // jnz loop
    0x66, 0xba, 0x11, 0x00, // mov dx, 0x11
    0xef, // out dx, eax
    0x48, 0xc1, 0xe8, 0x20, // shr rax, 32
    0x66, 0xba, 0x12, 0x00, // mov dx, 0x12
    0xef, // out dx, eax
    0xeb, 0xc9, // jmp again
];

/// The loop of [`CODE`], run by this process.
mod native {
    #![allow(unsafe_code, reason = "the same instructions as the guest's, and a clock without a safe form here")]

    use std::arch::asm;
    use std::time::Duration;

    pub fn run(rounds: u32) -> u64 {
        let mut value = 1_u64;
        // SAFETY: plain arithmetic in registers; touches no memory and no stack.
        unsafe {
            asm!(
                "2:", "imul {value}, {factor}", "add {value}, rcx", "rol {value}, 7", "dec ecx", "jnz 2b",
                value = inout(reg) value,
                factor = in(reg) 6_364_136_223_846_793_005_u64,
                inout("rcx") u64::from(rounds.max(1)) => _,
                options(nomem, nostack),
            );
        }
        value
    }

    /// The time since some moment.
    pub type Clock = fn() -> Duration;

    /// Long beside a clock that counts what a thread does, short beside one that counts the ticks of a timer.
    const FINE: Duration = Duration::from_micros(500);

    /// What the calling thread has had of a CPU, its guests included; where the kernel counts that in ticks, what has passed.
    pub fn clock() -> Clock {
        let (began, mut last, mut steps) = (passed(), cpu_time(), 0);
        while passed().saturating_sub(began) < FINE {
            let now = cpu_time();
            if now != last {
                (last, steps) = (now, steps + 1);
            }
            // A tick may fall into this.
            if steps > 2 {
                return cpu_time;
            }
        }
        passed
    }

    fn cpu_time() -> Duration {
        read(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    fn passed() -> Duration {
        read(libc::CLOCK_MONOTONIC)
    }

    fn read(clock: libc::clockid_t) -> Duration {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local that outlives the call.
        unsafe { libc::clock_gettime(clock, &raw mut now) };
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

/// Millions of instructions a second, or why not.
/// `ready` is called when there is a vCPU that can be kicked, and answers until when it may run.
fn run_payload(progress: &Progress, ready: impl FnOnce() -> Instant) -> Result<u32, String> {
    let mut memory = GuestMemory::new().map_err(|error| format!("cannot map guest memory: {error}"))?;
    memory.write(0x4000, &CODE);
    // One 2 MiB page mapped to itself: PML4 at 0x1000, PDPT at 0x2000, PD at 0x3000.
    for (at, entry) in [(0x1000, 0x2003_u64), (0x2000, 0x3003), (0x3000, 0x83)] {
        memory.write(at, &entry.to_le_bytes());
    }
    let step = |what: &'static str| move |error: kvm_ioctls::Error| format!("{what}: {error}");
    let kvm = Kvm::new().map_err(step("/dev/kvm cannot be opened"))?;
    if kvm.get_api_version() != KVM_API_VERSION.cast_signed() {
        return Err(format!("/dev/kvm speaks version {} and not {KVM_API_VERSION}", kvm.get_api_version()));
    }
    let vm = kvm.create_vm().map_err(step("/dev/kvm does not make a VM"))?;
    memory.give_to(&vm).map_err(step("/dev/kvm does not take memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(step("/dev/kvm does not make a vCPU"))?;
    // Linux 6.12 takes long mode only of a vCPU whose CPUID has it.
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(step("/dev/kvm does not tell its CPUID"))?;
    vcpu.set_cpuid2(&cpuid).map_err(step("/dev/kvm does not take its own CPUID"))?;
    let mut special = vcpu.get_sregs().map_err(step("/dev/kvm does not give registers"))?;
    let code =
        kvm_segment { selector: 8, type_: 11, present: 1, s: 1, l: 1, g: 1, limit: u32::MAX, ..kvm_segment::default() };
    let data = kvm_segment { selector: 16, type_: 3, l: 0, db: 1, ..code };
    special.cs = code;
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.cr3 = 0x1000;
    special.cr4 |= 1 << 5; // PAE
    special.cr0 |= 1 | 1 << 31; // protected mode, paging
    special.efer |= 1 << 8 | 1 << 10; // long mode, enabled and active
    vcpu.set_sregs(&special).map_err(step("/dev/kvm does not take long mode"))?;
    let mut registers = vcpu.get_regs().map_err(step("/dev/kvm does not give registers"))?;
    (registers.rip, registers.rsp, registers.rflags) = (0x4000, 0x8000, 2);
    vcpu.set_regs(&registers).map_err(step("/dev/kvm does not take registers"))?;
    sys::vcpu::prepare_kick(&vcpu).map_err(|error| format!("a vCPU cannot be interrupted: {error}"))?;
    let clock = native::clock();
    let native = Native::measure(clock);
    let until = ready();

    let mut round = |rounds: u32| -> Result<Duration, String> {
        let instructions = rounds * PER_ROUND;
        progress.instructions.store(instructions, Ordering::SeqCst);
        let mut low = 0;
        let mut started = clock();
        let result = loop {
            if Instant::now() > until {
                return Err(too_late(instructions));
            }
            match vcpu.run() {
                Ok(VcpuExit::IoIn(0x10, data)) if data.len() == 4 => {
                    data.copy_from_slice(&rounds.to_le_bytes());
                    started = clock();
                }
                Ok(VcpuExit::IoOut(0x11, data)) => low = u64::from(word(data)),
                Ok(VcpuExit::IoOut(0x12, data)) => break low | u64::from(word(data)) << 32,
                Ok(other) => return Err(format!("the guest code of the probe ended with {other:?}")),
                Err(error) if error.errno() == libc::EINTR => return Err(too_late(instructions)),
                Err(error) => return Err(format!("KVM_RUN failed: {error}")),
            }
        };
        let took = clock().saturating_sub(started);
        let right = native::run(rounds);
        if result != right {
            return Err(format!("/dev/kvm computes wrongly: {result:#x} and not {right:#x}"));
        }
        Ok(took)
    };
    let mut fastest = |rounds: u32, enough: &dyn Fn(Duration) -> bool| -> Result<Duration, String> {
        let mut least = Duration::MAX;
        for _ in 0..TRIES {
            least = least.min(round(rounds)?);
            if enough(least) {
                break;
            }
        }
        Ok(least)
    };
    // The first one pays for pages that are not there yet.
    let exit = fastest(1, &|_| false)?;
    for (index, rounds) in ROUNDS.into_iter().enumerate() {
        let next = ROUNDS.get(index + 1).copied();
        let took = fastest(rounds, &|took| native.judge(rounds, took, exit, next) == Judgement::Enough)?;
        let mips = f64::from(rounds * PER_ROUND) / took.as_secs_f64().max(1e-9) / 1e6;
        match (native.judge(rounds, took, exit, next), next) {
            (Judgement::TooSlow, _) => {
                let own = native.mips();
                return Err(format!(
                    "/dev/kvm only emulates: {mips:.1} million instructions a second, where this CPU does {own:.0}"
                ));
            }
            (_, None) => return Ok(mips as u32),
            _ => {}
        }
    }
    Err("the probe has no rounds".to_owned())
}

fn word(data: &[u8]) -> u32 {
    data.try_into().map_or(0, u32::from_le_bytes)
}

/// One 2 MiB page of guest memory.
struct GuestMemory {
    mapping: memory::Mapping,
}

impl GuestMemory {
    const BYTES: usize = 2 * 1024 * 1024;

    fn new() -> io::Result<Self> {
        Ok(Self { mapping: memory::Mapping::new(Self::BYTES)? })
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.mapping.bytes_mut().get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn give_to(&self, vm: &kvm_ioctls::VmFd) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: Self::BYTES as u64,
            userspace_addr: self.mapping.address(),
        };
        memory::give(vm, region)
    }
}

mod memory {
    #![allow(unsafe_code, reason = "memory shared with a guest")]

    use std::io;
    use std::ptr::NonNull;

    /// Anonymous memory. A `Vec` would do but for its alignment.
    pub struct Mapping {
        start: NonNull<u8>,
        bytes: usize,
    }

    impl Mapping {
        pub fn new(bytes: usize) -> io::Result<Self> {
            // SAFETY: a new private anonymous mapping at an address of the kernel's choice; nothing else is touched.
            let start = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
            Ok(Self { start, bytes })
        }

        /// Only before the memory is given to a guest.
        pub fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: `start` is the start of `bytes` mapped, initialised (zero) bytes owned by this value, and the
            // guest that may share them does not run while it is being built.
            unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
        }

        pub fn address(&self) -> u64 {
            self.start.as_ptr() as u64
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: exactly what was mapped is unmapped, once. A VM that was given it may still exist; its guest then
            // faults, which is its end, and the pages are not reused for it: KVM follows the address space.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }

    pub fn give(
        vm: &kvm_ioctls::VmFd,
        region: kvm_bindings::kvm_userspace_memory_region,
    ) -> Result<(), kvm_ioctls::Error> {
        // SAFETY: the region is memory of this process that is mapped for as long as the caller keeps its `Mapping`,
        // and no Rust reference to it is alive while the guest runs.
        unsafe { vm.set_user_memory_region(region) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_keeps_its_time_and_gives_a_reason() {
        let started = Instant::now();
        let probe = probe();
        // Generous: the machine that runs tests is busy.
        assert!(started.elapsed() < TIME_BOX * 10, "took {:?}", started.elapsed());
        eprintln!("{:?}: {probe:?}", started.elapsed());
        assert!(!probe.reason.is_empty());
        if let KvmVerdict::Unusable { reason } = &probe.kvm {
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn the_loop_of_this_process_is_that_of_the_guest() {
        let expected = |rounds: u32| {
            (1..=rounds).rev().fold(1_u64, |value, count| {
                value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(count)).rotate_left(7)
            })
        };
        for rounds in [1, 2, 1000] {
            assert_eq!(native::run(rounds), expected(rounds));
        }
        assert!(Native::measure(native::clock()).mips() > 1.0);
    }

    #[test]
    fn a_kvm_is_judged_by_the_speed_of_its_host_and_not_by_a_clock() {
        let exit = Duration::from_micros(60);
        // A server of today, and one that is emulated as a whole, fifty times slower.
        for seconds_a_round in [1.7e-9, 85e-9] {
            let native = Native { seconds_a_round };
            let judged = |share: f64| {
                let mut next = ROUNDS.iter().copied().skip(1);
                for rounds in ROUNDS {
                    let took = Duration::from_secs_f64(seconds_a_round * f64::from(rounds) / share) + exit;
                    let judgement = native.judge(rounds, took, exit, next.next());
                    if judgement != Judgement::Unsure {
                        return (rounds, judgement);
                    }
                }
                panic!("no judgement");
            };
            for share in [2.0, 1.0, 0.5, 0.2] {
                assert_eq!(judged(share).1, Judgement::Enough, "{share}");
            }
            // QEMU's translator: known when all is measured. An interpreter: after the first short round.
            assert_eq!(judged(0.08).1, Judgement::TooSlow);
            assert_eq!(judged(0.0002), (ROUNDS[0], Judgement::TooSlow));
        }
    }

    #[test]
    fn what_is_usable_is_chosen_and_what_is_missing_is_named() {
        let (chosen, reason) = choose(&KvmVerdict::Unusable { reason: "x".to_owned() }, None);
        assert_eq!(chosen, None);
        assert!(reason.contains("qemu-system-x86"));
        let (chosen, reason) = choose(&KvmVerdict::Usable { mips: 900 }, None);
        assert_eq!(chosen, Some(Driver::Kvm));
        assert!(reason.contains("900"));
        let (chosen, reason) = choose(&KvmVerdict::Unusable { reason: "it only emulates".to_owned() }, Some("7.2.22"));
        assert_eq!(chosen, Some(Driver::Tcg));
        assert!(reason.contains("it only emulates") && reason.contains("7.2.22"));
    }
}
