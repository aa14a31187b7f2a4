//! A guest that writes garbage to every register, queue and configuration field of every device.
//!
//! The guest is a loop of a few instructions in long mode. It executes records `(kind, address, value)` from a ring in its
//! memory; the host fills the ring from a seeded generator that knows where devices are, and how a driver would speak to
//! them. The garbage is therefore often nearly right. What must never happen is a panic in any thread of the machine, an
//! error of what its owner does to it, or a machine that does not stop when told; a guest may reset, shut down, break its
//! own memory or end by a reason that KVM gives.
//!
//! `SOLOSTACK_FUZZ_SECONDS` and `SOLOSTACK_FUZZ_SEED` choose how long, and which machine is first.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_subscriber::layer::{Context, SubscriberExt as _};

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

/// Xorshift: the same seed gives the same guest.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Values that are on the edge of something, and others.
    fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1 << self.below(64)) - 1,
            4 => self.below(256),
            5 => self.below(0x1_0000),
            6 => self.address(),
            _ => self.next(),
        }
    }

    /// Addresses that a guest could name to a device.
    fn address(&mut self) -> u64 {
        match self.below(24) {
            0 => self.next(),
            1 => (32 << 20) - self.below(64),
            2 => u64::MAX - self.below(0x1_0000),
            3 => layout::MMIO32 + self.below(layout::MMIO32_END - layout::MMIO32),
            4 => layout::ECAM + self.below(0x10_0000),
            5 => 0xfec0_0000 + self.below(0x0140_0000),
            6 if self.one_in(16) => self.below(32 << 20),
            _ => PLAYGROUND + self.below(PLAYGROUND_END - PLAYGROUND),
        }
    }
}

/// What the generator knows of a function of virtio.
#[derive(Clone, Copy, Debug)]
struct Function {
    slot: u8,
    features: u64,
    queues: u16,
    msix: u16,
}

impl Function {
    fn bar(self) -> u64 {
        0xd000_0000 + u64::from(self.slot) * 0x1_0000
    }

    fn queue(self, queue: u16) -> u64 {
        QUEUES + u64::from(self.slot) * 0x2_0000 + u64::from(queue % 8) * 0x4000
    }
}

const FRAMEBUFFER: u64 = 0xe000_0000;
const DISPI: u64 = 0xd800_0000;

fn ecam(slot: u8, register: u64) -> u64 {
    layout::ECAM + u64::from(slot) * 0x8000 + register
}

/// What is there, as a firmware would find it.
fn find_functions(bench: &Bench) -> Vec<Function> {
    let pci = &bench.guest.exits.pci;
    let config = |slot: u8, register: u64| {
        let mut word = [0; 4];
        pci.mmio_read(ecam(slot, register), &mut word);
        u32::from_le_bytes(word)
    };
    let mut found = Vec::new();
    for slot in 0..32 {
        if config(slot, 0) & 0xffff != 0x1af4 {
            continue;
        }
        let mut at = u64::from(config(slot, 0x34) & 0xfc);
        let mut function = Function { slot, features: 0, queues: 0, msix: 0 };
        while at != 0 {
            let head = config(slot, at);
            if head & 0xff == 0x11 {
                function.msix = at as u16;
            }
            at = u64::from(head >> 8 & 0xfc);
        }
        let command = [config(slot, 4) as u8 | 2, 0];
        pci.mmio_write(ecam(slot, 0x10), &(function.bar() as u32).to_le_bytes());
        pci.mmio_write(ecam(slot, 4), &command);
        let mut word = [0; 4];
        for half in [0_u32, 1] {
            pci.mmio_write(function.bar(), &half.to_le_bytes());
            pci.mmio_read(function.bar() + 4, &mut word);
            function.features |= u64::from(u32::from_le_bytes(word)) << (32 * half);
        }
        let mut count = [0; 2];
        pci.mmio_read(function.bar() + 0x12, &mut count);
        function.queues = u16::from_le_bytes(count);
        assert!(function.queues > 0 && function.features & 1 << 32 != 0 && function.msix != 0, "{function:x?}");
        found.push(function);
    }
    found
}

/// What is to be executed next.
struct Generator {
    random: Random,
    functions: Vec<Function>,
    next: std::collections::VecDeque<[u64; 3]>,
    /// Of each queue: what the guest has made available.
    available: BTreeMap<(u8, u16), u16>,
    window: u64,
}

const PORTS: &[(u16, u64)] = &[
    (layout::SERIAL_PORT, 8),
    (layout::CMOS_PORT, 2),
    (layout::FW_CFG_PORT, 12),
    (layout::KEYBOARD_DATA_PORT, 5),
    (layout::GED_PORT, 1),
    (layout::PM_TIMER_PORT, 4),
    (crate::acpi::PM1_PORT, 8),
    (0x600, 8),
    (crate::acpi::HOTPLUG_PORT, 16),
    (layout::PCI_CONFIG_PORT, 8),
    (layout::PVPANIC_PORT, 1),
    (layout::FIRMWARE_PORT, 9),
    (layout::SYSTEM_CONTROL_A_PORT, 1),
    (layout::DEBUG_PORT, 1),
    (0x40, 4),
    (0x20, 2),
    (0xa0, 2),
    (0x4d0, 2),
    (layout::SYSTEM_CONTROL_B_PORT, 1),
    (0x80, 1),
    (0xb2, 2),
];

impl Generator {
    fn put(&mut self, kind: u64, address: u64, value: u64) {
        self.next.push_back([kind, address, value]);
    }

    fn store(&mut self, bytes: u32, address: u64, value: u64) {
        self.put(STORE + u64::from(bytes.trailing_zeros()), address, value);
    }

    fn out(&mut self, bytes: u32, port: u16, value: u64) {
        self.put(OUT + u64::from(bytes.trailing_zeros()), port.into(), value);
    }

    fn record(&mut self) -> [u64; 3] {
        loop {
            if let Some(record) = self.next.pop_front() {
                return record;
            }
            self.more();
        }
    }

    /// As a firmware does: decoding on.
    fn begin(&mut self) {
        self.next.clear();
        self.available.clear();
        for function in self.functions.clone() {
            self.enable(function);
        }
        self.store(4, ecam(slots::DISPLAY, 0x10), FRAMEBUFFER);
        self.store(4, ecam(slots::DISPLAY, 0x18), DISPI);
        self.store(2, ecam(slots::DISPLAY, 4), 2);
    }

    fn enable(&mut self, function: Function) {
        self.store(4, ecam(function.slot, 0x10), function.bar());
        self.store(4, ecam(function.slot, 0x14), 0);
        self.store(2, ecam(function.slot, 4), 6);
    }

    fn more(&mut self) {
        let at = self.random.below(self.functions.len() as u64) as usize;
        let function = self.functions[at];
        match self.random.below(64) {
            0..6 => self.set_up(function),
            6..26 => self.submit(function),
            26..38 => self.poke_bar(function),
            38..46 => self.poke_port(),
            46..50 => self.poke_configuration(function),
            50..53 => self.poke_msix(function),
            53..56 => self.fw_cfg(),
            56..58 => self.poke_display(),
            58..60 => {
                let (address, value) = (self.random.address(), self.random.value());
                // Of memory only what is no code of its own.
                if (PLAYGROUND..PLAYGROUND_END).contains(&address) {
                    self.store(8, address, value);
                }
            }
            60 => self.enable(function),
            61 if self.random.one_in(4) => self.move_bar(function),
            62 if self.random.one_in(64) => self.chips(),
            63 if self.random.one_in(64) => self.end(),
            _ => {}
        }
    }

    /// What a driver does to a device before it works, with mistakes.
    fn set_up(&mut self, function: Function) {
        let bar = function.bar();
        let mistakes = self.random.one_in(3);
        let wrong = |random: &mut Random| mistakes && random.one_in(6);
        if self.random.one_in(4) {
            self.enable(function);
        }
        for status in [0, 1, 3] {
            self.store(1, bar + 0x14, status);
        }
        let mut features = function.features;
        if self.random.one_in(2) {
            features &= self.random.next() | 1 << 32;
        }
        if wrong(&mut self.random) {
            features = self.random.next();
        }
        for half in [0, 1] {
            self.store(4, bar + 8, half);
            self.store(4, bar + 0xc, features >> (32 * half) & 0xffff_ffff);
        }
        self.store(1, bar + 0x14, 11);
        self.put(LOAD, bar + 0x14, 0);
        let vector = if wrong(&mut self.random) { self.random.value() } else { 0 };
        self.store(2, bar + 0x10, vector);
        for queue in 0..function.queues.min(8) {
            self.available.insert((function.slot, queue), 0);
            let at = function.queue(queue);
            let number = if wrong(&mut self.random) { self.random.value() } else { queue.into() };
            self.store(2, bar + 0x16, number);
            let size = match wrong(&mut self.random) {
                true => self.random.value(),
                false => 1 << self.random.below(7),
            };
            self.store(2, bar + 0x18, size);
            self.store(2, bar + 0x1a, u64::from(queue) + 1);
            for (register, offset) in [(0x20, 0), (0x28, 0x2000), (0x30, 0x3000)] {
                let place = if wrong(&mut self.random) { self.random.address() } else { at + offset };
                match self.random.one_in(8) {
                    true => self.store(8, bar + register, place),
                    false => {
                        self.store(4, bar + register, place & 0xffff_ffff);
                        self.store(4, bar + register + 4, place >> 32);
                    }
                }
            }
            self.store(4, at + 0x2000, 0);
            self.store(4, at + 0x3000, 0);
            if !wrong(&mut self.random) {
                self.store(2, bar + 0x1c, 1);
            }
        }
        self.store(1, bar + 0x14, 15);
        for queue in 0..function.queues.min(8) {
            self.submit_to(function, queue);
        }
    }

    fn submit(&mut self, function: Function) {
        let queue = self.random.below(u64::from(function.queues.min(8))) as u16;
        self.submit_to(function, queue);
    }

    /// A few chains of descriptors, nearly right.
    fn submit_to(&mut self, function: Function, queue: u16) {
        let at = function.queue(queue);
        let mut index = self.available.get(&(function.slot, queue)).copied().unwrap_or(0);
        for _ in 0..=self.random.below(3) {
            let head = self.random.below(8) as u16;
            let length = 1 + self.random.below(4) as u16;
            let readable = self.random.below(u64::from(length) + 1) as u16;
            for place in 0..length {
                let mut address = BUFFERS + self.random.below(0x40) * 0x1000;
                let mut bytes = self.random.of(&[1, 4, 8, 12, 16, 64, 512, 512, 4096, 0x1_0000]);
                let mut flags = u64::from(place + 1 < length) | if place >= readable { 2 } else { 0 };
                let mut next = u64::from(head + place + 1);
                if place == 0 && readable > 0 {
                    self.header(function, address);
                    bytes = self.random.of(&[16, 16, 16, 12, 64]);
                }
                if place + 1 == length && place >= readable && self.random.one_in(2) {
                    bytes = 1;
                }
                match self.random.below(40) {
                    0 => address = self.random.address(),
                    1 => bytes = self.random.value() & 0xffff_ffff,
                    2 => flags = self.random.next() & 7,
                    3 => next = self.random.next() & 0xffff,
                    4 => {
                        // An indirect table: somewhere in what is there anyway.
                        flags = 4;
                        address = at + self.random.below(4) * 16;
                        bytes = 16 * (1 + self.random.below(6));
                    }
                    _ => {}
                }
                let descriptor = at + u64::from(head + place) * 16;
                self.store(8, descriptor, address);
                self.store(8, descriptor + 8, bytes | flags << 32 | next << 48);
            }
            // The ring wraps at a size that only the driver knows: all places get it.
            for size in [1_u16, 2, 4, 8, 16, 32, 64] {
                self.store(2, at + 0x2004 + 2 * u64::from(index % size), head.into());
            }
            index = index.wrapping_add(1);
        }
        if self.random.one_in(100) {
            index = self.random.next() as u16;
        }
        self.available.insert((function.slot, queue), index);
        if self.random.one_in(16) {
            let flags = self.random.below(4);
            self.store(2, at + 0x2000, flags);
        }
        self.store(2, at + 0x2002, index.into());
        let bytes = self.random.of(&[1, 2, 2, 4]);
        self.store(bytes, function.bar() + 0x3000 + 4 * u64::from(queue), queue.into());
    }

    /// The start of a request as the device of this slot understands it.
    fn header(&mut self, function: Function, at: u64) {
        let (first, second) = match function.slot {
            slots::FIRST_DISK..=slots::LAST_DISK => {
                let kind = self.random.of(&[0, 0, 1, 1, 4, 8, 11, 13, 99]);
                let sector = if self.random.one_in(4) { self.random.value() } else { self.random.below(2050) };
                if matches!(kind, 11 | 13) {
                    let range = [self.random.below(2050), self.random.below(4096) | self.random.below(3) << 32];
                    for page in 0..4 {
                        self.store(8, BUFFERS + page * 0x1000, range[0]);
                        self.store(8, BUFFERS + page * 0x1000 + 8, range[1]);
                    }
                }
                (kind, sector)
            }
            slots::BALLOON => {
                let page = |random: &mut Random| (BUFFERS >> 12) + random.below(0x80);
                (page(&mut self.random) | page(&mut self.random) << 32, self.random.value())
            }
            slots::VIRTIO_SERIAL => (self.random.below(3) | self.random.below(9) << 32, self.random.value()),
            _ => (self.random.next(), self.random.value()),
        };
        self.store(8, at, first);
        self.store(8, at + 8, second);
    }

    fn poke_bar(&mut self, function: Function) {
        let page = self.random.of(&[0, 0, 0, 0x1000, 0x2000, 0x2000, 0x3000, 0x4000, 0x5000, 0x7000]);
        let within = if self.random.one_in(4) { 0x1000 } else { 0x40 };
        let address = function.bar() + page + self.random.below(within);
        let size = self.random.below(4);
        let value = self.random.value();
        let kind = if self.random.one_in(2) { STORE } else { LOAD };
        self.put(kind + size, address, value);
    }

    fn poke_port(&mut self) {
        let (first, length) = self.random.of(PORTS);
        let port = u64::from(first) + self.random.below(length);
        let port = if self.random.one_in(32) { self.random.below(0x1_0000) } else { port };
        let value = self.random.value();
        match self.random.below(8) {
            0 => self.put(IN_STRING, port, 0),
            1..4 => {
                let size = self.random.below(3);
                self.put(IN + size, port, 0);
            }
            // Ends of this guest are for later.
            _ if matches!(port, 0x505 | 0x64 | 0x92 | 0xcf9 | 0x604..=0x615 | 0xb00..=0xb07 | 0xcf6..=0xcf9)
                && !self.random.one_in(64) => {}
            4 => self.put(OUT_STRING, port, 0),
            _ => {
                let size = self.random.below(3);
                self.put(OUT + size, port, value);
            }
        }
    }

    fn poke_configuration(&mut self, function: Function) {
        let slot = match self.random.below(8) {
            0 => self.random.below(32) as u8,
            1 => self.random.of(&[slots::HOST_BRIDGE, slots::LPC, slots::DISPLAY]),
            _ => function.slot,
        };
        let register = if self.random.one_in(8) { self.random.below(4096) } else { self.random.below(256) };
        let value = self.random.value();
        let writes = self.random.one_in(2);
        let size = self.random.below(3);
        match self.random.below(3) {
            0 => {
                let enabled = u64::from(!self.random.one_in(16)) << 31;
                let stray = if self.random.one_in(16) { self.random.value() } else { 0 };
                self.out(4, 0xcf8, enabled | u64::from(slot) << 11 | register & 0xfc | stray);
                let port = 0xcfc + (register & 3);
                self.put(if writes { OUT } else { IN } + size, port, value);
            }
            _ => self.put(if writes { STORE } else { LOAD } + size, ecam(slot, register), value),
        }
        if self.random.one_in(4) {
            // The window into the BAR that virtio has in configuration space.
            let at = 0x40 + self.random.below(0x80) / 4 * 4;
            self.store(4, ecam(function.slot, at + 8), value & 0x7fff);
            self.store(4, ecam(function.slot, at + 12), self_size(value));
            self.put(if writes { STORE } else { LOAD } + 2, ecam(function.slot, at + 16), value >> 32);
        }
        if writes {
            self.enable(function);
        }
    }

    fn move_bar(&mut self, function: Function) {
        let place = match self.random.below(6) {
            // Onto another function, ECAM, RAM, the chips.
            0 => 0xd000_0000 + self.random.below(32) * 0x1_0000,
            1 => layout::ECAM,
            2 => self.random.below(32 << 20),
            3 => 0xfec0_0000,
            4 => self.window,
            _ => layout::MMIO32 + self.random.below(layout::MMIO32_END - layout::MMIO32),
        };
        let slot = if self.random.one_in(4) { slots::DISPLAY } else { function.slot };
        let bar = if slot == slots::DISPLAY { 0x10 + 8 * self.random.below(2) } else { 0x10 };
        self.store(4, ecam(slot, bar), place & 0xffff_ffff);
        if slot != slots::DISPLAY {
            self.store(4, ecam(slot, bar + 4), place >> 32);
        }
        for _ in 0..4 {
            let (size, offset) = (self.random.below(4), self.random.below(0x6000));
            let value = self.random.value();
            if place >= layout::MMIO32 {
                self.put(STORE + size, place + offset, value);
                self.put(LOAD + size, place + offset, 0);
            }
        }
        if self.random.one_in(4) {
            // ECAM itself moves, and comes back.
            self.out(4, 0xcf8, 0x8000_0060);
            let place = self.random.value();
            self.out(4, 0xcfc, place);
            self.put(LOAD + 2, (place & 0xfc00_0000).max(layout::MMIO32), 0);
            self.out(4, 0xcf8, 0x8000_0060);
            self.out(4, 0xcfc, layout::ECAM | 1);
        }
        if self.random.one_in(2) {
            self.begin();
        }
    }

    fn poke_msix(&mut self, function: Function) {
        let control = self.random.of(&[0x8000_u64, 0xc000, 0, 0x8000, 0xffff]);
        self.store(2, ecam(function.slot, u64::from(function.msix) + 2), control);
        let count = u64::from(function.queues) + 2;
        for _ in 0..4 {
            let entry = function.bar() + 0x4000 + 16 * self.random.below(count);
            let address = match self.random.below(8) {
                0 => self.random.next(),
                _ => 0xfee0_0000 | self.random.below(4) << 12 | self.random.below(2) << 2,
            };
            // Fixed delivery mostly: an INIT or an NMI is the end of this guest.
            let data = if self.random.one_in(64) { self.random.next() } else { self.random.below(256) };
            if self.random.one_in(4) {
                self.store(8, entry, address);
            } else {
                self.store(4, entry, address & 0xffff_ffff);
                let high = if self.random.one_in(8) { address >> 32 } else { 0 };
                self.store(4, entry + 4, high);
            }
            self.store(4, entry + 8, data & 0xffff_ffff);
            let mask = self.random.below(2);
            self.store(4, entry + 12, mask);
        }
        let size = self.random.below(4);
        self.put(LOAD + size, function.bar() + 0x5000, 0);
    }

    fn fw_cfg(&mut self) {
        let key = match self.random.below(4) {
            0 => self.random.value() & 0xffff,
            _ => self.random.of(&[0, 1, 2, 5, 0xf, 0x19, 0x20, 0x21, 0x22, 0x25, 0x2a]),
        };
        if self.random.one_in(2) {
            self.out(2, 0x510, key);
            for _ in 0..8 {
                self.put(IN, 0x511, 0);
            }
            self.put(IN_STRING, 0x511, 0);
            return;
        }
        let request = PLAYGROUND + 0x8000 + self.random.below(0x100) * 16;
        let bits = if self.random.one_in(4) { self.random.next() & 0xffff } else { self.random.of(&[2, 10, 4, 8, 16]) };
        let length = if self.random.one_in(4) { self.random.value() as u32 } else { self.random.below(0x2000) as u32 };
        let to = if self.random.one_in(3) { self.random.address() } else { BUFFERS + self.random.below(0x4_0000) };
        let control = (key as u32) << 16 | bits as u32;
        self.store(4, request, control.swap_bytes().into());
        self.store(4, request + 4, length.swap_bytes().into());
        // Never over the code and the ring, or this guest ends at once.
        let to = if (CODE - (1 << 21)..32 << 20).contains(&to) && !self.random.one_in(32) { BUFFERS } else { to };
        self.store(8, request + 8, to.swap_bytes());
        let at = if self.random.one_in(16) { self.random.address() } else { request };
        self.out(4, 0x514, u64::from(((at >> 32) as u32).swap_bytes()));
        self.out(4, 0x518, u64::from((at as u32).swap_bytes()));
    }

    fn poke_display(&mut self) {
        let value = self.random.value();
        match self.random.below(4) {
            0 => {
                let size = self.random.below(4);
                let at = if self.random.one_in(4) {
                    (16 << 20) - self.random.below(16)
                } else {
                    self.random.below(16 << 20)
                };
                self.put(STORE + size, FRAMEBUFFER + at, value);
            }
            1 => {
                let (size, at) = (self.random.below(4), self.random.below(0x1000));
                let kind = if self.random.one_in(2) { STORE } else { LOAD };
                self.put(kind + size, DISPI + at, value);
            }
            _ => {
                for register in [1, 2, 3, 4, 6, 7, 8, 9] {
                    let value = match self.random.below(4) {
                        0 => self.random.value(),
                        _ if register == 3 => self.random.of(&[16, 32]),
                        _ if register == 4 => self.random.of(&[1, 3, 0x41]),
                        _ => self.random.below(2000),
                    };
                    self.store(2, DISPI + 0x500 + 2 * register, value);
                }
            }
        }
    }

    /// Of the kernel: the IOAPIC and the local APIC.
    fn chips(&mut self) {
        let base = self.random.of(&[layout::IOAPIC, layout::LOCAL_APIC, layout::VMGENID, layout::BIOS_END - 0x1000]);
        let (offset, value) = (self.random.below(0x400) / 4 * 4, self.random.value());
        self.store(4, base + offset, value);
        self.put(LOAD + 2, base + offset, 0);
    }

    fn end(&mut self) {
        match self.random.below(8) {
            0 => self.out(2, 0x614, 0x3400),
            1 => self.out(1, 0x505, 1),
            2 => self.out(4, 0xb04, 0x4641_4c42),
            3 => self.out(1, 0x64, 0xfe),
            4 => self.store(8, PAGE_TABLES, 0),
            5 => {
                // Anywhere in memory.
                let at = self.random.below(32 << 20);
                self.store(8, at, 0x0f0b_0f0b_0f0b_0f0b);
            }
            _ => self.out(1, 0xcf9, 6),
        }
    }
}

fn self_size(value: u64) -> u64 {
    [1, 2, 4, 8][(value >> 8 & 3) as usize]
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
