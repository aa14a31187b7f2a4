//! Many threads at once, and drivers that break every rule.

use proptest::prelude::*;

use super::*;

/// A device with a thread that interrupts all the time, and that `reset` and `pause` wait for.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn join(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl VirtioDevice for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }
    fn device_type(&self) -> u16 {
        1
    }
    fn queue_sizes(&self) -> &[u16] {
        &[64, 64]
    }
    fn features(&self) -> u64 {
        0
    }
    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.join();
        self.stop.store(false, Ordering::SeqCst);
        let (stop, interrupt) = (Arc::clone(&self.stop), activation.interrupt);
        self.thread = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                interrupt.signal_queue(0);
                interrupt.signal_config();
                drop(interrupt.queue_eventfd(1));
                interrupt.needs_reset("test");
            }
        }));
        Ok(())
    }
    fn reset(&mut self) {
        self.join();
    }
    fn pause(&mut self) -> QueueStates {
        self.join();
        Vec::new()
    }
    fn resume(&mut self) {}
}

#[test]
fn vcpus_device_threads_and_hotplug_never_wait_for_each_other_in_a_circle() {
    let bus = PciBus::new(Windows { low: LOW, high: None });
    bus.add(0, SimpleFunction::host_bridge()).unwrap();
    let recorder = Arc::new(Recorder::default());
    let lines = Arc::new(SharedLines::new(recorder));
    let doorbells = Arc::new(Doorbells::default());
    let ram = SharedRam::new(GuestRam::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap());
    let nic = {
        let (ram, lines, doorbells) = (ram.clone(), lines.clone(), doorbells.clone());
        move |slot: u8| {
            let device = Busy { stop: Arc::default(), thread: None };
            let gsi = crate::pci::intx_gsi(slot);
            VirtioPci::new(Box::new(device), ram.clone(), lines.clone(), doorbells.clone(), gsi).unwrap()
        }
    };
    let (events, heard) = std::sync::mpsc::channel();
    let hotplug = crate::pci::Hotplug::new(Arc::clone(&bus), || {}, move |event| drop(events.send(event)));
    let hotplug = Arc::new(Mutex::new(hotplug));
    let slots = [0x10_u8, 0x18];
    for slot in slots {
        bus.add(slot, nic(slot)).unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let vcpus: Vec<_> = slots
        .into_iter()
        .chain(slots)
        .map(|slot| {
            let (bus, hotplug, over) = (Arc::clone(&bus), Arc::clone(&hotplug), Arc::clone(&over));
            std::thread::spawn(move || {
                use crate::bus::Registers as _;
                let config = 0xb000_0000 + (u64::from(slot) << 15);
                let bar = LOW.start + (u64::from(slot) << 20);
                let mut round = 0_u32;
                while !over.load(Ordering::SeqCst) {
                    round += 1;
                    bus.mmio_write(config + 4, &[6, 0]);
                    for status in [0_u8, 3] {
                        bus.mmio_write(bar + 0x14, &[status]);
                    }
                    bus.mmio_write(bar + 8, &1_u32.to_le_bytes());
                    bus.mmio_write(bar + 0xc, &1_u32.to_le_bytes());
                    bus.mmio_write(bar + 0x14, &[0xb]);
                    bus.mmio_write(bar + 0x14, &[0xf]);
                    bus.mmio_write(config + 0x42, &[0, if round.is_multiple_of(2) { 0x80 } else { 0 }]);
                    bus.mmio_write(bar + TABLE, &entry(0xfee0_0000, round, round.is_multiple_of(3)));
                    bus.mmio_read(bar + ISR, &mut [0]);
                    bus.mmio_write(config + 0x10, &(bar as u32).to_le_bytes());
                    if round.is_multiple_of(16) {
                        bus.mmio_write(config + 4, &[0, 0]);
                        hotplug.lock().unwrap().write(8, &(1_u32 << slot).to_le_bytes());
                    }
                }
                round
            })
        })
        .collect();
    // A circle would hold one of them for ever.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let (mut swaps, mut pauses) = (0, 0);
    while swaps < 3 || pauses < 20 {
        assert!(std::time::Instant::now() < deadline, "{swaps} swaps, {pauses} pauses");
        if let Ok(event) = heard.recv_timeout(std::time::Duration::from_millis(20)) {
            drop(event);
            let mut hotplug = hotplug.lock().unwrap();
            hotplug.attach(0x10, nic(0x10)).unwrap();
            hotplug.request_eject(0x10, deadline).unwrap();
            swaps += 1;
        }
        bus.pause();
        drop(bus.save());
        bus.resume();
        pauses += 1;
    }
    over.store(true, Ordering::SeqCst);
    let rounds: u32 = vcpus.into_iter().map(|vcpu| vcpu.join().unwrap()).sum();
    assert!(rounds > 4, "{rounds}");
    for slot in slots {
        drop(bus.remove(slot));
    }
    assert!(doorbells.places().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Access { page: u64, offset: u64, value: u64, length: usize, write: bool },
    Status(u8),
    Good(u8),
    Signal(u8, u16),
    Config { offset: u64, value: u64, length: usize },
    Again,
}

fn step() -> impl Strategy<Value = Step> {
    let address = prop_oneof![0_u64..0x40, 0_u64..0x1000];
    let value = prop_oneof![0_u64..4, Just(F_VERSION_1 >> 32), 0_u64..RAM, any::<u64>()];
    prop_oneof![
        6 => (0_u64..8, address, value.clone(), 1_usize..9, any::<bool>())
            .prop_map(|(page, offset, value, length, write)| Step::Access { page, offset, value, length, write }),
        2 => prop_oneof![Just(0), Just(3), Just(0xb), Just(0xf), any::<u8>()].prop_map(Step::Status),
        1 => (0_u8..2).prop_map(Step::Good),
        1 => (0_u8..4, 0_u16..5).prop_map(|(kind, queue)| Step::Signal(kind, queue)),
        2 => (0_u64..0x100, value, 1_usize..9)
            .prop_map(|(offset, value, length)| Step::Config { offset, value, length }),
        1 => Just(Step::Again),
    ]
}

proptest! {
    #[test]
    fn no_driver_however_broken_gets_past_the_rules(steps in prop::collection::vec(step(), 1..200)) {
        let bench = bench();
        bench.on();
        for step in steps {
            match step {
                Step::Access { page, offset, value, length, write } => {
                    let address = bench.bar + page * 0x1000 + offset;
                    if write {
                        bench.write(address, value, length);
                    } else {
                        bench.read(address, length);
                    }
                }
                Step::Status(status) => bench.set_status(status),
                Step::Good(0) => bench.start_simple(),
                Step::Good(_) => bench.start_msix(),
                Step::Signal(kind, queue) => {
                    let interrupt =
                        bench.device.0.lock().unwrap().activation.as_ref().map(|activation| activation.interrupt.clone());
                    if let Some(interrupt) = interrupt {
                        match kind {
                            0 => interrupt.signal_queue(queue),
                            1 => interrupt.signal_config(),
                            2 => drop(interrupt.queue_eventfd(queue)),
                            _ => interrupt.needs_reset("test"),
                        }
                    }
                }
                Step::Config { offset, value, length } => {
                    bench.write(bench.config(offset), value, length);
                    bench.read(bench.config(offset), length);
                    bench.write(bench.config(0x10), bench.bar, 4);
                }
                Step::Again => {
                    let saved = bench.bus.save();
                    bench.bus.resume();
                    let other = self::bench();
                    other.bus.restore(&saved).unwrap();
                    other.bus.resume();
                }
            }
            let told = bench.device.0.lock().unwrap();
            if let Some(activation) = &told.activation {
                prop_assert_eq!(activation.features & !(F_OWN | F_VERSION_1), 0);
                prop_assert!(activation.features & F_VERSION_1 != 0);
                for queue in &activation.queues {
                    use virtio_queue::QueueT as _;
                    prop_assert!(queue.queue.is_valid(&*bench.ram.memory()));
                }
            } else {
                prop_assert!(bench.doorbells.places().is_empty());
            }
        }
        bench.bus.reset();
        prop_assert!(bench.doorbells.places().is_empty());
        bench.start_simple();
        prop_assert_eq!(bench.status(), 0xf);
    }
}
