//! The `tcg` driver: a QEMU that the VM process starts, watches and ends.
//!
//! What must stay true:
//! - QEMU dies with this process: it is killed by the kernel when its parent's thread ends, so the lock stays the truth.
//! - QEMU opens no file of a guest by its path: disks, taps, monitor and serial line are descriptors it is handed.
//! - QEMU never ends by itself because of the guest: a shutdown or a panic pauses it, and this process decides.
//! - Slots decide where a device sits on the PCI bus, so names in the guest do not move when something is added.

mod qmp;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, ChildStderr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use vmspec::console::BoundedLog;
use vmspec::protocol::{
    Devices, DiskStatistics, EventKind, PluggedDisk, PluggedNic, Refusal, RefusalCode, Statistics, VmState,
};
use vmspec::{ExitCause, Firmware, VmSpec};

use crate::machine::{Command, Ended, Machine, Order, Outcome, refusal};
use self::qmp::{QemuEvent, Qmp, QmpError};
use crate::sys;

/// QEMU's machine, by its versioned name: the same on Debian 12 (QEMU 7.2) and 13 (QEMU 10).
const MACHINE: &str = "pc-q35-7.2";
/// Descriptors in QEMU: the monitor, the serial line, then those of the spec, then those of the firmware.
const QMP_FD: i32 = 3;
const SERIAL_FD: i32 = 4;
const DEVICES_FD: i32 = 5;
/// PCI devices on bus 0: disks from 2, nics from 16, then the rest.
const DISK_DEVICE: u8 = 0x02;
const NIC_DEVICE: u8 = 0x10;
const RNG_DEVICE: u8 = 0x18;

const START: Duration = Duration::from_secs(50);
/// How long QEMU may take to end when told to, before it is killed.
const QUIT: Duration = Duration::from_secs(5);
/// SeaBIOS resets the machine once more when it finds that it has run before: not news.
const FIRMWARE_RESET: Duration = Duration::from_secs(1);
const LAST_OUTPUT_BYTES: usize = 1500;
const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];
const SEARCH: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/libexec"];
const OVMF: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];

/// Where QEMU is on this host.
pub fn find_program() -> Option<PathBuf> {
    SEARCH
        .iter()
        .flat_map(|place| PROGRAMS.iter().map(move |name| PathBuf::from(place).join(name)))
        .find(|path| path.is_file())
}

/// OVMF's code and the template of its variables.
pub fn find_ovmf() -> Option<(PathBuf, PathBuf)> {
    OVMF.iter()
        .map(|(code, vars)| (PathBuf::from(code), PathBuf::from(vars)))
        .find(|(code, vars)| code.is_file() && vars.is_file())
}

/// UEFI firmware, open: its code, and the variables of this server.
#[derive(Debug)]
pub struct UefiFiles {
    pub code: OwnedFd,
    pub variables: OwnedFd,
}

/// What the process has opened before it gave up root.
#[derive(Debug)]
pub struct Resources {
    pub descriptors: Vec<OwnedFd>,
    pub uefi: Option<UefiFiles>,
    pub console_log: BoundedLog,
    pub qemu_log: BoundedLog,
    pub serial: UnixListener,
    /// `/proc`, which is out of sight later.
    pub processes: File,
}

/// QEMU's options take a comma only doubled.
fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

/// QEMU's command line for this machine, without the program.
pub fn arguments(spec: &VmSpec, uefi: bool) -> Vec<OsString> {
    let mut line: Vec<String> = Vec::new();
    let mut push = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    push(&["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
    push(&["-name", &format!("guest={},debug-threads=on", spec.server_id)]);
    push(&["-uuid", &spec.server_id.to_string()]);
    push(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);

    // Without graphics SeaBIOS shows its screen on the serial line, where boot loaders that only know a screen are seen
    // too. The controllers left out cost a guest's kernel time to probe.
    let mut machine =
        format!("{MACHINE},graphics=off,usb=off,sata=off,smbus=off,vmport=off,smm=off,hpet=off,dump-guest-core=off");
    if uefi {
        machine.push_str(",pflash0=uefi-code,pflash1=uefi-variables");
    }
    push(&["-machine", &machine]);
    push(&["-accel", "tcg,thread=multi,tb-size=256"]);
    // Five-level page tables make every walk longer, and an emulated one is slow already.
    push(&["-cpu", &spec.cpu.model.clone().unwrap_or_else(|| "max,la57=off".to_owned())]);
    let (sockets, cores, threads) =
        spec.cpu.topology.map_or((spec.vcpus, 1, 1), |shape| (shape.sockets, shape.cores, shape.threads));
    push(&["-smp", &format!("cpus={},sockets={sockets},cores={cores},threads={threads}", spec.vcpus)]);
    push(&["-m", &format!("size={}M", spec.memory_mib)]);
    push(&["-rtc", "base=utc"]);
    push(&["-boot", "strict=on,menu=off"]);
    push(&["-action", "reboot=reset,shutdown=pause,panic=pause"]);

    let smbios = &spec.smbios;
    push(&[
        "-smbios",
        &format!(
            "type=1,manufacturer={},product={},version={},serial={},uuid={}",
            escaped(&smbios.manufacturer),
            escaped(&smbios.product),
            escaped(&smbios.version),
            escaped(&smbios.serial),
            smbios.uuid
        ),
    ]);

    push(&["-chardev", &format!("socket,id=qmp,fd={QMP_FD},server=off"), "-mon", "chardev=qmp,mode=control"]);
    push(&["-chardev", &format!("socket,id=serial0,fd={SERIAL_FD},server=off"), "-serial", "chardev:serial0"]);

    let mut disks: Vec<_> = spec.disks.iter().collect();
    disks.sort_unstable_by_key(|disk| disk.slot);
    // What is not marked as root may still be the only thing to boot from.
    let boots = disks.iter().find(|disk| disk.kind == vmspec::DiskKind::Root).or(disks.first()).map(|disk| disk.slot);
    for disk in disks {
        let (slot, set) = (disk.slot, disk.descriptor);
        push(&["-add-fd", &format!("fd={},set={set}", DEVICES_FD + set.cast_signed())]);
        let node = json!({
            "driver": "raw",
            "node-name": format!("disk{slot}"),
            "read-only": disk.read_only,
            "discard": "unmap",
            "file": { "driver": "file", "filename": format!("/dev/fdset/{set}"), "aio": "threads", "discard": "unmap" },
        });
        push(&["-blockdev", &node.to_string()]);
        let mut device = json!({
            "driver": "virtio-blk-pci",
            "id": format!("virtio-disk{slot}"),
            "drive": format!("disk{slot}"),
            "bus": "pcie.0",
            "addr": format!("{:#x}", DISK_DEVICE + slot),
            "disable-legacy": "on",
        });
        if !disk.serial.is_empty() {
            device["serial"] = json!(disk.serial);
        }
        if boots == Some(slot) {
            device["bootindex"] = json!(0);
        }
        push(&["-device", &device.to_string()]);
    }
    for nic in &spec.nics {
        let slot = nic.slot;
        push(&["-netdev", &format!("tap,id=net{slot},fd={},vhost=off", DEVICES_FD + nic.descriptor.cast_signed())]);
        let device = json!({
            "driver": "virtio-net-pci",
            "id": format!("virtio-net{slot}"),
            "netdev": format!("net{slot}"),
            "mac": nic.mac.to_string(),
            "host_mtu": nic.mtu,
            "bus": "pcie.0",
            "addr": format!("{:#x}", NIC_DEVICE + slot),
            "disable-legacy": "on",
            // No network boot, whose ROM may not even be installed.
            "romfile": "",
        });
        push(&["-device", &device.to_string()]);
    }
    push(&["-device", &format!("virtio-rng-pci,bus=pcie.0,addr={RNG_DEVICE:#x},disable-legacy=on")]);
    push(&["-device", "pvpanic"]);
    if uefi {
        let first = u32::try_from(spec.descriptor_count()).unwrap_or(u32::MAX);
        for (set, name, read_only) in [(first, "uefi-code", true), (first.saturating_add(1), "uefi-variables", false)] {
            push(&["-add-fd", &format!("fd={},set={set}", DEVICES_FD + set.cast_signed())]);
            let file = json!({ "driver": "file", "filename": format!("/dev/fdset/{set}") });
            let node = json!({ "driver": "raw", "node-name": name, "read-only": read_only, "file": file });
            push(&["-blockdev", &node.to_string()]);
        }
    }
    line.into_iter().map(OsString::from).collect()
}

/// A QEMU that runs.
struct Qemu {
    child: Child,
    qmp: Qmp,
    events: mpsc::Receiver<QemuEvent>,
    serial: JoinHandle<()>,
    output: JoinHandle<()>,
    last_output: Arc<Mutex<Vec<u8>>>,
    processes: File,
}

/// What has been asked of the guest and not happened yet.
#[derive(Default)]
struct Pending {
    /// Reset instead of ending when it shuts down before this.
    reboot_until: Option<Instant>,
    /// Between its shutdown and its new start: the pauses in between are ours.
    restarting: bool,
    /// When the machine was reset last.
    last_reset: Option<Instant>,
}

/// Start QEMU, run the guest, and return how it ended, with no process left. `ready` is called when the guest executes.
pub async fn run(
    machine: &Machine,
    resources: Resources,
    mut orders: mpsc::Receiver<Order>,
    ready: impl FnOnce(),
) -> Ended {
    let mut qemu = match Qemu::start(&machine.spec, resources) {
        Ok(started) => match started.negotiate().await {
            Ok(qemu) => qemu,
            Err(why) => return Ended::new(ExitCause::StartFailed, why),
        },
        Err(why) => return Ended::new(ExitCause::StartFailed, why),
    };
    tell_what_is_ignored(&machine.spec);
    if let Err(error) = qemu.begin(&machine.spec).await {
        qemu.end().await;
        return Ended::new(ExitCause::StartFailed, error.to_string());
    }
    machine.change(VmState::Running, EventKind::Started);
    ready();
    let ended = qemu.watch(machine, &mut orders).await;
    // From here on every order is refused: its receiver is gone.
    drop(orders);
    qemu.end().await;
    ended
}

/// QEMU has been spawned; whether it comes up is not known yet.
struct Spawned {
    child: Child,
    monitor: UnixStream,
    serial: JoinHandle<()>,
    output: JoinHandle<()>,
    last_output: Arc<Mutex<Vec<u8>>>,
    processes: File,
}

impl Qemu {
    fn start(spec: &VmSpec, resources: Resources) -> Result<Spawned, String> {
        let program = find_program().ok_or("no qemu-system-x86_64 on this host (package qemu-system-x86)")?;
        let pair = || UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"));
        let blocking = |stream: UnixStream| {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            Ok::<_, std::io::Error>(OwnedFd::from(stream))
        };
        let ((monitor, qemu_monitor), (line, qemu_line)) = (pair()?, pair()?);
        let mut handed = vec![
            blocking(qemu_monitor).map_err(|error| error.to_string())?,
            blocking(qemu_line).map_err(|error| error.to_string())?,
        ];
        handed.extend(resources.descriptors);
        let uefi = resources.uefi.is_some();
        handed.extend(resources.uefi.into_iter().flat_map(|files| [files.code, files.variables]));

        let mut command = std::process::Command::new(&program);
        command
            .args(arguments(spec, uefi))
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mappings = handed.into_iter().zip(QMP_FD..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).map_err(|error| error.to_string())?;
        sys::die_with_this_thread(&mut command).map_err(|error| format!("cannot tie QEMU to this process: {error}"))?;
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        // The ends that QEMU has now are held by `command`; while they are open here, its end would not be seen.
        drop(command);

        let last_output = Arc::new(Mutex::new(Vec::new()));
        let output = tokio::spawn(collect(child.stderr.take(), resources.qemu_log, Arc::clone(&last_output)));
        let serial = tokio::spawn(crate::console::carry(line, resources.console_log, resources.serial));
        Ok(Spawned { child, monitor, serial, output, last_output, processes: resources.processes })
    }

    /// Serve orders and events until the guest, QEMU or somebody else makes an end.
    async fn watch(&mut self, machine: &Machine, orders: &mut mpsc::Receiver<Order>) -> Ended {
        let mut pending = Pending::default();
        let mut terminate = signal(SignalKind::terminate()).ok();
        loop {
            let reboot_until = pending.reboot_until;
            tokio::select! {
                biased;
                event = self.events.recv() => {
                    let end = match event {
                        Some(event) => self.event(machine, &mut pending, event).await,
                        // The monitor closed: QEMU is ending, or has broken its protocol.
                        None => Some(self.died(machine).await),
                    };
                    if let Some(ended) = end {
                        return ended;
                    }
                }
                Some(order) = orders.recv() => {
                    if let Some(ended) = self.order(machine, &mut pending, order).await {
                        return ended;
                    }
                }
                () = async { sleep_until(reboot_until.unwrap_or_else(Instant::now)).await }, if reboot_until.is_some() => {
                    pending.reboot_until = None;
                    machine.set_shutdown_pending(false);
                }
                _ = async { match &mut terminate { Some(terminate) => terminate.recv().await, None => std::future::pending().await } } => {
                    return Ended::new(ExitCause::Stopped, "the VM process was told to terminate".to_owned());
                }
            }
        }
    }

    async fn event(&mut self, machine: &Machine, pending: &mut Pending, event: QemuEvent) -> Option<Ended> {
        match event {
            QemuEvent::Shutdown { by_guest: true, .. } if pending.reboot_until.take().is_some() => {
                pending.restarting = true;
                machine.set_shutdown_pending(false);
                if let Err(error) = self.restart().await {
                    return Some(Ended::new(
                        ExitCause::HypervisorFailed,
                        format!("the guest could not be started again: {error}"),
                    ));
                }
                machine.change(VmState::Running, EventKind::Reset { by_guest: false });
            }
            QemuEvent::Shutdown { by_guest: true, .. } => {
                let requested = machine.shutdown_pending();
                machine.change(VmState::Stopping, EventKind::GuestShutdown { requested });
                return Some(Ended { cause: ExitCause::GuestShutdown, requested, detail: None });
            }
            QemuEvent::Shutdown { by_guest: false, reason } => {
                return Some(Ended::new(
                    ExitCause::HypervisorFailed,
                    format!("QEMU was shut down from outside: {reason}"),
                ));
            }
            QemuEvent::Panicked => {
                machine.change(VmState::Stopping, EventKind::GuestPanicked);
                return Some(Ended::new(ExitCause::GuestPanicked, "the guest's kernel panicked".to_owned()));
            }
            QemuEvent::Reset { by_guest } => {
                let now = Instant::now();
                let again = pending.last_reset.replace(now).is_some_and(|last| now - last < FIRMWARE_RESET);
                if by_guest && !again {
                    machine.tell(EventKind::Reset { by_guest: true });
                }
            }
            QemuEvent::Stopped if machine.state() == VmState::Running && !pending.restarting => {
                machine.change(VmState::Paused, EventKind::Paused);
            }
            QemuEvent::Resumed if pending.restarting => pending.restarting = false,
            QemuEvent::Resumed if machine.state() == VmState::Paused => {
                machine.change(VmState::Running, EventKind::Resumed);
            }
            QemuEvent::Stopped | QemuEvent::Resumed => {}
            QemuEvent::DiskError { device, reason } => {
                let slot = device.split('/').find_map(|part| part.strip_prefix("virtio-disk")?.parse().ok());
                machine.tell(EventKind::DiskError { slot: slot.unwrap_or(u8::MAX), detail: reason });
            }
        }
        None
    }

    async fn order(&mut self, machine: &Machine, pending: &mut Pending, order: Order) -> Option<Ended> {
        let state = machine.state();
        let not_now = |what: &str| Err(refusal(RefusalCode::State, format!("{what} while the guest is paused")));
        let failed = |error: QmpError| refusal(RefusalCode::Failed, error.to_string());
        let result: Result<Outcome, Refusal> = match order.command {
            Command::Stop => {
                let _ = order.answer.send(Ok(Outcome::Done));
                return Some(Ended::new(ExitCause::Stopped, None));
            }
            Command::PowerButton | Command::Reboot { .. } if state == VmState::Paused => {
                not_now("the power button does nothing")
            }
            Command::PowerButton => match self.qmp.execute("system_powerdown", json!({})).await {
                Ok(_) => {
                    // Pressed to stay off, whatever was wanted before.
                    pending.reboot_until = None;
                    machine.set_shutdown_pending(true);
                    Ok(Outcome::Done)
                }
                Err(error) => Err(failed(error)),
            },
            Command::Reboot { deadline } => match self.qmp.execute("system_powerdown", json!({})).await {
                Ok(_) => {
                    pending.reboot_until = Some(Instant::now() + deadline);
                    machine.set_shutdown_pending(true);
                    Ok(Outcome::Done)
                }
                Err(error) => Err(failed(error)),
            },
            Command::Reset => {
                pending.reboot_until = None;
                // Only a paused guest is resumed by a reset, and says so.
                pending.restarting = state == VmState::Paused;
                match self.restart().await {
                    Ok(()) => {
                        machine.set_shutdown_pending(false);
                        machine.change(VmState::Running, EventKind::Reset { by_guest: false });
                        Ok(Outcome::Done)
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            Command::Pause if state == VmState::Paused => Ok(Outcome::Done),
            Command::Pause => match self.qmp.execute("stop", json!({})).await {
                Ok(_) => {
                    machine.change(VmState::Paused, EventKind::Paused);
                    Ok(Outcome::Done)
                }
                Err(error) => Err(failed(error)),
            },
            Command::Resume if state == VmState::Running => Ok(Outcome::Done),
            Command::Resume => match self.qmp.execute("cont", json!({})).await {
                Ok(_) => {
                    machine.change(VmState::Running, EventKind::Resumed);
                    Ok(Outcome::Done)
                }
                Err(error) => Err(failed(error)),
            },
            Command::Statistics => self.statistics(machine).await.map(Outcome::Statistics).map_err(failed),
            Command::Devices => Ok(Outcome::Devices(devices(&machine.spec))),
            Command::ResizeDisk { slot, size_bytes } => {
                let node = json!({ "node-name": format!("disk{slot}"), "size": size_bytes });
                self.qmp.execute("block_resize", node).await.map(|_| Outcome::Done).map_err(failed)
            }
            Command::AttachDisk(..)
            | Command::DetachDisk { .. }
            | Command::AttachNic(..)
            | Command::DetachNic { .. }
            | Command::Suspend { .. } => {
                let why = "QEMU without KVM cannot do this while the guest runs; stop the server, change it, start it";
                Err(refusal(RefusalCode::Failed, why))
            }
        };
        // Whoever asked may have gone.
        let _ = order.answer.send(result);
        None
    }

    /// Have the guest execute. Limits hold from its first request on.
    async fn begin(&mut self, spec: &VmSpec) -> Result<(), QmpError> {
        for limits in spec.disks.iter().filter_map(throttle) {
            self.qmp.execute("block_set_io_throttle", limits).await?;
        }
        self.qmp.execute("cont", json!({})).await?;
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), QmpError> {
        self.qmp.execute("system_reset", json!({})).await?;
        self.qmp.execute("cont", json!({})).await?;
        Ok(())
    }

    async fn statistics(&mut self, machine: &Machine) -> Result<Statistics, QmpError> {
        let blocks = self.qmp.execute("query-blockstats", json!({ "query-nodes": false })).await?;
        let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
        let of_slot = |slot: u8| {
            let name = format!("/virtio-disk{slot}/");
            let block = blocks.iter().find(|block| {
                block.get("qdev").and_then(Value::as_str).is_some_and(|path| format!("{path}/").contains(&name))
            });
            let number = |key: &str| block.and_then(|block| block.get("stats")?.get(key)?.as_u64()).unwrap_or(0);
            DiskStatistics {
                slot,
                read_bytes: number("rd_bytes"),
                read_operations: number("rd_operations"),
                written_bytes: number("wr_bytes"),
                write_operations: number("wr_operations"),
                errors: number("failed_rd_operations")
                    + number("failed_wr_operations")
                    + number("failed_flush_operations"),
            }
        };
        let (cpu_time_ms, resident_bytes) =
            self.child.id().and_then(|pid| process_usage(&self.processes, pid)).unwrap_or_default();
        let disks = machine.spec.disks.iter().map(|disk| of_slot(disk.slot)).collect();
        Ok(Statistics { cpu_time_ms, resident_bytes, disks })
    }

    /// QEMU has ended, or is about to, without being told.
    async fn died(&mut self, machine: &Machine) -> Ended {
        let how = match timeout(QUIT, self.child.wait()).await {
            Ok(Ok(status)) => format!("QEMU ended: {status}"),
            Ok(Err(error)) => format!("QEMU cannot be waited for: {error}"),
            Err(_) => "QEMU closed its monitor".to_owned(),
        };
        let _ = timeout(Duration::from_secs(1), &mut self.output).await;
        tracing::error!(server_id = %machine.spec.server_id, "{how}");
        Ended::new(ExitCause::HypervisorFailed, with_output(how, &self.last_output))
    }

    /// Have no QEMU left, all of its console read.
    async fn end(mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Told to quit, it flushes what the guest has written; killed, that stays in the host's page cache and is
            // safe too unless the host loses power.
            let _ = self.qmp.execute("quit", json!({})).await;
            if timeout(QUIT, self.child.wait()).await.is_err() {
                tracing::warn!("QEMU did not quit, killing it");
                let _ = timeout(QUIT, self.child.kill()).await;
            }
        }
        let _ = timeout(Duration::from_secs(1), self.serial).await;
        if !self.output.is_finished() {
            let _ = timeout(Duration::from_secs(1), self.output).await;
        }
    }
}

impl Spawned {
    async fn negotiate(mut self) -> Result<Qemu, String> {
        match Qmp::open(self.monitor, START).await {
            Ok((qmp, events)) => Ok(Qemu {
                child: self.child,
                qmp,
                events,
                serial: self.serial,
                output: self.output,
                last_output: self.last_output,
                processes: self.processes,
            }),
            Err(error) => {
                let how = match timeout(Duration::from_secs(1), self.child.wait()).await {
                    Ok(Ok(status)) => format!("QEMU ended: {status}"),
                    _ => {
                        let _ = timeout(QUIT, self.child.kill()).await;
                        error.to_string()
                    }
                };
                let _ = timeout(Duration::from_secs(1), self.output).await;
                Err(with_output(how, &self.last_output))
            }
        }
    }
}

fn with_output(how: String, last_output: &Mutex<Vec<u8>>) -> String {
    let output = last_output.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&output);
    let text = text.trim();
    if text.is_empty() { how } else { format!("{how}; it said: {text}") }
}

/// What QEMU writes on its standard error, kept bounded.
async fn collect(stderr: Option<ChildStderr>, mut log: BoundedLog, last: Arc<Mutex<Vec<u8>>>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = vec![0_u8; 4096];
    while let Ok(read) = stderr.read(&mut chunk).await {
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let _ = log.append(bytes);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend_from_slice(bytes);
        let too_many = last.len().saturating_sub(LAST_OUTPUT_BYTES);
        last.drain(..too_many);
    }
}

/// CPU time in milliseconds and resident bytes of a process, as the kernel counts them.
fn process_usage(processes: &File, pid: u32) -> Option<(u64, u64)> {
    let stat =
        openat(processes, format!("{pid}/stat").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let stat = std::io::read_to_string(File::from(stat)).ok()?;
    // The second field, the name in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    // Fields 14, 15 and 24 of proc(5), counted from the third; times in ticks of 1/100 s, which Linux fixes for userspace.
    let (user, system, pages) = (number(11)?, number(12)?, number(21)?);
    Some(((user + system) * 10, pages * 4096))
}

/// The arguments of `block_set_io_throttle` for a disk with limits. Zero means none.
fn throttle(disk: &vmspec::Disk) -> Option<Value> {
    let limits = &disk.limits;
    let rate = |limit: Option<u64>| limit.unwrap_or(0);
    (!limits.is_none()).then(|| {
        json!({
            // The PCI function has no drive: its virtio device has.
            "id": format!("/machine/peripheral/virtio-disk{}/virtio-backend", disk.slot),
            "bps": rate(limits.total_bytes_per_second),
            "bps_rd": rate(limits.read_bytes_per_second),
            "bps_wr": rate(limits.write_bytes_per_second),
            "iops": rate(limits.total_operations_per_second),
            "iops_rd": rate(limits.read_operations_per_second),
            "iops_wr": rate(limits.write_operations_per_second),
        })
    })
}

/// An emulated guest is slower than any of this would make it, and still a guest.
fn tell_what_is_ignored(spec: &VmSpec) {
    let server_id = spec.server_id;
    if !spec.page_size.pools_mib().is_empty() {
        tracing::warn!(%server_id, "QEMU without KVM takes ordinary memory, not the host's huge pages");
    }
    if spec.cpu.dedicated.is_some() {
        tracing::warn!(%server_id, "QEMU without KVM pins no vCPU to dedicated CPUs");
    }
    if spec.nics.iter().any(|nic| !nic.limits.is_none()) {
        tracing::warn!(%server_id, "QEMU without KVM limits no nic");
    }
}

/// What the machine was started with: nothing comes or goes here.
fn devices(spec: &VmSpec) -> Devices {
    let disk = |disk: &vmspec::Disk| PluggedDisk {
        slot: disk.slot,
        serial: disk.serial.clone(),
        size_bytes: disk.size_bytes,
        leaving: false,
    };
    let nic = |nic: &vmspec::Nic| PluggedNic { slot: nic.slot, port_id: nic.port_id, leaving: false };
    Devices { disks: spec.disks.iter().map(disk).collect(), nics: spec.nics.iter().map(nic).collect() }
}

/// Whether this server boots by UEFI.
pub fn wants_uefi(spec: &VmSpec) -> bool {
    spec.firmware == Firmware::Uefi
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN_SPEC: &[u8] = include_bytes!("../../../vmspec/tests/golden/spec-v1.json");

    /// The command line is part of what a guest sees. A change shows here, and is looked at.
    #[test]
    fn the_command_line_is_the_golden_one() {
        let spec = VmSpec::parse(GOLDEN_SPEC).unwrap();
        let line: Vec<String> = arguments(&spec, false).into_iter().map(|word| word.into_string().unwrap()).collect();
        let text = line.join("\n") + "\n";
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/qemu-arguments.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(golden).unwrap());
    }

    #[test]
    fn limits_of_a_disk_are_told_in_qemus_words() {
        let mut disk = VmSpec::parse(GOLDEN_SPEC).unwrap().disks[0].clone();
        assert_eq!(throttle(&disk), None);
        disk.limits.total_bytes_per_second = Some(1 << 20);
        disk.limits.read_operations_per_second = Some(7);
        let expected = json!({
            "id": "/machine/peripheral/virtio-disk0/virtio-backend",
            "bps": 1 << 20, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 7, "iops_wr": 0
        });
        assert_eq!(throttle(&disk), Some(expected));
    }

    #[test]
    fn no_text_of_a_spec_breaks_out_of_its_option() {
        let mut spec = VmSpec::parse(GOLDEN_SPEC).unwrap();
        spec.smbios.product = "a,uuid=b".to_owned();
        spec.name = "x,y -device z".to_owned();
        spec.validate().unwrap();
        let line = arguments(&spec, false);
        assert!(line.iter().any(|word| word.to_str().unwrap().contains("product=a,,uuid=b,version=")));
        assert!(!line.iter().any(|word| word.to_str().unwrap().contains("-device z")));
    }

    #[test]
    fn the_first_disk_boots_when_none_is_marked_as_root() {
        let mut spec = VmSpec::parse(GOLDEN_SPEC).unwrap();
        spec.disks[0].kind = vmspec::DiskKind::Volume;
        spec.disks.reverse();
        let line = arguments(&spec, false);
        let boots: Vec<_> = line.iter().filter(|word| word.to_str().unwrap().contains("bootindex")).collect();
        assert_eq!(boots.len(), 1);
        assert!(boots[0].to_str().unwrap().contains("\"virtio-disk0\""));
    }
}
