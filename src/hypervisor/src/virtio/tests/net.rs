//! Network cards on real taps, in a network namespace of the test's own. Needs root and `/dev/net/tun`; says so if not.

use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use proptest::prelude::*;

use super::*;
use crate::virtio::net::{Net, NetSettings};
use crate::virtio::rate_limiter::{Limit, Limits};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const HEADER: usize = 12;
const F_MRG_RXBUF: u64 = 1 << 15;
const F_MQ: u64 = 1 << 22;

/// The far side of the tap: a socket on its interface, in a namespace where nobody else talks.
pub struct Cable {
    taps: Vec<File>,
    socket: File,
}

#[allow(unsafe_code, reason = "raw sockets and the making of taps have no safe form here")]
pub fn cable(queues: usize) -> Option<Cable> {
    // SAFETY: only this test's thread moves to the new namespace; all pointers are to locals that live long enough.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            eprintln!("not tested: no network namespace: {}", std::io::Error::last_os_error());
            return None;
        }
        let mut taps = Vec::new();
        let mut name = [0; 16];
        name[..4].copy_from_slice(&[b't' as _, b'a' as _, b'p' as _, b'0' as _]);
        for _ in 0..queues {
            let Ok(tap) = File::options().read(true).write(true).open("/dev/net/tun") else {
                eprintln!("not tested: no /dev/net/tun");
                return None;
            };
            let mut request: libc::ifreq = std::mem::zeroed();
            request.ifr_name = name;
            let several = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several) as _;
            assert_eq!(libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request), 0);
            taps.push(tap);
        }
        let protocol = u16::from_ne_bytes((libc::ETH_P_ALL as u16).to_be_bytes());
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
        assert!(socket >= 0);
        let socket = File::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name = name;
        assert_eq!(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request), 0);
        let index = request.ifr_ifru.ifru_ifindex;
        // No IPv6 of the kernel's own in between.
        let _ = std::fs::write("/proc/thread-self/net/../../../sys/net/ipv6/conf/tap0/disable_ipv6", "1");
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", "1");
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        assert_eq!(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request), 0);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length), 0);
        let patience = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
        let length = size_of::<libc::timeval>() as u32;
        let socket_fd = socket.as_raw_fd();
        assert_eq!(
            libc::setsockopt(socket_fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), length),
            0
        );
        Some(Cable { taps, socket })
    }
}

/// Our own kind of packet, so that those of the kernel are told apart.
fn frame(to: [u8; 6], mark: u8, length: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, mark, 0x88, 0xb5]);
    frame.resize(length.max(60), mark);
    frame
}

impl Cable {
    fn send(&self, frame: &[u8]) {
        assert_eq!(rustix::io::write(&self.socket, frame).unwrap(), frame.len());
    }

    /// The next packet of our kind that the guest sent.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 70_000];
        for _ in 0..100 {
            let count = rustix::io::read(&self.socket, &mut buffer).ok()?;
            if buffer[12..14] == [0x88, 0xb5] && buffer[6] == 6 {
                return Some(buffer[..count].to_vec());
            }
        }
        None
    }
}

pub fn settings(cable: &Cable) -> NetSettings {
    NetSettings {
        name: "nic0".to_owned(),
        taps: cable.taps.iter().map(|tap| tap.try_clone().unwrap()).collect(),
        vhost: Vec::new(),
        mac: MAC,
        mtu: 1450,
        link_up: true,
        receive_limits: Limits::default(),
        transmit_limits: Limits::default(),
    }
}

struct Card {
    device: Net,
    rig: Rig,
    rx: TestQueue,
    tx: TestQueue,
    control: TestQueue,
    cable: Cable,
}

fn card_with(change: impl FnOnce(&mut NetSettings), features: impl FnOnce(u64) -> u64) -> Option<Card> {
    let cable = cable(1)?;
    let mut settings = settings(&cable);
    change(&mut settings);
    let mut device = Net::new(settings).unwrap();
    let rig = Rig::new(features(device.features()));
    let (rx, tx, control) = (rig.queue(0, 256), rig.queue(1, 256), rig.queue(2, 64));
    rig.activate(&mut device, &[&rx, &tx, &control]);
    Some(Card { device, rig, rx, tx, control, cable })
}

fn card() -> Option<Card> {
    card_with(|_| {}, |features| features)
}

impl Card {
    /// A packet of the guest.
    fn transmit(&mut self, frame: &[u8]) {
        let mut packet = vec![0; HEADER];
        packet.extend(frame);
        let at = self.rig.put(&packet);
        let head = self.tx.submit(
            &self.rig,
            &[(at, 100.min(packet.len() as u32), READ), (at + 100, packet.len() as u32 - 100, READ)],
        );
        assert_eq!(self.tx.wait_used(&self.rig), (head, 0));
    }

    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> u8 {
        let mut message = vec![class, command];
        message.extend(data);
        let at = self.rig.put(&message);
        let ack = self.rig.put(&[0xee]);
        self.control.submit(&self.rig, &[(at, 2, READ), (at + 2, data.len() as u32, READ), (ack, 1, WRITE)]);
        self.control.wait_used(&self.rig);
        self.rig.read(ack, 1)[0]
    }

    /// Mark of the next packet of ours that the guest gets.
    fn next_mark(&mut self, buffer: u64) -> u8 {
        loop {
            self.rx.submit(&self.rig, &[(buffer, 2048, WRITE)]);
            let (_, length) = self.rx.wait_used(&self.rig);
            let packet = self.rig.read(buffer, length as usize);
            if packet[HEADER + 12..HEADER + 14] == [0x88, 0xb5] {
                return packet[HEADER + 11];
            }
        }
    }
}

fn guest_frame(mark: u8, length: usize) -> Vec<u8> {
    let mut frame = frame([2, 0, 0, 0, 0, 1], mark, length);
    frame[6..12].copy_from_slice(&[6, 0, 0, 0, 0, mark]);
    frame
}

#[test]
fn packets_go_both_ways() {
    let Some(mut card) = card() else { return };
    for mark in 1..=3 {
        let sent = guest_frame(mark, 60 + usize::from(mark) * 400);
        card.transmit(&sent);
        assert_eq!(card.cable.receive().unwrap(), sent);
    }
    let buffer = card.rig.alloc(2048);
    card.rx.submit(&card.rig, &[(buffer, 100, WRITE), (buffer + 100, 1948, WRITE)]);
    let sent = frame(MAC, 9, 1000);
    card.cable.send(&sent);
    let (_, length) = card.rx.wait_used(&card.rig);
    assert_eq!(length as usize, HEADER + 1000);
    assert_eq!(card.rig.read(buffer + HEADER as u64, 1000), sent);
    assert_eq!(card.rig.read(buffer + 10, 2), [1, 0], "one buffer");
    let statistics = card.device.control().statistics();
    assert_eq!((statistics.transmitted_packets, statistics.vhost), (3, false));
    assert!(statistics.received_packets >= 1);
}

#[test]
fn a_packet_waits_for_buffers_and_is_merged_into_several() {
    let Some(mut card) = card() else { return };
    card.command(0, 0, &[0]);
    let sent = frame(MAC, 5, 1400);
    card.cable.send(&sent);
    let buffer = card.rig.alloc(8 * 200);
    let mut got = Vec::new();
    let mut heads = Vec::new();
    for slot in 0..8 {
        heads.push(card.rx.submit(&card.rig, &[(buffer + 200 * slot, 200, WRITE)]));
    }
    for head in heads {
        let (used, length) = card.rx.wait_used(&card.rig);
        assert_eq!(used, head);
        got.extend(card.rig.read(buffer + 200 * u64::from(head), length as usize));
    }
    assert_eq!(got[10..12], [8, 0]);
    assert_eq!(got[HEADER..], sent);
}

#[test]
fn without_merging_a_packet_that_does_not_fit_is_dropped_and_the_buffer_stays() {
    let Some(mut card) = card_with(|_| {}, |features| features & !F_MRG_RXBUF) else { return };
    card.command(0, 0, &[0]);
    let buffer = card.rig.alloc(512);
    card.rx.submit(&card.rig, &[(buffer, 512, WRITE)]);
    card.cable.send(&frame(MAC, 1, 1000));
    let control = card.device.control();
    card.rig.until("a dropped packet", || control.statistics().received_dropped > 0);
    card.cable.send(&frame(MAC, 2, 200));
    assert_eq!(card.rx.wait_used(&card.rig).1 as usize, HEADER + 200);
    assert_eq!(card.rig.read(buffer + HEADER as u64 + 11, 1), [2]);
}

#[test]
fn the_filter_does_what_was_acknowledged() {
    let Some(mut card) = card() else { return };
    let other = [0x52, 0x54, 0, 9, 9, 9];
    let group = [1, 0, 0x5e, 0, 0, 7];
    let buffer = card.rig.alloc(2048);
    // Not promiscuous: own address and broadcast only.
    assert_eq!(card.command(0, 0, &[0]), 0);
    for (to, mark) in [(other, 1), (group, 2), (MAC, 3), ([0xff; 6], 4)] {
        card.cable.send(&frame(to, mark, 100));
    }
    assert_eq!((card.next_mark(buffer), card.next_mark(buffer)), (3, 4));
    // A table with one of each.
    let table = [&1_u32.to_le_bytes()[..], &other, &1_u32.to_le_bytes(), &group].concat();
    assert_eq!(card.command(1, 0, &table), 0);
    assert_eq!(card.command(0, 5, &[1]), 0, "no broadcast");
    for (to, mark) in [([0xff; 6], 5), (other, 6), (group, 7)] {
        card.cable.send(&frame(to, mark, 100));
    }
    assert_eq!((card.next_mark(buffer), card.next_mark(buffer)), (6, 7));
    // More groups than are kept lets all groups in.
    let many = [&0_u32.to_le_bytes()[..], &100_u32.to_le_bytes(), &[1; 600]].concat();
    assert_eq!(card.command(1, 0, &many), 0);
    card.cable.send(&frame(other, 8, 100));
    card.cable.send(&frame(group, 9, 100));
    assert_eq!(card.next_mark(buffer), 9);
    // Another address of its own.
    let new = [0x52, 0x54, 0, 7, 7, 7];
    assert_eq!(card.command(1, 1, &new), 0);
    let mut config = [0; 6];
    card.device.read_config(0, &mut config);
    assert_eq!(config, new);
    card.cable.send(&frame(MAC, 10, 100));
    card.cable.send(&frame(new, 11, 100));
    assert_eq!(card.next_mark(buffer), 11);
    card.device.reset();
    card.device.read_config(0, &mut config);
    assert_eq!(config, MAC);
}

#[test]
fn commands_that_cannot_be_done_are_not_acknowledged() {
    let Some(mut card) = card() else { return };
    for (class, command, data) in [
        (0, 0, &[2][..]),
        (0, 0, &[]),
        (0, 6, &[1]),
        (1, 0, &[0xff, 0xff, 0xff, 0xff]),
        (1, 0, &[0xff, 0xff, 0xff, 0x7f, 1, 2, 3]),
        (1, 1, &[1, 0, 0, 0, 0, 1]),
        (1, 1, &[2, 0]),
        (2, 0, &[1, 0]),
        (4, 0, &[1, 0]),
        (5, 0, &[0xff; 8]),
        (200, 200, &[1; 100]),
    ] {
        assert_eq!(card.command(class, command, data), 1, "{class} {command} {data:?}");
    }
    assert_eq!(card.command(5, 0, &2_u64.to_le_bytes()), 0, "checksums only");
    assert_eq!(card.command(5, 0, &0_u64.to_le_bytes()), 0);
    assert!(card.rig.broken().is_empty());
    card.control.submit(&card.rig, &[(DATA, 3, READ)]);
    assert!(card.rig.wait_broken().contains("answer"));
}

#[test]
fn a_pulled_cable_passes_nothing_and_the_guest_is_told() {
    let Some(mut card) = card() else { return };
    let control = card.device.control();
    let mut status = [0; 2];
    card.device.read_config(6, &mut status);
    assert_eq!(status, [1, 0]);
    control.set_link(false);
    card.rig.wait_config(1);
    card.device.read_config(6, &mut status);
    assert_eq!(status, [0, 0]);
    card.transmit(&guest_frame(1, 100));
    assert_eq!(card.cable.receive(), None);
    let buffer = card.rig.alloc(2048);
    card.rx.submit(&card.rig, &[(buffer, 2048, WRITE)]);
    card.cable.send(&frame(MAC, 1, 100));
    assert_eq!(card.rx.used_within(&card.rig, Duration::from_millis(50)), None);
    control.set_link(true);
    card.transmit(&guest_frame(2, 100));
    assert_eq!(card.cable.receive().unwrap()[11], 2);
    control.announce();
    card.device.read_config(6, &mut status);
    assert_eq!(status, [3, 0]);
    assert_eq!(card.command(3, 0, &[]), 0);
    card.device.read_config(6, &mut status);
    assert_eq!(status, [1, 0]);
}

#[test]
fn limits_slow_the_guest_down() {
    let limits = Limits { operations: Some(Limit { per_second: 20, burst: 20 }), bytes: None };
    let Some(mut card) = card_with(|settings| settings.transmit_limits = limits, |features| features) else { return };
    let start = Instant::now();
    for _ in 0..25 {
        card.transmit(&guest_frame(1, 100));
    }
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    card.device.control().set_limits(Limits::default(), Limits::default());
    for _ in 0..200 {
        card.transmit(&guest_frame(1, 100));
    }
}

#[test]
fn packets_that_break_the_rules_need_a_reset_or_are_dropped() {
    let breaks: [&[(u64, u32, bool)]; 3] = [&[(DATA, 12, READ)], &[(DATA, 200, WRITE)], &[(HOLE, 200, READ)]];
    let Some(mut card) = card() else { return };
    for pieces in breaks {
        card.tx.submit(&card.rig, pieces);
        card.rig.wait_broken();
        card.device.reset();
        card.rig.forget_broken();
        (card.rx, card.tx, card.control) = (card.rig.queue(0, 256), card.rig.queue(1, 256), card.rig.queue(2, 64));
        card.rig.activate(&mut card.device, &[&card.rx, &card.tx, &card.control]);
    }
    // Too long for a packet, and a header that asks for nonsense: the next one still passes.
    card.tx.submit(&card.rig, &[(DATA, 1 << 20, READ)]);
    card.tx.wait_used(&card.rig);
    let mut packet = vec![0xff; HEADER];
    packet.extend(guest_frame(1, 100));
    let at = card.rig.put(&packet);
    card.tx.submit(&card.rig, &[(at, packet.len() as u32, READ)]);
    card.tx.wait_used(&card.rig);
    assert!(card.device.control().statistics().transmitted_dropped >= 2);
    card.transmit(&guest_frame(7, 100));
    assert_eq!(card.cable.receive().unwrap()[11], 7);
    let buffer = card.rig.alloc(64);
    card.rx.submit(&card.rig, &[(buffer, 4, WRITE)]);
    card.cable.send(&frame(MAC, 1, 100));
    assert!(card.rig.wait_broken().contains("too small"));
}

#[test]
fn several_queues_are_switched_by_the_driver_and_only_that_many() {
    let Some(cable) = cable(4) else { return };
    let mut device = Net::new(settings(&cable)).unwrap();
    assert_eq!(device.queue_sizes().len(), 9);
    assert_eq!(device.features() & F_MQ, F_MQ);
    let mut config = [0; 4];
    device.read_config(8, &mut config);
    assert_eq!(config, [4, 0, 0xaa, 0x05]);
    let rig = Rig::new(device.features());
    let mut queues: Vec<_> = (0..9).map(|index| rig.queue(index, 64)).collect();
    rig.activate(&mut device, &queues.iter().collect::<Vec<_>>());
    let control = queues.pop().unwrap();
    let (rx, tx) = (rig.queue(0, 64), rig.queue(1, 64));
    let mut card = Card { device, rig, rx, tx, control, cable };
    for (pairs, ack) in [(0_u16, 1), (5, 1), (4, 0), (2, 0), (4, 0), (0xffff, 1)] {
        assert_eq!(card.command(4, 0, &pairs.to_le_bytes()), ack, "{pairs}");
    }
    // Each pair takes what the guest sends on it.
    for (pair, queue) in queues.iter_mut().skip(1).step_by(2).enumerate() {
        let mut packet = vec![0; HEADER];
        packet.extend(guest_frame(pair as u8 + 1, 100));
        let at = card.rig.put(&packet);
        queue.submit(&card.rig, &[(at, packet.len() as u32, READ)]);
        queue.wait_used(&card.rig);
        assert_eq!(card.cable.receive().unwrap()[11], pair as u8 + 1);
    }
    // What comes in on any of them reaches the guest.
    let buffer = card.rig.alloc(2048);
    for queue in queues.iter_mut().step_by(2) {
        for _ in 0..16 {
            queue.submit(&card.rig, &[(buffer, 2048, WRITE)]);
        }
    }
    for mark in 0..8 {
        card.cable.send(&frame(MAC, mark, 100));
    }
    let statistics = card.device.control();
    card.rig.until("eight packets", || statistics.statistics().received_packets >= 8);

    // What the driver chose survives suspend.
    card.device.pause();
    let saved = card.device.save();
    assert_eq!(saved["state"]["pairs"], 4);
    card.device.restore(&saved).unwrap();
    assert!(card.device.restore(&serde_json::json!({ "mac": [1, 2] })).is_err());
    // A driver without MQ has its control queue at 2.
    card.device.reset();
    card.rig.features &= !F_MQ;
    (card.rx, card.tx, card.control) = (card.rig.queue(0, 64), card.rig.queue(1, 64), card.rig.queue(2, 64));
    card.rig.activate(&mut card.device, &[&card.rx, &card.tx, &card.control]);
    assert_eq!((card.command(0, 0, &[1]), card.command(4, 0, &[1, 0])), (0, 1));
}

#[test]
fn a_paused_card_goes_on_with_what_came_meanwhile() {
    let Some(mut card) = card() else { return };
    card.command(0, 0, &[0]);
    assert_eq!(card.device.pause().len(), 3);
    card.cable.send(&frame(MAC, 3, 100));
    let buffer = card.rig.alloc(2048);
    card.rx.submit(&card.rig, &[(buffer, 2048, WRITE)]);
    card.device.control().set_link(true);
    card.device.control().set_limits(Limits::default(), Limits::default());
    assert_eq!(card.rx.used_within(&card.rig, Duration::from_millis(50)), None);
    card.device.resume();
    assert_eq!(card.rx.wait_used(&card.rig).1 as usize, HEADER + 100);
}

#[test]
fn what_is_no_tap_or_a_wrong_one_is_refused() {
    let Some(cable) = cable(1) else { return };
    let mut none = settings(&cable);
    none.taps.clear();
    assert!(Net::new(none).is_err());
    let mut wrong = settings(&cable);
    wrong.taps = vec![File::open("/dev/null").unwrap()];
    assert!(Net::new(wrong).is_err());
}

#[test]
fn vhost_that_does_not_work_is_replaced_by_user_space() {
    let change = |settings: &mut NetSettings| settings.vhost = vec![Arc::new(File::open("/dev/null").unwrap())];
    let Some(mut card) = card_with(change, |features| features) else { return };
    assert!(!card.device.control().statistics().vhost);
    card.transmit(&guest_frame(1, 100));
    assert_eq!(card.cable.receive().unwrap()[11], 1);
}

#[test]
fn vhost_serves_the_same_packets() {
    let Ok(vhost) = File::options().read(true).write(true).open("/dev/vhost-net") else {
        eprintln!("not tested: no /dev/vhost-net");
        return;
    };
    let Some(mut card) = card_with(|settings| settings.vhost = vec![Arc::new(vhost)], |features| features) else {
        return;
    };
    assert!(card.device.control().statistics().vhost);
    let buffer = card.rig.alloc(2048);
    for round in 0..3_u8 {
        card.transmit(&guest_frame(round + 1, 300));
        assert_eq!(card.cable.receive().unwrap()[11], round + 1);
        card.cable.send(&frame(MAC, round + 10, 300));
        while card.next_mark(buffer) != round + 10 {}
        // Its place in the rings comes back and goes out again.
        let states = card.device.pause();
        assert_eq!((states[1].1.next_avail, states[1].1.next_used), (u16::from(round) + 1, u16::from(round) + 1));
        card.device.vector_changed(0);
        card.device.resume();
    }
    assert_eq!(card.command(0, 0, &[0]), 0);
    card.device.control().set_link(false);
    card.device.pause();
    card.device.resume();
    for _ in 0..100 {
        card.device.reset();
        (card.rx, card.tx, card.control) = (card.rig.queue(0, 256), card.rig.queue(1, 256), card.rig.queue(2, 64));
        card.rig.activate(&mut card.device, &[&card.rx, &card.tx, &card.control]);
    }
}

/// As when nics are plugged in and out: each serves with the descriptor that the one before it had.
#[test]
fn vhost_serves_the_next_nic_that_it_is_lent_to() {
    let Ok(vhost) = File::options().read(true).write(true).open("/dev/vhost-net") else {
        eprintln!("not tested: no /dev/vhost-net");
        return;
    };
    let vhost = Arc::new(vhost);
    for round in 1..=20_u8 {
        let lend = |settings: &mut NetSettings| settings.vhost = vec![Arc::clone(&vhost)];
        let Some(mut card) = card_with(lend, |features| features) else { return };
        assert!(card.device.control().statistics().vhost, "round {round}");
        let buffer = card.rig.alloc(2048);
        card.transmit(&guest_frame(round, 300));
        assert_eq!(card.cable.receive().unwrap()[11], round);
        card.cable.send(&frame(MAC, round, 300));
        while card.next_mark(buffer) != round {}
        drop(card);
        assert_eq!(Arc::strong_count(&vhost), 1, "a nic that is gone has let go of it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn garbage_in_the_rings_never_stops_the_card(seed: u64) {
        let Some(mut card) = card() else { return Ok(()) };
        card.device.reset();
        for round in 0..4 {
            card.cable.send(&frame(MAC, 1, 200));
            torment(&mut card.device, seed.wrapping_add(round));
        }
        (card.rx, card.tx, card.control) = (card.rig.queue(0, 256), card.rig.queue(1, 256), card.rig.queue(2, 64));
        card.rig.activate(&mut card.device, &[&card.rx, &card.tx, &card.control]);
        card.transmit(&guest_frame(1, 100));
    }
}
