//! Machines with payloads of a few bytes, on whatever KVM this host has (one that interprets is enough). Without any they
//! say so and test nothing: the boots in an L1 (`tests/guests`) do.

#![expect(
    clippy::disallowed_methods,
    reason = "guests have no event for what is waited for here; every wait has a deadline"
)]

mod cycles;
mod firmware;
mod fuzz;
mod placement;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _};
use vmspec::spec::{Cpu, CpuTopology, Mac, Nic};
use vmspec::{Disk, DiskKind, DiskLimits, Driver, Firmware, NicLimits, PageSize, Smbios, VmSpec};

use super::boot::Start;
use super::{KvmMachine, Parts};
use crate::platform::Wish;
use crate::platform::serial::Output;

const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd]; // cli; hlt; jmp hlt
const SPIN: &[u8] = &[0xeb, 0xfe]; // jmp .
const RESET: &[u8] = &[0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee]; // mov dx, 0xcf9; mov al, 6; out dx, al
const POWER_OFF: &[u8] = &[0xba, 0x14, 0x06, 0xb8, 0x00, 0x34, 0xef]; // mov dx, 0x614; mov ax, 0x3400; out dx, ax
const PANIC: &[u8] = &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee]; // mov dx, 0x505; mov al, 1; out dx, al
const FALL_BACK: &[u8] = &[0xba, 0x04, 0x0b, 0x66, 0xb8, 0x42, 0x4c, 0x41, 0x46, 0x66, 0xef]; // 0xb04 <- 0x46414c42
const COUNT: &[u8] = &[0x31, 0xc0, 0x8e, 0xd8, 0xff, 0x06, 0x00, 0x05, 0xeb, 0xfa]; // ds = 0; 1: inc word [0x500]; jmp 1b
/// Whether the word at 0x500 is zero: says 'z' if so, and 'n' if not; then counts it up.
const SAY_WHETHER_ZERO: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8, // xor ax, ax; mov ds, ax
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'z', // mov al, 'z'
    0x83, 0x3e, 0x00, 0x05, 0x00, // cmp word [0x500], 0
    0x74, 0x02, // je 1f
    0xb0, b'n', // mov al, 'n'
    0xee, // 1: out dx, al
    0xff, 0x06, 0x00, 0x05, // inc word [0x500]
];

fn say(letter: u8) -> Vec<u8> {
    vec![0xba, 0xf8, 0x03, 0xb0, letter, 0xee]
}

/// A BIOS that is this code, from the reset vector on.
fn bios(code: &[&[u8]]) -> File {
    let mut rom = vec![0xf4_u8; 0x2_0000];
    let code = code.concat();
    rom[0x1_0000..0x1_0000 + code.len()].copy_from_slice(&code);
    // jmp to the start of the segment
    rom[0x1_fff0..0x1_fff3].copy_from_slice(&[0xe9, 0x0d, 0x00]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&rom).unwrap();
    file
}

fn spec(vcpus: u32) -> VmSpec {
    let id = Uuid::from_u128(0x42);
    VmSpec {
        version: vmspec::spec::SPEC_VERSION,
        server_id: id,
        name: "test".to_owned(),
        boot_id: id,
        generation: 1,
        driver: Driver::Kvm,
        vcpus,
        memory_mib: 16,
        page_size: PageSize::default(),
        cpu: Cpu::default(),
        disks: Vec::new(),
        nics: Vec::new(),
        console_log_bytes: 4096,
        smbios: Smbios::openstack(id),
        firmware: Firmware::Bios,
        secure_boot: vmspec::SecureBoot::Disabled,
        guest_os: vmspec::GuestOs::Other,
        display: false,
        run_as: None,
        restore: None,
    }
}

struct Bench {
    guest: KvmMachine,
    wishes: UnboundedReceiver<Wish>,
    output: Arc<Output>,
}

fn machine(spec: &VmSpec, start: Start, restore: Option<(File, File)>) -> Option<Bench> {
    let Ok(kvm) = Kvm::new() else {
        eprintln!("no usable /dev/kvm: nothing is tested here");
        return None;
    };
    let output = Arc::new(Output::default());
    let disks = spec.disks.iter().map(|disk| (disk.clone(), tempfile::tempfile().unwrap())).collect();
    let parts = Parts {
        kvm,
        start,
        output: Arc::clone(&output),
        disks,
        nics: Vec::new(),
        vhost: Vec::new(),
        vsock: None,
        restore,
        debug_port: false,
    };
    let (guest, wishes) = KvmMachine::new(spec, parts).unwrap();
    Some(Bench { guest, wishes, output })
}

/// With files for the disks of the spec, and this tap for its nics.
fn machine_with(spec: &VmSpec, start: Start, tap: Option<&File>, restore: Option<(File, File)>) -> Option<Bench> {
    let Ok(kvm) = Kvm::new() else {
        eprintln!("no usable /dev/kvm: nothing is tested here");
        return None;
    };
    let output = Arc::new(Output::default());
    let disk = |disk: &Disk| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(disk.size_bytes).unwrap();
        (disk.clone(), file)
    };
    let nic = |nic: &Nic| tap.map(|tap| (nic.clone(), vec![tap.try_clone().unwrap()]));
    let parts = Parts {
        kvm,
        start,
        output: Arc::clone(&output),
        disks: spec.disks.iter().map(disk).collect(),
        nics: spec.nics.iter().filter_map(nic).collect(),
        vhost: Vec::new(),
        vsock: None,
        restore,
        debug_port: true,
    };
    let (guest, wishes) = KvmMachine::new(spec, parts).unwrap();
    Some(Bench { guest, wishes, output })
}

/// Every device that the machine can have here.
fn everything(nic: bool) -> VmSpec {
    let disk = |slot: u8| Disk {
        slot,
        kind: if slot == 0 { DiskKind::Root } else { DiskKind::Volume },
        descriptor: slot.into(),
        read_only: slot == 1,
        serial: format!("disk-{slot}"),
        size_bytes: 1 << 20,
        limits: DiskLimits::default(),
    };
    let nics = if nic {
        let mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);
        let (port_id, limits) = (Uuid::from_u128(7), NicLimits::default());
        vec![Nic { slot: 0, port_id, mac, mtu: 1500, descriptor: 2, queues: 1, limits }]
    } else {
        Vec::new()
    };
    VmSpec { memory_mib: 32, disks: vec![disk(0), disk(1)], nics, display: true, ..spec(1) }
}

/// A tap that is up, in a network namespace of the calling thread.
#[allow(unsafe_code, reason = "the making of taps has no safe form here")]
fn tap() -> Option<File> {
    // SAFETY: only this test's thread moves to the new namespace; all pointers are to locals that live long enough.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            eprintln!("without a nic: no network namespace: {}", std::io::Error::last_os_error());
            return None;
        }
        let Ok(tap) = File::options().read(true).write(true).open("/dev/net/tun") else {
            eprintln!("without a nic: no /dev/net/tun");
            return None;
        };
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..4].copy_from_slice(&b"tap0".map(|letter| letter as libc::c_char));
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as _;
        assert_eq!(libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request), 0);
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        assert_eq!(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request), 0);
        Some(tap)
    }
}

/// Run one test in a process of its own, and what it printed; None in that process. Other tests open and close
/// descriptors of this one meanwhile, and a panic in a thread of a machine must be the end of the process that counts it.
fn apart(name: &str, mark: &str, environment: &[(&str, String)]) -> Option<String> {
    if std::env::var_os(mark).is_some() {
        return None;
    }
    let listed = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let suffix = format!("::{name}: test");
    let path = listed.lines().find(|line| line.ends_with(&suffix)).unwrap().trim_end_matches(": test");
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", path, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(mark, "1")
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout).into_owned() + &String::from_utf8_lossy(&inner.stderr);
    assert!(inner.status.success(), "{}: {said}", inner.status);
    Some(said)
}

fn with(code: &[&[u8]]) -> Option<Bench> {
    machine(&spec(1), Start::Bios { bios: bios(code) }, None)
}

impl Bench {
    fn wish(&mut self) -> Wish {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match self.wishes.try_recv() {
                Ok(wish) => return wish,
                Err(_) => assert!(Instant::now() < until, "the guest makes no wish"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn hear(&self, wanted: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        let mut heard = String::new();
        while !heard.contains(wanted) {
            assert!(Instant::now() < until, "heard only {heard:?}");
            std::thread::sleep(Duration::from_millis(1));
            heard.push_str(&String::from_utf8_lossy(&self.output.take()));
        }
        heard
    }

    fn word(&self, at: u64) -> u16 {
        self.guest.ram.memory().read_obj(GuestAddress(at)).unwrap()
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn the_serial_line_and_every_end_of_a_guest_are_heard() {
    for (code, end) in [(RESET, Wish::Reset), (POWER_OFF, Wish::PowerOff), (PANIC, Wish::Panicked)] {
        let Some(mut bench) = with(&[&say(b'h'), &say(b'i'), code, HALT]) else { return };
        bench.guest.go();
        assert_eq!(bench.wish(), end);
        assert_eq!(bench.hear("hi"), "hi");
    }
}

#[test]
fn guests_that_halt_for_ever_or_spin_are_stopped_and_go_on() {
    for code in [HALT, SPIN] {
        let Some(mut bench) = with(&[&say(b'x'), code]) else { return };
        bench.guest.go();
        bench.hear("x");
        for _ in 0..20 {
            let started = Instant::now();
            bench.guest.pause().unwrap();
            assert!(started.elapsed() < Duration::from_secs(5));
            bench.guest.go();
        }
        bench.guest.end();
    }
}

#[test]
fn a_reset_is_a_power_on_with_empty_memory_in_the_same_process() {
    let Some(mut bench) = with(&[SAY_WHETHER_ZERO, RESET, HALT]) else { return };
    bench.guest.go();
    let mut before = 0;
    for cycle in 0..200 {
        assert_eq!(bench.wish(), Wish::Reset);
        assert_eq!(bench.hear("z"), "z", "cycle {cycle}");
        assert_eq!(bench.word(0x500), 1);
        bench.guest.reset(false).unwrap();
        if cycle == 10 {
            before = open_descriptors();
        }
        bench.guest.go();
    }
    // Other tests of this process open and close theirs meanwhile.
    assert!(open_descriptors() < before + 100, "{before} and now {}", open_descriptors());
}

#[test]
fn nothing_of_an_instruction_before_a_reset_happens_after_it() {
    // KVM finishes a string instruction when the vCPU is entered again.
    let read_for_ever = [0xbf, 0, 6, 0xba, 0x34, 0x12, 0x6c, 0xeb, 0xfd]; // mov di, 0x600; mov dx, 0x1234; 1: insb; jmp 1b
    let Some(mut bench) = with(&[&say(b'z'), &read_for_ever]) else { return };
    bench.guest.go();
    for cycle in 0..20 {
        assert_eq!(bench.hear("z"), "z", "cycle {cycle}");
        // As another vCPU would.
        bench.guest.exits.wishes.make(Wish::Reset);
        assert_eq!(bench.wish(), Wish::Reset);
        bench.guest.reset(false).unwrap();
        bench.guest.go();
    }
}

#[test]
fn firmware_hands_over_to_the_bios_once() {
    // An ELF file with a PVH entry would be firmware; here the BIOS itself stands in for what comes after.
    let Some(kvm) = Kvm::new().ok() else { return };
    drop(kvm);
    let start = Start::Firmware { elf: super::driver::FIRMWARE, bios: Some(bios(&[&say(b'b'), HALT])) };
    let Some(mut bench) = machine(&spec(1), start, None) else { return };
    assert!(bench.guest.has_bios());
    bench.guest.reset(true).unwrap();
    assert!(!bench.guest.has_bios());
    bench.guest.go();
    bench.hear("b");
    bench.guest.reset(false).unwrap();
    assert!(bench.guest.has_bios());
}

#[test]
fn a_suspended_guest_goes_on_where_it_was() {
    let Some(mut bench) = with(&[COUNT]) else { return };
    bench.guest.go();
    while bench.word(0x500) < 100 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (mut state, memory) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    bench.guest.suspend(&mut state, &memory).unwrap();
    let saved = bench.word(0x500);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(bench.word(0x500), saved, "it runs on while it is written");
    drop(bench);
    let start = Start::Bios { bios: bios(&[COUNT]) };
    let Some(mut bench) = machine(&spec(1), start, Some((state, memory))) else { return };
    assert_eq!(bench.word(0x500), saved);
    bench.guest.go();
    let until = Instant::now() + Duration::from_secs(20);
    while bench.word(0x500) == saved {
        assert!(Instant::now() < until, "it does not go on");
    }
    // And can be reset afterwards, with nothing of the file left.
    bench.guest.reset(false).unwrap();
    assert_eq!(bench.word(0x500), 0);
}

#[test]
fn a_machine_of_another_shape_refuses_a_saved_state() {
    let Some(mut bench) = with(&[HALT]) else { return };
    let files = || (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let (mut state, memory) = files();
    bench.guest.suspend(&mut state, &memory).unwrap();
    drop(bench);
    let parts = |restore| Parts {
        kvm: Kvm::new().unwrap(),
        start: Start::Bios { bios: bios(&[HALT]) },
        output: Arc::new(Output::default()),
        disks: Vec::new(),
        nics: Vec::new(),
        vhost: Vec::new(),
        vsock: None,
        restore: Some(restore),
        debug_port: false,
    };
    let again = || (state.try_clone().unwrap(), memory.try_clone().unwrap());
    for wrong in [VmSpec { memory_mib: 32, ..spec(1) }, spec(2)] {
        assert!(KvmMachine::new(&wrong, parts(again())).is_err());
    }
    for garbage in [&b""[..], b"{}", b"{\"version\":2}", &[0xff; 100]] {
        let (mut file, _) = files();
        file.write_all(garbage).unwrap();
        assert!(KvmMachine::new(&spec(1), parts((file, memory.try_clone().unwrap()))).is_err());
    }
    KvmMachine::new(&spec(1), parts(again())).unwrap();
}

#[test]
fn sixty_four_vcpus_start_stop_and_leave_no_thread() {
    let shape = CpuTopology { sockets: 2, cores: 16, threads: 2 };
    let spec = VmSpec { cpu: Cpu { topology: Some(shape), ..Cpu::default() }, ..spec(64) };
    let start = Start::Bios { bios: bios(&[&say(b'h'), HALT]) };
    let Some(mut bench) = machine(&spec, start, None) else { return };
    bench.guest.go();
    bench.hear("h");
    bench.guest.pause().unwrap();
    bench.guest.go();
    bench.guest.reset(false).unwrap();
    bench.guest.go();
    bench.hear("h");
    bench.guest.end();
}

#[test]
fn disks_come_and_are_asked_to_go() {
    let Some(mut bench) = with(&[HALT]) else { return };
    let disk = Disk {
        slot: 3,
        kind: DiskKind::Volume,
        descriptor: 0,
        read_only: false,
        serial: "volume".to_owned(),
        size_bytes: 1 << 20,
        limits: DiskLimits::default(),
    };
    let file = || tempfile::tempfile().unwrap();
    bench.guest.go();
    bench.guest.attach_disk((disk.clone(), file())).unwrap();
    bench.guest.attach_disk((disk.clone(), file())).unwrap();
    let other = Disk { slot: 4, ..disk.clone() };
    assert!(bench.guest.attach_disk((other, file())).is_err(), "the serial is taken");
    assert!(bench.guest.attach_disk((Disk { size_bytes: 512, ..disk.clone() }, file())).is_err());
    bench.guest.resize_disk(3, 2 << 20).unwrap();
    assert!(bench.guest.resize_disk(9, 512).is_err());
    let listed = bench.guest.devices();
    assert_eq!((listed.disks.len(), listed.disks[0].size_bytes, listed.disks[0].leaving), (1, 2 << 20, false));
    let device = vmspec::protocol::Device::Disk { slot: 3 };
    assert!(bench.guest.detach(device).unwrap());
    assert!(bench.guest.devices().disks[0].leaving);
    assert!(bench.guest.removed().is_empty(), "a guest that does nothing keeps it");
    // A reset lets go of it.
    bench.guest.reset(false).unwrap();
    assert_eq!(bench.guest.removed(), [device]);
    assert!(bench.guest.devices().disks.is_empty());
    assert!(!bench.guest.detach(device).unwrap());
}

/// The display's configuration by ECAM.
fn configuration(offset: u64) -> u64 {
    super::layout::ECAM + u64::from(crate::pci::slots::DISPLAY) * 0x8000 + offset
}

#[test]
fn the_framebuffer_follows_its_bar() {
    let with_display = VmSpec { display: true, ..spec(1) };
    let Some(mut bench) = machine(&with_display, Start::Bios { bios: bios(&[HALT]) }, None) else { return };
    let display = bench.guest.workplace().unwrap().display;
    let pci = Arc::clone(&bench.guest.exits.pci);
    let mut ids = [0; 4];
    assert!(pci.mmio_read(configuration(0), &mut ids));
    assert_eq!(ids, [0x34, 0x12, 0x11, 0x11]);
    for (address, value) in [(0xd000_0000_u32, 1), (0xe000_0000, 2), (0xd000_0000, 3)] {
        assert!(pci.mmio_write(configuration(0x10), &address.to_le_bytes()));
        assert!(pci.mmio_write(configuration(4), &[2, 0]));
        // As if the guest's write had come while the BAR was on its way.
        assert!(pci.mmio_write(address.into(), &[value]));
        let mut seen = [0];
        display.framebuffer().read(0, &mut seen);
        assert_eq!(seen, [value]);
    }
    bench.guest.go();
    bench.guest.reset(false).unwrap();
    let mut seen = [9];
    display.framebuffer().read(0, &mut seen);
    assert_eq!(seen, [0]);
    bench.guest.go();
}

#[test]
fn the_screen_of_a_suspended_guest_comes_back() {
    use crate::rfb::{Mode, Screen as _};

    let with_display = VmSpec { display: true, ..spec(1) };
    let start = || Start::Bios { bios: bios(&[HALT]) };
    let Some(mut bench) = machine(&with_display, start(), None) else { return };
    let pci = Arc::clone(&bench.guest.exits.pci);
    assert!(pci.mmio_write(configuration(0x10), &0xd000_0000_u32.to_le_bytes()));
    assert!(pci.mmio_write(configuration(0x18), &0xd800_0000_u32.to_le_bytes()));
    assert!(pci.mmio_write(configuration(4), &[2, 0]));
    for (register, value) in [(1_u64, 320_u16), (2, 200), (3, 32), (4, 1)] {
        assert!(pci.mmio_write(0xd800_0500 + 2 * register, &value.to_le_bytes()));
    }
    let last = (16 << 20) - 1;
    for at in [0, 5 << 20, last] {
        bench.guest.workplace().unwrap().display.framebuffer().write(at, &[0x77]);
    }
    let (mut state, memory) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    bench.guest.suspend(&mut state, &memory).unwrap();
    drop((bench, pci));
    let Some(bench) = machine(&with_display, start(), Some((state, memory))) else { return };
    let display = bench.guest.workplace().unwrap().display;
    assert_eq!(display.mode(), Mode { width: 320, height: 200 });
    for (at, value) in [(0, 0x77), (1, 0), (5 << 20, 0x77), (last, 0x77)] {
        let mut seen = [9];
        display.framebuffer().read(at, &mut seen);
        assert_eq!(seen, [value], "at {at}");
    }
}

#[test]
fn a_machine_without_a_display_has_nothing_in_its_place() {
    let Some(bench) = with(&[HALT]) else { return };
    assert!(bench.guest.workplace().is_none());
    let mut ids = [0; 4];
    bench.guest.exits.pci.mmio_read(configuration(0), &mut ids);
    assert_eq!(ids, [0xff; 4]);
}
