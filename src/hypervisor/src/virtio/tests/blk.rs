use std::fs::File;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use super::*;
use crate::virtio::blk::{Blk, BlkSettings};
use crate::virtio::rate_limiter::{DiskLimits, Limit, Limits};

const SECTORS: u64 = 256;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

struct Disk {
    device: Blk,
    rig: Rig,
    queue: TestQueue,
    file: File,
    _path: tempfile::TempPath,
}

fn settings(file: File) -> BlkSettings {
    BlkSettings {
        name: "disk0".to_owned(),
        file,
        read_only: false,
        serial: "0123456789abcdefghijKLM".to_owned(),
        size_bytes: SECTORS * 512,
        queues: 1,
        limits: DiskLimits::default(),
    }
}

fn disk_with(change: impl FnOnce(&mut BlkSettings), features: impl FnOnce(u64) -> u64) -> Disk {
    let (file, path) = tempfile::NamedTempFile::new().unwrap().into_parts();
    let content: Vec<u8> = (0..SECTORS * 512).map(|at| (at / 512) as u8 ^ at as u8).collect();
    file.write_all_at(&content, 0).unwrap();
    let mut settings = settings(file.try_clone().unwrap());
    change(&mut settings);
    let mut device = Blk::new(settings).unwrap();
    let rig = Rig::new(features(device.features()));
    let queue = rig.queue(0, 256);
    rig.activate(&mut device, &[&queue]);
    Disk { device, rig, queue, file, _path: path }
}

fn disk() -> Disk {
    disk_with(|_| {}, |features| features)
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

impl Disk {
    /// Status and length of one request with `data` in between.
    fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
        let at = self.rig.put(&header(kind, sector));
        let status = self.rig.put(&[0xee]);
        let mut pieces = vec![(at, 16, READ)];
        pieces.extend_from_slice(data);
        pieces.push((status, 1, WRITE));
        let head = self.queue.submit(&self.rig, &pieces);
        let (used, length) = self.queue.wait_used(&self.rig);
        assert_eq!(used, head);
        (self.rig.read(status, 1)[0], length)
    }

    fn ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        let mut list = Vec::new();
        for (sector, count, flags) in ranges {
            list.extend(sector.to_le_bytes());
            list.extend(count.to_le_bytes());
            list.extend(flags.to_le_bytes());
        }
        let at = self.rig.put(&list);
        self.request(kind, 0, &[(at, list.len() as u32, READ)]).0
    }

    fn content(&self, sector: u64, sectors: u64) -> Vec<u8> {
        let mut bytes = vec![0; (sectors * 512) as usize];
        self.file.read_exact_at(&mut bytes, sector * 512).unwrap();
        bytes
    }
}

#[test]
fn sectors_are_read_and_written_in_scattered_pieces() {
    let mut disk = disk();
    let (a, b) = (disk.rig.alloc(512), disk.rig.alloc(1024));
    assert_eq!(disk.request(0, 3, &[(a, 100, WRITE), (b, 924, WRITE)]), (OK, 1025));
    let mut read = disk.rig.read(a, 100);
    read.extend(disk.rig.read(b, 924));
    assert_eq!(read, disk.content(3, 2));

    let new: Vec<u8> = (0..1024).map(|at| (at * 7) as u8).collect();
    disk.rig.write(b, &new);
    assert_eq!(disk.request(1, 254, &[(b, 512, READ), (b + 512, 512, READ)]), (OK, 1));
    assert_eq!(disk.content(254, 2), new);
    assert_eq!(disk.request(4, 0, &[]), (OK, 1));
    let statistics = disk.device.control().statistics();
    assert_eq!((statistics.read_bytes, statistics.written_bytes), (1024, 1024));
    assert_eq!((statistics.read_operations, statistics.write_operations, statistics.errors), (1, 1, 0));
}

#[test]
fn a_request_behind_an_indirect_descriptor_and_across_both_halves_of_ram_is_served() {
    let mut disk = disk();
    let at = disk.rig.put(&header(0, 0));
    let status = disk.rig.put(&[0xee]);
    let head = disk
        .queue
        .add_indirect(&disk.rig, &[(at, 16, READ), (HOLE - 512, 512, WRITE), (HIGH, 512, WRITE), (status, 1, WRITE)]);
    disk.queue.kick();
    assert_eq!(disk.queue.wait_used(&disk.rig), (head, 1025));
    assert_eq!(disk.rig.read(HOLE - 512, 512), disk.content(0, 1));
    assert_eq!(disk.rig.read(HIGH, 512), disk.content(1, 1));
}

#[test]
fn nothing_beyond_the_capacity_is_touched() {
    let mut disk = disk();
    let at = disk.rig.alloc(4096);
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 55] {
        for kind in [0, 1] {
            let data = (at, 1024, kind == 0);
            assert_eq!(disk.request(kind, sector, &[data]).0, IOERR, "{kind} {sector:#x}");
        }
    }
    assert_eq!(disk.request(0, 0, &[(at, 511, WRITE)]).0, IOERR, "half a sector");
    assert_eq!(disk.request(0, SECTORS, &[]), (OK, 1), "nothing at the very end is something one may ask for");
    assert_eq!(disk.file.metadata().unwrap().len(), SECTORS * 512);
    assert_eq!(disk.device.control().statistics().errors, 11);
    assert!(disk.rig.broken().is_empty());
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let mut disk = disk_with(|settings| settings.read_only = true, |features| features);
    assert_eq!(disk.device.features() & (1 << 5), 1 << 5);
    assert_eq!(disk.device.features() & (1 << 13 | 1 << 14 | 1 << 11), 0);
    let before = disk.content(0, SECTORS);
    let at = disk.rig.put(&[7; 512]);
    assert_eq!(disk.request(1, 0, &[(at, 512, READ)]).0, IOERR);
    assert_eq!(disk.ranges(11, &[(0, 8, 0)]), IOERR);
    assert_eq!(disk.ranges(13, &[(0, 8, 0)]), IOERR);
    assert_eq!(disk.request(4, 0, &[]).0, OK);
    assert_eq!(disk.content(0, SECTORS), before);
}

#[test]
fn the_serial_is_twenty_bytes() {
    let mut disk = disk();
    let at = disk.rig.put(&[0xaa; 32]);
    assert_eq!(disk.request(8, 0, &[(at, 32, WRITE)]), (OK, 21));
    assert_eq!(disk.rig.read(at, 20), b"0123456789abcdefghij");
    assert_eq!(disk.rig.read(at + 20, 12), [0xaa; 12]);
    let mut short = disk_with(|settings| settings.serial = "vol".to_owned(), |features| features);
    let at = short.rig.alloc(20);
    assert_eq!(short.request(8, 0, &[(at, 20, WRITE)]), (OK, 21));
    assert_eq!(short.rig.read(at, 20), b"vol\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn discarded_and_zeroed_sectors_read_as_zeroes_and_their_neighbours_stay() {
    let mut disk = disk();
    let before = disk.content(0, SECTORS);
    assert_eq!(disk.ranges(11, &[(8, 8, 0), (64, 16, 0)]), OK);
    assert_eq!(disk.ranges(13, &[(101, 3, 0)]), OK);
    assert_eq!(disk.ranges(13, &[(200, 56, 1)]), OK);
    let mut expected = before;
    for (first, count) in [(8, 8), (64, 16), (101, 3), (200, 56)] {
        expected[first * 512..(first + count) * 512].fill(0);
    }
    assert_eq!(disk.content(0, SECTORS), expected);
    assert_eq!(disk.file.metadata().unwrap().len(), SECTORS * 512);
}

#[test]
fn ranges_that_make_no_sense_are_refused_and_nothing_is_done() {
    let mut disk = disk();
    let before = disk.content(0, SECTORS);
    assert_eq!(disk.ranges(11, &[(0, 8, 0), (SECTORS - 1, 2, 0)]), IOERR);
    assert_eq!(disk.ranges(11, &[(u64::MAX, u32::MAX, 0)]), IOERR);
    assert_eq!(disk.ranges(11, &[(0, 8, 1)]), UNSUPP, "unmap means nothing here");
    assert_eq!(disk.ranges(13, &[(0, 8, 0x8000_0000)]), UNSUPP);
    assert_eq!(disk.ranges(13, &[(0, 8, 0), (8, 8, 0)]), IOERR, "one range at a time");
    assert_eq!(disk.ranges(11, &[(0, 1, 0); 17]), IOERR);
    assert_eq!(disk.ranges(11, &[]), IOERR);
    let at = disk.rig.alloc(64);
    assert_eq!(disk.request(11, 0, &[(at, 17, READ)]).0, IOERR);
    assert_eq!(disk.content(0, SECTORS), before);
}

#[test]
fn requests_of_unknown_kinds_are_unsupported() {
    let mut disk = disk();
    let at = disk.rig.alloc(512);
    for kind in [2, 3, 5, 10, 12, 14, 24, u32::MAX] {
        assert_eq!(disk.request(kind, 0, &[(at, 512, READ)]), (UNSUPP, 1), "{kind}");
    }
}

#[test]
fn a_shorter_file_reads_as_zeroes_and_grows_when_written() {
    let mut disk = disk();
    disk.file.set_len(512).unwrap();
    let at = disk.rig.put(&[9; 1024]);
    assert_eq!(disk.request(0, 0, &[(at, 1024, WRITE)]), (OK, 1025));
    assert_eq!(disk.rig.read(at + 512, 512), [0; 512]);
    assert_eq!(disk.request(1, 10, &[(at, 512, READ)]), (OK, 1));
    assert_eq!(disk.file.metadata().unwrap().len(), 11 * 512);
}

#[test]
fn a_full_or_failing_host_is_an_error_of_the_request() {
    // Every write to it fails with ENOSPC.
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let mut disk = disk_with(|settings| settings.file = full, |features| features);
    let at = disk.rig.alloc(512);
    for _ in 0..3 {
        assert_eq!(disk.request(1, 0, &[(at, 512, READ)]).0, IOERR);
    }
    assert_eq!(disk.request(0, 0, &[(at, 512, WRITE)]).0, OK);
    assert_eq!(disk.device.control().statistics().errors, 3);
}

#[test]
fn a_resized_disk_says_so_and_serves_the_new_sectors() {
    let mut disk = disk();
    let mut capacity = [0; 8];
    disk.device.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS);
    disk.device.control().resize((SECTORS + 8) * 512);
    disk.rig.wait_config(1);
    disk.device.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS + 8);
    let at = disk.rig.put(&[5; 512]);
    assert_eq!(disk.request(1, SECTORS + 7, &[(at, 512, READ)]).0, OK);
    assert_eq!(disk.content(SECTORS + 7, 1), [5; 512]);
}

#[test]
fn the_configuration_is_read_in_any_pieces_and_only_the_cache_mode_is_written() {
    let mut disk = disk_with(|settings| settings.queues = 3, |features| features);
    let mut whole = [0; 64];
    disk.device.read_config(0, &mut whole);
    for (at, byte) in whole.iter().enumerate() {
        let mut one = [0xff];
        disk.device.read_config(at as u64, &mut one);
        assert_eq!(one[0], *byte);
    }
    assert_eq!(u32::from_le_bytes(whole[12..16].try_into().unwrap()), 254);
    assert_eq!(u32::from_le_bytes(whole[20..24].try_into().unwrap()), 512);
    assert_eq!(whole[34..36], [3, 0]);
    assert_eq!(whole[60..], [0; 4]);
    for at in [u64::MAX, u64::MAX - 3, 60, 4096] {
        let mut bytes = [0xff; 8];
        disk.device.read_config(at, &mut bytes);
        assert_eq!(bytes, [0; 8]);
    }
    for at in (0..64).chain([u64::MAX]) {
        disk.device.write_config(at, &[0]);
    }
    let mut after = [0; 64];
    disk.device.read_config(0, &mut after);
    whole[32] = 0;
    assert_eq!(after, whole);
    disk.device.reset();
    disk.device.read_config(32, &mut after[..1]);
    assert_eq!(after[0], 1, "a reset brings the cache back");
}

#[test]
fn a_driver_that_cannot_flush_has_every_write_on_the_disk() {
    let mut disk = disk_with(|_| {}, |features| features & !(1 << 9 | 1 << 11));
    let mut mode = [0xff];
    disk.device.read_config(32, &mut mode);
    assert_eq!(mode, [0]);
    let at = disk.rig.put(&[3; 512]);
    assert_eq!(disk.request(1, 0, &[(at, 512, READ)]).0, OK);
    assert_eq!(disk.request(13, 0, &[]).0, IOERR);
    assert_eq!(disk.ranges(13, &[(0, 1, 0)]), OK);
}

#[test]
fn chains_without_header_or_status_need_a_reset_and_reset_helps() {
    let broken: &[&[(u64, u32, bool)]] = &[
        &[(DATA, 15, READ), (DATA, 1, WRITE)],
        &[(DATA, 16, READ)],
        &[(DATA, 16, WRITE)],
        &[(DATA, 16, READ), (HOLE, 512, WRITE), (DATA, 1, WRITE)],
        &[(DATA, 16, READ), (HOLE - 256, 512, WRITE), (DATA, 1, WRITE)],
        &[(u64::MAX - 8, 16, READ), (DATA, 1, WRITE)],
        &[(DATA, 16, READ), (DATA, u32::MAX, WRITE), (DATA, u32::MAX, WRITE), (DATA, 1, WRITE)],
        &[(DATA, 8, READ), (DATA, 512, WRITE), (DATA, 8, READ), (DATA, 1, WRITE)],
    ];
    let mut disk = disk();
    for pieces in broken {
        disk.queue.submit(&disk.rig, pieces);
        disk.rig.wait_broken();
        assert_eq!(disk.queue.take_used(&disk.rig), None, "{pieces:?}");
        disk.device.reset();
        disk.rig.forget_broken();
        disk.queue = disk.rig.queue(0, 256);
        disk.rig.activate(&mut disk.device, &[&disk.queue]);
        assert_eq!(disk.request(4, 0, &[]), (OK, 1));
    }
}

#[test]
fn rings_that_break_the_rules_need_a_reset() {
    type Break = fn(&mut Disk);
    let ways: &[(&str, Break)] = &[
        ("a loop", |disk| {
            disk.queue.describe(&disk.rig, 0, DATA, 16, 1, 1);
            disk.queue.describe(&disk.rig, 1, DATA, 16, 1, 0);
            disk.queue.offer(&disk.rig, 0);
        }),
        ("a next outside the table", |disk| {
            disk.queue.describe(&disk.rig, 0, DATA, 16, 1, 256);
            disk.queue.offer(&disk.rig, 0);
        }),
        ("a head outside the table", |disk| disk.queue.offer(&disk.rig, 256)),
        ("an index that jumps", |disk| disk.queue.set_available_index(&disk.rig, 300)),
        ("an indirect table outside RAM", |disk| {
            disk.queue.describe(&disk.rig, 0, HOLE, 64, INDIRECT, 0);
            disk.queue.offer(&disk.rig, 0);
        }),
        ("an indirect table of odd length", |disk| {
            disk.queue.describe(&disk.rig, 0, DATA, 17, INDIRECT, 0);
            disk.queue.offer(&disk.rig, 0);
        }),
        ("an empty indirect table", |disk| {
            disk.queue.describe(&disk.rig, 0, DATA, 0, INDIRECT, 0);
            disk.queue.offer(&disk.rig, 0);
        }),
        ("an indirect table in an indirect table", |disk| {
            disk.queue.describe(&disk.rig, 0, disk.queue.descriptors(), 64, INDIRECT, 0);
            disk.queue.offer(&disk.rig, 0);
        }),
        ("an indirect chain that is too long", |disk| {
            let pieces = vec![(DATA, 1, READ); 2000];
            disk.queue.add_indirect(&disk.rig, &pieces);
        }),
    ];
    for (what, break_it) in ways {
        let mut disk = disk();
        break_it(&mut disk);
        disk.queue.kick();
        let why = disk.rig.wait_broken();
        assert!(why.contains("queue 0"), "{what}: {why}");
        // Not looked at again, and said only once.
        disk.queue.kick();
        disk.device.pause();
        disk.device.resume();
        disk.queue.kick();
        assert_eq!(disk.device.pause().len(), 1);
        assert_eq!(disk.rig.broken().len(), 1, "{what}");
        assert_eq!(disk.queue.used_index(&disk.rig), 0, "{what}");
    }
}

#[test]
fn several_queues_are_all_served_and_more_than_one_turn_of_requests_too() {
    let mut disk = disk_with(|settings| settings.queues = 9, |features| features);
    assert_eq!(disk.device.queue_sizes(), [256; 4]);
    disk.device.reset();
    let mut queues: Vec<_> = (0..4).map(|index| disk.rig.queue(index, 256)).collect();
    disk.rig.activate(&mut disk.device, &queues.iter().collect::<Vec<_>>());
    let at = disk.rig.put(&header(4, 0));
    let status = disk.rig.alloc(1);
    for queue in &mut queues {
        for _ in 0..128 {
            queue.add(&disk.rig, &[(at, 16, READ), (status, 1, WRITE)]);
        }
        queue.kick();
    }
    for queue in &mut queues {
        for _ in 0..128 {
            assert_eq!(queue.wait_used(&disk.rig).1, 1);
        }
    }
}

#[test]
fn with_event_idx_a_driver_that_sleeps_late_is_interrupted_once() {
    let mut disk = disk();
    let at = disk.rig.put(&header(8, 0));
    let (id, status) = (disk.rig.alloc(20), disk.rig.alloc(1));
    for _ in 0..10 {
        disk.queue.add(&disk.rig, &[(at, 16, READ), (id, 20, WRITE), (status, 1, WRITE)]);
    }
    // used_event: tell me at the tenth.
    disk.rig.write(disk.queue.available() + 4 + 2 * 256, &9_u16.to_le_bytes());
    disk.queue.kick();
    for _ in 0..10 {
        disk.queue.wait_used(&disk.rig);
    }
    disk.rig.until("an interrupt", || disk.rig.interrupts(0) == 1);
    disk.device.pause();
    assert_eq!(disk.rig.interrupts(0), 1);
}

#[test]
fn without_event_idx_the_driver_may_say_that_it_wants_no_interrupts() {
    let mut disk = disk_with(|_| {}, |features| features & !F_EVENT_IDX);
    disk.rig.write(disk.queue.available(), &1_u16.to_le_bytes());
    assert_eq!(disk.request(4, 0, &[]).0, OK);
    disk.device.pause();
    assert_eq!(disk.rig.interrupts(0), 0);
    disk.device.resume();
    disk.rig.write(disk.queue.available(), &0_u16.to_le_bytes());
    assert_eq!(disk.request(4, 0, &[]).0, OK);
    disk.rig.until("an interrupt", || disk.rig.interrupts(0) > 0);
}

#[test]
fn a_paused_disk_touches_nothing_and_goes_on_where_it_stopped() {
    let mut disk = disk();
    assert_eq!(disk.request(4, 0, &[]).0, OK);
    let states = disk.device.pause();
    assert_eq!(states.len(), 1);
    assert_eq!((states[0].0, states[0].1.next_avail, states[0].1.next_used), (0, 1, 1));
    let at = disk.rig.put(&header(0, 0));
    let data = disk.rig.put(&[1; 512]);
    let status = disk.rig.put(&[0xee]);
    let head = disk.queue.submit(&disk.rig, &[(at, 16, READ), (data, 512, WRITE), (status, 1, WRITE)]);
    assert_eq!(disk.queue.used_within(&disk.rig, Duration::from_millis(50)), None);
    assert_eq!(disk.rig.read(data, 512), [1; 512]);
    disk.device.resume();
    assert_eq!(disk.queue.wait_used(&disk.rig), (head, 513));
}

#[test]
fn a_saved_disk_is_restored_with_its_ring_where_it_was() {
    let mut disk = disk();
    disk.device.write_config(32, &[0]);
    for _ in 0..300 {
        assert_eq!(disk.request(4, 0, &[]).0, OK);
    }
    let states = disk.device.pause();
    let saved = disk.device.save();
    let mut second = Blk::new(settings(disk.file.try_clone().unwrap())).unwrap();
    second.restore(&saved).unwrap();
    assert!(second.restore(&serde_json::json!({})).is_err());
    let queue = Queue::try_from(states[0].1).unwrap();
    second
        .activate(Activation {
            memory: disk.rig.ram.clone(),
            features: disk.rig.features,
            queues: vec![ActiveQueue { index: 0, queue, kick: disk.queue.kick.try_clone().unwrap() }],
            interrupt: Arc::clone(&disk.rig.interrupt) as Arc<dyn Interrupt>,
        })
        .unwrap();
    let mut mode = [0xff];
    second.read_config(32, &mut mode);
    assert_eq!(mode, [0]);
    disk.device.reset();
    disk.device = second;
    assert_eq!(disk.request(4, 0, &[]).0, OK);
}

#[test]
fn limits_slow_a_disk_down_and_can_be_lifted() {
    let limits = DiskLimits { all: Limits::per_second(None, Some(20)), ..DiskLimits::default() };
    let mut disk = disk_with(|settings| settings.limits = limits, |features| features);
    let start = Instant::now();
    for _ in 0..25 {
        assert_eq!(disk.request(4, 0, &[]).0, OK);
    }
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    let control = disk.device.control();
    let limits = Limits { bytes: Some(Limit { per_second: 1, burst: 512 }), operations: None };
    control.set_limits(DiskLimits { read: limits, ..DiskLimits::default() });
    let at = disk.rig.alloc(4096);
    assert_eq!(disk.request(0, 0, &[(at, 4096, WRITE)]).0, OK);
    // Now in debt for an hour.
    let header = disk.rig.put(&header(0, 0));
    let status = disk.rig.alloc(1);
    disk.queue.submit(&disk.rig, &[(header, 16, READ), (at, 512, WRITE), (status, 1, WRITE)]);
    assert_eq!(disk.queue.used_within(&disk.rig, Duration::from_millis(50)), None);
    control.set_limits(DiskLimits::default());
    assert_eq!(disk.queue.wait_used(&disk.rig).1, 513);
}

#[test]
fn small_and_crooked_requests_work_on_a_file_with_direct_input_and_output() {
    use std::os::unix::fs::OpenOptionsExt as _;

    // Some file systems of /tmp refuse O_DIRECT; the folder of the build does not.
    let folder = std::env::var_os("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, Into::into);
    let path = tempfile::NamedTempFile::new_in(folder).unwrap().into_temp_path();
    let plain = File::options().read(true).write(true).open(&path).unwrap();
    let content: Vec<u8> = (0..SECTORS * 512).map(|at| (at / 512) as u8 ^ at as u8).collect();
    plain.write_all_at(&content, 0).unwrap();
    let direct = match File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path) {
        Ok(direct) => direct,
        Err(error) => {
            eprintln!("not tested: this file system has no direct input and output: {error}");
            return;
        }
    };
    let mut disk = disk_with(|settings| settings.file = direct, |features| features);
    disk.file = plain;
    let at = disk.rig.alloc(8192) + 7;
    assert_eq!(disk.request(0, 5, &[(at, 512, WRITE)]), (OK, 513));
    assert_eq!(disk.rig.read(at, 512), content[5 * 512..6 * 512]);
    disk.rig.write(at, &[0x55; 1536]);
    assert_eq!(disk.request(1, 15, &[(at, 1000, READ), (at + 1000, 536, READ)]).0, OK);
    let mut expected = content;
    expected[15 * 512..18 * 512].fill(0x55);
    assert_eq!(disk.content(0, SECTORS), expected);
    assert_eq!(disk.request(0, SECTORS - 1, &[(at, 512, WRITE)]), (OK, 513));
    assert_eq!(disk.rig.read(at, 512), expected[(SECTORS as usize - 1) * 512..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn garbage_in_the_rings_never_stops_the_disk_or_leaves_its_size(seed: u64, read_only: bool) {
        let mut disk = disk_with(|settings| { settings.queues = 4; settings.read_only = read_only; }, |features| features);
        disk.device.reset();
        let before = disk.content(0, SECTORS);
        for round in 0..4 {
            torment(&mut disk.device, seed.wrapping_add(round));
        }
        prop_assert_eq!(disk.file.metadata().unwrap().len(), SECTORS * 512);
        if read_only {
            prop_assert_eq!(disk.content(0, SECTORS), before);
        }
        disk.queue = disk.rig.queue(0, 256);
        disk.rig.activate(&mut disk.device, &[&disk.queue]);
        prop_assert_eq!(disk.request(4, 0, &[]), (OK, 1));
    }
}
