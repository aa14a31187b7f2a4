//! The `kvm` driver: the built-in machine behind the control socket.
//!
//! What must stay true: everything that this process opens it opens in [`open`], before its walls; threads start in [`run`],
//! after them; whatever the guest does, the end of it is an [`Ended`] with a cause and no thread left that touches memory
//! of the guest.

use std::fs::File;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vmspec::console::BoundedLog;
use vmspec::protocol::{Device, EventKind, RefusalCode, Statistics, VmState};
use vmspec::spec::MAX_NICS;
use vmspec::{ExitCause, VmSpec};

use super::boot::Start;
use super::screen::Viewers;
use super::{KvmMachine, Parts};
use crate::machine::{Command, Ended, Machine, Order, Outcome, refusal};
use crate::pinning;
use crate::platform::Wish;
use crate::platform::serial::{Output, SerialPort};
use crate::pools;
use crate::sockets::accepted;
use crate::threads::ThreadKind;
use crate::virtio::console::ConsoleControl;
use crate::virtio::vhost;

/// Our firmware, built by `build.rs`.
pub const FIRMWARE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firmware.elf"));
/// SeaBIOS, for what the firmware hands over.
const BIOS: [&str; 3] =
    ["/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin", "/usr/share/seabios/bios.bin"];
const VHOST_NET: &str = "/dev/vhost-net";

/// Bytes of the console wait this long for more to come with them.
const CONSOLE_DELAY: Duration = Duration::from_millis(3);
/// How often a full input of COM1 is tried again.
const TYPING_DELAY: Duration = Duration::from_millis(2);
/// A listener that fails is tried again after this.
/// The console's last bytes are carried away within this, or not.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What was opened before the walls.
pub struct Opened {
    kvm: OwnedFd,
    bios: Option<File>,
    /// For each queue of each nic of the spec, and one for each nic that has a slot left; or none where this host has none.
    vhost: Vec<File>,
    vsock: Option<(File, u64)>,
    /// `/proc/self/statm`, which is out of sight later.
    memory_use: File,
}

/// What the process has when it has given up root.
pub struct Resources {
    pub opened: Opened,
    pub descriptors: Vec<OwnedFd>,
    pub console_log: BoundedLog,
    pub serial: UnixListener,
    /// For the guest agent's clients.
    pub agent: UnixListener,
    /// For those who look at the screen; none if the machine has none.
    pub vnc: Option<std::os::unix::net::UnixListener>,
}

/// Where SeaBIOS is on this host.
pub fn find_bios() -> Option<&'static Path> {
    BIOS.iter().map(Path::new).find(|path| path.is_file())
}

fn device(path: &str) -> io::Result<File> {
    File::options().read(true).write(true).custom_flags(OFlag::O_CLOEXEC.bits()).open(path)
}

/// Open what only root can open. To be called before the walls.
pub fn open(spec: &VmSpec) -> Result<Opened, String> {
    let kvm = device("/dev/kvm").map_err(|error| format!("cannot open /dev/kvm: {error}"))?;
    pools::choose(spec.page_size, spec.memory_mib)?;
    let bios = match find_bios() {
        Some(path) => Some(File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?),
        None => None,
    };
    let queues: usize = spec.nics.iter().map(|nic| nic.queues as usize).sum();
    let later = MAX_NICS.saturating_sub(spec.nics.len());
    let vhost = (0..queues + later).map(|_| device(VHOST_NET)).collect::<io::Result<Vec<_>>>().unwrap_or_default();
    let memory_use =
        File::open("/proc/self/statm").map_err(|error| format!("cannot open /proc/self/statm: {error}"))?;
    Ok(Opened { kvm: kvm.into(), bios, vhost, vsock: vhost::open_vsock(spec.vsock_cid().into()), memory_use })
}

/// Make the machine, run the guest, and return how it ended, with no vCPU left. `ready` is called when the guest executes.
pub async fn run(
    machine: &Machine,
    resources: Resources,
    mut orders: mpsc::Receiver<Order>,
    ready: impl FnOnce(),
) -> Ended {
    let Resources { opened, descriptors, console_log, serial, agent, vnc } = resources;
    let output = Arc::new(Output::default());
    let here = machine
        .spec
        .cpu
        .dedicated
        .as_ref()
        .map_or(Ok(()), |dedicated| pinning::pin("a thread of this VM", &dedicated.others));
    let made = here.and_then(|()| make(&machine.spec, opened, descriptors, Arc::clone(&output)));
    let made = made.and_then(|(guest, heard, memory_use)| {
        let console = Console::start(output, guest.serial(), console_log, serial)?;
        let viewers = match (vnc, guest.workplace()) {
            (Some(vnc), Some(workplace)) => Some(Viewers::start(vnc, machine.spec.name.clone(), workplace)?),
            _ => None,
        };
        Ok((guest, heard, memory_use, console, viewers))
    });
    let (mut guest, mut wishes, memory_use, console, viewers) = match made {
        Ok(made) => made,
        Err(error) => return Ended::new(ExitCause::StartFailed, error.to_string()),
    };
    let agent = tokio::spawn(plug_in_agents(agent, guest.agent()));
    // The handler is installed now: later nobody may.
    let mut terminate = signal(SignalKind::terminate()).ok();
    // Nothing is left to open.
    if let Err(error) = crate::jail::confine_this_thread(ThreadKind::Control) {
        return Ended::new(ExitCause::StartFailed, format!("this process cannot be confined: {error}"));
    }
    guest.go();
    machine.change(VmState::Running, EventKind::Started);
    ready();
    let mut running = Running { machine, guest: &mut guest, memory_use, reboot_until: None };
    let ended = running.watch(&mut wishes, &mut orders, terminate.as_mut()).await;
    // From here on every order is refused: its receiver is gone.
    drop(orders);
    agent.abort();
    drop(viewers);
    guest.end();
    console.end().await;
    ended
}

fn make(
    spec: &VmSpec,
    opened: Opened,
    descriptors: Vec<OwnedFd>,
    output: Arc<Output>,
) -> io::Result<(KvmMachine, mpsc::UnboundedReceiver<Wish>, File)> {
    let Opened { kvm, bios, vhost, vsock, memory_use } = opened;
    let mut files: Vec<Option<File>> = descriptors.into_iter().map(|fd| Some(File::from(fd))).collect();
    let mut take = |index: u32| {
        let file = usize::try_from(index).ok().and_then(|index| files.get_mut(index)).and_then(Option::take);
        file.ok_or_else(|| io::Error::other(format!("descriptor {index} is missing")))
    };
    let mut disks = Vec::new();
    for disk in &spec.disks {
        disks.push((disk.clone(), take(disk.descriptor)?));
    }
    let mut nics = Vec::new();
    for nic in &spec.nics {
        let taps = (nic.descriptor..).take(nic.queues as usize).map(&mut take).collect::<io::Result<Vec<_>>>()?;
        nics.push((nic.clone(), taps));
    }
    let restore = match spec.restore {
        Some(restore) => Some((take(restore.state_descriptor)?, take(restore.memory_descriptor)?)),
        None => None,
    };
    let start = match bios {
        // Our firmware boots the first disk and no other.
        Some(bios) if spec.boot_slot() != spec.first_slot() => Start::Bios { bios },
        None if spec.boot_slot() != spec.first_slot() => {
            let why = "another disk than the first needs a BIOS to boot, and this host has none (package seabios)";
            return Err(io::Error::other(why));
        }
        bios => Start::Firmware { elf: FIRMWARE, bios },
    };
    let parts =
        Parts { kvm: crate::sys::kvm_from(kvm), start, output, disks, nics, vhost, vsock, restore, debug_port: false };
    let (guest, heard) = KvmMachine::new(spec, parts)?;
    Ok((guest, heard, memory_use))
}

/// Whoever connects gets the guest agent's port, in place of whoever had it: a supervisor that comes back finds it free.
async fn plug_in_agents(listener: UnixListener, port: ConsoleControl) {
    loop {
        let stream = accepted(&listener).await;
        if let Err(error) = stream.into_std().and_then(|stream| port.connect(stream)) {
            tracing::warn!(%error, "a client of agent.sock was lost");
        }
    }
}

struct Running<'a> {
    machine: &'a Machine,
    guest: &'a mut KvmMachine,
    memory_use: File,
    /// Reset instead of ending when the guest shuts down before this.
    reboot_until: Option<Instant>,
}

impl Running<'_> {
    /// Serve orders and wishes until the guest or somebody else makes an end.
    async fn watch(
        &mut self,
        wishes: &mut mpsc::UnboundedReceiver<Wish>,
        orders: &mut mpsc::Receiver<Order>,
        mut terminate: Option<&mut Signal>,
    ) -> Ended {
        loop {
            let reboot_until = self.reboot_until;
            tokio::select! {
                biased;
                Some(wish) = wishes.recv() => {
                    if let Some(ended) = self.wish(wish) {
                        return ended;
                    }
                }
                Some(order) = orders.recv() => {
                    if let Some(ended) = self.order(order) {
                        return ended;
                    }
                }
                removed = self.guest.removal() => self.tell_removed(removed),
                () = async { sleep_until(reboot_until.unwrap_or_else(Instant::now)).await }, if reboot_until.is_some() => {
                    self.reboot_until = None;
                    self.machine.set_shutdown_pending(false);
                }
                _ = async { match terminate.as_mut() { Some(terminate) => terminate.recv().await, None => pending().await } } => {
                    return Ended::new(ExitCause::Stopped, "the VM process was told to terminate".to_owned());
                }
            }
        }
    }

    fn tell_removed(&self, removed: Vec<Device>) {
        for device in removed {
            self.machine.tell(EventKind::DeviceRemoved(device));
        }
    }

    /// Reset and run on.
    fn restart(&mut self, bios: bool) -> io::Result<()> {
        self.guest.reset(bios)?;
        // A reset lets go of what the guest was asked to let go of.
        let removed = self.guest.removed();
        self.tell_removed(removed);
        self.guest.go();
        Ok(())
    }

    fn wish(&mut self, wish: Wish) -> Option<Ended> {
        let machine = self.machine;
        let failed = |why: String| Some(Ended::new(ExitCause::HypervisorFailed, why));
        match wish {
            Wish::PowerOff if self.reboot_until.take().is_some() => {
                machine.set_shutdown_pending(false);
                if let Err(error) = self.restart(false) {
                    return failed(format!("the guest could not be started again: {error}"));
                }
                machine.change(VmState::Running, EventKind::Reset { by_guest: false });
            }
            Wish::PowerOff => {
                let requested = machine.shutdown_pending();
                machine.change(VmState::Stopping, EventKind::GuestShutdown { requested });
                return Some(Ended { cause: ExitCause::GuestShutdown, requested, detail: None });
            }
            Wish::Reset => {
                tracing::info!(server_id = %machine.spec.server_id, "the guest resets itself");
                if let Err(error) = self.restart(false) {
                    return failed(format!("the guest could not be reset: {error}"));
                }
                machine.tell(EventKind::Reset { by_guest: true });
            }
            Wish::Bios if self.guest.has_bios() => {
                tracing::info!(server_id = %machine.spec.server_id, "the firmware hands over to SeaBIOS");
                if let Err(error) = self.restart(true) {
                    return failed(format!("SeaBIOS could not be started: {error}"));
                }
            }
            Wish::Bios => {
                let why = "this disk needs a BIOS to boot, and this host has none (package seabios)";
                return failed(why.to_owned());
            }
            Wish::Panicked => {
                machine.change(VmState::Stopping, EventKind::GuestPanicked);
                return Some(Ended::new(ExitCause::GuestPanicked, "the guest's kernel panicked".to_owned()));
            }
            Wish::Broken(why) => {
                tracing::error!(server_id = %machine.spec.server_id, "{why}");
                return failed(why);
            }
        }
        None
    }

    fn order(&mut self, order: Order) -> Option<Ended> {
        let machine = self.machine;
        let paused = machine.state() == VmState::Paused;
        let failed = |error: io::Error| refusal(RefusalCode::Failed, error.to_string());
        let mut ended = None;
        let result = match order.command {
            Command::Stop => {
                ended = Some(Ended::new(ExitCause::Stopped, None));
                Ok(Outcome::Done)
            }
            Command::PowerButton | Command::Reboot { .. } if paused => {
                Err(refusal(RefusalCode::State, "the power button does nothing while the guest is paused"))
            }
            Command::PowerButton => {
                self.guest.press_power_button();
                // Pressed to stay off, whatever was wanted before.
                self.reboot_until = None;
                machine.set_shutdown_pending(true);
                Ok(Outcome::Done)
            }
            Command::Reboot { deadline } => {
                self.guest.press_power_button();
                self.reboot_until = Some(Instant::now() + deadline);
                machine.set_shutdown_pending(true);
                Ok(Outcome::Done)
            }
            Command::Reset => {
                self.reboot_until = None;
                match self.restart(false) {
                    Ok(()) => {
                        machine.set_shutdown_pending(false);
                        machine.change(VmState::Running, EventKind::Reset { by_guest: false });
                        Ok(Outcome::Done)
                    }
                    Err(error) => {
                        ended = Some(Ended::new(ExitCause::HypervisorFailed, format!("reset failed: {error}")));
                        Err(failed(error))
                    }
                }
            }
            Command::Pause if paused => Ok(Outcome::Done),
            Command::Pause => self.guest.pause().map_err(failed).map(|()| {
                machine.change(VmState::Paused, EventKind::Paused);
                Outcome::Done
            }),
            Command::Resume if !paused => Ok(Outcome::Done),
            Command::Resume => {
                self.guest.go();
                machine.change(VmState::Running, EventKind::Resumed);
                Ok(Outcome::Done)
            }
            Command::Statistics => self.statistics().map(Outcome::Statistics).map_err(failed),
            Command::Devices => Ok(Outcome::Devices(self.guest.devices())),
            Command::AttachDisk(disk, file) => {
                let file = File::from(file);
                let attached = crate::descriptors::check_disk(&disk, &file).map_err(io::Error::other);
                attached.and_then(|()| self.guest.attach_disk((disk, file))).map(|()| Outcome::Done).map_err(failed)
            }
            Command::AttachNic(nic, taps) => {
                let taps: Vec<File> = taps.into_iter().map(File::from).collect();
                let checked = taps.iter().try_for_each(|tap| crate::descriptors::check_tap(nic.slot, tap));
                let attached = checked.map_err(io::Error::other);
                attached.and_then(|()| self.guest.attach_nic((nic, taps))).map(|()| Outcome::Done).map_err(failed)
            }
            Command::DetachDisk { slot } => self.detach(Device::Disk { slot }).map_err(failed),
            Command::DetachNic { slot } => self.detach(Device::Nic { slot }).map_err(failed),
            Command::ResizeDisk { slot, size_bytes } => {
                self.guest.resize_disk(slot, size_bytes).map(|()| Outcome::Done).map_err(failed)
            }
            Command::Suspend { state, memory } => {
                let written = self.guest.suspend(&mut File::from(state), &File::from(memory));
                if !paused {
                    machine.change(VmState::Paused, EventKind::Paused);
                }
                written
                    .map(|()| {
                        ended = Some(Ended::new(ExitCause::Suspended, None));
                        Outcome::Done
                    })
                    .map_err(failed)
            }
        };
        // Whoever asked may have gone.
        let _ = order.answer.send(result);
        ended
    }

    fn detach(&mut self, device: Device) -> io::Result<Outcome> {
        self.guest.detach(device).map(|_| Outcome::Done)
    }

    fn statistics(&self) -> io::Result<Statistics> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let (user, system) = (usage.user_time(), usage.system_time());
        let milliseconds = |time: nix::sys::time::TimeVal| time.tv_sec() * 1000 + time.tv_usec() / 1000;
        Ok(Statistics {
            cpu_time_ms: u64::try_from(milliseconds(user) + milliseconds(system)).unwrap_or(0),
            resident_bytes: self.resident_bytes().unwrap_or(0),
            disks: self.guest.disk_statistics(),
        })
    }
}

impl Running<'_> {
    /// The second field of statm (proc(5)), in pages.
    fn resident_bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let count = self.memory_use.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..count)?).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(4096)
    }
}

/// COM1 between the guest and `crate::console`.
struct Console {
    carrier: JoinHandle<()>,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
    over: tokio::sync::watch::Sender<bool>,
}

impl Console {
    fn start(
        output: Arc<Output>,
        serial: Arc<Mutex<SerialPort>>,
        log: BoundedLog,
        listener: UnixListener,
    ) -> io::Result<Self> {
        let (line, far_end) = UnixStream::pair()?;
        let carrier = tokio::spawn(crate::console::carry(far_end, log, listener));
        let (from_readers, to_carrier) = line.into_split();
        let (over, told) = tokio::sync::watch::channel(false);
        let writer = tokio::spawn(write_out(output, to_carrier, told));
        let reader = tokio::spawn(type_in(from_readers, serial));
        Ok(Self { carrier, writer, reader, over })
    }

    /// Carry the last bytes, and stop.
    async fn end(self) {
        let _ = self.over.send(true);
        let _ = timeout(LAST_WORDS, self.writer).await;
        self.reader.abort();
        let _ = self.reader.await;
        let _ = timeout(LAST_WORDS, self.carrier).await;
    }
}

async fn write_out(output: Arc<Output>, mut to_carrier: OwnedWriteHalf, mut over: tokio::sync::watch::Receiver<bool>) {
    loop {
        let last = tokio::select! {
            () = output.written() => false,
            _ = over.changed() => true,
        };
        if !last {
            sleep(CONSOLE_DELAY).await;
        }
        let bytes = output.take();
        if to_carrier.write_all(&bytes).await.is_err() || last {
            return;
        }
    }
}

async fn type_in(mut from_readers: OwnedReadHalf, serial: Arc<Mutex<SerialPort>>) {
    let mut bytes = [0; 256];
    while let Ok(count @ 1..) = from_readers.read(&mut bytes).await {
        let mut rest = bytes.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            let taken = serial.lock().unwrap_or_else(PoisonError::into_inner).type_in(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if !rest.is_empty() {
                // The guest reads slowly, or not at all: those who type are held up by that, nobody else.
                sleep(TYPING_DELAY).await;
            }
        }
    }
}
