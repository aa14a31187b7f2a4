//! A guest that writes garbage to every register, queue and configuration field of every device.
//!
//! The guest is a loop of a few instructions in long mode. It executes records `(kind, address, value)` from a ring in its
//! memory; the host fills the ring from a seeded generator that knows where devices are, and how a driver would speak to
//! them. The garbage is therefore often nearly right. What must never happen is a panic in any thread of the machine, an
//! error of what its owner does to it, or a machine that does not stop when told; a guest may reset, shut down, break its
//! own memory or end by a reason that KVM gives.
//!
//! `SOLOSTACK_FUZZ_SECONDS` and `SOLOSTACK_FUZZ_SEED` choose how long, and which machine is first.

mod generator;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_subscriber::layer::{Context, SubscriberExt as _};

use self::generator::{Generator, Random, find_functions};
use super::super::boot::Linux;
use super::super::layout;
use super::*;
use crate::pci::slots;
use crate::rfb::{Buttons, Input as _, Screen as _};

/// Of the ring: produced by the host, consumed by the guest.
const CONTROL: u64 = 0x13f_f000;
const CONSUMED: u64 = CONTROL + 8;
const RECORDS: u64 = 0x140_0000;
const RING: u64 = 0x4000;
const RECORD: u64 = 24;
const CODE: u64 = 0x100_0000;
/// Page tables for the window of 64-bit BARs, beside those of the start.
const UPPER: u64 = 0x130_0000;
const PAGE_TABLES: u64 = 0x9000;
/// Rings and buffers are here.
const PLAYGROUND: u64 = 0x10_0000;
const PLAYGROUND_END: u64 = 0xf0_0000;
const QUEUES: u64 = 0x20_0000;
const BUFFERS: u64 = 0x80_0000;

/// A guest that does nothing for this long has lost itself.
const LOST: Duration = Duration::from_millis(400);
/// A machine lives this long; then comes the next seed.
const LIFE: Duration = Duration::from_secs(3);
/// What a guest may make this process write to its log, for each machine and each device.
const MOST_COMPLAINTS: u64 = 600;

// Kinds of records. Sizes are 1, 2, 4 and 8 bytes: `kind + 0` to `kind + 3`.
const STORE: u64 = 0;
const LOAD: u64 = 4;
const OUT: u64 = 8;
const IN: u64 = 11;
const OUT_STRING: u64 = 14;
const IN_STRING: u64 = 15;

/// A kernel image for the 64-bit boot protocol that is this loop.
fn payload() -> File {
    let mut code = vec![0xfa, 0x48, 0xbf]; // cli; mov rdi, CONTROL
    code.extend(CONTROL.to_le_bytes());
    code.extend([0x48, 0xbd]); // mov rbp, RECORDS
    code.extend(RECORDS.to_le_bytes());
    code.extend([0x31, 0xdb]); // xor ebx, ebx
    let next = code.len();
    code.extend([0x48, 0x8b, 0x07]); // mov rax, [rdi]
    code.extend([0x48, 0x39, 0xc3]); // cmp rbx, rax
    code.extend([0x75, 0x04]); // jne 1f
    code.extend([0xf3, 0x90, 0xeb, 0xf4]); // pause; jmp next
    code.extend([0x89, 0xd9, 0x81, 0xe1]); // 1: mov ecx, ebx; and ecx, RING - 1
    code.extend((RING as u32 - 1).to_le_bytes());
    code.extend([0x48, 0x8d, 0x0c, 0x49]); // lea rcx, [rcx + rcx * 2]
    code.extend([0x48, 0x8d, 0x74, 0xcd, 0x00]); // lea rsi, [rbp + rcx * 8]
    code.extend([0x8b, 0x0e, 0x83, 0xe1, 0x0f]); // mov ecx, [rsi]; and ecx, 15
    code.extend([0xc1, 0xe1, 0x05]); // shl ecx, 5
    code.extend([0x4c, 0x8d, 0x05]); // lea r8, [rip + table]
    let table_place = code.len();
    code.extend([0; 4]);
    code.extend([0x49, 0x01, 0xc8]); // add r8, rcx
    code.extend([0x48, 0x8b, 0x56, 0x08]); // mov rdx, [rsi + 8]
    code.extend([0x48, 0x8b, 0x46, 0x10]); // mov rax, [rsi + 16]
    code.extend([0x41, 0xff, 0xe0]); // jmp r8
    let done = code.len();
    code.extend([0x48, 0xff, 0xc3]); // inc rbx
    code.extend([0x48, 0x89, 0x5f, 0x08]); // mov [rdi + 8], rbx
    let jump = |code: &mut Vec<u8>, to: usize| {
        code.push(0xe9);
        let rip = code.len() + 4;
        code.extend((to as i32 - rip as i32).to_le_bytes());
    };
    jump(&mut code, next);
    let table = code.len();
    code[table_place..table_place + 4].copy_from_slice(&((table - table_place - 4) as u32).to_le_bytes());
    let kinds: [&[u8]; 16] = [
        &[0x88, 0x02],       // mov [rdx], al
        &[0x66, 0x89, 0x02], // mov [rdx], ax
        &[0x89, 0x02],       // mov [rdx], eax
        &[0x48, 0x89, 0x02], // mov [rdx], rax
        &[0x8a, 0x02],       // mov al, [rdx]
        &[0x66, 0x8b, 0x02], // mov ax, [rdx]
        &[0x8b, 0x02],       // mov eax, [rdx]
        &[0x48, 0x8b, 0x02], // mov rax, [rdx]
        &[0xee],             // out dx, al
        &[0x66, 0xef],       // out dx, ax
        &[0xef],             // out dx, eax
        &[0xec],             // in al, dx
        &[0x66, 0xed],       // in ax, dx
        &[0xed],             // in eax, dx
        // mov ecx, 8; rep outsb
        &[0xb9, 8, 0, 0, 0, 0xf3, 0x6e],
        // mov r9, rdi; mov edi, PLAYGROUND; mov ecx, 4; rep insd; mov rdi, r9
        &[0x49, 0x89, 0xf9, 0xbf, 0, 0, 0x10, 0, 0xb9, 4, 0, 0, 0, 0xf3, 0x6d, 0x4c, 0x89, 0xcf],
    ];
    for (index, instructions) in kinds.into_iter().enumerate() {
        code.resize(table + 32 * index, 0x90);
        code.extend(instructions);
        jump(&mut code, done);
    }
    let mut image = vec![0; 5 * 512];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020c_u16.to_le_bytes());
    image[0x211] = 1; // loaded high
    image[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image[0x236] = 1; // has a 64-bit entry, 512 bytes on
    image.resize(image.len() + 512, 0xf4);
    image.extend(code);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image).unwrap();
    file
}

/// How often what happened.
#[derive(Debug, Default)]
struct Counted {
    machines: u64,
    accesses: u64,
    resets: u64,
    fall_backs: u64,
    shutdowns: u64,
    panics: u64,
    lost: u64,
    pauses: u64,
    suspends: u64,
    attached: u64,
    ejected: u64,
    broken: BTreeMap<String, u64>,
}

static SEED: AtomicU64 = AtomicU64::new(0);
static COMPLAINTS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
static STRICT: AtomicBool = AtomicBool::new(false);

/// Counts what would be in the log.
struct Log;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > tracing::Level::INFO || !metadata.target().starts_with("hypervisor") {
            return;
        }
        let place = format!("{} {}:{}", metadata.level(), metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                use std::fmt::Write as _;
                let _ = write!(self.0, " {field}={value:?}");
            }
        }
        // Formatting is done, as the real log would.
        let mut text = Text(String::new());
        event.record(&mut text);
        if STRICT.load(Ordering::Relaxed) {
            eprintln!("{place}{}", text.0);
        }
        *COMPLAINTS.lock().unwrap().entry(place).or_default() += 1;
    }
}

fn memory_use_mib() -> u64 {
    let mut text = String::new();
    File::open("/proc/self/statm").unwrap().read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096) >> 20
}

struct Run {
    spec: VmSpec,
    tap: Option<File>,
    counted: Counted,
    until: Instant,
}

impl Run {
    fn machine(&self, restore: Option<(File, File)>) -> Option<Bench> {
        let linux = Linux { kernel: payload(), initrd: None, command_line: String::new() };
        machine_with(&self.spec, Start::Linux(linux), self.tap.as_ref(), restore)
    }

    /// More page tables, for the start of the window of 64-bit BARs. Called with the guest stopped.
    fn map_window(bench: &Bench, window: u64) {
        let ram = bench.guest.ram.memory();
        let put = |at: u64, entry: u64| ram.write_obj(entry, GuestAddress(at)).unwrap();
        let (upper, directory) = (window >> 39 & 511, window >> 30 & 511);
        // The first 512 GiB have a table already.
        let table = if upper == 0 { PAGE_TABLES + 0x1000 } else { UPPER };
        if upper != 0 {
            put(PAGE_TABLES + 8 * upper, table | 3);
        }
        put(table + 8 * directory, (UPPER + 0x1000) | 3);
        for entry in 0..512 {
            put(UPPER + 0x1000 + 8 * entry, window & !0x3fff_ffff | entry << 21 | 0x83);
        }
    }

    /// One machine, from start to some end.
    fn one(&mut self, seed: u64) -> Option<()> {
        let mut bench = self.machine(None)?;
        let functions = find_functions(&bench);
        bench.guest.reset(false).unwrap();
        let window = layout::mmio64(40, 32 << 20).map_or(layout::MMIO32, |(start, _)| start);
        let mut generator = Generator {
            random: Random::new(seed),
            functions,
            next: std::collections::VecDeque::new(),
            available: BTreeMap::new(),
            window,
        };
        // What its owner does is drawn apart, as it depends on the clock.
        let mut owner = Random::new(seed ^ 0xffff);
        let suspends = seed.is_multiple_of(4);
        let mut agents = Vec::new();
        let ends = (Instant::now() + LIFE).min(self.until);
        generator.begin();
        Self::map_window(&bench, window);
        let (mut produced, mut consumed, mut progress) = (0_u64, 0_u64, Instant::now());
        self.counted.machines += 1;
        bench.guest.go();
        let again = |bench: &mut Bench, generator: &mut Generator, bios: bool| {
            bench.guest.reset(bios).unwrap();
            generator.begin();
            Self::map_window(bench, window);
            bench.guest.go();
        };
        while Instant::now() < ends {
            let ram = bench.guest.ram.memory();
            let seen: u64 = ram.load(GuestAddress(CONSUMED), Ordering::Acquire).unwrap();
            // A guest that has lost itself can have written anything here.
            if seen > consumed && seen <= produced {
                self.counted.accesses += seen - consumed;
                (consumed, progress) = (seen, Instant::now());
            }
            while produced < consumed + RING {
                let record = generator.record();
                let at = RECORDS + produced % RING * RECORD;
                for (index, word) in (0_u64..).zip(record) {
                    ram.write_obj(word, GuestAddress(at + 8 * index)).unwrap();
                }
                produced += 1;
            }
            ram.store(produced, GuestAddress(CONTROL), Ordering::Release).unwrap();
            drop(ram);
            let mut fresh = false;
            match bench.wishes.try_recv() {
                Ok(Wish::Reset) => {
                    self.counted.resets += 1;
                    again(&mut bench, &mut generator, false);
                    fresh = true;
                }
                Ok(Wish::Bios) => {
                    self.counted.fall_backs += 1;
                    again(&mut bench, &mut generator, true);
                    fresh = true;
                }
                Ok(Wish::PowerOff) => {
                    self.counted.shutdowns += 1;
                    break;
                }
                Ok(Wish::Panicked) => {
                    self.counted.panics += 1;
                    break;
                }
                Ok(Wish::Broken(why)) => {
                    assert!(!why.is_empty());
                    *self.counted.broken.entry(why).or_default() += 1;
                    break;
                }
                Err(_) => {}
            }
            if !fresh && progress.elapsed() > LOST {
                self.counted.lost += 1;
                bench.guest.pause().unwrap();
                again(&mut bench, &mut generator, false);
                fresh = true;
            }
            if fresh {
                (produced, consumed, progress) = (0, 0, Instant::now());
            }
            self.own(&mut bench, &mut owner, suspends, &mut agents);
            if suspends && owner.one_in(200) {
                let (mut state, memory) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
                bench.guest.suspend(&mut state, &memory).unwrap();
                drop(bench);
                bench = self.machine(Some((state, memory)))?;
                bench.guest.go();
                self.counted.suspends += 1;
                progress = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bench.guest.end();
        Some(())
    }

    /// What happens to a machine from outside meanwhile.
    fn own(&mut self, bench: &mut Bench, random: &mut Random, suspends: bool, agents: &mut Vec<UnixStream>) {
        let guest = &mut bench.guest;
        let slot = 3 + random.below(3) as u8;
        match random.below(40) {
            0 => {
                guest.pause().unwrap();
                guest.go();
                self.counted.pauses += 1;
            }
            1 if !suspends => {
                let file = tempfile::tempfile().unwrap();
                let serial = format!("disk-{slot}");
                let kind = DiskKind::Volume;
                let limits = DiskLimits::default();
                let disk = Disk { slot, kind, descriptor: 0, read_only: false, serial, size_bytes: 1 << 20, limits };
                // Refused where there is one that is on its way out.
                self.counted.attached += u64::from(guest.attach_disk((disk, file)).is_ok());
            }
            2 if !suspends => {
                let _ = guest.detach(vmspec::protocol::Device::Disk { slot });
            }
            3 => guest.press_power_button(),
            4 => {
                lock(&guest.serial()).type_in(b"typed\r");
            }
            5 => {
                let workplace = guest.workplace().unwrap();
                workplace.seat.key(random.below(256) as u16, random.one_in(2));
                let (x, y) = (random.next() as u16 & 0x7fff, random.next() as u16 & 0x7fff);
                workplace.seat.pointer(x, y, Buttons::default(), 1, 0);
            }
            6 => {
                let display = guest.workplace().unwrap().display;
                let mut pixels = Vec::new();
                let mode = display.mode();
                display.read(mode, &mut pixels);
                assert_eq!(pixels.len(), usize::from(mode.width) * usize::from(mode.height));
            }
            7 => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let _ = (&ours).write(b"hello");
                // None of them reads what the guest says.
                guest.agent().connect(theirs).unwrap();
                agents.clear();
                agents.push(ours);
            }
            8 if guest.devices().disks.iter().any(|disk| disk.slot == 0) => {
                guest.resize_disk(0, 1 << (9 + random.below(12))).unwrap();
            }
            _ => {}
        }
        self.counted.ejected += guest.removed().len() as u64;
        let _ = (guest.disk_statistics(), bench.output.take());
    }
}

fn lock<T: ?Sized>(device: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    device.lock().unwrap()
}

use std::sync::Mutex;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_guest_that_writes_garbage_everywhere_harms_only_itself() {
    let seed = number("SOLOSTACK_FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    let seconds = number("SOLOSTACK_FUZZ_SECONDS").unwrap_or(10);
    let chosen = [("SOLOSTACK_FUZZ_SEED", seed.to_string())];
    println!("first seed {seed}, {seconds} seconds");
    if let Some(said) =
        apart("a_guest_that_writes_garbage_everywhere_harms_only_itself", "SOLOSTACK_TEST_FUZZ", &chosen)
    {
        println!("{said}");
        return;
    }
    // A panic of a device's thread would only be seen by who joins it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        eprintln!("with SOLOSTACK_FUZZ_SEED={}", SEED.load(Ordering::Relaxed));
        std::process::abort();
    }));
    STRICT.store(std::env::var_os("SOLOSTACK_FUZZ_LOG").is_some(), Ordering::Relaxed);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Log)).unwrap();
    let tap = tap();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut run = Run { spec: everything(tap.is_some()), tap, counted: Counted::default(), until };
    let mut first = None;
    for seed in seed.. {
        if Instant::now() > until {
            break;
        }
        SEED.store(seed, Ordering::Relaxed);
        let Some(()) = run.one(seed) else { return };
        first.get_or_insert_with(|| (std::fs::read_dir("/proc/self/fd").unwrap().count(), memory_use_mib()));
    }
    let (descriptors, memory) = first.unwrap();
    let now = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let complaints = COMPLAINTS.lock().unwrap();
    println!("{:#?}", run.counted);
    println!("descriptors {descriptors} then {now}; memory {memory} MiB then {} MiB", memory_use_mib());
    println!("log: {complaints:#?}");
    assert!(run.counted.accesses > 1000, "the guest does nothing");
    assert!(now <= descriptors, "descriptors leak");
    assert!(memory_use_mib() < memory + 200, "memory leaks");
    for (place, count) in complaints.iter() {
        assert!(*count <= MOST_COMPLAINTS * (run.counted.machines + run.counted.resets), "a flood: {place}, {count}");
    }
}
