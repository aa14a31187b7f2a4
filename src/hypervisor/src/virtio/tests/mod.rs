//! A driver in memory: lays rings out in guest RAM and drives devices as a guest would, well or badly, without KVM.

mod blk;
mod cycles;
mod net;
mod rng;
mod small;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::memory::{GuestRam, SharedRam};
use crate::virtio::device::{Activation, ActiveQueue, Interrupt, VirtioDevice};
use crate::virtio::ring::{F_EVENT_IDX, F_INDIRECT_DESC};

pub const PATIENCE: Duration = Duration::from_secs(10);
/// RAM is 0 to 4 MiB and 8 to 12 MiB.
pub const HOLE: u64 = 4 << 20;
pub const HIGH: u64 = 8 << 20;
pub const END: u64 = 12 << 20;
const DATA: u64 = 2 << 20;

pub const READ: bool = false;
pub const WRITE: bool = true;

const NEXT: u16 = 1;
const WRITABLE: u16 = 2;
pub const INDIRECT: u16 = 4;

#[derive(Default)]
struct Seen {
    queues: HashMap<u16, u32>,
    config: u32,
    broken: Vec<String>,
}

#[derive(Default)]
pub struct TestInterrupt {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl TestInterrupt {
    fn note(&self, f: impl FnOnce(&mut Seen)) {
        f(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Interrupt for TestInterrupt {
    fn signal_queue(&self, index: u16) {
        self.note(|seen| *seen.queues.entry(index).or_default() += 1);
    }

    fn signal_config(&self) {
        self.note(|seen| seen.config += 1);
    }

    fn queue_eventfd(&self, _index: u16) -> Option<EventFd> {
        None
    }

    fn needs_reset(&self, why: &str) {
        self.note(|seen| seen.broken.push(why.to_owned()));
    }
}

/// Guest memory, interrupts and features, for one device at a time.
pub struct Rig {
    pub ram: SharedRam,
    pub interrupt: Arc<TestInterrupt>,
    pub features: u64,
    data: std::cell::Cell<u64>,
}

impl Rig {
    pub fn new(features: u64) -> Self {
        let half = 4 << 20;
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), half), (GuestAddress(HIGH), half)]).unwrap();
        Self {
            ram: SharedRam::new(ram),
            interrupt: Arc::new(TestInterrupt::default()),
            features: features | 1 << 32,
            data: std::cell::Cell::new(DATA),
        }
    }

    /// Room for data in the lower RAM.
    pub fn alloc(&self, length: usize) -> u64 {
        let at = self.data.get();
        self.data.set((at + length as u64).next_multiple_of(64));
        assert!(self.data.get() <= HOLE, "the test asks for more memory than there is");
        at
    }

    pub fn put(&self, bytes: &[u8]) -> u64 {
        let at = self.alloc(bytes.len());
        self.write(at, bytes);
        at
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.ram.memory().write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.ram.memory().read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    pub fn queue(&self, index: u16, size: u16) -> TestQueue {
        let base = 0x1_0000 * (u64::from(index) + 1);
        self.write(base, &vec![0; 0x1_0000]);
        TestQueue {
            index,
            size,
            base,
            kick: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap(),
            next_descriptor: 0,
            avail: 0,
            seen: 0,
        }
    }

    pub fn activate(&self, device: &mut dyn VirtioDevice, queues: &[&TestQueue]) {
        self.try_activate(device, queues).unwrap();
    }

    pub fn try_activate(
        &self,
        device: &mut dyn VirtioDevice,
        queues: &[&TestQueue],
    ) -> Result<(), crate::virtio::device::ActivateError> {
        device.activate(Activation {
            memory: self.ram.clone(),
            features: self.features,
            queues: queues.iter().map(|queue| queue.active()).collect(),
            interrupt: Arc::clone(&self.interrupt) as Arc<dyn Interrupt>,
        })
    }

    fn wait<T>(&self, what: &str, mut f: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.interrupt.seen.lock().unwrap();
        loop {
            if let Some(found) = f(&seen) {
                return found;
            }
            assert!(Instant::now() < deadline, "timed out waiting for {what}; broken: {:?}", seen.broken);
            seen = self.interrupt.changed.wait_timeout(seen, Duration::from_millis(1)).unwrap().0;
        }
    }

    pub fn wait_broken(&self) -> String {
        self.wait("DEVICE_NEEDS_RESET", |seen| seen.broken.first().cloned())
    }

    pub fn wait_config(&self, count: u32) {
        self.wait("a change of configuration", |seen| (seen.config >= count).then_some(()));
    }

    pub fn interrupts(&self, queue: u16) -> u32 {
        self.interrupt.seen.lock().unwrap().queues.get(&queue).copied().unwrap_or(0)
    }

    pub fn broken(&self) -> Vec<String> {
        self.interrupt.seen.lock().unwrap().broken.clone()
    }

    pub fn forget_broken(&self) {
        self.interrupt.seen.lock().unwrap().broken.clear();
    }

    /// Wait for something that no interrupt tells.
    pub fn until(&self, what: &str, mut f: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !f() {
            assert!(Instant::now() < deadline, "timed out waiting for {what}");
            let seen = self.interrupt.seen.lock().unwrap();
            drop(self.interrupt.changed.wait_timeout(seen, Duration::from_millis(1)).unwrap());
        }
    }
}

pub struct TestQueue {
    pub index: u16,
    pub size: u16,
    pub base: u64,
    pub kick: EventFd,
    next_descriptor: u16,
    avail: u16,
    seen: u16,
}

impl TestQueue {
    pub fn descriptors(&self) -> u64 {
        self.base
    }

    pub fn available(&self) -> u64 {
        self.base + 0x8000
    }

    pub fn used(&self) -> u64 {
        self.base + 0xa000
    }

    pub fn active(&self) -> ActiveQueue {
        let mut queue = Queue::new(self.size).unwrap();
        queue.set_desc_table_address(Some(self.descriptors() as u32), Some(0));
        queue.set_avail_ring_address(Some(self.available() as u32), Some(0));
        queue.set_used_ring_address(Some(self.used() as u32), Some(0));
        queue.set_ready(true);
        ActiveQueue { index: self.index, queue, kick: self.kick.try_clone().unwrap() }
    }

    pub fn describe(&self, rig: &Rig, at: u16, address: u64, length: u32, flags: u16, next: u16) {
        let descriptor = Descriptor::new(address, length, flags, next);
        let place = self.descriptors() + 16 * u64::from(at);
        rig.ram.memory().write_obj(descriptor, GuestAddress(place)).unwrap();
    }

    /// Lay out one chain, and make it available without a kick; its head.
    pub fn add(&mut self, rig: &Rig, pieces: &[(u64, u32, bool)]) -> u16 {
        let head = self.next_descriptor;
        for (number, (address, length, writable)) in pieces.iter().enumerate() {
            let at = self.next_descriptor;
            self.next_descriptor = (at + 1) % self.size;
            let more = number + 1 < pieces.len();
            let flags = if more { NEXT } else { 0 } | if *writable { WRITABLE } else { 0 };
            self.describe(rig, at, *address, *length, flags, self.next_descriptor);
        }
        self.offer(rig, head);
        head
    }

    /// One chain behind an indirect descriptor.
    pub fn add_indirect(&mut self, rig: &Rig, pieces: &[(u64, u32, bool)]) -> u16 {
        let mut table = Vec::new();
        for (number, (address, length, writable)) in pieces.iter().enumerate() {
            let more = number + 1 < pieces.len();
            let flags = if more { NEXT } else { 0 } | if *writable { WRITABLE } else { 0 };
            table.extend(address.to_le_bytes());
            table.extend(length.to_le_bytes());
            table.extend(flags.to_le_bytes());
            table.extend((number as u16 + 1).to_le_bytes());
        }
        let at = rig.put(&table);
        let head = self.next_descriptor;
        self.describe(rig, head, at, table.len() as u32, INDIRECT, 0);
        self.next_descriptor = (head + 1) % self.size;
        self.offer(rig, head);
        head
    }

    pub fn offer(&mut self, rig: &Rig, head: u16) {
        rig.write(self.available() + 4 + 2 * u64::from(self.avail % self.size), &head.to_le_bytes());
        self.avail = self.avail.wrapping_add(1);
        self.set_available_index(rig, self.avail);
    }

    pub fn set_available_index(&self, rig: &Rig, index: u16) {
        let ram = rig.ram.memory();
        ram.store(index, GuestAddress(self.available() + 2), std::sync::atomic::Ordering::Release).unwrap();
    }

    pub fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    pub fn submit(&mut self, rig: &Rig, pieces: &[(u64, u32, bool)]) -> u16 {
        let head = self.add(rig, pieces);
        self.kick();
        head
    }

    pub fn used_index(&self, rig: &Rig) -> u16 {
        let ram = rig.ram.memory();
        ram.load(GuestAddress(self.used() + 2), std::sync::atomic::Ordering::Acquire).unwrap()
    }

    /// The next used element, if there is one.
    pub fn take_used(&mut self, rig: &Rig) -> Option<(u16, u32)> {
        (self.used_index(rig) != self.seen).then(|| {
            let element = rig.read(self.used() + 4 + 8 * u64::from(self.seen % self.size), 8);
            self.seen = self.seen.wrapping_add(1);
            let field = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
            (field(0) as u16, field(4))
        })
    }

    /// For what may stay away.
    pub fn used_within(&mut self, rig: &Rig, patience: Duration) -> Option<(u16, u32)> {
        let deadline = Instant::now() + patience;
        loop {
            let used = self.take_used(rig);
            if used.is_some() || Instant::now() > deadline {
                return used;
            }
            let seen = rig.interrupt.seen.lock().unwrap();
            drop(rig.interrupt.changed.wait_timeout(seen, Duration::from_millis(1)).unwrap());
        }
    }

    pub fn wait_used(&mut self, rig: &Rig) -> (u16, u32) {
        rig.wait("a used buffer", |_| self.take_used(rig))
    }
}

/// Numbers without pattern, the same for the same seed.
pub struct Chaos(u64);

impl Chaos {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

/// Drive `device` with rings full of nonsense, some of it nearly sense, then reset it. Whatever it did, it must answer.
pub fn torment(device: &mut dyn VirtioDevice, seed: u64) {
    let mut chaos = Chaos::new(seed);
    let transport = F_EVENT_IDX | F_INDIRECT_DESC;
    let rig = Rig::new(device.features() & (chaos.next() | if seed.is_multiple_of(2) { transport } else { 0 }));
    let sizes = device.queue_sizes().to_vec();
    let mut queues = Vec::new();
    for (index, largest) in sizes.iter().enumerate() {
        let queue = rig.queue(index as u16, 1 << chaos.below(u64::from(largest.ilog2()) + 1));
        for at in 0..queue.size {
            let address = match chaos.below(8) {
                0 => chaos.next(),
                1 => HOLE - chaos.below(4096),
                2 => END - chaos.below(4096),
                3 => queue.base + chaos.below(0x1_0000),
                _ => DATA + chaos.below(1 << 20),
            };
            let length = match chaos.below(8) {
                0 => chaos.next() as u32,
                1 => 0,
                2 => 16 * chaos.below(64) as u32,
                _ => chaos.below(8192) as u32,
            };
            let flags = if chaos.below(16) == 0 { chaos.next() as u16 } else { chaos.below(4) as u16 };
            queue.describe(&rig, at, address, length, flags, chaos.below(u64::from(queue.size) + 1) as u16);
        }
        for slot in 0..queue.size {
            let head = if chaos.below(16) == 0 { chaos.next() } else { chaos.below(u64::from(queue.size)) };
            rig.write(queue.available() + 4 + 2 * u64::from(slot), &(head as u16).to_le_bytes());
        }
        // Small numbers everywhere: kinds of requests, classes of commands, sectors.
        for _ in 0..512 {
            let at = DATA + 4 * chaos.below(1 << 18);
            rig.write(at, &(chaos.below(32) as u32).to_le_bytes());
        }
        queues.push(queue);
    }
    if rig.try_activate(device, &queues.iter().collect::<Vec<_>>()).is_ok() {
        let mut available = vec![0_u16; queues.len()];
        for _ in 0..8 {
            for (queue, index) in queues.iter().zip(&mut available) {
                let step = if chaos.below(32) == 0 { chaos.next() } else { chaos.below(u64::from(queue.size) + 1) };
                *index = index.wrapping_add(step as u16);
                queue.set_available_index(&rig, *index);
                queue.kick();
            }
            let mut config = [0; 8];
            device.read_config(chaos.below(300), &mut config);
            device.write_config(chaos.below(300), &config[..chaos.below(9) as usize]);
            match chaos.below(8) {
                0 => {
                    device.pause();
                    let _ = device.save();
                    device.resume();
                }
                1 => device.vector_changed(chaos.below(8) as u16),
                _ => std::thread::yield_now(),
            }
        }
    }
    device.pause();
    device.reset();
}

#[test]
fn buffers_are_taken_from_either_end_and_copied_in_pieces() {
    use crate::virtio::ring::Buffers;

    let rig = Rig::new(0);
    let mut queue = rig.queue(0, 8);
    let (a, b) = (rig.put(b"hello "), rig.put(b"world!"));
    queue.add(&rig, &[(a, 6, READ), (b, 6, READ), (b, 6, WRITE), (a, 0, WRITE)]);
    let interrupt: Arc<dyn Interrupt> = Arc::clone(&rig.interrupt) as _;
    let mut ring = crate::virtio::ring::Ring::new(queue.active(), 0, &interrupt);
    let ram = rig.ram.memory();
    let mut chain = ring.pop(&ram).unwrap();
    let mut last: Buffers<'_> = chain.readable.take_last(3).unwrap();
    assert_eq!((chain.readable.len(), last.len()), (9, 3));
    assert_eq!(chain.readable.array::<8>(), Some(*b"hello wo"));
    assert_eq!(chain.readable.array::<2>(), None);
    assert_eq!(last.array::<3>(), Some(*b"ld!"));
    assert!(last.is_empty() && last.take_last(1).is_none() && last.take_last(0).is_some());
    assert_eq!(chain.writable.write(b"WORLD?!!"), 6);
    assert_eq!(rig.read(b, 6), b"WORLD?");
}

proptest::proptest! {
    #[test]
    fn whatever_is_taken_off_buffers_all_bytes_come_once_and_in_order(
        lengths in proptest::collection::vec(0_u32..40, 1..20),
        steps in proptest::collection::vec((0_u8..4, 0_usize..60), 0..20),
    ) {
        use proptest::prelude::*;

        let rig = Rig::new(0);
        let mut queue = rig.queue(0, 32);
        let total = lengths.iter().sum::<u32>() as usize;
        let content: Vec<u8> = (0..total).map(|at| at as u8).collect();
        let mut at = rig.put(&content);
        let pieces: Vec<_> = lengths.iter().map(|length| {
            at += u64::from(*length);
            (at - u64::from(*length), *length, READ)
        }).collect();
        queue.add(&rig, &pieces);
        let interrupt: Arc<dyn Interrupt> = Arc::clone(&rig.interrupt) as _;
        let mut ring = crate::virtio::ring::Ring::new(queue.active(), 0, &interrupt);
        let ram = rig.ram.memory();
        let mut buffers = ring.pop(&ram).unwrap().readable;
        let mut left = &content[..];
        for (kind, count) in steps {
            let mut bytes = vec![0; count];
            let front = count.min(left.len());
            match kind {
                0 => {
                    prop_assert_eq!(buffers.read(&mut bytes), front);
                    prop_assert_eq!(&bytes[..front], &left[..front]);
                    left = &left[front..];
                }
                1 => {
                    prop_assert_eq!(buffers.take(count).read(&mut bytes), front);
                    prop_assert_eq!(&bytes[..front], &left[..front]);
                    left = &left[front..];
                }
                2 => {
                    buffers.advance(count);
                    left = &left[front..];
                }
                _ => match buffers.take_last(count) {
                    Some(mut last) => {
                        prop_assert_eq!((last.len(), last.read(&mut bytes)), (count, count));
                        prop_assert_eq!(&bytes[..], &left[left.len() - count..]);
                        left = &left[..left.len() - count];
                    }
                    None => prop_assert!(count > left.len()),
                },
            }
            prop_assert_eq!(buffers.len(), left.len());
            prop_assert_eq!(buffers.slices().iter().map(|slice| slice.len()).sum::<usize>(), left.len());
        }
        let mut rest = vec![0; left.len()];
        prop_assert_eq!(buffers.read(&mut rest), left.len());
        prop_assert_eq!(&rest[..], left);
    }
}
