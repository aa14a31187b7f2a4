mod hostile;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use vm_memory::Bytes as _;

use super::*;
use crate::interrupts::Message;
use crate::memory::GuestRam;
use crate::pci::msix::tests::{Recorder, entry};
use crate::pci::{PciBus, SharedFunction, SharedLines, SimpleFunction, Windows};
use crate::virtio::device::ActivateError;

const RAM: u64 = 1 << 20;
const SLOT: u8 = 2;
const GSI: u32 = 18;
const LOW: Range<u64> = 0xc000_0000..0xfec0_0000;
const F_OWN: u64 = 1 << 5 | F_EVENT_IDX;

/// What a device has been told, and what it tells back.
#[derive(Default)]
struct Told {
    log: Vec<String>,
    activation: Option<Activation>,
    config: Vec<u8>,
    refuse: bool,
}

#[derive(Clone, Default)]
struct Device(Arc<Mutex<Told>>);

impl Device {
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::clone(&self.0.lock().unwrap().activation.as_ref().unwrap().interrupt)
    }

    fn kicks(&self, queue: usize) -> u64 {
        self.0.lock().unwrap().activation.as_ref().unwrap().queues[queue].kick.read().unwrap_or(0)
    }
}

impl VirtioDevice for Device {
    fn name(&self) -> &'static str {
        "test"
    }
    fn device_type(&self) -> u16 {
        2
    }
    fn queue_sizes(&self) -> &[u16] {
        &[256, 64, 64]
    }
    fn features(&self) -> u64 {
        F_OWN | F_NOT_OURS
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let told = self.0.lock().unwrap();
        for (at, byte) in (offset as usize..).zip(data) {
            *byte = told.config.get(at).copied().unwrap_or(0);
        }
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let mut told = self.0.lock().unwrap();
        told.config.resize(16, 0);
        for (at, byte) in (offset as usize..).zip(data) {
            if let Some(place) = told.config.get_mut(at) {
                *place = *byte;
            }
        }
    }
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let mut told = self.0.lock().unwrap();
        if told.refuse {
            return Err(ActivateError { device: "test", why: "no".into() });
        }
        let queues: Vec<_> = activation
            .queues
            .iter()
            .map(|queue| {
                use virtio_queue::QueueT as _;
                format!("{}:{}@{}", queue.index, queue.queue.size(), queue.queue.next_avail())
            })
            .collect();
        told.log.push(format!("activate {:#x} {}", activation.features, queues.join(" ")));
        told.activation = Some(activation);
        Ok(())
    }
    fn reset(&mut self) {
        let mut told = self.0.lock().unwrap();
        told.log.push("reset".into());
        told.activation = None;
    }
    fn vector_changed(&mut self, index: u16) {
        self.0.lock().unwrap().log.push(format!("vector {index}"));
    }
    fn pause(&mut self) -> QueueStates {
        let mut told = self.0.lock().unwrap();
        told.log.push("pause".into());
        let queues = told.activation.iter().flat_map(|activation| &activation.queues);
        queues
            .map(|queue| {
                let mut state = queue.queue.state();
                (state.next_avail, state.next_used) = (7, 5);
                (queue.index, state)
            })
            .collect()
    }
    fn resume(&mut self) {
        self.0.lock().unwrap().log.push("resume".into());
    }
    fn save(&self) -> serde_json::Value {
        serde_json::json!({ "seen": 1 })
    }
    fn restore(&mut self, state: &serde_json::Value) -> Result<(), ActivateError> {
        self.0.lock().unwrap().log.push(format!("restore {state}"));
        Ok(())
    }
}

/// Which addresses KVM would watch.
#[derive(Default)]
struct Doorbells {
    at: Mutex<BTreeMap<u64, EventFd>>,
    refuse: AtomicBool,
}

impl Doorbells {
    fn places(&self) -> Vec<u64> {
        self.at.lock().unwrap().keys().copied().collect()
    }
}

impl IoEvents for Doorbells {
    fn register(&self, event: &EventFd, address: u64) -> io::Result<()> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(io::Error::other("refused"));
        }
        let before = self.at.lock().unwrap().insert(address, event.try_clone()?);
        assert!(before.is_none(), "{address:#x} twice");
        Ok(())
    }
    fn unregister(&self, _event: &EventFd, address: u64) -> io::Result<()> {
        self.at.lock().unwrap().remove(&address).map(drop).ok_or_else(|| io::Error::other("not there"))
    }
}

struct Bench {
    bus: Arc<PciBus>,
    device: Device,
    recorder: Arc<Recorder>,
    doorbells: Arc<Doorbells>,
    ram: SharedRam,
    /// Where the BAR is.
    bar: u64,
}

fn bench() -> Bench {
    let bus = PciBus::new(Windows { low: LOW, high: None });
    bus.add(0, SimpleFunction::host_bridge()).unwrap();
    let (device, recorder) = (Device::default(), Arc::new(Recorder::default()));
    let doorbells = Arc::new(Doorbells::default());
    let ram = SharedRam::new(GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap());
    let lines = Arc::new(SharedLines::new(recorder.clone()));
    let function = VirtioPci::new(Box::new(device.clone()), ram.clone(), lines, doorbells.clone(), GSI).unwrap();
    bus.add(SLOT, function).unwrap();
    Bench { bus, device, recorder, doorbells, ram, bar: 0xc020_0000 }
}

impl Bench {
    fn config(&self, offset: u64) -> u64 {
        0xb000_0000 + (u64::from(SLOT) << 15) + offset
    }

    fn read(&self, address: u64, length: usize) -> u64 {
        let mut data = [0; 8];
        self.bus.mmio_read(address, &mut data[..length]);
        u64::from_le_bytes(data)
    }

    fn write(&self, address: u64, value: u64, length: usize) {
        self.bus.mmio_write(address, &value.to_le_bytes()[..length]);
    }

    fn on(&self) {
        self.write(self.config(4), 6, 2);
    }

    fn function(&self) -> SharedFunction {
        self.bus.function(SLOT).unwrap()
    }

    fn status(&self) -> u64 {
        self.read(self.bar + 0x14, 1)
    }

    fn set_status(&self, status: u8) {
        self.write(self.bar + 0x14, status.into(), 1);
    }

    fn offered(&self) -> u64 {
        self.write(self.bar, 0, 4);
        let low = self.read(self.bar + 4, 4);
        self.write(self.bar, 1, 4);
        low | self.read(self.bar + 4, 4) << 32
    }

    fn accept(&self, features: u64) {
        self.write(self.bar + 8, 0, 4);
        self.write(self.bar + 0xc, features, 4);
        self.write(self.bar + 8, 1, 4);
        self.write(self.bar + 0xc, features >> 32, 4);
    }

    /// By 32-bit halves, as Linux does.
    fn queue(&self, index: u16, size: u16, at: u64) {
        self.write(self.bar + 0x16, index.into(), 2);
        self.write(self.bar + 0x18, size.into(), 2);
        for (register, address) in [(0x20, at), (0x28, at.wrapping_add(0x2000)), (0x30, at.wrapping_add(0x3000))] {
            self.write(self.bar + register, address & 0xffff_ffff, 4);
            self.write(self.bar + register + 4, address >> 32, 4);
        }
        self.write(self.bar + 0x1c, 1, 2);
    }

    fn enabled(&self, index: u16) -> bool {
        self.write(self.bar + 0x16, index.into(), 2);
        self.read(self.bar + 0x1c, 2) == 1
    }

    fn msix(&self, control: u16) {
        self.write(self.config(0x42), control.into(), 2);
    }

    fn vector(&self, index: u64, data: u32, masked: bool) {
        self.bus.mmio_write(self.bar + TABLE + 16 * index, &entry(0xfee0_0000, data, masked));
    }

    /// A driver without interrupts: the first queue only.
    fn start_simple(&self) {
        self.on();
        self.set_status(0);
        self.set_status(1);
        self.set_status(3);
        self.accept(F_VERSION_1);
        self.set_status(0xb);
        self.queue(0, 128, 0x1_0000);
        self.set_status(0xf);
    }

    /// A driver with a vector a queue, two queues.
    fn start_msix(&self) {
        self.on();
        self.set_status(0);
        self.set_status(1);
        self.set_status(3);
        self.accept(F_VERSION_1 | F_OWN);
        self.set_status(0xb);
        self.msix(0x8000);
        for vector in 0..3 {
            self.vector(vector, 0x40 + vector as u32, false);
        }
        self.write(self.bar + 0x10, 0, 2);
        for queue in 0..2_u16 {
            self.write(self.bar + 0x16, queue.into(), 2);
            self.write(self.bar + 0x1a, u64::from(queue) + 1, 2);
            self.queue(queue, 64, 0x2_0000 + 0x8000 * u64::from(queue));
        }
        self.set_status(0xf);
    }

    fn message(&self, data: u32) -> Option<Message> {
        Some(Message { address: 0xfee0_0000, data })
    }
}

#[test]
fn the_capabilities_say_where_everything_is() {
    let bench = bench();
    assert_eq!(bench.read(bench.config(0), 4), 0x1042_1af4);
    assert_eq!(bench.read(bench.config(8), 4), 0x0100_0001);
    assert_eq!(bench.read(bench.config(0x2c), 4), 0x1100_1af4);
    assert_eq!(bench.read(bench.config(0x3c), 2), 0x0100 | u64::from(GSI));
    let mut found = BTreeMap::new();
    let mut at = bench.read(bench.config(0x34), 1);
    while at != 0 {
        match bench.read(bench.config(at), 1) {
            0x09 => {
                let kind = bench.read(bench.config(at + 3), 1);
                let place = (bench.read(bench.config(at + 8), 4), bench.read(bench.config(at + 12), 4));
                assert_eq!(bench.read(bench.config(at + 4), 1), 0, "BAR of {kind}");
                assert_eq!(bench.read(bench.config(at + 2), 1), if [2, 5].contains(&kind) { 20 } else { 16 });
                assert!(found.insert(kind, place).is_none());
            }
            0x11 => {
                assert_eq!(bench.read(bench.config(at + 2), 2), 3);
                assert_eq!(bench.read(bench.config(at + 4), 8), 0x5000_0000_4000);
            }
            other => panic!("capability {other:#x}"),
        }
        at = bench.read(bench.config(at + 1), 1);
    }
    let expected = [(1, (0, 0x3c)), (2, (0x3000, 0x1000)), (3, (0x1000, 1)), (4, (0x2000, 0x1000)), (5, (0, 0))];
    assert_eq!(found, BTreeMap::from(expected));
}

#[test]
fn a_driver_that_does_everything_right_gets_its_queues_and_interrupts() {
    let bench = bench();
    bench.on();
    // The transport takes away what it has not, and adds VERSION_1.
    assert_eq!(bench.offered(), F_OWN | F_VERSION_1);
    bench.start_msix();
    assert_eq!(bench.status(), 0xf);
    assert_eq!(bench.device.log(), ["reset", "activate 0x120000020 0:64@0 1:64@0"]);
    assert_eq!(bench.doorbells.places(), [bench.bar + 0x3000, bench.bar + 0x3004]);
    assert_eq!(bench.recorder.messages(), [bench.message(0x40), bench.message(0x41), bench.message(0x42)]);

    let interrupt = bench.device.interrupt();
    let eventfd = interrupt.queue_eventfd(1).unwrap();
    interrupt.signal_queue(1);
    assert_eq!(eventfd.read().unwrap(), 1);
    assert!(interrupt.queue_eventfd(2).is_none());
    // With MSI-X, no line and no queue bit; the configuration bit is set nevertheless.
    assert_eq!(bench.read(bench.bar + ISR, 1), 0);
    let generation = bench.read(bench.bar + 0x15, 1);
    interrupt.signal_config();
    assert_eq!(bench.read(bench.bar + 0x15, 1), generation + 1);
    assert_eq!(bench.read(bench.bar + ISR, 1), 2);
    assert_eq!(bench.read(bench.bar + ISR, 1), 0);
    assert!(!bench.recorder.level(GSI));
    // A queue that there is not, and one without a vector.
    interrupt.signal_queue(2);
    interrupt.signal_queue(99);
}

#[test]
fn a_driver_without_msix_gets_the_line_until_it_reads_the_status() {
    let bench = bench();
    bench.start_simple();
    let interrupt = bench.device.interrupt();
    interrupt.signal_queue(0);
    assert!(bench.recorder.level(GSI));
    assert_eq!(bench.read(bench.config(6), 2) & 8, 8);
    interrupt.signal_config();
    assert_eq!(bench.read(bench.bar + ISR, 1), 3);
    assert!(!bench.recorder.level(GSI));
    assert_eq!(bench.read(bench.config(6), 2) & 8, 0);
    // INTx disabled: the status waits, the line does not.
    bench.write(bench.config(4), 0x406, 2);
    interrupt.signal_queue(0);
    assert!(!bench.recorder.level(GSI));
    assert_eq!(bench.read(bench.config(6), 2) & 8, 8);
    bench.write(bench.config(4), 6, 2);
    assert!(bench.recorder.level(GSI));
    // MSI-X turned on takes the line down.
    bench.msix(0x8000);
    assert!(!bench.recorder.level(GSI));
    assert!(interrupt.queue_eventfd(0).is_none());
}

#[test]
fn firmware_boot_loader_and_kernel_drive_it_in_turn_and_each_finds_it_fresh() {
    let bench = bench();
    let fresh = |bench: &Bench| {
        let words: Vec<u64> = (0..0x3c).step_by(4).map(|at| bench.read(bench.bar + at, 4)).collect();
        words
    };
    bench.on();
    let at_power_on = fresh(&bench);
    for round in 0..3 {
        // Firmware: polls, one queue, leaves without a word.
        bench.start_simple();
        assert_eq!(bench.device.log(), ["reset", "activate 0x100000000 0:128@0"], "{round}");
        bench.write(bench.bar + NOTIFY, 0, 2);
        assert_eq!(bench.device.kicks(0), 1);
        bench.device.interrupt().signal_queue(0);
        // Boot loader: another queue, other features, then gives up.
        bench.set_status(0);
        assert!(!bench.recorder.level(GSI));
        assert_eq!(fresh(&bench), at_power_on);
        assert!(bench.doorbells.places().is_empty());
        bench.set_status(3);
        bench.accept(F_VERSION_1 | F_OWN);
        bench.set_status(0xb);
        bench.queue(2, 8, 0x4_0000);
        bench.set_status(0xf);
        assert_eq!(bench.device.log(), ["reset", "activate 0x120000020 2:8@0"]);
        bench.write(bench.bar + NOTIFY + 8, 2, 2);
        bench.set_status(0x8f);
        assert_eq!(bench.status(), 0x8f);
        // Kernel.
        bench.start_msix();
        assert_eq!(bench.device.log(), ["reset", "activate 0x120000020 0:64@0 1:64@0"]);
        assert_eq!(bench.device.kicks(0), 0);
        assert!(!bench.enabled(2));
        // And a reboot.
        bench.bus.reset();
        assert_eq!(bench.device.log(), ["reset"]);
        assert!(bench.doorbells.places().is_empty());
        assert_eq!(bench.recorder.messages(), [None, None, None]);
        assert_eq!(bench.read(bench.config(4), 2), 0);
        assert_eq!(bench.read(bench.config(0x42), 2), 3);
        bench.on();
        assert_eq!(fresh(&bench), at_power_on);
    }
}

#[test]
fn a_reset_by_status_keeps_the_msix_table_and_forgets_the_vectors() {
    let bench = bench();
    bench.start_msix();
    bench.set_status(0);
    assert_eq!(bench.read(bench.bar + 0x10, 2), 0xffff);
    assert_eq!(bench.read(bench.bar + 0x1a, 2), 0xffff);
    assert_eq!(bench.read(bench.config(0x42), 2), 0x8003);
    assert_eq!(bench.read(bench.bar + TABLE + 24, 4), 0x41);
}

#[test]
fn features_are_agreed_on_before_anything_starts() {
    let bench = bench();
    bench.on();
    // Without VERSION_1, with a bit that is not offered, and before DRIVER: not accepted.
    for (features, status) in [(F_OWN, 0xb), (F_VERSION_1 | 1, 0xb), (F_VERSION_1, 8), (F_VERSION_1 | 1 << 63, 0xb)] {
        bench.set_status(0);
        bench.accept(features);
        bench.set_status(status);
        assert_eq!(bench.status() & 8, 0, "{features:#x}");
        bench.set_status(status | 4);
        assert_eq!(bench.status() & 4, 0);
    }
    bench.set_status(0);
    bench.accept(F_VERSION_1);
    bench.set_status(0xb);
    // Too late for another choice.
    bench.accept(F_VERSION_1 | F_OWN);
    bench.write(bench.bar + 8, 0, 4);
    assert_eq!(bench.read(bench.bar + 0xc, 4), 0);
    bench.write(bench.bar + 8, 2, 4);
    bench.write(bench.bar + 0xc, u64::MAX, 4);
    assert_eq!(bench.read(bench.bar + 0xc, 4), 0);
    bench.write(bench.bar, 7, 4);
    assert_eq!(bench.read(bench.bar + 4, 4), 0);
    // Bits are never cleared but by a reset, and DEVICE_NEEDS_RESET is not the driver's.
    bench.set_status(0x41);
    assert_eq!(bench.status(), 0xb);
    bench.set_status(4);
    assert_eq!(bench.status(), 0xf);
    assert_eq!(bench.device.log().last().unwrap(), "activate 0x100000000 ");
}

#[test]
fn a_queue_that_is_not_in_ram_never_reaches_the_device() {
    for (size, at) in [(64, RAM - 0x3000), (64, RAM), (64, u64::MAX - 0xf), (64, 8), (256, 0x1_0001)] {
        let bench = bench();
        bench.on();
        bench.set_status(3);
        bench.accept(F_VERSION_1);
        bench.set_status(0xb);
        bench.queue(0, size, at);
        assert!(!bench.enabled(0), "{at:#x}");
        assert_eq!(bench.status(), 0x4b, "{at:#x}");
        bench.set_status(0xf);
        assert_eq!(bench.status(), 0x4f);
        assert_eq!(bench.device.log(), [""; 0]);
        bench.start_simple();
        assert_eq!(bench.status(), 0xf);
    }
}

#[test]
fn an_enabled_queue_and_a_running_device_cannot_be_changed() {
    let bench = bench();
    bench.start_simple();
    for (register, value, length) in [(0x18, 16, 2), (0x20, 0, 4), (0x28, 0, 8), (0x34, 1, 4)] {
        let before = bench.read(bench.bar + register, length);
        bench.write(bench.bar + register, value, length);
        assert_eq!(bench.read(bench.bar + register, length), before);
    }
    // Off is only by reset; another queue is too late.
    bench.write(bench.bar + 0x1c, 0, 2);
    assert!(bench.enabled(0));
    bench.queue(1, 16, 0x4_0000);
    assert!(!bench.enabled(1));
    bench.set_status(0xf);
    assert_eq!(bench.device.log().len(), 2);
    // Sizes that are none.
    bench.set_status(0);
    for size in [0, 3, 512, 0x8000] {
        bench.write(bench.bar + 0x18, size, 2);
        assert_eq!(bench.read(bench.bar + 0x18, 2), 256);
    }
    // A queue that there is not.
    bench.queue(3, 16, 0x4_0000);
    assert_eq!((bench.read(bench.bar + 0x18, 2), bench.read(bench.bar + 0x1a, 2)), (0, 0xffff));
    // A vector that there is not reads back as none.
    bench.write(bench.bar + 0x16, 0, 2);
    bench.write(bench.bar + 0x1a, 4, 2);
    assert_eq!(bench.read(bench.bar + 0x1a, 2), 0xffff);
    bench.write(bench.bar + 0x1a, 3, 2);
    assert_eq!(bench.read(bench.bar + 0x1a, 2), 3);
    // Parts of fields, and more than one.
    for (register, length) in [(0x18, 1), (0x17, 2), (0x16, 4), (0x10, 8), (0x21, 4)] {
        let before = bench.read(bench.bar + 0x10, 8);
        bench.write(bench.bar + register, 0x0101_0101_0101_0101, length);
        assert_eq!(bench.read(bench.bar + 0x10, 8), before, "{register:#x} {length}");
    }
    bench.write(bench.bar + 0x20, 0x1234_5678_9abc_def0, 8);
    assert_eq!(bench.read(bench.bar + 0x20, 8), 0x1234_5678_9abc_def0);
}

#[test]
fn a_device_in_trouble_asks_for_a_reset_and_gets_one() {
    let bench = bench();
    bench.start_simple();
    let interrupt = bench.device.interrupt();
    interrupt.needs_reset("test");
    interrupt.needs_reset("again");
    assert_eq!(bench.status(), 0x4f);
    assert_eq!(bench.read(bench.bar + ISR, 1), 2);
    bench.set_status(0);
    assert_eq!(bench.status(), 0);
    bench.device.0.lock().unwrap().refuse = true;
    bench.start_simple();
    assert_eq!(bench.status(), 0x4f);
    assert!(bench.doorbells.places().is_empty());
    bench.device.0.lock().unwrap().refuse = false;
    bench.start_simple();
    assert_eq!(bench.status(), 0xf);
}

#[test]
fn doorbells_follow_the_bar_and_work_without_kvm_too() {
    let mut bench = bench();
    bench.start_simple();
    assert_eq!(bench.doorbells.places(), [0xc020_3000]);
    bench.write(bench.config(0x10), 0xd000_0000, 4);
    bench.bar = 0xd000_0000;
    assert_eq!(bench.doorbells.places(), [0xd000_3000]);
    bench.write(bench.config(0x10), u64::MAX, 4);
    assert!(bench.doorbells.places().is_empty());
    bench.write(bench.config(0x10), 0xd000_0000, 4);
    bench.write(bench.config(4), 4, 2);
    assert!(bench.doorbells.places().is_empty());
    bench.on();
    assert_eq!(bench.doorbells.places(), [0xd000_3000]);
    bench.write(bench.bar + NOTIFY, 0, 2);
    assert_eq!(bench.device.kicks(0), 1);
    // Queues that are not enabled or not there are not rung.
    bench.write(bench.bar + NOTIFY + 4, 1, 2);
    bench.write(bench.bar + NOTIFY + 0xffc, 1, 4);
    assert_eq!(bench.device.kicks(0), 0);
    bench.set_status(0);
    assert!(bench.doorbells.places().is_empty());
    bench.doorbells.refuse.store(true, Ordering::SeqCst);
    bench.start_simple();
    assert_eq!((bench.status(), bench.doorbells.places()), (0xf, vec![]));
    bench.write(bench.bar + NOTIFY, 0, 2);
    assert_eq!(bench.device.kicks(0), 1);
}

#[test]
fn masking_and_moving_vectors_is_told_to_the_device() {
    let bench = bench();
    bench.start_msix();
    bench.device.log();
    bench.vector(2, 0x42, true);
    assert_eq!(bench.device.log(), ["vector 1"]);
    let interrupt = bench.device.interrupt();
    assert!(interrupt.queue_eventfd(1).is_none());
    interrupt.signal_queue(1);
    assert_eq!(bench.read(bench.bar + PENDING, 8), 4);
    bench.vector(2, 0x52, false);
    assert_eq!(bench.device.log(), ["vector 1"]);
    assert_eq!(bench.read(bench.bar + PENDING, 8), 0);
    assert_eq!(interrupt.queue_eventfd(1).unwrap().read().unwrap(), 1);
    bench.msix(0xc000);
    assert_eq!(bench.device.log(), ["vector 0", "vector 1"]);
    bench.msix(0x8000);
    bench.device.log();
    bench.write(bench.bar + 0x16, 0, 2);
    bench.write(bench.bar + 0x1a, 2, 2);
    assert_eq!(bench.device.log(), ["vector 0"]);
}

#[test]
fn configuration_space_is_a_window_for_who_cannot_reach_the_bar() {
    let bench = bench();
    bench.bus.mmio_write(bench.config(4), &[0, 0]);
    let mut window = bench.read(bench.config(0x34), 1);
    while bench.read(bench.config(window), 1) != 9 || bench.read(bench.config(window + 3), 1) != 5 {
        window = bench.read(bench.config(window + 1), 1);
    }
    let point = |bar: u64, offset: u64, length: u64| {
        bench.write(bench.config(window + 4), bar, 1);
        bench.write(bench.config(window + 8), offset, 4);
        bench.write(bench.config(window + 12), length, 4);
    };
    point(0, 0x12, 2);
    assert_eq!(bench.read(bench.config(window + 16), 4), 3);
    point(0, 0x14, 1);
    bench.write(bench.config(window + 16), 3, 4);
    assert_eq!(bench.read(bench.config(window + 16), 1), 3);
    for (bar, offset, length) in [(1, 0, 4), (0, 0x8000, 4), (0, 0x7fff, 2), (0, 2, 4), (0, 0, 3), (0, 0xffff_ffff, 4)]
    {
        point(bar, offset, length);
        bench.write(bench.config(window + 16), u64::MAX, 4);
        bench.read(bench.config(window + 16), 4);
    }
    point(0, 0x14, 1);
    assert_eq!(bench.read(bench.config(window + 16), 1), 3);
}

#[test]
fn suspended_and_restored_it_goes_on_where_it_was() {
    let bench = bench();
    bench.start_msix();
    bench.write(bench.config(0x10), 0xd000_0000, 4);
    bench.device.log();
    bench.bus.pause();
    bench.bus.pause();
    let saved = serde_json::to_string(&bench.bus.save()).unwrap();
    assert_eq!(bench.device.log(), ["pause"]);
    bench.bus.resume();
    bench.bus.resume();
    assert_eq!(bench.device.log(), ["resume"]);
    assert_eq!((bench.device.kicks(0), bench.device.kicks(1)), (1, 1));

    let mut other = self::bench();
    other.bus.restore(&serde_json::from_str(&saved).unwrap()).unwrap();
    other.bar = 0xd000_0000;
    assert_eq!(other.device.log(), ["reset", "restore {\"seen\":1}"]);
    assert!(other.doorbells.places().is_empty());
    // Saved again before it ever ran, it is the same.
    assert_eq!(serde_json::to_string(&other.bus.save()).unwrap(), saved);
    other.bus.resume();
    assert_eq!(other.device.log(), ["activate 0x120000020 0:64@7 1:64@7"]);
    assert_eq!((other.device.kicks(0), other.device.kicks(1)), (1, 1));
    assert_eq!(other.status(), 0xf);
    assert_eq!(other.doorbells.places(), [0xd000_3000, 0xd000_3004]);
    assert_eq!(other.recorder.messages(), [other.message(0x40), other.message(0x41), other.message(0x42)]);
    other.device.interrupt().signal_queue(0);
    assert_eq!(other.device.interrupt().queue_eventfd(0).unwrap().read().unwrap(), 1);
}

#[test]
fn a_saved_state_of_something_else_is_refused() {
    let bench = bench();
    bench.start_msix();
    let saved = bench.function().lock().unwrap().save();
    for (field, value) in [
        ("device_type", serde_json::json!(1)),
        ("queues", serde_json::json!([])),
        ("driver_features", serde_json::json!(u64::MAX)),
        ("msix", serde_json::json!({ "control": 0, "vectors": [] })),
        ("status", serde_json::json!("x")),
    ] {
        let mut strange = saved.clone();
        strange[field] = value;
        let other = self::bench();
        assert!(other.function().lock().unwrap().restore(&strange).is_err(), "{field}");
    }
    // A queue outside RAM is not refused: RAM may come later. It never starts.
    let mut strange = saved;
    strange["queues"][0]["used"] = serde_json::json!(u64::MAX - 3);
    let other = self::bench();
    other.function().lock().unwrap().restore(&strange).unwrap();
    other.bus.resume();
    other.on();
    assert_eq!(other.status(), 0x4f);
    assert_eq!(other.device.log(), ["reset", "restore {\"seen\":1}"]);
}

#[test]
fn taken_away_it_leaves_no_doorbell_and_no_interrupt() {
    let bench = bench();
    bench.start_simple();
    bench.device.interrupt().signal_queue(0);
    assert!(bench.recorder.level(GSI));
    let function = bench.bus.remove(SLOT).unwrap();
    assert!(!bench.recorder.level(GSI));
    assert!(bench.doorbells.places().is_empty());
    assert_eq!(bench.device.log().last().unwrap(), "reset");
    drop(function);
    assert_eq!(Arc::strong_count(&bench.device.0), 1);
}

#[test]
fn event_indexes_are_used_only_when_both_sides_agreed() {
    let bench = bench();
    bench.start_msix();
    let event_idx = |bench: &Bench| {
        use virtio_queue::QueueT as _;
        bench.device.0.lock().unwrap().activation.as_ref().unwrap().queues[0].queue.event_idx_enabled()
    };
    assert!(event_idx(&bench));
    bench.start_simple();
    assert!(!event_idx(&bench));
    // The device sees the guest's memory.
    bench.ram.memory().write_obj(0x1234_u16, GuestAddress(0x1_2000)).unwrap();
}
