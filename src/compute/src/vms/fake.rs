//! VMs that are files: for tests, and for a fake cloud (`--driver fake`).
//!
//! `fake.json` is the VM: it runs while the file is there and names this boot of the host. Each change is one rename or
//! one unlink, so a `kill -9` at any instant leaves the VM as it was or as it was to be; nothing is fsynced, because
//! after a power cut the boot id differs and the VM counts as gone, as a real one would.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use uuid::Uuid;
use vmspec::protocol::{
    Device, Devices, DiskStatistics, EventKind, Isolation, PluggedDisk, PluggedNic, Statistics, VmState,
};
use vmspec::{ExitCause, ExitRecord, Nic, ServerDirectory, VmSpec, directory};

use super::{
    EVENTS_KEPT, Observed, Rebooted, Running, VmError, VmEvent, VmEventKind, fake_console, ids_in, observe_remains,
    suspended,
};

const FAKE: &str = "fake.json";
const MAX_FAKE_BYTES: u64 = 4096;
/// Beside the servers' directories: while it is there every start fails, with its text as the reason.
const STARTS_FAIL: &str = "starts-fail";
/// Beside the servers' directories: while it is there everything is refused that some drivers cannot do.
const REFUSES: &str = "refuses";
/// In a server's directory: how often its agent is still to be missed.
const AGENT_LATE: &str = "agent-late";

#[derive(Clone, Debug)]
pub struct FakeDriver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    servers: PathBuf,
    boot_id: Uuid,
    events: broadcast::Sender<VmEvent>,
    faults: Mutex<Faults>,
}

/// How tests make a fake misbehave.
#[derive(Debug, Default)]
struct Faults {
    next_starts_fail: Vec<String>,
    deaf_guests: HashSet<Uuid>,
    clinging_guests: HashSet<Uuid>,
    /// Guests with an agent, and what it did.
    agents: HashMap<Uuid, Vec<&'static str>>,
    held: HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FakeVm {
    boot_id: Uuid,
    generation: u64,
    spec_hash: String,
    paused: bool,
    started_at_unix_ms: u64,
    #[serde(default)]
    nics: Vec<FakeNic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FakeNic {
    slot: u8,
    port_id: Uuid,
}

impl From<&Nic> for FakeNic {
    fn from(nic: &Nic) -> Self {
        Self { slot: nic.slot, port_id: nic.port_id }
    }
}

impl FakeDriver {
    pub fn new(servers: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&servers)?;
        let inner = Inner {
            servers,
            boot_id: vmspec::host_boot_id()?,
            events: broadcast::channel(EVENTS_KEPT).0,
            faults: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn servers(&self) -> &Path {
        &self.inner.servers
    }

    pub fn events(&self) -> broadcast::Receiver<VmEvent> {
        self.inner.events.subscribe()
    }

    pub async fn ensure_running(&self, spec: &VmSpec, descriptors: Vec<OwnedFd>) -> Result<(), VmError> {
        let server_id = spec.server_id;
        let _turn = self.turn(server_id).await;
        super::process::check_start(spec, &descriptors, self.inner.boot_id)?;
        if let Some(running) = self.find(server_id)? {
            return if running.spec_hash == spec.hash() {
                Ok(())
            } else {
                Err(VmError::DifferentSpec { server_id, running_generation: running.generation })
            };
        }
        let fault = {
            let mut faults = self.faults();
            (!faults.next_starts_fail.is_empty()).then(|| faults.next_starts_fail.remove(0))
        };
        let fault = fault.or_else(|| std::fs::read_to_string(self.inner.servers.join(STARTS_FAIL)).ok());
        if let Some(reason) = fault {
            return Err(VmError::StartFailed { server_id, reason });
        }
        if let Some(restore) = spec.restore {
            let state = descriptors.into_iter().nth(restore.state_descriptor as usize);
            check_saved(spec, state.map(File::from))
                .map_err(|reason| VmError::StartFailed { server_id, reason: reason.to_string() })?;
        }
        self.write_start(spec).map_err(|source| VmError::Io { server_id, what: "cannot write a fake", source })?;
        self.send(server_id, spec.generation, VmEventKind::Changed(EventKind::Started));
        Ok(())
    }

    fn write_start(&self, spec: &VmSpec) -> std::io::Result<()> {
        let directory = self.directory(spec.server_id);
        match std::fs::create_dir(directory.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let bytes = spec.to_bytes().map_err(std::io::Error::other)?;
        directory.replace(directory::SPEC, &bytes, false)?;
        let word = if spec.restore.is_some() { "resumed" } else { "started" };
        let line = format!("fake server {} {word} (generation {})\r\n", spec.server_id, spec.generation);
        self.append_console(spec.server_id, spec.console_log_bytes, line.as_bytes())?;
        let vm = FakeVm {
            boot_id: self.inner.boot_id,
            generation: spec.generation,
            spec_hash: spec.hash(),
            paused: false,
            started_at_unix_ms: vmspec::unix_ms(),
            nics: spec.nics.iter().map(FakeNic::from).collect(),
        };
        directory.replace(FAKE, &serde_json::to_vec(&vm)?, false)?;
        // Last: before it, the VM did not run; a record of an earlier start is none of this one.
        remove_file(&directory, directory::EXIT)
    }

    pub async fn stop(&self, server_id: Uuid, graceful: Option<Duration>) -> Result<(), VmError> {
        let deaf = self.faults().deaf_guests.contains(&server_id);
        let _turn = self.turn(server_id).await;
        match (graceful, self.find(server_id)?) {
            (_, None) => Ok(()),
            (Some(deadline), Some(vm)) if deaf || vm.paused => {
                if !vm.paused {
                    tokio::time::sleep(deadline).await;
                }
                self.end(server_id, ExitCause::Stopped, true, None)
            }
            (Some(_), Some(_)) => self.end(server_id, ExitCause::GuestShutdown, true, None),
            (None, Some(_)) => self.end(server_id, ExitCause::Stopped, false, None),
        }
    }

    pub async fn kill(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.end(server_id, ExitCause::Killed, false, None)
    }

    pub async fn reset(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.restart_guest(server_id, false)
    }

    pub async fn reboot_soft(&self, server_id: Uuid, deadline: Duration) -> Result<Rebooted, VmError> {
        let deaf = self.faults().deaf_guests.contains(&server_id);
        let _turn = self.turn(server_id).await;
        if deaf {
            tokio::time::sleep(deadline).await;
        }
        self.restart_guest(server_id, !deaf)?;
        Ok(if deaf { Rebooted::Hard } else { Rebooted::Soft })
    }

    pub async fn pause(&self, server_id: Uuid) -> Result<(), VmError> {
        self.set_paused(server_id, true).await
    }

    pub async fn resume(&self, server_id: Uuid) -> Result<(), VmError> {
        self.set_paused(server_id, false).await
    }

    pub async fn suspend(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        let directory = self.directory(server_id);
        let failed = |source| VmError::Io { server_id, what: "cannot suspend a fake", source };
        let Some(mut vm) = self.find(server_id)? else {
            return match suspended::is_whole(&directory).map_err(failed)? {
                true => suspended::finish(&directory).map_err(failed),
                false => Err(VmError::NotRunning { server_id }),
            };
        };
        if let Err(refusal) = self.check_refuses(server_id) {
            // As the built-in machine does: what could not be written stays as it was when that was tried.
            vm.paused = true;
            self.write(server_id, &vm)?;
            return Err(refusal);
        }
        let write = || {
            let (mut state, mut memory) = suspended::begin(&directory)?;
            state.write_all(&serde_json::to_vec(&vm)?)?;
            memory.write_all(format!("memory of {server_id}").as_bytes())?;
            suspended::finish(&directory)
        };
        write().map_err(failed)?;
        self.end(server_id, ExitCause::Suspended, false, None)
    }

    pub(super) async fn console(&self, server_id: Uuid, screen: bool) -> Result<UnixStream, VmError> {
        let _turn = self.turn(server_id).await;
        self.find(server_id)?.ok_or(VmError::NotRunning { server_id })?;
        let failed = |source| VmError::Io { server_id, what: "cannot connect to a fake", source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let printed = self.directory(server_id).console_tail(u64::from(u16::MAX)).map_err(failed)?;
        tokio::spawn(async move {
            // Its client may go at any time.
            let _ = if screen {
                fake_console::screen(theirs, format!("fake server {server_id}")).await
            } else {
                fake_console::serial(theirs, printed).await
            };
        });
        Ok(ours)
    }

    pub(super) fn freeze(&self, server_id: Uuid) -> Result<bool, String> {
        let mut faults = self.faults();
        let Some(done) = faults.agents.get_mut(&server_id) else { return Ok(false) };
        done.push("freeze");
        Ok(true)
    }

    pub(super) fn thaw(&self, server_id: Uuid) -> Result<(), String> {
        if let Some(done) = self.faults().agents.get_mut(&server_id) {
            done.push("thaw");
        }
        Ok(())
    }

    pub async fn devices(&self, server_id: Uuid) -> Result<Devices, VmError> {
        let vm = self.find(server_id)?.ok_or(VmError::NotRunning { server_id })?;
        let spec = self.directory(server_id).read_spec().ok().flatten();
        let disks = spec.iter().flat_map(|spec| &spec.disks).map(|disk| PluggedDisk {
            slot: disk.slot,
            serial: disk.serial.clone(),
            size_bytes: disk.size_bytes,
            leaving: false,
        });
        let nics = vm.nics.iter().map(|nic| PluggedNic { slot: nic.slot, port_id: nic.port_id, leaving: false });
        Ok(Devices { disks: disks.collect(), nics: nics.collect() })
    }

    pub async fn attach_nic(&self, server_id: Uuid, nic: Nic, taps: Vec<OwnedFd>) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        let refused = |reason: String| Err(VmError::Refused { server_id, reason });
        let Some(mut vm) = self.find(server_id)? else { return Err(VmError::NotRunning { server_id }) };
        self.check_refuses(server_id)?;
        nic.validate()?;
        if taps.len() != nic.queues as usize {
            return refused(format!("{} taps for {} queues", taps.len(), nic.queues));
        }
        let new = FakeNic::from(&nic);
        if vm.nics.contains(&new) {
            return Ok(());
        }
        if vm.nics.iter().any(|here| here.slot == new.slot || here.port_id == new.port_id) {
            return refused(format!("nic slot {} is taken", nic.slot));
        }
        vm.nics.push(new);
        self.write(server_id, &vm)
    }

    pub async fn detach_nic(&self, server_id: Uuid, slot: u8) -> Result<(), VmError> {
        let clinging = self.faults().clinging_guests.contains(&server_id);
        let _turn = self.turn(server_id).await;
        let Some(mut vm) = self.find(server_id)? else { return Err(VmError::NotRunning { server_id }) };
        if !vm.nics.iter().any(|nic| nic.slot == slot) {
            return Ok(());
        }
        self.check_refuses(server_id)?;
        if clinging || vm.paused {
            let reason = "the guest has not let go of it".to_owned();
            return Err(VmError::Refused { server_id, reason });
        }
        vm.nics.retain(|nic| nic.slot != slot);
        self.write(server_id, &vm)?;
        let kind = EventKind::DeviceRemoved(Device::Nic { slot });
        self.send(server_id, vm.generation, VmEventKind::Changed(kind));
        Ok(())
    }

    pub async fn observe(&self, server_id: Uuid) -> Result<Observed, VmError> {
        match self.find(server_id)? {
            Some(vm) => Ok(Observed::Running(Running {
                spec_hash: vm.spec_hash,
                boot_id: vm.boot_id,
                generation: vm.generation,
                state: if vm.paused { VmState::Paused } else { VmState::Running },
                pid: std::process::id(),
                isolation: Isolation::default(),
            })),
            None => observe_remains(&self.directory(server_id)).map_err(|source| VmError::Io {
                server_id,
                what: "cannot look at what is left",
                source,
            }),
        }
    }

    pub async fn adopt_all(&self) -> std::io::Result<Vec<(Uuid, Observed)>> {
        let mut all = Vec::new();
        for id in ids_in(&self.inner.servers)? {
            let observed = self.observe(id).await;
            all.push((id, observed.unwrap_or_else(|error| Observed::Unresponsive { reason: error.to_string() })));
        }
        Ok(all)
    }

    pub async fn remove(&self, server_id: Uuid) -> Result<(), VmError> {
        let turn = self.turn(server_id).await;
        self.end(server_id, ExitCause::Killed, false, None)?;
        match std::fs::remove_dir_all(self.directory(server_id).path()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(VmError::Io { server_id, what: "cannot remove the directory", source });
            }
            _ => {}
        }
        drop(turn);
        let mut faults = self.faults();
        faults.deaf_guests.remove(&server_id);
        faults.clinging_guests.remove(&server_id);
        faults.agents.remove(&server_id);
        faults.held.retain(|id, turn| *id != server_id || Arc::strong_count(turn) > 1);
        Ok(())
    }

    pub async fn statistics(&self, server_id: Uuid) -> Result<Statistics, VmError> {
        let vm = self.find(server_id)?.ok_or(VmError::NotRunning { server_id })?;
        let spec = self.directory(server_id).read_spec().ok().flatten();
        let up_ms = vmspec::unix_ms().saturating_sub(vm.started_at_unix_ms);
        Ok(Statistics {
            cpu_time_ms: up_ms / 100,
            resident_bytes: spec.as_ref().map_or(0, |spec| spec.memory_mib * 1024 * 1024),
            disks: spec
                .iter()
                .flat_map(|spec| &spec.disks)
                .map(|disk| DiskStatistics { slot: disk.slot, ..DiskStatistics::default() })
                .collect(),
        })
    }

    // What a guest does by itself. Tests call these; nothing else does.

    /// The guest runs `poweroff`.
    pub async fn guest_powers_off(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.end(server_id, ExitCause::GuestShutdown, false, None)
    }

    /// The hypervisor process crashes.
    pub async fn crash(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.end(server_id, ExitCause::HypervisorFailed, false, Some("the fake was told to crash".to_owned()))
    }

    /// The guest runs `reboot`.
    pub async fn guest_reboots(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.restart_guest(server_id, true)
    }

    /// The guest writes to its serial console.
    pub async fn guest_prints(&self, server_id: Uuid, text: &str) -> Result<(), VmError> {
        let spec = self.directory(server_id).read_spec().ok().flatten().ok_or(VmError::NotRunning { server_id })?;
        self.append_console(server_id, spec.console_log_bytes, text.as_bytes()).map_err(|source| VmError::Io {
            server_id,
            what: "cannot write the console log",
            source,
        })
    }

    /// From now on the guest ignores its power button, or no longer does.
    pub fn guest_ignores_power_button(&self, server_id: Uuid, ignores: bool) {
        let mut faults = self.faults();
        if ignores {
            faults.deaf_guests.insert(server_id);
        } else {
            faults.deaf_guests.remove(&server_id);
        }
    }

    /// From now on the guest does not let go of devices, or does again.
    pub fn guest_keeps_devices(&self, server_id: Uuid, keeps: bool) {
        let mut faults = self.faults();
        if keeps {
            faults.clinging_guests.insert(server_id);
        } else {
            faults.clinging_guests.remove(&server_id);
        }
    }

    /// From now on the guest has an agent.
    pub fn guest_has_agent(&self, server_id: Uuid) {
        self.faults().agents.insert(server_id, Vec::new());
    }

    /// What the guest's agent did: `freeze`, `thaw`.
    #[must_use]
    pub fn agent_did(&self, server_id: Uuid) -> Vec<&'static str> {
        self.faults().agents.get(&server_id).cloned().unwrap_or_default()
    }

    /// Whatever changes this server waits until the answer is dropped.
    pub async fn hold(&self, server_id: Uuid) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn(server_id).await
    }

    /// Suspend, attach and detach are refused with this reason, as by a driver that cannot do them, also in processes to
    /// come; `None` ends it.
    ///
    /// # Errors
    /// When the file that says so cannot be written or removed.
    pub fn refuse_extras(&self, reason: Option<&str>) -> std::io::Result<()> {
        let path = self.inner.servers.join(REFUSES);
        match reason {
            Some(reason) => std::fs::write(path, reason),
            None => std::fs::remove_file(path),
        }
    }

    /// The guest's agent does not answer when it is next looked for, so many times, also in processes to come.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn agent_comes_late(&self, server_id: Uuid, times: u32) -> std::io::Result<()> {
        std::fs::write(self.directory(server_id).path().join(AGENT_LATE), times.to_string())
    }

    /// Whether the guest runs and has an agent.
    pub(super) fn check_agent(&self, server_id: Uuid) -> Result<(), VmError> {
        self.find(server_id)?.ok_or(VmError::NotRunning { server_id })?;
        let late = self.directory(server_id).path().join(AGENT_LATE);
        let times = std::fs::read_to_string(&late).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
        if times > 0 {
            let source =
                if times > 1 { std::fs::write(late, (times - 1).to_string()) } else { std::fs::remove_file(late) };
            source.map_err(|source| VmError::Io { server_id, what: "cannot count looks for the agent", source })?;
            return Err(VmError::NoAgent { server_id, reason: "no guest agent answers in it".to_owned() });
        }
        self.check_refuses(server_id)
    }

    fn check_refuses(&self, server_id: Uuid) -> Result<(), VmError> {
        match std::fs::read_to_string(self.inner.servers.join(REFUSES)) {
            Ok(reason) => Err(VmError::Refused { server_id, reason }),
            Err(_) => Ok(()),
        }
    }

    /// The next start of any server fails with this reason; several queue up.
    pub fn fail_next_start(&self, reason: impl Into<String>) {
        self.faults().next_starts_fail.push(reason.into());
    }

    /// Every start fails with this reason, also in processes to come; `None` ends it.
    ///
    /// # Errors
    /// When the file that says so cannot be written or removed.
    pub fn fail_every_start(&self, reason: Option<&str>) -> std::io::Result<()> {
        let path = self.inner.servers.join(STARTS_FAIL);
        match reason {
            Some(reason) => std::fs::write(path, reason),
            None => std::fs::remove_file(path),
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.inner.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, server_id: Uuid) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(self.faults().held.entry(server_id).or_default());
        turn.lock_owned().await
    }

    fn directory(&self, server_id: Uuid) -> ServerDirectory {
        ServerDirectory::of(&self.inner.servers, server_id)
    }

    /// The VM, if it runs.
    fn find(&self, server_id: Uuid) -> Result<Option<FakeVm>, VmError> {
        let bytes = self.directory(server_id).read_bounded(FAKE, MAX_FAKE_BYTES).map_err(|source| VmError::Io {
            server_id,
            what: "cannot read a fake",
            source,
        })?;
        // A file that cannot be read was not written by a rename of ours: no such VM.
        let vm = bytes.and_then(|bytes| serde_json::from_slice::<FakeVm>(&bytes).ok());
        Ok(vm.filter(|vm| vm.boot_id == self.inner.boot_id))
    }

    fn write(&self, server_id: Uuid, vm: &FakeVm) -> Result<(), VmError> {
        serde_json::to_vec(vm)
            .map_err(std::io::Error::from)
            .and_then(|bytes| self.directory(server_id).replace(FAKE, &bytes, false))
            .map_err(|source| VmError::Io { server_id, what: "cannot write a fake", source })
    }

    fn end(&self, server_id: Uuid, cause: ExitCause, requested: bool, detail: Option<String>) -> Result<(), VmError> {
        let Some(vm) = self.find(server_id)? else { return Ok(()) };
        let directory = self.directory(server_id);
        let exit = ExitRecord {
            version: vmspec::exit::EXIT_VERSION,
            server_id,
            boot_id: vm.boot_id,
            generation: vm.generation,
            cause,
            requested,
            detail,
            at_unix_ms: vmspec::unix_ms(),
        };
        // The record first: between the two steps the VM still runs.
        let written = serde_json::to_vec(&exit)
            .map_err(std::io::Error::from)
            .and_then(|bytes| directory.replace(directory::EXIT, &bytes, false))
            .and_then(|()| remove_file(&directory, FAKE));
        written.map_err(|source| VmError::Io { server_id, what: "cannot end a fake", source })?;
        if cause == ExitCause::GuestShutdown {
            self.send(server_id, vm.generation, VmEventKind::Changed(EventKind::GuestShutdown { requested }));
        }
        self.send(server_id, vm.generation, VmEventKind::Gone { exit: Some(exit) });
        Ok(())
    }

    fn restart_guest(&self, server_id: Uuid, by_guest: bool) -> Result<(), VmError> {
        let Some(vm) = self.find(server_id)? else { return Err(VmError::NotRunning { server_id }) };
        self.send(server_id, vm.generation, VmEventKind::Changed(EventKind::Reset { by_guest }));
        Ok(())
    }

    async fn set_paused(&self, server_id: Uuid, paused: bool) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        let Some(mut vm) = self.find(server_id)? else { return Err(VmError::NotRunning { server_id }) };
        if vm.paused == paused {
            return Ok(());
        }
        vm.paused = paused;
        self.write(server_id, &vm)?;
        let kind = if paused { EventKind::Paused } else { EventKind::Resumed };
        self.send(server_id, vm.generation, VmEventKind::Changed(kind));
        Ok(())
    }

    fn append_console(&self, server_id: Uuid, bound: u64, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.directory(server_id).file(directory::CONSOLE);
        let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        vmspec::console::BoundedLog::new(file, bound)?.append(bytes)
    }

    fn send(&self, server_id: Uuid, generation: u64, kind: VmEventKind) {
        // Nobody listening is fine.
        let _ = self.inner.events.send(VmEvent { server_id, generation, kind });
    }
}

/// A saved machine goes on only in one that is made like it.
fn check_saved(spec: &VmSpec, state: Option<File>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    state.ok_or(std::io::ErrorKind::NotFound)?.take(MAX_FAKE_BYTES).read_to_end(&mut bytes)?;
    let saved: FakeVm = serde_json::from_slice(&bytes)?;
    let of =
        |nics: &mut dyn Iterator<Item = FakeNic>| nics.map(|nic| (nic.slot, nic.port_id)).collect::<HashMap<_, _>>();
    if of(&mut saved.nics.iter().copied()) != of(&mut spec.nics.iter().map(FakeNic::from)) {
        return Err(std::io::Error::other("the saved machine has other interfaces"));
    }
    Ok(())
}

fn remove_file(directory: &ServerDirectory, name: &str) -> std::io::Result<()> {
    match std::fs::remove_file(directory.file(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
