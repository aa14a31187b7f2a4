//! Balloon, serial port and input.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;
use crate::virtio::balloon::Balloon;
use crate::virtio::console::{AGENT_PORT, Console};
use crate::virtio::input::{ABS_MAX, ABS_X, EV_ABS, EV_KEY, EV_SYN, Input, InputEvent, InputKind};
use crate::virtio::vsock::Vsock;

fn queues(rig: &Rig, device: &dyn VirtioDevice) -> Vec<TestQueue> {
    (0..device.queue_sizes().len()).map(|index| rig.queue(index as u16, 64)).collect()
}

fn start(device: &mut dyn VirtioDevice) -> (Rig, Vec<TestQueue>) {
    let rig = Rig::new(device.features());
    let queues = queues(&rig, device);
    rig.activate(device, &queues.iter().collect::<Vec<_>>());
    (rig, queues)
}

#[test]
fn inflated_pages_are_given_back_and_all_others_stay() {
    let mut device = Balloon::new().unwrap();
    let (rig, mut queues) = start(&mut device);
    rig.write(0x30_0000, &[7; 8 * 4096]);
    rig.write(HIGH, &[7; 4096]);
    let mut list = Vec::new();
    // Up, down, one alone, one in the upper half; and nothing of the guest's: in the hole, past the end, at the end of all.
    for page in [0x301_u32, 0x302, 0x305, 0x304, 0x800, 0x500, 0xc00, u32::MAX, 0x307] {
        list.extend(page.to_le_bytes());
    }
    list.push(9);
    let at = rig.put(&list);
    queues[0].submit(&rig, &[(at, list.len() as u32, READ)]);
    queues[0].wait_used(&rig);
    for page in 0..8_u64 {
        let expected = if [1, 2, 4, 5, 7].contains(&page) { 0 } else { 7 };
        assert_eq!(rig.read(0x30_0000 + page * 4096, 4096), vec![expected; 4096], "{page}");
    }
    assert_eq!(rig.read(HIGH, 4096), vec![0; 4096]);
    queues[1].submit(&rig, &[(at, 4, READ)]);
    queues[1].wait_used(&rig);
    queues[0].submit(&rig, &[(0, 1 << 20, READ)]);
    assert!(rig.wait_broken().contains("too long"));
}

#[test]
fn reported_pages_are_given_back_whole_pages_only() {
    for index in [3, 4] {
        let mut device = Balloon::new().unwrap();
        let (rig, mut queues) = start(&mut device);
        rig.write(0x30_0000, &[7; 4 * 4096]);
        queues[index].submit(&rig, &[(0x30_0000 + 100, 3 * 4096, WRITE), (0x30_3000, 4095, WRITE)]);
        queues[index].wait_used(&rig);
        let mut expected = vec![7; 4 * 4096];
        expected[4096..3 * 4096].fill(0);
        assert_eq!(rig.read(0x30_0000, 4 * 4096), expected);
    }
}

#[test]
fn pages_of_shared_memory_are_given_back_too() {
    use vm_memory::FileOffset;

    let file = tempfile::tempfile().unwrap();
    file.set_len(4 << 20).unwrap();
    let map = (GuestAddress(0), 4 << 20, Some(FileOffset::new(file, 0)));
    let mut rig = Rig::new(1 << 5);
    rig.ram = SharedRam::new(GuestRam::from_ranges_with_files([map]).unwrap());
    let mut device = Balloon::new().unwrap();
    let mut queue = rig.queue(0, 64);
    rig.activate(&mut device, &[&queue]);
    rig.write(0x30_0000, &[7; 8192]);
    let at = rig.put(&0x300_u32.to_le_bytes());
    queue.submit(&rig, &[(at, 4, READ)]);
    queue.wait_used(&rig);
    assert_eq!(rig.read(0x30_0000, 4096), vec![0; 4096]);
    assert_eq!(rig.read(0x30_1000, 4096), vec![7; 4096]);
}

#[test]
fn the_balloon_has_a_target_and_an_actual_size_and_statistics_on_demand() {
    let mut device = Balloon::new().unwrap();
    let control = device.control();
    let (rig, mut queues) = start(&mut device);
    control.set_target_mib(64);
    rig.wait_config(1);
    let mut config = [0; 12];
    device.read_config(0, &mut config);
    assert_eq!(config, [0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    device.write_config(4, &(32_u32 * 256).to_le_bytes());
    device.write_config(0, &[0xff; 4]);
    device.write_config(u64::MAX, &[0xff; 4]);
    assert_eq!(control.actual_mib(), 32);
    assert_eq!(control.clone().statistics()[4], None);

    let mut entries = Vec::new();
    for (tag, value) in [(4_u16, 1_000_000_u64), (5, 2_000_000), (999, 1), (4, 1_234)] {
        entries.extend(tag.to_le_bytes());
        entries.extend(value.to_le_bytes());
    }
    let at = rig.put(&entries);
    queues[2].submit(&rig, &[(at, entries.len() as u32, READ)]);
    rig.until("statistics", || control.statistics()[4].is_some());
    assert_eq!((control.statistics()[4], control.statistics()[5]), (Some(1_234), Some(2_000_000)));
    assert_eq!(queues[2].take_used(&rig), None, "the request is kept until new ones are wanted");
    let saved = {
        device.pause();
        device.save()
    };
    control.refresh_statistics();
    assert_eq!(device.pause().len(), 5);
    assert_eq!(queues[2].take_used(&rig), None, "nothing is touched while paused");
    device.resume();
    control.refresh_statistics();
    queues[2].wait_used(&rig);

    let mut second = Balloon::new().unwrap();
    second.restore(&saved).unwrap();
    assert_eq!(second.control().actual_mib(), 32);
    assert!(second.restore(&serde_json::json!([1])).is_err());
}

#[test]
fn vsock_takes_only_numbers_of_guests_and_descriptors_of_vhost() {
    let null = || std::fs::File::open("/dev/null").unwrap();
    for cid in [0, 1, 2, u64::from(u32::MAX), u64::MAX, 77] {
        assert!(Vsock::new(null(), cid).is_err());
    }
}

#[test]
fn vsock_is_served_by_the_kernel_and_gives_its_rings_back() {
    let Ok(vhost) = std::fs::File::options().read(true).write(true).open("/dev/vhost-vsock") else {
        eprintln!("not tested: no /dev/vhost-vsock");
        return;
    };
    let mut device = Vsock::new(vhost, 4242).unwrap();
    let mut cid = [0; 8];
    device.read_config(0, &mut cid);
    assert_eq!(u64::from_le_bytes(cid), 4242);
    for _ in 0..3 {
        let (rig, mut queues) = start(&mut device);
        // A request to connect to a port of the host where nobody listens is answered with a reset.
        let answer = rig.alloc(64);
        queues[0].submit(&rig, &[(answer, 64, WRITE)]);
        let mut packet = Vec::new();
        packet.extend(4242_u64.to_le_bytes());
        packet.extend(2_u64.to_le_bytes());
        packet.extend(1234_u32.to_le_bytes());
        packet.extend(9_999_u32.to_le_bytes());
        packet.extend(0_u32.to_le_bytes());
        packet.extend([1, 0, 1, 0, 0, 0, 0, 0]);
        packet.extend([0, 0, 1, 0, 0, 0, 0, 0]);
        let at = rig.put(&packet);
        queues[1].submit(&rig, &[(at, 44, READ)]);
        queues[1].wait_used(&rig);
        assert_eq!(queues[0].wait_used(&rig).1, 44);
        assert_eq!(rig.read(answer + 30, 2), [3, 0], "VIRTIO_VSOCK_OP_RST");
        let states = device.pause();
        assert_eq!((states[1].1.next_avail, states[1].1.next_used), (1, 1));
        device.vector_changed(1);
        device.resume();
        let again = queues[1].submit(&rig, &[(at, 44, READ)]);
        assert_eq!(queues[1].wait_used(&rig).0, again);
        device.pause();
        device.reset();
    }
    device.restore(&serde_json::Value::Null).unwrap();
    let (rig, mut queues) = start(&mut device);
    let at = rig.put(&[0xff; 4]);
    queues[2].submit(&rig, &[(at, 4, WRITE)]);
    queues[2].wait_used(&rig);
    assert_eq!(rig.read(at, 4), [0; 4], "connections of before the restore are gone");
}

fn select(device: &mut Input, select: u8, subselect: u8) -> Vec<u8> {
    device.write_config(0, &[select]);
    device.write_config(1, &[subselect]);
    let mut size = [0];
    device.read_config(2, &mut size);
    let mut bytes = vec![0; usize::from(size[0])];
    device.read_config(8, &mut bytes);
    bytes
}

#[test]
fn keyboard_and_tablet_say_what_they_are() {
    let mut keyboard = Input::new(InputKind::Keyboard).unwrap();
    let mut tablet = Input::new(InputKind::Tablet).unwrap();
    assert_eq!(select(&mut keyboard, 1, 0), b"Solostack Keyboard");
    assert_eq!(select(&mut tablet, 1, 0), b"Solostack Tablet");
    assert_eq!(select(&mut keyboard, 3, 0).len(), 8);
    let keys = select(&mut keyboard, 0x11, 1);
    assert_eq!(keys[30 / 8] & (1 << (30 % 8)), 1 << (30 % 8), "KEY_A");
    assert!(select(&mut keyboard, 0x11, 3).is_empty());
    let buttons = select(&mut tablet, 0x11, 1);
    assert_eq!((buttons.len(), buttons[0x110 / 8]), (0x114 / 8 + 1, 0x1f));
    assert_eq!(select(&mut tablet, 0x11, 3), [3]);
    let range = select(&mut tablet, 0x12, 1);
    assert_eq!(range[4..8], ABS_MAX.to_le_bytes());
    for (what, which) in [(0, 0), (1, 1), (0x12, 2), (0x11, 0xff), (0xff, 0xff), (0x20, 0)] {
        assert!(select(&mut tablet, what, which).is_empty(), "{what} {which}");
    }
    assert!(select(&mut keyboard, 0x12, 0).is_empty());
}

#[test]
fn events_come_in_order_and_wait_for_a_guest_that_is_slow() {
    let mut device = Input::new(InputKind::Tablet).unwrap();
    let control = device.control();
    control.send(&[InputEvent::key(1, true)]);
    let (rig, mut queues) = start(&mut device);
    control.send(&[InputEvent { kind: EV_ABS, code: ABS_X, value: 77 }, InputEvent::key(0x110, true)]);
    let at = rig.alloc(64);
    for slot in 0..3 {
        queues[0].submit(&rig, &[(at + 8 * slot, 8, WRITE)]);
        assert_eq!(queues[0].wait_used(&rig).1, 8);
    }
    let event = |slot: u64| {
        let bytes = rig.read(at + 8 * slot, 8);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        (half(0), half(2), u32::from(half(4)))
    };
    assert_eq!((event(0), event(1), event(2)), ((EV_ABS, ABS_X, 77), (EV_KEY, 0x110, 1), (EV_SYN, 0, 0)));
    // Far more than is kept, of frames of two.
    for code in 0..2000 {
        control.send(&[InputEvent::key(code % 200, true)]);
    }
    let mut taken = 0;
    queues[1].submit(&rig, &[(at, 8, READ)]);
    queues[1].wait_used(&rig);
    for _ in 0..600 {
        queues[0].submit(&rig, &[(at, 8, WRITE)]);
        match queues[0].used_within(&rig, Duration::from_millis(300)) {
            Some(_) => taken += 1,
            None => break,
        }
    }
    assert_eq!(taken, 512);
}

struct Serial {
    device: Console,
    rig: Rig,
    queues: Vec<TestQueue>,
    messages: u64,
}

impl Serial {
    fn new() -> Self {
        let mut device = Console::new().unwrap();
        let (rig, mut queues) = start(&mut device);
        let messages = rig.alloc(64 * 32);
        for slot in 0..32 {
            queues[2].add(&rig, &[(messages + 64 * slot, 64, WRITE)]);
        }
        queues[2].kick();
        Self { device, rig, queues, messages }
    }

    fn say(&mut self, port: u32, event: u16, value: u16) {
        let mut message = port.to_le_bytes().to_vec();
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        let at = self.rig.put(&message);
        self.queues[3].submit(&self.rig, &[(at, 8, READ)]);
        self.queues[3].wait_used(&self.rig);
    }

    fn hear(&mut self) -> (u32, u16, u16, String) {
        let (head, length) = self.queues[2].wait_used(&self.rig);
        let bytes = self.rig.read(self.messages + 64 * u64::from(head), length as usize);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        (u32::from(half(0)), half(4), half(6), String::from_utf8(bytes[8..].to_vec()).unwrap())
    }

    fn open(&mut self) {
        self.say(0, 0, 1);
        assert_eq!(self.hear(), (1, 1, 0, String::new()));
        self.say(1, 3, 1);
        assert_eq!(self.hear(), (1, 7, 1, AGENT_PORT.to_owned()));
        self.say(1, 6, 1);
    }
}

#[test]
fn the_agent_port_carries_bytes_both_ways() {
    let mut serial = Serial::new();
    let control = serial.device.control();
    let mut config = [0; 12];
    serial.device.read_config(0, &mut config);
    assert_eq!(config[4], 2);
    serial.open();
    serial.rig.until("an open port", || control.is_open());
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    control.connect(theirs).unwrap();
    assert_eq!(serial.hear(), (1, 6, 1, String::new()));

    let at = serial.rig.put(b"{\"return\": {}}\n");
    serial.queues[5].submit(&serial.rig, &[(at, 7, READ), (at + 7, 8, READ)]);
    serial.queues[5].wait_used(&serial.rig);
    let mut said = [0; 15];
    ours.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"{\"return\": {}}\n");

    ours.write_all(b"{\"execute\"").unwrap();
    let at = serial.rig.alloc(64);
    serial.queues[4].submit(&serial.rig, &[(at, 4, WRITE), (at + 4, 60, WRITE)]);
    assert_eq!(serial.queues[4].wait_used(&serial.rig).1, 10);
    assert_eq!(serial.rig.read(at, 10), b"{\"execute\"");

    drop(ours);
    serial.queues[4].submit(&serial.rig, &[(at, 64, WRITE)]);
    assert_eq!(serial.hear(), (1, 6, 0, String::new()));
    // Nobody there: what the guest says is lost, and the guest goes on.
    serial.queues[5].submit(&serial.rig, &[(at, 64, READ)]);
    serial.queues[5].wait_used(&serial.rig);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    control.connect(theirs).unwrap();
    assert_eq!(serial.hear(), (1, 6, 1, String::new()));
    ours.write_all(b"again").unwrap();
    assert_eq!(serial.queues[4].wait_used(&serial.rig).1, 5);
    serial.device.reset();
    assert!(!control.is_open());
}

#[test]
fn a_guest_that_talks_to_a_deaf_agent_waits_and_loses_nothing() {
    let mut serial = Serial::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    serial.device.control().connect(theirs).unwrap();
    serial.open();
    let text: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let at = serial.rig.put(&text);
    serial.queues[5].submit(&serial.rig, &[(at, 400_000, READ), (at + 400_000, 600_000, READ)]);
    assert_eq!(serial.queues[5].used_within(&serial.rig, Duration::from_millis(50)), None);
    let mut heard = vec![0; text.len()];
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    ours.read_exact(&mut heard).unwrap();
    assert!(heard == text);
    serial.queues[5].wait_used(&serial.rig);
}

#[test]
fn what_comes_before_the_guest_opens_the_port_is_kept_for_it() {
    let mut serial = Serial::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    serial.device.control().connect(theirs).unwrap();
    ours.write_all(b"early").unwrap();
    let at = serial.rig.alloc(64);
    serial.queues[4].submit(&serial.rig, &[(at, 64, WRITE)]);
    assert_eq!(serial.queues[4].used_within(&serial.rig, Duration::from_millis(50)), None);
    serial.open();
    assert_eq!(serial.queues[4].wait_used(&serial.rig).1, 5);
    let saved = {
        serial.device.pause();
        serial.device.save()
    };
    assert_eq!(saved["open"], true);
    let mut second = Console::new().unwrap();
    second.restore(&saved).unwrap();
    assert!(second.restore(&serde_json::json!(3)).is_err());
}

#[test]
fn a_driver_that_talks_without_end_makes_nothing_grow() {
    let mut device = Console::new().unwrap();
    let (rig, queues) = start(&mut device);
    let mut serial = Serial { device, rig, queues, messages: 0 };
    for _ in 0..200 {
        serial.say(0, 0, 1);
        serial.say(7, 3, 1);
        serial.say(1, 99, 1);
    }
    let at = serial.rig.alloc(64);
    for _ in 0..32 {
        serial.queues[2].submit(&serial.rig, &[(at, 64, WRITE)]);
        serial.queues[2].wait_used(&serial.rig);
    }
    serial.queues[2].submit(&serial.rig, &[(at, 64, WRITE)]);
    assert_eq!(serial.queues[2].used_within(&serial.rig, Duration::from_millis(50)), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn garbage_never_stops_the_small_devices(seed: u64) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let console = Console::new().unwrap();
        console.control().connect(theirs).unwrap();
        let _ = (&ours).write(&[0x55; 4096]);
        let keyboard = Input::new(InputKind::Keyboard).unwrap();
        let typist = keyboard.control();
        let devices: [Box<dyn VirtioDevice>; 3] =
            [Box::new(Balloon::new().unwrap()), Box::new(console), Box::new(keyboard)];
        for mut device in devices {
            for round in 0..4 {
                typist.send(&[InputEvent::key(30, true)]);
                torment(&mut *device, seed.wrapping_add(round));
            }
            // A worker that panicked would not answer.
            let (_rig, queues) = start(&mut *device);
            prop_assert_eq!(device.pause().len(), queues.len());
        }
    }
}
