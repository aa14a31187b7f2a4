//! The `tcg` driver: a QEMU that the VM process starts, watches and ends. The `kvm` driver's too, for what the built-in
//! machine does not do: UEFI, and Windows.
//!
//! What must stay true:
//! - QEMU dies with this process: it is killed by the kernel when its parent's thread ends, so the lock stays the truth.
//! - QEMU opens no file of a guest by its path: disks, taps, monitor and serial line are descriptors it is handed.
//! - QEMU never ends by itself because of the guest: a shutdown or a panic pauses it, and this process decides.
//! - Slots decide where a device sits on its PCI bus, so names in the guest do not move when something is added.

mod agent;
mod arguments;
mod devices;
pub mod firmware;
mod process;
mod qmp;
mod suspend;
pub mod uefi;

use std::os::fd::OwnedFd;
use std::time::Duration;

use kvm_bindings::{KVM_CAP_HYPERV_SEND_IPI, KVM_CAP_HYPERV_SYNIC2, KVM_CAP_HYPERV_TLBFLUSH, KVM_CAP_HYPERV_VP_INDEX};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use vmspec::protocol::{Device, EventKind, Refusal, RefusalCode, Statistics, VmState};
use vmspec::{ExitCause, VmSpec};

pub use self::arguments::{Accelerator, Boot, Means};
use self::devices::{Plugged, throttle};
use self::process::Process;
pub use self::process::{Resources, find_program};
use self::qmp::{QemuEvent, QmpError};
use self::suspend::Suspended;
use crate::machine::{Command, Ended, Machine, Order, Outcome, refusal};
use crate::sockets::accepted;

/// SeaBIOS resets the machine once more when it finds that it has run before: not news.
const FIRMWARE_RESET: Duration = Duration::from_secs(1);

/// Whether this kernel has all that QEMU would tell Windows of; those that only run tests may not.
pub fn has_hyperv(kvm: OwnedFd) -> bool {
    let kvm = crate::sys::kvm_from(kvm);
    [KVM_CAP_HYPERV_SYNIC2, KVM_CAP_HYPERV_VP_INDEX, KVM_CAP_HYPERV_TLBFLUSH, KVM_CAP_HYPERV_SEND_IPI]
        .into_iter()
        .all(|what| kvm.check_extension_raw(what.into()) > 0)
}

/// What has been asked of the guest and not happened yet.
#[derive(Default)]
struct Pending {
    /// Reset instead of ending when it shuts down before this.
    reboot_until: Option<Instant>,
    /// Between its shutdown and its new start: the pauses in between are ours.
    restarting: bool,
    /// When the guest reset the machine last.
    last_reset: Option<Instant>,
}

/// A QEMU that runs, and what is plugged into it.
struct Qemu {
    process: Process,
    plugged: Plugged,
    means: Means,
}

/// Start QEMU, run the guest, and return how it ended, with no process left. `ready` is called when the guest executes.
pub async fn run(
    machine: &Machine,
    mut resources: Resources,
    mut orders: mpsc::Receiver<Order>,
    ready: impl FnOnce(),
) -> Ended {
    let spec = &machine.spec;
    let files = take_suspended(spec, &mut resources.descriptors).map_err(str::to_owned);
    let opened = files.and_then(|files| files.map(|(state, memory)| Suspended::open(state, memory)).transpose());
    let suspended = match opened {
        Ok(suspended) => suspended,
        Err(why) => return Ended::new(ExitCause::StartFailed, why),
    };
    if suspended.as_ref().is_some_and(|suspended| !suspended.has_vsock()) {
        (resources.vsock, resources.means.vsock_cid) = (None, None);
    }
    let means = resources.means.clone();
    let process = match Process::start(spec, resources).await {
        Ok(process) => process,
        Err(why) => return Ended::new(ExitCause::StartFailed, why),
    };
    if spec.nics.iter().any(|nic| !nic.limits.is_none()) {
        tracing::warn!(server_id = %spec.server_id, "QEMU limits no nic");
    }
    let mut qemu = Qemu { process, plugged: Plugged::new(spec), means };
    if let Err(why) = qemu.begin(spec, suspended).await {
        let why = qemu.process.explained(why);
        qemu.process.end().await;
        return Ended::new(ExitCause::StartFailed, why);
    }
    machine.change(VmState::Running, EventKind::Started);
    ready();
    let ended = qemu.watch(machine, &mut orders).await;
    // From here on every order is refused: its receiver is gone.
    drop(orders);
    qemu.process.end().await;
    ended
}

/// State and memory of a suspended guest, which are not QEMU's to have.
fn take_suspended(spec: &VmSpec, descriptors: &mut Vec<OwnedFd>) -> Result<Option<(OwnedFd, OwnedFd)>, &'static str> {
    let Some(restore) = spec.restore else { return Ok(None) };
    let handed = arguments::handed_descriptors(spec);
    let last = u32::try_from(handed).unwrap_or(u32::MAX);
    let misplaced = "the descriptors of a suspended guest are not the last two";
    if (restore.state_descriptor, restore.memory_descriptor) != (last, last.saturating_add(1)) {
        return Err(misplaced);
    }
    match (descriptors.pop(), descriptors.pop()) {
        (Some(memory), Some(state)) if descriptors.len() == handed => Ok(Some((state, memory))),
        _ => Err(misplaced),
    }
}

impl Qemu {
    /// Have the guest execute, from its start or where it was suspended. Limits hold from its first request on.
    async fn begin(&mut self, spec: &VmSpec, suspended: Option<Suspended>) -> Result<(), String> {
        let said = |error: QmpError| error.to_string();
        self.process.pin(spec)?;
        if let Some(suspended) = suspended {
            let devices = self.plugged.list();
            suspend::read(&mut self.process.qmp, spec, &self.means, &devices, suspended).await?;
            self.process.firmware.guest_runs();
        }
        for limits in spec.disks.iter().filter_map(throttle) {
            self.process.qmp.execute("block_set_io_throttle", limits).await.map_err(said)?;
        }
        self.process.qmp.execute("cont", json!({})).await.map_err(said)?;
        Ok(())
    }

    /// Serve orders and events until the guest, QEMU or somebody else makes an end.
    async fn watch(&mut self, machine: &Machine, orders: &mut mpsc::Receiver<Order>) -> Ended {
        let mut pending = Pending::default();
        let mut terminate = signal(SignalKind::terminate()).ok();
        loop {
            let reboot_until = pending.reboot_until;
            tokio::select! {
                biased;
                event = self.process.events.recv() => {
                    let end = match event {
                        Some(event) => self.event(machine, &mut pending, event).await,
                        // The monitor closed: QEMU is ending, or has broken its protocol.
                        None => Some(self.process.died(machine).await),
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
                viewer = next(self.process.viewers.as_ref()) => self.process.show(viewer).await,
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
                if by_guest && self.reset_is_news(pending) {
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
            QemuEvent::Deleted { device } => {
                if let Some(device) = self.plugged.deleted(&mut self.process.qmp, &device).await {
                    machine.tell(EventKind::DeviceRemoved(device));
                }
            }
        }
        None
    }

    /// Whether the guest itself, and not what starts it, has reset the machine.
    fn reset_is_news(&self, pending: &mut Pending) -> bool {
        // Asked in any case: it counts them.
        let heard = !matches!(self.means.boot, Boot::Firmware(_)) || self.process.firmware.reset_is_news();
        let again = pending.last_reset.is_some_and(|last| last.elapsed() < FIRMWARE_RESET);
        if heard {
            pending.last_reset = Some(Instant::now());
        }
        heard && !again
    }

    async fn order(&mut self, machine: &Machine, pending: &mut Pending, order: Order) -> Option<Ended> {
        let state = machine.state();
        let not_now = |what: &str| Err(refusal(RefusalCode::State, format!("{what} while the guest is paused")));
        let failed = |error: QmpError| refusal(RefusalCode::Failed, error.to_string());
        let qmp = &mut self.process.qmp;
        let mut ended = None;
        let result: Result<Outcome, Refusal> = match order.command {
            Command::Stop => {
                ended = Some(Ended::new(ExitCause::Stopped, None));
                Ok(Outcome::Done)
            }
            Command::PowerButton | Command::Reboot { .. } if state == VmState::Paused => {
                not_now("the power button does nothing")
            }
            Command::PowerButton => qmp.execute("system_powerdown", json!({})).await.map_err(failed).map(|_| {
                // Pressed to stay off, whatever was wanted before.
                pending.reboot_until = None;
                machine.set_shutdown_pending(true);
                Outcome::Done
            }),
            Command::Reboot { deadline } => {
                qmp.execute("system_powerdown", json!({})).await.map_err(failed).map(|_| {
                    pending.reboot_until = Some(Instant::now() + deadline);
                    machine.set_shutdown_pending(true);
                    Outcome::Done
                })
            }
            Command::Reset => {
                pending.reboot_until = None;
                // Only a paused guest is resumed by a reset, and says so.
                pending.restarting = state == VmState::Paused;
                self.restart().await.map_err(failed).map(|()| {
                    machine.set_shutdown_pending(false);
                    machine.change(VmState::Running, EventKind::Reset { by_guest: false });
                    Outcome::Done
                })
            }
            Command::Pause if state == VmState::Paused => Ok(Outcome::Done),
            Command::Pause => qmp.execute("stop", json!({})).await.map_err(failed).map(|_| {
                machine.change(VmState::Paused, EventKind::Paused);
                Outcome::Done
            }),
            Command::Resume if state == VmState::Running => Ok(Outcome::Done),
            Command::Resume => qmp.execute("cont", json!({})).await.map_err(failed).map(|_| {
                machine.change(VmState::Running, EventKind::Resumed);
                Outcome::Done
            }),
            Command::Statistics => self.statistics().await.map(Outcome::Statistics).map_err(failed),
            Command::Devices => Ok(Outcome::Devices(self.plugged.list())),
            Command::ResizeDisk { slot, size_bytes } => {
                self.plugged.resize_disk(qmp, slot, size_bytes).await.map(|()| Outcome::Done)
            }
            Command::AttachDisk(disk, file) => self.plugged.attach_disk(qmp, disk, file).await.map(|()| Outcome::Done),
            Command::AttachNic(nic, taps) => self.plugged.attach_nic(qmp, nic, taps).await.map(|()| Outcome::Done),
            Command::DetachDisk { slot } => {
                self.plugged.detach(qmp, Device::Disk { slot }).await.map(|()| Outcome::Done)
            }
            Command::DetachNic { slot } => self.plugged.detach(qmp, Device::Nic { slot }).await.map(|()| Outcome::Done),
            Command::Suspend { state, memory } => self.suspend(machine, state, memory).await.map(|()| {
                ended = Some(Ended::new(ExitCause::Suspended, None));
                Outcome::Done
            }),
        };
        // Whoever asked may have gone.
        let _ = order.answer.send(result);
        ended
    }

    async fn restart(&mut self) -> Result<(), QmpError> {
        self.process.firmware.forget();
        self.process.qmp.execute("system_reset", json!({})).await?;
        self.process.qmp.execute("cont", json!({})).await?;
        Ok(())
    }

    async fn suspend(&mut self, machine: &Machine, state: OwnedFd, memory: OwnedFd) -> Result<(), Refusal> {
        if self.plugged.something_leaves() {
            return Err(refusal(RefusalCode::State, "the guest has been asked to let go of a device, and has not yet"));
        }
        let qmp = &mut self.process.qmp;
        if machine.state() == VmState::Running {
            let stopped = qmp.execute("stop", json!({})).await;
            stopped.map_err(|error| refusal(RefusalCode::Failed, error.to_string()))?;
            machine.change(VmState::Paused, EventKind::Paused);
        }
        let devices = self.plugged.list();
        let written = suspend::write(qmp, &machine.spec, &self.means, &devices, state, memory).await;
        written.map_err(|why| refusal(RefusalCode::Failed, why))
    }

    async fn statistics(&mut self) -> Result<Statistics, QmpError> {
        let disks = self.plugged.statistics(&mut self.process.qmp).await?;
        let (cpu_time_ms, resident_bytes) = self.process.usage();
        Ok(Statistics { cpu_time_ms, resident_bytes, disks })
    }
}

/// The next to connect; never, where nobody can.
async fn next(listener: Option<&UnixListener>) -> UnixStream {
    match listener {
        Some(listener) => accepted(listener).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use vmspec::Restore;

    use super::*;

    #[test]
    fn files_of_a_suspended_guest_are_the_last_and_not_handed_on() {
        let golden = VmSpec::parse(include_bytes!("../../../vmspec/tests/golden/spec-v2.json")).unwrap();
        let open = || -> Vec<OwnedFd> {
            (0..golden.descriptor_count()).map(|_| File::open("/dev/null").unwrap().into()).collect()
        };
        let mut descriptors = open();
        assert!(take_suspended(&golden, &mut descriptors).unwrap().is_some());
        assert_eq!(descriptors.len(), golden.descriptor_count() - 2);
        let swapped = Restore { state_descriptor: 5, memory_descriptor: 4 };
        assert!(take_suspended(&VmSpec { restore: Some(swapped), ..golden.clone() }, &mut open()).is_err());
        let none = VmSpec { restore: None, ..golden.clone() };
        assert!(take_suspended(&none, &mut open()).unwrap().is_none());
    }
}
