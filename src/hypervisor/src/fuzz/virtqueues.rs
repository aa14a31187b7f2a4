//! Rings, as a hostile driver lays them, against each device.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::source::Source;
use crate::memory::{GuestRam, SharedRam};
use crate::virtio::balloon::Balloon;
use crate::virtio::blk::{Blk, BlkSettings};
use crate::virtio::console::Console;
use crate::virtio::device::{Activation, ActiveQueue, Interrupt, VirtioDevice};
use crate::virtio::input::{Input, InputEvent, InputKind};
use crate::virtio::net::{Net, NetSettings};
use crate::virtio::rate_limiter::{DiskLimits, Limits};
use crate::virtio::rng::Rng;

/// RAM is 0 to 1 MiB and 2 to 3 MiB.
const HOLE: u64 = 1 << 20;
const HIGH: u64 = 2 << 20;
const END: u64 = 3 << 20;
/// Behind the rings.
const DATA: u64 = 0x8_0000;
const QUEUE: u64 = 0x4000;
const MOST_SIZE: u16 = 64;
/// Of a disk, and behind it what nobody may touch.
const DISK: u64 = 128 << 10;
const GUARD: usize = 4096;
const GUARD_BYTE: u8 = 0xa5;
/// Steps of one run.
const STEPS: usize = 256;

/// It hears everything and does nothing.
struct Deaf;

impl Interrupt for Deaf {
    fn signal_queue(&self, _index: u16) {}

    fn signal_config(&self) {}

    fn queue_eventfd(&self, _index: u16) -> Option<EventFd> {
        None
    }

    fn needs_reset(&self, _why: &str) {}
}

/// What the owner of a device does meanwhile.
type Owner = Box<dyn FnMut(&mut Source<'_>)>;
/// What must hold when all is over.
type Verdict = Box<dyn FnOnce()>;

struct Subject {
    device: Box<dyn VirtioDevice>,
    owner: Owner,
    verdict: Verdict,
}

impl Subject {
    fn new(device: impl VirtioDevice + 'static) -> Self {
        Self { device: Box::new(device), owner: Box::new(|_| {}), verdict: Box::new(|| {}) }
    }
}

fn disk(read_only: bool) -> Subject {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    let mut content = vec![GUARD_BYTE; DISK as usize + GUARD];
    content[..512].fill(1);
    file.write_all_at(&content, 0).unwrap();
    let looked_at = file.try_clone().unwrap();
    let settings = BlkSettings {
        name: "disk".to_owned(),
        file,
        read_only,
        serial: "serial".to_owned(),
        size_bytes: DISK,
        queues: 2,
        limits: DiskLimits::default(),
    };
    let device = Blk::new(settings).unwrap();
    let control = device.control();
    let owner = move |source: &mut Source<'_>| match source.below(3) {
        0 => control.resize(DISK / (1 + source.below(4)) / 512 * 512),
        1 => {
            let limits = Limits::per_second(Some(1 << 30), Some(1 << 20));
            control.set_limits(DiskLimits { write: limits, ..DiskLimits::default() });
        }
        _ => drop(control.statistics()),
    };
    let verdict = move || {
        let mut now = vec![0; content.len() + 1];
        let length = looked_at.read_at(&mut now, 0).unwrap();
        assert_eq!(length, content.len(), "the file has another size");
        let untouched = if read_only { 0 } else { DISK as usize };
        assert!(now[untouched..length] == content[untouched..], "what is not the disk's was written");
    };
    Subject { device: Box::new(device), owner: Box::new(owner), verdict: Box::new(verdict) }
}

fn console() -> Subject {
    let device = Console::new().unwrap();
    let control = device.control();
    let mut far: Option<UnixStream> = None;
    let owner = move |source: &mut Source<'_>| match (source.below(4), &mut far) {
        (0, far) => {
            let (here, there) = UnixStream::pair().unwrap();
            here.set_nonblocking(true).unwrap();
            control.connect(there).unwrap();
            *far = Some(here);
        }
        (1, _) => control.disconnect(),
        (2, Some(far)) => drop(far.write(source.bytes(32))),
        (_, Some(far)) => drop(far.read(&mut [0; 256])),
        _ => drop(control.is_open()),
    };
    Subject { owner: Box::new(owner), ..Subject::new(device) }
}

fn input(kind: InputKind) -> Subject {
    let device = Input::new(kind).unwrap();
    let control = device.control();
    let owner = move |source: &mut Source<'_>| {
        let frame: Vec<_> = (0..source.below(9)).map(|_| InputEvent::key(source.u16(), source.u8() & 1 == 1)).collect();
        control.send(&frame);
    };
    Subject { owner: Box::new(owner), ..Subject::new(device) }
}

/// A tap and a socket on its far side, in a network namespace of this thread's; None where that is not allowed.
fn cable() -> Option<&'static (File, File)> {
    static CABLE: OnceLock<Option<(File, File)>> = OnceLock::new();
    CABLE.get_or_init(make_cable).as_ref()
}

#[allow(unsafe_code, reason = "raw sockets and the making of taps have no safe form")]
fn make_cable() -> Option<(File, File)> {
    let tap = File::options().read(true).write(true).open("/dev/net/tun").ok()?;
    // SAFETY: only this thread moves to the new namespace; all pointers are to locals that live long enough.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return None;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..4].copy_from_slice(&b"tap0".map(|letter| letter as libc::c_char));
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as _;
        if libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) != 0 {
            return None;
        }
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if socket < 0 {
            return None;
        }
        let socket = File::from_raw_fd(socket);
        libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request);
        let index = request.ifr_ifru.ifru_ifindex;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
        Some((tap, socket))
    }
}

fn nic() -> Option<Subject> {
    let (tap, far) = cable()?;
    let settings = NetSettings {
        name: "nic".to_owned(),
        taps: vec![tap.try_clone().unwrap()],
        vhost: Vec::new(),
        mac: [0x52, 0x54, 0, 1, 2, 3],
        mtu: 1500,
        link_up: true,
        receive_limits: Limits::default(),
        transmit_limits: Limits::default(),
    };
    let device = Net::new(settings).unwrap();
    let control = device.control();
    let owner = move |source: &mut Source<'_>| match source.below(4) {
        0 => control.set_link(source.u8() & 1 == 1),
        1 => control.announce(),
        2 => control.set_limits(Limits::per_second(Some(1 << 30), None), Limits::default()),
        _ => {
            let mut frame = vec![0xff; 14 + source.below(1500) as usize];
            frame[..6].copy_from_slice(&source.array::<6>());
            let _ = (&*far).write(&frame);
        }
    };
    Some(Subject { owner: Box::new(owner), ..Subject::new(device) })
}

fn subject(which: u64) -> Subject {
    match which {
        0 => disk(false),
        1 => disk(true),
        2 => Subject::new(Balloon::new().unwrap()),
        3 => console(),
        4 => input(InputKind::Keyboard),
        5 => input(InputKind::Tablet),
        6 => nic().unwrap_or_else(|| disk(false)),
        _ => Subject::new(Rng::new().unwrap()),
    }
}

struct Laid {
    index: u16,
    size: u16,
    most: u16,
    kick: EventFd,
    available: u16,
}

impl Laid {
    fn base(&self) -> u64 {
        QUEUE * u64::from(self.index)
    }

    fn active(&self) -> ActiveQueue {
        let mut queue = Queue::new(self.most).unwrap();
        queue.set_size(self.size);
        queue.try_set_desc_table_address(GuestAddress(self.base())).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(self.base() + 0x1000)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(self.base() + 0x2000)).unwrap();
        queue.set_ready(true);
        ActiveQueue { index: self.index, queue, kick: self.kick.try_clone().unwrap() }
    }

    /// Until the device has seen the kick, or makes more of its own than this waits for.
    fn settle(&self) {
        #[allow(unsafe_code, reason = "EventFd has no AsFd")]
        // SAFETY: the descriptor is open for as long as the EventFd that is borrowed.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.kick.as_raw_fd()) };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..100 {
            if !matches!(poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&now)), Ok(1)) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

struct Rig {
    ram: SharedRam,
    queues: Vec<Laid>,
    features: u64,
}

impl Rig {
    fn write(&self, at: u64, bytes: &[u8]) {
        // What lies outside RAM the driver cannot write either.
        let _ = self.ram.memory().write_slice(bytes, GuestAddress(at));
    }

    fn activate(&self, device: &mut dyn VirtioDevice) -> bool {
        let queues = self.queues.iter().map(Laid::active).collect();
        let interrupt: Arc<dyn Interrupt> = Arc::new(Deaf);
        device.activate(Activation { memory: self.ram.clone(), features: self.features, queues, interrupt }).is_ok()
    }

    fn describe(&self, source: &mut Source<'_>) {
        let queue = &self.queues[source.below(self.queues.len() as u64) as usize];
        let slot = source.below(queue.size.into());
        // Sometimes into an indirect table.
        let table = if source.below(4) == 0 { DATA } else { queue.base() };
        let address = match source.below(8) {
            0 => source.u64(),
            1 => HOLE - source.below(256),
            2 => END - source.below(256),
            3 => queue.base() + source.below(0x3000),
            4 => HIGH + source.below(0x1_0000),
            5 => DATA,
            _ => DATA + 64 * source.below(256),
        };
        let length = match source.below(6) {
            0 => source.u32(),
            1 => 0,
            2 => 16 * source.below(64) as u32,
            3 => 1,
            4 => 512 * source.below(16) as u32,
            _ => source.below(0x1000) as u32,
        };
        let flags = source.u8();
        let flags = u16::from(flags & 7) | if flags == 0xff { source.u16() } else { 0 };
        let next = source.below(u64::from(queue.size) + 1) as u16;
        let mut descriptor = [0; 16];
        descriptor[..8].copy_from_slice(&address.to_le_bytes());
        descriptor[8..12].copy_from_slice(&length.to_le_bytes());
        descriptor[12..14].copy_from_slice(&flags.to_le_bytes());
        descriptor[14..].copy_from_slice(&next.to_le_bytes());
        self.write(table + 16 * slot, &descriptor);
    }

    /// Offer a chain, or several.
    fn offer(&mut self, source: &mut Source<'_>) {
        let which = source.below(self.queues.len() as u64) as usize;
        let ram = self.ram.memory();
        let queue = &mut self.queues[which];
        let count = source.u8();
        let count = if count == 0xff { source.u16() } else { u16::from(count & 7) + 1 };
        for _ in 0..count.min(8) {
            let head = source.u8();
            let head = if head == 0xff { source.u16() } else { u16::from(head) % queue.size };
            let at = queue.base() + 0x1004 + 2 * u64::from(queue.available % queue.size);
            ram.write_slice(&head.to_le_bytes(), GuestAddress(at)).unwrap();
            queue.available = queue.available.wrapping_add(1);
        }
        queue.available = queue.available.wrapping_add(count.saturating_sub(8));
        let index = queue.available.to_le_bytes();
        ram.write_slice(&index, GuestAddress(queue.base() + 0x1002)).unwrap();
        queue.kick.write(1).unwrap();
        queue.settle();
    }

    /// A request as a driver makes it: a header, something in between, and a place for the answer.
    fn request(&mut self, source: &mut Source<'_>) {
        let which = source.below(self.queues.len() as u64) as usize;
        let header = source.array::<16>();
        let (length, writable) = (source.below(0x2001) as u32, source.u8() & 1);
        self.write(DATA, &header);
        let base = self.queues[which].base();
        let pieces = [(DATA, 16, 1_u16), (DATA + 0x1000, length, 1 | u16::from(writable) << 1), (DATA + 0x8000, 64, 2)];
        for (slot, (address, length, flags)) in (0_u16..).zip(pieces) {
            let mut descriptor = [0; 16];
            descriptor[..8].copy_from_slice(&address.to_le_bytes());
            descriptor[8..12].copy_from_slice(&length.to_le_bytes());
            descriptor[12..14].copy_from_slice(&flags.to_le_bytes());
            descriptor[14..].copy_from_slice(&(slot + 1).to_le_bytes());
            self.write(base + 16 * u64::from(slot), &descriptor);
        }
        let queue = &mut self.queues[which];
        let at = base + 0x1004 + 2 * u64::from(queue.available % queue.size);
        let ram = self.ram.memory();
        ram.write_slice(&[0; 2], GuestAddress(at)).unwrap();
        queue.available = queue.available.wrapping_add(1);
        ram.write_slice(&queue.available.to_le_bytes(), GuestAddress(base + 0x1002)).unwrap();
        queue.kick.write(1).unwrap();
        queue.settle();
    }
}

/// Drive one device with rings that the bytes lay, and its owner with it. Whatever it did, a reset helps.
pub fn virtqueues(data: &[u8]) {
    let mut source = Source::new(data);
    let Subject { mut device, mut owner, verdict } = subject(source.below(8));
    let ranges = [(GuestAddress(0), HOLE as usize), (GuestAddress(HIGH), (END - HIGH) as usize)];
    let ram = SharedRam::new(GuestRam::from_ranges(&ranges).unwrap());
    let lay = |(index, most): (u16, &u16), size: u64| Laid {
        index,
        size: 1 << size.min(u64::from(MOST_SIZE.min(*most).ilog2())),
        most: *most,
        kick: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap(),
        available: 0,
    };
    let sizes = device.queue_sizes().to_vec();
    let queues = (0..).zip(&sizes).map(|queue| lay(queue, 6 - source.below(7))).collect();
    let unwanted = source.u64();
    let mut rig = Rig { ram, queues, features: (device.features() | 1 << 32) & !(unwanted & !(1 << 32)) };
    let mut active = rig.activate(&mut *device);
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        match source.below(12) {
            0..=2 => rig.describe(&mut source),
            3 | 4 => rig.offer(&mut source),
            5 => rig.request(&mut source),
            6 => {
                let at = DATA + 4 * source.below(0x4000);
                rig.write(at, source.bytes(16));
            }
            7 => {
                // Anywhere, the rings among it.
                let at = 2 * source.below(0x8000);
                rig.write(at, &source.array::<2>());
            }
            8 => {
                let mut config = [0; 8];
                let length = source.access();
                device.read_config(source.below(300), &mut config[..length]);
                let written = source.array::<8>();
                device.write_config(source.below(300), &written[..length]);
            }
            9 => owner(&mut source),
            10 => {
                device.pause();
                let saved = device.save();
                if source.u8() & 1 == 1 {
                    device.reset();
                    let _ = device.restore(&saved);
                    active = rig.activate(&mut *device);
                } else {
                    device.resume();
                }
            }
            _ => match source.below(4) {
                0 => {
                    device.reset();
                    active = rig.activate(&mut *device);
                }
                _ => device.vector_changed(source.below(8).min(5) as u16),
            },
        }
    }
    rig.queues.iter().for_each(Laid::settle);
    let _ = active;
    device.pause();
    device.reset();
    // Its thread lives, and the next driver finds it as at power-on.
    rig.queues.iter_mut().for_each(|queue| queue.available = 0);
    rig.write(0, &vec![0; DATA as usize]);
    rig.features = 1 << 32;
    assert!(rig.activate(&mut *device), "a device does not start after a reset");
    device.reset();
    drop(device);
    verdict();
}
