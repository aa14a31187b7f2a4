//! Boots one guest on the built-in machine, without a supervisor, for measurements and tests:
//!
//! ```text
//! boot [--kernel FILE [--initrd FILE] [--append TEXT]] [--bios FILE] [--firmware yes|no] [--disk FILE]...
//!      [--memory MIB] [--vcpus N] [--resets N] [--mark TEXT]... [--debug]
//! ```
//!
//! COM1 is standard output. Lines that start with `BOOT` on standard error are this program's: the clock (seconds
//! since the host booted) when the process started, when the guest did, and when a text was first seen; and at each the
//! kilobytes of this process that are not guest memory. Ends when the guest powers off or resets once too often.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a program for measurements")]

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hypervisor::kvm::boot::{Linux, Start};
use hypervisor::kvm::driver::FIRMWARE;
use hypervisor::kvm::{KvmMachine, Parts};
use hypervisor::platform::Wish;
use hypervisor::platform::serial::Output;
use kvm_ioctls::Kvm;
use tokio::time::timeout;
use uuid::Uuid;
use vmspec::{Disk, DiskKind, Driver, Smbios, VmSpec};

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
    debug: bool,
}

fn options() -> Options {
    let mut options = Options { memory_mib: 256, vcpus: 1, firmware: true, ..Options::default() };
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
            "--debug" => options.debug = true,
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

/// Kilobytes of this process that are resident and not guest memory. RAM is the mappings of exactly its size.
fn beyond_guest(memory_mib: u64) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let ram = memory_mib.min(2048) * 1024;
    let (mut size, mut total) = (0, 0);
    for line in smaps.lines() {
        let number = || line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        if line.starts_with("Size:") {
            size = number();
        } else if line.starts_with("Rss:") && size != ram {
            total += number();
        }
    }
    total
}

fn mark(what: &str, memory_mib: u64) {
    eprintln!("BOOT {what} at {:.3}, {} kB beyond the guest", now(), beyond_guest(memory_mib));
}

fn main() {
    let started = now();
    let options = options();
    let memory_mib = options.memory_mib;
    let level = if options.debug { tracing::Level::DEBUG } else { tracing::Level::WARN };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(level).init();
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
        cpu: Default::default(),
        disks,
        nics: Vec::new(),
        console_log_bytes: 4096,
        smbios: Smbios::openstack(id),
        firmware: vmspec::Firmware::Bios,
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
        disks: spec.disks.iter().cloned().zip(options.disks).collect(),
        nics: Vec::new(),
        restore: None,
        debug_port: options.debug,
    };
    let (mut machine, mut wishes) = KvmMachine::new(&spec, parts).expect("a machine");
    machine.go();
    eprintln!("BOOT started at {started:.3}, guest at {:.3}", now());
    let mut resets = 0;
    let mut marks = options.marks;
    let mut seen = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
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
                    mark(&format!("{wanted:?}"), memory_mib);
                }
                !found
            });
            let keep = seen.len().saturating_sub(256);
            seen.drain(..keep);
        }
        match wishes.try_recv() {
            Ok(Wish::Reset) if resets < options.resets => {
                resets += 1;
                machine.reset(false).expect("a reset");
                machine.go();
                mark(&format!("reset {resets}"), memory_mib);
            }
            Ok(Wish::Bios) => {
                mark("BIOS wanted", memory_mib);
                machine.reset(true).expect("a reset");
                machine.go();
            }
            Ok(Wish::Panicked) => mark("panicked", memory_mib),
            Ok(wish) => {
                mark(&format!("ended by {wish:?}"), memory_mib);
                let _ = std::io::stdout().write_all(&output.take());
                return;
            }
            Err(_) => {}
        }
    }
}
