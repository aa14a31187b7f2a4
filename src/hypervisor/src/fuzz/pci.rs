//! Configuration space, BARs, MSI-X and hotplug of a bus with real devices on it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::source::Source;
use crate::bus::{Registers as _, SharedRegisters};
use crate::display::Display;
use crate::interrupts::{Interrupts, Line, Message, MessageRoute};
use crate::memory::{GuestRam, SharedRam};
use crate::pci::{Hotplug, IoEvents, MemoryBar, PciBus, SharedLines, SimpleFunction, Windows, intx_gsi, slots};
use crate::virtio::blk::{Blk, BlkSettings};
use crate::virtio::device::VirtioDevice;
use crate::virtio::pci::VirtioPci;
use crate::virtio::rate_limiter::DiskLimits;
use crate::virtio::rng::Rng;

const RAM: usize = 1 << 20;
const ECAM: u64 = 0xb000_0000;
const STEPS: usize = 256;
/// Those that are asked about most: one that comes and goes among them.
const SLOTS: [u8; 6] = [slots::HOST_BRIDGE, slots::FIRST_DISK, 3, slots::RNG, slots::DISPLAY, slots::LPC];
const PLUGGED: u8 = 3;
/// Registers that have effects: command, BARs, capabilities.
const REGISTERS: [u16; 10] = [0x04, 0x10, 0x14, 0x18, 0x20, 0x30, 0x3c, 0x40, 0x50, 0x60];

/// How many of each there are; a guest must not be able to make them many.
#[derive(Default)]
struct Counts {
    routes: AtomicUsize,
    /// Routes that lead somewhere.
    live: AtomicUsize,
    doorbells: AtomicUsize,
}

struct Board(Arc<Counts>);

struct Route(EventFd, Arc<Counts>, AtomicBool);

impl MessageRoute for Route {
    fn eventfd(&self) -> &EventFd {
        &self.0
    }

    fn set(&self, message: Option<Message>) -> io::Result<()> {
        let was = self.2.swap(message.is_some(), Ordering::SeqCst);
        match (was, message) {
            (false, Some(_)) => _ = self.1.live.fetch_add(1, Ordering::SeqCst),
            (true, None) => _ = self.1.live.fetch_sub(1, Ordering::SeqCst),
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = self.set(None);
        self.1.routes.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Wire;

impl Line for Wire {
    fn set(&self, _high: bool) {}
}

impl Interrupts for Board {
    fn message_route(&self) -> io::Result<Box<dyn MessageRoute>> {
        self.0.routes.fetch_add(1, Ordering::SeqCst);
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Box::new(Route(event, Arc::clone(&self.0), AtomicBool::new(false))))
    }

    fn line(&self, _gsi: u32) -> io::Result<Box<dyn Line>> {
        Ok(Box::new(Wire))
    }
}

impl IoEvents for Board {
    fn register(&self, _event: &EventFd, _address: u64) -> io::Result<()> {
        self.0.doorbells.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn unregister(&self, _event: &EventFd, _address: u64) -> io::Result<()> {
        self.0.doorbells.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

struct NoMemory;

impl MemoryBar for NoMemory {
    fn moved(&mut self, _address: Option<u64>) {}

    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}

struct Bench {
    bus: Arc<PciBus>,
    ports: SharedRegisters,
    hotplug: Hotplug,
    counts: Arc<Counts>,
    ram: SharedRam,
    lines: Arc<SharedLines>,
    board: Arc<Board>,
}

impl Bench {
    fn new() -> Self {
        let counts = Arc::new(Counts::default());
        let board = Arc::new(Board(Arc::clone(&counts)));
        let bus = PciBus::new(Windows { low: 0xc000_0000..0xfec0_0000, high: Some(1 << 38..1 << 39) });
        let ram = SharedRam::new(GuestRam::from_ranges(&[(GuestAddress(0), RAM)]).unwrap());
        let lines = Arc::new(SharedLines::new(Arc::<Board>::clone(&board)));
        let hotplug = Hotplug::new(Arc::clone(&bus), || {}, drop);
        let bench = Self { ports: bus.ports(), hotplug, counts, ram, lines, board, bus };
        bench.bus.add(slots::HOST_BRIDGE, SimpleFunction::host_bridge()).unwrap();
        bench.bus.add(slots::LPC, SimpleFunction::lpc_bridge()).unwrap();
        bench.bus.add(slots::FIRST_DISK, bench.function(slots::FIRST_DISK, disk())).unwrap();
        bench.bus.add(slots::RNG, bench.function(slots::RNG, Box::new(Rng::new().unwrap()))).unwrap();
        let display = Display::new().unwrap().function(Box::new(NoMemory)).unwrap();
        bench.bus.add(slots::DISPLAY, display).unwrap();
        bench
    }

    fn function(&self, slot: u8, device: Box<dyn VirtioDevice>) -> VirtioPci {
        let (lines, board) = (Arc::<SharedLines>::clone(&self.lines), Arc::<Board>::clone(&self.board));
        VirtioPci::new(device, self.ram.clone(), lines, board, intx_gsi(slot)).unwrap()
    }

    /// What a guest sees of all configuration space.
    fn dump(&self) -> Vec<u8> {
        let mut dump = Vec::new();
        for slot in 0..32_u64 {
            for register in (0..256).step_by(4) {
                let mut data = [0; 4];
                self.bus.mmio_read(ECAM + (slot << 15) + register, &mut data);
                dump.extend(data);
            }
        }
        dump
    }

    fn config_write(&self, slot: u8, register: u16, data: &[u8]) {
        let address = 1 << 31 | u32::from(slot) << 11 | u32::from(register & 0xfc);
        let mut ports = self.ports.lock().unwrap();
        ports.write(0, &address.to_le_bytes());
        ports.write(4 + u64::from(register & 3), data);
    }

    fn config_read(&self, slot: u8, register: u16) -> u32 {
        let address = 1 << 31 | u32::from(slot) << 11 | u32::from(register & 0xfc);
        let mut ports = self.ports.lock().unwrap();
        ports.write(0, &address.to_le_bytes());
        let mut data = [0; 4];
        ports.read(4, &mut data);
        u32::from_le_bytes(data)
    }

    /// Where the first BAR of a function says that it is.
    fn bar(&self, slot: u8) -> u64 {
        let (low, high) = (self.config_read(slot, 0x10), self.config_read(slot, 0x14));
        u64::from(low & !0xf) | if low >> 1 & 3 == 2 { u64::from(high) << 32 } else { 0 }
    }

    /// A driver's way to a running device, with two of its steps left to the bytes.
    fn begin(&self, slot: u8, source: &mut Source<'_>) {
        self.config_write(slot, 0x04, &7_u16.to_le_bytes());
        let base = self.bar(slot);
        let write = |offset: u64, data: &[u8]| {
            self.bus.mmio_write(base + offset, data);
        };
        for status in [0, 1, 3] {
            write(0x14, &[status]);
        }
        for half in 0..2_u32 {
            write(0x00, &half.to_le_bytes());
            write(0x08, &half.to_le_bytes());
            let mut features = [0; 4];
            self.bus.mmio_read(base + 0x04, &mut features);
            write(0x0c, &features);
        }
        write(0x14, &[11]);
        let odd = source.u64();
        for queue in 0..4_u16 {
            write(0x16, &queue.to_le_bytes());
            write(0x18, &(1_u16 << (odd & 7)).to_le_bytes());
            write(0x1a, &queue.to_le_bytes());
            for (at, place) in [(0x20, 0_u64), (0x28, 0x1000), (0x30, 0x2000)] {
                let place = place + 0x4000 * u64::from(queue) + if odd >> 8 & 0xff == 0 { odd } else { 0 };
                write(at, &place.to_le_bytes());
            }
            write(0x1c, &1_u16.to_le_bytes());
        }
        write(0x14, &[15]);
        for queue in 0..4_u16 {
            write(0x3000 + 4 * u64::from(queue), &queue.to_le_bytes());
        }
    }

    /// Nothing that is mapped lies over another or outside the windows, and what the kernel keeps is bounded.
    fn check(&self) {
        self.bus.check();
        // Queues and one more of the disks and rng: vectors, and kicks.
        assert!(self.counts.routes.load(Ordering::SeqCst) <= 16);
        assert!(self.counts.doorbells.load(Ordering::SeqCst) <= 16);
    }
}

fn disk() -> Box<dyn VirtioDevice> {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    ftruncate(&file, 64 << 10).unwrap();
    let settings = BlkSettings {
        name: "disk".to_owned(),
        file,
        read_only: false,
        serial: String::new(),
        size_bytes: 64 << 10,
        queues: 2,
        limits: DiskLimits::default(),
    };
    Box::new(Blk::new(settings).unwrap())
}

fn slot(source: &mut Source<'_>) -> u8 {
    match source.below(SLOTS.len() as u64 + 1) {
        at if at < SLOTS.len() as u64 => SLOTS[at as usize],
        _ => source.u8() & 31,
    }
}

/// What a guest, and the owner of the bus meanwhile, do.
pub fn pci(data: &[u8]) {
    let mut bench = Bench::new();
    let first = bench.dump();
    let mut source = Source::new(data);
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        step(&mut bench, &mut source);
        bench.check();
    }
    bench.bus.pause();
    bench.bus.reset();
    bench.hotplug.reset();
    bench.check();
    assert_eq!(bench.counts.doorbells.load(Ordering::SeqCst), 0, "a doorbell outlives a reset");
    if let Some(function) = bench.bus.remove(PLUGGED) {
        drop(function);
    }
    assert!(bench.dump() == first, "after a reset the bus is not as at power-on");
    assert_eq!(bench.counts.live.load(Ordering::SeqCst), 0, "a vector leads somewhere after a reset");
    let counts = Arc::clone(&bench.counts);
    drop(bench);
    assert_eq!(counts.routes.load(Ordering::SeqCst), 0, "a route outlives its bus");
}

fn step(bench: &mut Bench, source: &mut Source<'_>) {
    let bus = Arc::clone(&bench.bus);
    match source.below(16) {
        0 => {
            let (offset, length) = (source.below(8), source.access().min(4));
            let bytes = source.array::<4>();
            bench.ports.lock().unwrap().write(offset, &bytes[..length]);
        }
        1 => {
            let (offset, length) = (source.below(8), source.access().min(4));
            bench.ports.lock().unwrap().read(offset, &mut [0; 4][..length]);
        }
        2 | 3 => {
            let register = REGISTERS[source.below(10) as usize] + source.below(16) as u16;
            let (slot, length) = (slot(source), source.access().min(4));
            let bytes = source.array::<4>();
            bench.config_write(slot, register, &bytes[..length]);
        }
        4 => {
            let address = ECAM + (u64::from(slot(source)) << 15) + source.below(0x1000);
            let length = source.access();
            let bytes = source.array::<8>();
            bus.mmio_write(address, &bytes[..length]);
            bus.mmio_read(address, &mut [0; 8][..length]);
        }
        5..=7 => {
            // A register of a device, most likely.
            let address = bench.bar(slot(source)) + source.below(0x8000);
            let length = source.access();
            let bytes = source.array::<8>();
            bus.mmio_write(address, &bytes[..length]);
        }
        8 => {
            let address = bench.bar(slot(source)) + source.below(0x8000);
            let length = source.access();
            bus.mmio_read(address, &mut [0; 8][..length]);
        }
        9 => {
            let (address, length) = (source.u64(), source.access());
            bus.mmio_read(address, &mut [0; 8][..length]);
            bus.mmio_write(address, &[0xff; 8][..length]);
        }
        10 => {
            // A vector, whole, and MSI-X on.
            let slot = slot(source);
            let entry = bench.bar(slot) + 0x4000 + 16 * source.below(8);
            for at in 0..4 {
                bus.mmio_write(entry + 4 * at, &source.array::<4>());
            }
            let mut capability = bench.config_read(slot, 0x34) as u8 & 0xfc;
            for _ in 0..8 {
                let header = bench.config_read(slot, capability.into());
                if header as u8 == 0x11 {
                    bench.config_write(slot, u16::from(capability) + 2, &source.array::<2>());
                    break;
                }
                capability = (header >> 8) as u8 & 0xfc;
            }
        }
        11 => bench.begin(slot(source), source),
        12 => hotplug(bench, source),
        13 => {
            bus.pause();
            if source.u8() & 1 == 1 {
                save_and_restore(bench);
            }
            bus.resume();
        }
        14 => {
            // PCIEXBAR.
            bench.config_write(0, 0x60, &source.array::<4>());
            bench.config_write(0, 0x64, &source.array::<4>());
        }
        _ => {
            if source.below(4) == 0 {
                bus.reset();
                bench.hotplug.reset();
            }
        }
    }
}

fn hotplug(bench: &mut Bench, source: &mut Source<'_>) {
    let now = Instant::now();
    match source.below(6) {
        0 => {
            let function = bench.function(PLUGGED, disk());
            let _ = bench.hotplug.attach(PLUGGED, function);
        }
        1 => drop(bench.hotplug.request_eject(PLUGGED, now + Duration::from_secs(1))),
        2 => bench.hotplug.expire(now + Duration::from_secs(source.u8().into())),
        3 => {
            let saved = bench.hotplug.save();
            let _ = bench.hotplug.restore(&saved);
        }
        4 => {
            let (offset, length) = (source.below(16), source.access().min(4));
            bench.hotplug.read(offset, &mut [0; 4][..length]);
        }
        _ => {
            let (offset, length) = (source.below(16), source.access().min(4));
            let bytes = source.array::<4>();
            bench.hotplug.write(offset, &bytes[..length]);
        }
    }
}

/// Into a second bus with the same functions, which then is saved as the same.
fn save_and_restore(bench: &Bench) {
    let saved = bench.bus.save();
    let other = Bench::new();
    if bench.bus.function(PLUGGED).is_some() {
        other.bus.add(PLUGGED, other.function(PLUGGED, disk())).unwrap();
    }
    if (2..0x1f).any(|slot| saved.has(slot) != other.bus.function(slot).is_some()) {
        return;
    }
    other.bus.restore(&saved).expect("what was saved is not restored");
    let (before, after) = (serde_json::to_value(&saved).unwrap(), serde_json::to_value(other.bus.save()).unwrap());
    assert_eq!(before, after, "what was restored is saved as something else");
    other.check();
}
