//! What the guest is told to do: seeded garbage from somebody who knows how a driver would do it.

use super::*;

/// Xorshift: the same seed gives the same guest.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Values that are on the edge of something, and others.
    pub(super) fn value(&mut self) -> u64 {
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
    pub(super) fn address(&mut self) -> u64 {
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
pub(super) struct Function {
    pub(super) slot: u8,
    pub(super) features: u64,
    pub(super) queues: u16,
    pub(super) msix: u16,
}

impl Function {
    pub(super) fn bar(self) -> u64 {
        0xd000_0000 + u64::from(self.slot) * 0x1_0000
    }

    pub(super) fn queue(self, queue: u16) -> u64 {
        QUEUES + u64::from(self.slot) * 0x2_0000 + u64::from(queue % 8) * 0x4000
    }
}

pub(super) const FRAMEBUFFER: u64 = 0xe000_0000;
pub(super) const DISPI: u64 = 0xd800_0000;

pub(super) fn ecam(slot: u8, register: u64) -> u64 {
    layout::ECAM + u64::from(slot) * 0x8000 + register
}

/// What is there, as a firmware would find it.
pub(super) fn find_functions(bench: &Bench) -> Vec<Function> {
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
pub(super) struct Generator {
    pub(super) random: Random,
    pub(super) functions: Vec<Function>,
    pub(super) next: std::collections::VecDeque<[u64; 3]>,
    /// Of each queue: what the guest has made available.
    pub(super) available: BTreeMap<(u8, u16), u16>,
    pub(super) window: u64,
}

pub(super) const PORTS: &[(u16, u64)] = &[
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
    pub(super) fn put(&mut self, kind: u64, address: u64, value: u64) {
        self.next.push_back([kind, address, value]);
    }

    pub(super) fn store(&mut self, bytes: u32, address: u64, value: u64) {
        self.put(STORE + u64::from(bytes.trailing_zeros()), address, value);
    }

    pub(super) fn out(&mut self, bytes: u32, port: u16, value: u64) {
        self.put(OUT + u64::from(bytes.trailing_zeros()), port.into(), value);
    }

    pub(super) fn record(&mut self) -> [u64; 3] {
        loop {
            if let Some(record) = self.next.pop_front() {
                return record;
            }
            self.more();
        }
    }

    /// As a firmware does: decoding on.
    pub(super) fn begin(&mut self) {
        self.next.clear();
        self.available.clear();
        for function in self.functions.clone() {
            self.enable(function);
        }
        self.store(4, ecam(slots::DISPLAY, 0x10), FRAMEBUFFER);
        self.store(4, ecam(slots::DISPLAY, 0x18), DISPI);
        self.store(2, ecam(slots::DISPLAY, 4), 2);
    }

    pub(super) fn enable(&mut self, function: Function) {
        self.store(4, ecam(function.slot, 0x10), function.bar());
        self.store(4, ecam(function.slot, 0x14), 0);
        self.store(2, ecam(function.slot, 4), 6);
    }

    pub(super) fn more(&mut self) {
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
    pub(super) fn set_up(&mut self, function: Function) {
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

    pub(super) fn submit(&mut self, function: Function) {
        let queue = self.random.below(u64::from(function.queues.min(8))) as u16;
        self.submit_to(function, queue);
    }

    /// A few chains of descriptors, nearly right.
    pub(super) fn submit_to(&mut self, function: Function, queue: u16) {
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
    pub(super) fn header(&mut self, function: Function, at: u64) {
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

    pub(super) fn poke_bar(&mut self, function: Function) {
        let page = self.random.of(&[0, 0, 0, 0x1000, 0x2000, 0x2000, 0x3000, 0x4000, 0x5000, 0x7000]);
        let within = if self.random.one_in(4) { 0x1000 } else { 0x40 };
        let address = function.bar() + page + self.random.below(within);
        let size = self.random.below(4);
        let value = self.random.value();
        let kind = if self.random.one_in(2) { STORE } else { LOAD };
        self.put(kind + size, address, value);
    }

    pub(super) fn poke_port(&mut self) {
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

    pub(super) fn poke_configuration(&mut self, function: Function) {
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

    pub(super) fn move_bar(&mut self, function: Function) {
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

    pub(super) fn poke_msix(&mut self, function: Function) {
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

    pub(super) fn fw_cfg(&mut self) {
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

    pub(super) fn poke_display(&mut self) {
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
    pub(super) fn chips(&mut self) {
        let base = self.random.of(&[layout::IOAPIC, layout::LOCAL_APIC, layout::VMGENID, layout::BIOS_END - 0x1000]);
        let (offset, value) = (self.random.below(0x400) / 4 * 4, self.random.value());
        self.store(4, base + offset, value);
        self.put(LOAD + 2, base + offset, 0);
    }

    pub(super) fn end(&mut self) {
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

pub(super) fn self_size(value: u64) -> u64 {
    [1, 2, 4, 8][(value >> 8 & 3) as usize]
}
