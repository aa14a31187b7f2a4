//! Boots one guest on the built-in machine, without a supervisor, for measurements and tests:
//!
//! ```text
//! boot [--kernel FILE [--initrd FILE] [--append TEXT]] [--bios FILE] [--firmware yes|no] [--disk FILE]...
//!      [--memory MIB] [--vcpus N] [--resets N] [--mark TEXT]... [--tap NAME] [--vhost]
//!      [--display yes|no] [--vnc SOCKET] [--agent SOCKET] [--vsock CID]
//!      [--suspend TEXT] [--plug TEXT=FILE] [--unplug TEXT] [--press TEXT] [--debug] [--jail] [--exec] [--probe]
//! ```
//!
//! `--exec` has the program start itself once more, so that the time of its start is known to the microsecond. `--jail` raises
//! the last walls of a server's process: limits, Landlock, a system call filter for each thread but the first. Nothing can be
//! plugged in or suspended then. `--probe` only says what this host can run guests with.
//!
//! `--vnc` and `--agent` are served on sockets that this makes.
//!
//! When the guest has said the text for the first time: `--suspend` writes the machine to files and goes on from them in a
//! new one, `--plug` and `--unplug` attach and detach disk 5, `--press` presses the power button.
//!
//! COM1 is standard output. Lines that start with `BOOT` on standard error are this program's: the clock (seconds
//! since the host booted) when the process started, when a vCPU first went into the guest, and when a text was first seen; and
//! at each the kilobytes of this process that are not the guest's. Ends when the guest powers off or resets once too often.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a program for measurements")]

use std::fs::File;
use std::io::{BufRead as _, Seek as _, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hypervisor::jail;
use hypervisor::kvm::boot::{Linux, Start};
use hypervisor::kvm::driver::FIRMWARE;
use hypervisor::kvm::screen::Viewers;
use hypervisor::kvm::{KvmMachine, Parts};
use hypervisor::platform::Wish;
use hypervisor::platform::serial::Output;
use kvm_ioctls::Kvm;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use uuid::Uuid;
use vmspec::protocol::{Device, Isolation};
use vmspec::spec::Mac;
use vmspec::{Disk, DiskKind, Driver, Nic, Smbios, VmSpec};

/// The slot of what is plugged in.
const PLUGGED: u8 = 5;
/// Told to itself by `--exec`.
const EXECUTED: &str = "BOOT_EXECUTED_AT";

#[derive(Default)]
struct Options {
    kernel: Option<File>,
    initrd: Option<File>,
    append: String,
    bios: Option<File>,
    firmware: bool,
    disks: Vec<File>,
    memory_mib: u64,
    vcpus: u32,
    resets: u32,
    marks: Vec<String>,
    tap: Option<String>,
    vhost: bool,
    display: bool,
    vnc: Option<String>,
    agent: Option<String>,
    vsock: Option<u64>,
    acts: Vec<(String, Act)>,
    debug: bool,
    jail: bool,
    exec: bool,
}

/// What is done when the guest has said something.
enum Act {
    Suspend,
    Plug(String),
    Unplug,
    Press,
}

fn options() -> Options {
    let mut options = Options { memory_mib: 256, vcpus: 1, firmware: true, display: true, ..Options::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value");
        let open = |path: String| File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        match word.as_str() {
            "--kernel" => options.kernel = Some(open(value())),
            "--initrd" => options.initrd = Some(open(value())),
            "--append" => options.append = value(),
            "--bios" => options.bios = Some(open(value())),
            "--firmware" => options.firmware = value() == "yes",
            "--disk" => options.disks.push(File::options().read(true).write(true).open(value()).expect("the disk")),
            "--memory" => options.memory_mib = value().parse().expect("a number"),
            "--vcpus" => options.vcpus = value().parse().expect("a number"),
            "--resets" => options.resets = value().parse().expect("a number"),
            "--mark" => options.marks.push(value()),
            "--tap" => options.tap = Some(value()),
            "--vhost" => options.vhost = true,
            "--display" => options.display = value() == "yes",
            "--vnc" => options.vnc = Some(value()),
            "--agent" => options.agent = Some(value()),
            "--vsock" => options.vsock = Some(value().parse().expect("a number")),
            "--suspend" => options.acts.push((value(), Act::Suspend)),
            "--plug" => {
                let (text, file) =
                    value().split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("TEXT=FILE");
                options.acts.push((text, Act::Plug(file)));
            }
            "--unplug" => options.acts.push((value(), Act::Unplug)),
            "--press" => options.acts.push((value(), Act::Press)),
            "--debug" => options.debug = true,
            "--jail" => options.jail = true,
            "--exec" => options.exec = true,
            "--probe" => {
                let began = now();
                println!("BOOT {:?} in {:.3} s", hypervisor::probe(), now() - began);
                std::process::exit(0);
            }
            other => panic!("what is {other}?"),
        }
    }
    options
}

fn now() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[allow(unsafe_code, reason = "the clock since the host booted has no safe form here")]
    // SAFETY: the pointer is to a local that outlives the call.
    unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now)
    };
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Kilobytes of this process that are resident: those that are not the guest's memory or screen, and those of its screen.
/// RAM is what no core dump has, by its size; the framebuffer has a name.
fn beyond_guest(smaps: &File) -> (u64, u64) {
    let mut smaps = smaps;
    // The jail knows no path; the file tells the present state at each reading from its start.
    let _ = smaps.rewind();
    let lines = std::io::BufReader::new(smaps).lines().map_while(Result::ok);
    let (mut size, mut resident, mut screen, mut beyond, mut screens) = (0, 0, false, 0, 0);
    for line in lines {
        let number = || line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        match line.split(':').next() {
            Some("Size") => size = number(),
            Some("Rss") => resident = number(),
            Some("VmFlags") => {
                let of_guest = size >= 1024 && line.split_whitespace().any(|flag| flag == "dd");
                if screen {
                    screens += resident;
                } else if !of_guest {
                    beyond += resident;
                }
            }
            // The head of a mapping: addresses, rights, what it is of.
            Some(head) if head.contains('-') => screen = line.contains("memfd:"),
            _ => {}
        }
    }
    (beyond, screens)
}

fn mark(what: &str, smaps: &File) {
    let (beyond, screen) = beyond_guest(smaps);
    eprintln!("BOOT {what} at {:.3}, {beyond} kB beyond the guest, {screen} kB of screen", now());
}

/// When a vCPU first went into the guest.
static ENTERED: OnceLock<f64> = OnceLock::new();

/// Hears of it.
struct Entries;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Entries {
    fn on_event(&self, _event: &tracing::Event<'_>, _context: tracing_subscriber::layer::Context<'_, S>) {
        let _ = ENTERED.set(now());
    }
}

fn main() {
    let started = now();
    let options = options();
    let executed = std::env::var(EXECUTED).ok();
    if options.exec && executed.is_none() {
        let mut again = Command::new("/proc/self/exe");
        panic!("{}", again.args(std::env::args().skip(1)).env(EXECUTED, format!("{:.4}", now())).exec());
    }
    let memory_mib = options.memory_mib;
    let level = if options.debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let told = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(level);
    let entries = Entries.with_filter(Targets::new().with_target("hypervisor::entry", LevelFilter::TRACE));
    tracing_subscriber::registry().with(told).with(entries).init();
    let smaps = File::open("/proc/self/smaps").expect("/proc/self/smaps");
    let id = Uuid::new_v4();
    let disks: Vec<Disk> = (0..)
        .zip(&options.disks)
        .map(|(slot, file)| Disk {
            slot,
            kind: if slot == 0 { DiskKind::Root } else { DiskKind::Volume },
            descriptor: slot.into(),
            read_only: false,
            serial: format!("disk-{slot}"),
            size_bytes: file.metadata().expect("a size").len(),
            limits: Default::default(),
        })
        .collect();
    let spec = VmSpec {
        version: vmspec::spec::SPEC_VERSION,
        server_id: id,
        name: "boot".to_owned(),
        boot_id: id,
        generation: 1,
        driver: Driver::Kvm,
        vcpus: options.vcpus,
        memory_mib,
        page_size: Default::default(),
        cpu: Default::default(),
        disks,
        nics: options.tap.iter().map(|_| nic()).collect(),
        console_log_bytes: 4096,
        smbios: Smbios::openstack(id),
        firmware: vmspec::Firmware::Bios,
        secure_boot: vmspec::SecureBoot::Disabled,
        guest_os: vmspec::GuestOs::Other,
        display: options.display,
        run_as: None,
        restore: None,
    };
    let start = match (options.kernel, options.bios) {
        (Some(kernel), _) => Start::Linux(Linux { kernel, initrd: options.initrd, command_line: options.append }),
        (None, bios) if options.firmware => Start::Firmware { elf: FIRMWARE, bios },
        (None, Some(bios)) => Start::Bios { bios },
        (None, None) => panic!("nothing to boot"),
    };
    let output = Arc::new(Output::default());
    let parts = Parts {
        kvm: Kvm::new().expect("/dev/kvm"),
        start,
        output: Arc::clone(&output),
        disks: spec.disks.iter().cloned().zip(files(&options.disks)).collect(),
        nics: nics(&options.tap),
        vhost: vhost(options.vhost),
        vsock: vsock(options.vsock),
        restore: None,
        debug_port: options.debug,
    };
    if options.jail {
        let mut isolation = Isolation::default();
        jail::enter(memory_mib << 20, jail::Violation::Report, &mut isolation).expect("a jail");
    }
    let (mut machine, mut wishes) = KvmMachine::new(&spec, parts).expect("a machine");
    let sockets = (options.vnc.map(listen), options.agent.map(listen));
    let mut viewers = serve(&sockets, &machine);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    machine.go();
    let executed = executed.unwrap_or_else(|| format!("{started:.4}"));
    eprintln!("BOOT executed at {executed}, started at {started:.4}, guest at {:.4}", ENTERED.wait());
    let mut resets = 0;
    let mut marks = options.marks;
    let mut acts = options.acts;
    let mut due = Vec::new();
    // With what is plugged in later.
    let mut here: Vec<(Disk, File)> = spec.disks.iter().cloned().zip(files(&options.disks)).collect();
    let mut seen = Vec::new();
    loop {
        let _ = runtime.block_on(async { timeout(Duration::from_millis(20), output.written()).await });
        let bytes = output.take();
        if !bytes.is_empty() {
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(&bytes);
            let _ = stdout.flush();
            seen.extend_from_slice(&bytes);
            let text = String::from_utf8_lossy(&seen).into_owned();
            marks.retain(|wanted| {
                let found = text.contains(wanted.as_str());
                if found {
                    mark(&format!("{wanted:?}"), &smaps);
                }
                !found
            });
            due.extend(acts.extract_if(.., |(wanted, _)| text.contains(wanted.as_str())));
            let keep = seen.len().saturating_sub(256);
            seen.drain(..keep);
        }
        // A guest says that a disk is gone before it has let go of it.
        let free = !machine.devices().disks.iter().any(|disk| disk.slot == PLUGGED);
        for (wanted, act) in due.extract_if(.., |(_, act)| free || !matches!(act, Act::Plug(_))).collect::<Vec<_>>() {
            match act {
                Act::Press => machine.press_power_button(),
                Act::Unplug => {
                    machine.detach(Device::Disk { slot: PLUGGED }).expect("a detach");
                }
                Act::Plug(path) => {
                    let file = File::options().read(true).write(true).open(path).expect("the disk to plug");
                    let disk = plugged(&file);
                    here.push((disk.clone(), file.try_clone().expect("a descriptor")));
                    machine.attach_disk((disk, file)).expect("an attach");
                }
                Act::Suspend => {
                    let scratch = |name: &str| {
                        let mut options = File::options();
                        options.read(true).write(true).create(true).truncate(true);
                        options.open(format!("/tmp/{name}.{}", std::process::id())).expect("a file")
                    };
                    let (mut state, memory) = (scratch("state"), scratch("memory"));
                    machine.suspend(&mut state, &memory).expect("a suspend");
                    drop(viewers);
                    drop(machine);
                    let bytes = state.metadata().map_or(0, |metadata| metadata.len());
                    mark(&format!("suspended ({bytes} bytes of state)"), &smaps);
                    let parts = Parts {
                        kvm: Kvm::new().expect("/dev/kvm"),
                        start: Start::Firmware { elf: FIRMWARE, bios: None },
                        output: Arc::clone(&output),
                        disks: here
                            .iter()
                            .map(|(disk, file)| (disk.clone(), file.try_clone().expect("a descriptor")))
                            .collect(),
                        nics: nics(&options.tap),
                        vhost: vhost(options.vhost),
                        vsock: vsock(options.vsock),
                        restore: Some((state, memory)),
                        debug_port: options.debug,
                    };
                    (machine, wishes) = KvmMachine::new(&spec, parts).expect("a machine again");
                    viewers = serve(&sockets, &machine);
                    machine.go();
                    mark("restored", &smaps);
                }
            }
            eprintln!("BOOT acted on {wanted:?}");
        }
        for device in machine.removed() {
            here.retain(|(disk, _)| device != Device::Disk { slot: disk.slot });
            mark(&format!("removed {device:?}"), &smaps);
        }
        match wishes.try_recv() {
            Ok(Wish::Reset) if resets < options.resets => {
                resets += 1;
                machine.reset(false).expect("a reset");
                machine.go();
                mark(&format!("reset {resets}"), &smaps);
            }
            Ok(Wish::Bios) if machine.has_bios() => {
                mark("BIOS wanted", &smaps);
                machine.reset(true).expect("a reset");
                machine.go();
            }
            Ok(Wish::Panicked) => mark("panicked", &smaps),
            Ok(wish) => {
                mark(&format!("ended by {wish:?}"), &smaps);
                let _ = std::io::stdout().write_all(&output.take());
                return;
            }
            Err(_) => {}
        }
    }
}

fn listen(path: String) -> UnixListener {
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(path).expect("a socket")
}

/// Serve the screen, and give the guest agent's port to who connects next.
fn serve((vnc, agent): &(Option<UnixListener>, Option<UnixListener>), machine: &KvmMachine) -> Option<Viewers> {
    if let Some(agent) = agent {
        let (agent, port) = (agent.try_clone().expect("a descriptor"), machine.agent());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = agent.accept() {
                port.connect(stream).expect("a stream");
            }
        });
    }
    let vnc = vnc.as_ref()?.try_clone().expect("a descriptor");
    vnc.set_nonblocking(true).expect("a listener that does not block");
    Some(Viewers::start(vnc, "boot".to_owned(), machine.workplace()?).expect("a thread"))
}

fn vsock(cid: Option<u64>) -> Option<(File, u64)> {
    let open = |cid| (File::options().read(true).write(true).open("/dev/vhost-vsock").expect("/dev/vhost-vsock"), cid);
    cid.map(open)
}

fn files(disks: &[File]) -> Vec<File> {
    disks.iter().map(|file| file.try_clone().expect("a descriptor")).collect()
}

fn nic() -> Nic {
    Nic {
        slot: 0,
        port_id: Uuid::from_u128(1),
        mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        mtu: 1500,
        descriptor: 99,
        queues: 1,
        limits: Default::default(),
    }
}

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn vhost(wanted: bool) -> Vec<File> {
    if wanted { vec![open("/dev/vhost-net")] } else { Vec::new() }
}

fn nics(tap: &Option<String>) -> Vec<(Nic, Vec<File>)> {
    let made = tap.iter().map(|name| {
        let device = open("/dev/net/tun");
        attach_tap(&device, name);
        (nic(), vec![device])
    });
    made.collect()
}

/// TUNSETIFF with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR.
fn attach_tap(device: &File, name: &str) {
    use std::os::fd::AsRawFd as _;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&0x5002_u16.to_le_bytes());
    #[allow(unsafe_code, reason = "an interface request has no safe form here")]
    // SAFETY: the request takes a pointer to a `struct ifreq` of 40 bytes, which `request` is.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn plugged(file: &File) -> Disk {
    Disk {
        slot: PLUGGED,
        kind: DiskKind::Volume,
        descriptor: 0,
        read_only: false,
        serial: "plugged".to_owned(),
        size_bytes: file.metadata().expect("a size").len(),
        limits: Default::default(),
    }
}
