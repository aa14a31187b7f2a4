//! VMs as compute sees them: start one, end one, look at one, hear from one (DESIGN section 8).
//!
//! [`Driver`] hides whether a VM is a process (`solostack vm <dir>`: KVM, or the minder of a QEMU) or a fake. Every method
//! - is idempotent: doing again what is done is no error and changes nothing, so a durable operation can repeat it;
//! - has a deadline of its own, or takes one: none waits for a guest beyond it;
//! - keeps no state that matters in this process: whoever opens a driver on the same directory sees the same VMs.
//!
//! Everything of one server is in `<servers>/<server id>/` ([`vmspec::directory`] lists the files). [`Driver::remove`]
//! deletes that directory with all that is in it, so disks put there go with it, and disks elsewhere are the caller's.
//!
//! ```text
//!             ensure_running                     guest powers off, panics, crashes; stop, kill
//!   Absent ------------------> Running (or Paused) ------------------------------------------> Gone <- suspend
//!      ^                            |  ^                                                        |  |
//!      |          says nothing for  v  | answers again            ensure_running (start again)  |  |
//!      |          5 s          Unresponsive ----------------- kill ---------------------------->+--+
//!      +------------------------------------------- remove ----------------------------------------
//! ```
//!
//! How the lead of an operation uses it:
//! - create/start: open disks and taps, build a [`VmSpec`], `ensure_running(&spec, descriptors)`. Same spec already
//!   running: `Ok`, the descriptors are closed. Another spec running: [`VmError::DifferentSpec`] (stop it first).
//! - stop: `stop(id, Some(shutdown_timeout))`; hard: `stop(id, None)`; last resort: `kill(id)`.
//! - reboot: soft `reboot_soft(id, deadline)` (falls back to a reset), hard `reset(id)`; both keep process and disks.
//! - supervisor start: `adopt_all()` before operations resume; compare each with its row.
//! - suspend: `suspend(id)`; resume: `open_suspended(id)`, `ensure_running` with `spec.restore`, `discard_suspended(id)`.
//! - snapshot: `freeze(id)` or `pause(id)`, copy the disk, `resume(id)`, `thaw(id)`.
//! - interfaces while it runs: `devices(id)`, `attach_nic`, `detach_nic`.
//! - the guest's agent: `ask_agent(id, command, ..)`.
//! - power state reconciler: `events()`, and `observe(id)` on a timer; a receiver that lags only has to look again.
//! - delete: `remove(id)`; safe to repeat after a crash at any point.
//!
//! This module depends on `vmspec` and on nothing else of ours.

mod agent;
mod fake;
mod fake_console;
mod freeze;
mod live;
mod process;
mod suspended;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::broadcast;
use uuid::Uuid;
pub use vmspec::protocol::{Devices, EventKind, Isolation, Statistics, VmState};
use vmspec::{ExitRecord, Nic, ServerDirectory, SpecError, VmSpec, directory};

pub use self::fake::FakeDriver;
pub use self::process::{ProcessConfig, ProcessDriver};

/// Events a slow receiver may be behind before it misses some.
const EVENTS_KEPT: usize = 4096;

#[derive(Clone, Debug)]
pub enum Driver {
    Process(ProcessDriver),
    Fake(FakeDriver),
}

/// What there is of one VM, looked at just now.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// A live process has answered for this server.
    Running(Running),
    /// It was started once and no process is left.
    Gone(Gone),
    /// Never started, or removed. With `adopt_all`: a directory without a spec, left by a crash; `remove` clears it.
    Absent,
    /// A process holds the lock but does not answer, or answers for something else. Only `kill` helps.
    Unresponsive { reason: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// [`VmSpec::hash`] of what runs.
    pub spec_hash: String,
    /// Host boot in which it was started.
    pub boot_id: Uuid,
    pub generation: u64,
    pub state: VmState,
    pub pid: u32,
    pub isolation: Isolation,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Gone {
    /// Host boot and generation of the last start; `None` if its spec cannot be read.
    pub boot_id: Option<Uuid>,
    pub generation: Option<u64>,
    /// Why it ended; `None` if it was killed, or the host went down.
    pub exit: Option<ExitRecord>,
}

/// How a soft reboot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebooted {
    /// The guest shut down when asked, and was started again.
    Soft,
    /// It did not in time, and was reset.
    Hard,
}

/// Something a VM did, or that happened to it.
#[derive(Clone, Debug, PartialEq)]
pub struct VmEvent {
    pub server_id: Uuid,
    pub generation: u64,
    pub kind: VmEventKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VmEventKind {
    /// Anything but the end.
    Changed(EventKind),
    /// The process is gone and its lock free; always the last one of a start.
    Gone { exit: Option<ExitRecord> },
    /// It holds its lock but has not answered for 5 s.
    Unresponsive { reason: String },
}

#[derive(Debug, thiserror::Error)]
pub enum VmError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("server {server_id} did not start: {reason}")]
    StartFailed { server_id: Uuid, reason: String },
    /// Something else runs under this id; it is left alone.
    #[error("server {server_id} runs with another spec (generation {running_generation})")]
    DifferentSpec { server_id: Uuid, running_generation: u64 },
    #[error("server {server_id} is not running")]
    NotRunning { server_id: Uuid },
    #[error("server {server_id} does not respond: {reason}")]
    Unresponsive { server_id: Uuid, reason: String },
    /// It runs, and would not do this now.
    #[error("server {server_id} refused: {reason}")]
    Refused { server_id: Uuid, reason: String },
    /// It runs, and nobody in it answers: there is no agent, or not yet.
    #[error("server {server_id}: {reason}")]
    NoAgent { server_id: Uuid, reason: String },
    #[error("server {server_id}: {what}: {source}")]
    Io { server_id: Uuid, what: &'static str, source: std::io::Error },
}

impl Driver {
    /// A driver of real processes for the servers below `servers` (made if missing).
    pub fn process(config: ProcessConfig) -> std::io::Result<Self> {
        Ok(Self::Process(ProcessDriver::new(config)?))
    }

    /// A driver of fakes for the servers below `servers` (made if missing).
    pub fn fake(servers: PathBuf) -> std::io::Result<Self> {
        Ok(Self::Fake(FakeDriver::new(servers)?))
    }

    /// Where the servers' directories are.
    pub fn servers(&self) -> &Path {
        match self {
            Self::Process(driver) => driver.servers(),
            Self::Fake(driver) => driver.servers(),
        }
    }

    /// Have this VM running. `descriptors` are in the order of the spec's indices, and closed here in any case.
    /// Returns once the guest executes. If the same spec runs already, nothing is done.
    pub async fn ensure_running(&self, spec: &VmSpec, descriptors: Vec<OwnedFd>) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.ensure_running(spec, descriptors).await,
            Self::Fake(driver) => driver.ensure_running(spec, descriptors).await,
        }
    }

    /// Have it not running. With a duration the guest is asked by its power button first and has that long. `Ok` means
    /// that no process is left; not running already is `Ok` too.
    pub async fn stop(&self, server_id: Uuid, graceful: Option<Duration>) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.stop(server_id, graceful).await,
            Self::Fake(driver) => driver.stop(server_id, graceful).await,
        }
    }

    /// End its process from outside, whatever it does.
    pub async fn kill(&self, server_id: Uuid) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.kill(server_id).await,
            Self::Fake(driver) => driver.kill(server_id).await,
        }
    }

    /// Press the reset button.
    pub async fn reset(&self, server_id: Uuid) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.reset(server_id).await,
            Self::Fake(driver) => driver.reset(server_id).await,
        }
    }

    /// Ask the guest to shut down, and start it again in the same process; reset it if it has not within `deadline`.
    pub async fn reboot_soft(&self, server_id: Uuid, deadline: Duration) -> Result<Rebooted, VmError> {
        match self {
            Self::Process(driver) => driver.reboot_soft(server_id, deadline).await,
            Self::Fake(driver) => driver.reboot_soft(server_id, deadline).await,
        }
    }

    pub async fn pause(&self, server_id: Uuid) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.pause(server_id).await,
            Self::Fake(driver) => driver.pause(server_id).await,
        }
    }

    pub async fn resume(&self, server_id: Uuid) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.resume(server_id).await,
            Self::Fake(driver) => driver.resume(server_id).await,
        }
    }

    /// Have it suspended: its machine is in two files of its directory, and no process is left. `Ok` too if it is so
    /// already. A refusal may leave the guest paused.
    pub async fn suspend(&self, server_id: Uuid) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.suspend(server_id).await,
            Self::Fake(driver) => driver.suspend(server_id).await,
        }
    }

    /// Whether a VM without a process is one that can go on where it was suspended.
    pub async fn is_suspended(&self, server_id: Uuid) -> Result<bool, VmError> {
        let directory = ServerDirectory::of(self.servers(), server_id);
        blocking(server_id, "cannot look for a suspended machine", move || suspended::is_whole(&directory)).await
    }

    /// The files to go on from, for `spec.restore`: state, then memory. `None` if there is nothing to go on from.
    pub async fn open_suspended(&self, server_id: Uuid) -> Result<Option<(File, File)>, VmError> {
        let directory = ServerDirectory::of(self.servers(), server_id);
        let open = move || suspended::is_whole(&directory)?.then(|| suspended::open(&directory)).transpose();
        blocking(server_id, "cannot open a suspended machine", open).await
    }

    /// Have no such files. None there is fine.
    pub async fn discard_suspended(&self, server_id: Uuid) -> Result<(), VmError> {
        let directory = ServerDirectory::of(self.servers(), server_id);
        blocking(server_id, "cannot remove a suspended machine", move || suspended::discard(&directory)).await
    }

    /// What the files of these suspended VMs take of the disk.
    pub async fn suspended_bytes(&self, server_ids: Vec<Uuid>) -> u64 {
        let servers = self.servers().to_owned();
        let sum = move || server_ids.iter().map(|id| suspended::bytes(&ServerDirectory::of(&servers, *id))).sum();
        tokio::task::spawn_blocking(sum).await.unwrap_or_default()
    }

    /// Have the guest's file systems hold still, if an agent in it answers within `patience`: true once they do, false if
    /// none answers. What it refuses is an error.
    pub async fn freeze(&self, server_id: Uuid, patience: Duration) -> Result<bool, VmError> {
        let frozen = match self {
            Self::Process(driver) => freeze::freeze(&ServerDirectory::of(driver.servers(), server_id), patience).await,
            Self::Fake(driver) => driver.freeze(server_id),
        };
        frozen.map_err(|reason| VmError::Refused { server_id, reason })
    }

    /// Have them go on. Without an agent nothing was frozen.
    pub async fn thaw(&self, server_id: Uuid, patience: Duration) -> Result<(), VmError> {
        let thawed = match self {
            Self::Process(driver) => freeze::thaw(&ServerDirectory::of(driver.servers(), server_id), patience).await,
            Self::Fake(driver) => driver.thaw(server_id),
        };
        thawed.map_err(|reason| VmError::Refused { server_id, reason })
    }

    /// What is plugged into a VM that runs.
    pub async fn devices(&self, server_id: Uuid) -> Result<Devices, VmError> {
        match self {
            Self::Process(driver) => driver.devices(server_id).await,
            Self::Fake(driver) => driver.devices(server_id).await,
        }
    }

    /// Have a NIC plugged in. `taps` are as many as its queues, and closed here in any case.
    pub async fn attach_nic(&self, server_id: Uuid, nic: Nic, taps: Vec<OwnedFd>) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.attach_nic(server_id, nic, taps).await,
            Self::Fake(driver) => driver.attach_nic(server_id, nic, taps).await,
        }
    }

    /// Have a slot empty: the guest is asked, and has this long to let go. A guest that does not is a refusal, and the NIC
    /// stays.
    pub async fn detach_nic(&self, server_id: Uuid, slot: u8, deadline: Duration) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.detach_nic(server_id, slot, deadline).await,
            Self::Fake(driver) => driver.detach_nic(server_id, slot).await,
        }
    }

    /// Look. Takes 5 s at most.
    pub async fn observe(&self, server_id: Uuid) -> Result<Observed, VmError> {
        match self {
            Self::Process(driver) => driver.observe(server_id).await,
            Self::Fake(driver) => driver.observe(server_id).await,
        }
    }

    /// Look at every directory there is, and listen to every VM that runs. For the start of the supervisor.
    pub async fn adopt_all(&self) -> std::io::Result<Vec<(Uuid, Observed)>> {
        match self {
            Self::Process(driver) => driver.adopt_all().await,
            Self::Fake(driver) => driver.adopt_all().await,
        }
    }

    /// Nothing of it left: no process, no directory, no cgroup.
    pub async fn remove(&self, server_id: Uuid) -> Result<(), VmError> {
        match self {
            Self::Process(driver) => driver.remove(server_id).await,
            Self::Fake(driver) => driver.remove(server_id).await,
        }
    }

    /// The end of the console log: at most `max_bytes`, and at most `lines` lines if given. Empty if there is none.
    pub async fn console_tail(
        &self,
        server_id: Uuid,
        lines: Option<usize>,
        max_bytes: u64,
    ) -> Result<Vec<u8>, VmError> {
        let directory = ServerDirectory::of(self.servers(), server_id);
        let text =
            blocking(server_id, "cannot read the console log", move || directory.console_tail(max_bytes)).await?;
        Ok(match lines {
            Some(lines) => vmspec::console::last_lines(&text, lines).to_vec(),
            None => text,
        })
    }

    /// A connection to the screen (RFB) or to the first serial line of a VM that runs.
    pub async fn console(&self, server_id: Uuid, screen: bool) -> Result<UnixStream, VmError> {
        let name = if screen { directory::VNC } else { directory::SERIAL };
        match self {
            Self::Process(driver) => {
                let directory = ServerDirectory::of(driver.servers(), server_id);
                let connected = vmspec::client::connect_socket(&directory, name).await;
                connected.map_err(|source| VmError::Io { server_id, what: "cannot connect to a console", source })
            }
            Self::Fake(driver) => driver.console(server_id, screen).await,
        }
    }

    pub async fn statistics(&self, server_id: Uuid) -> Result<Statistics, VmError> {
        match self {
            Self::Process(driver) => driver.statistics(server_id).await,
            Self::Fake(driver) => driver.statistics(server_id).await,
        }
    }

    /// Events from now on, of all VMs that were started or adopted through this driver.
    pub fn events(&self) -> broadcast::Receiver<VmEvent> {
        match self {
            Self::Process(driver) => driver.events(),
            Self::Fake(driver) => driver.events(),
        }
    }
}

/// Run file work off the runtime's threads.
async fn blocking<T: Send + 'static>(
    server_id: Uuid,
    what: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, VmError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|join| Err(std::io::Error::other(join))).map_err(|source| VmError::Io {
        server_id,
        what,
        source,
    })
}

/// The ids of all servers with a directory.
fn ids_in(servers: &Path) -> std::io::Result<Vec<Uuid>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(servers)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok());
        if let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What is left of a VM without a process.
fn observe_remains(directory: &ServerDirectory) -> std::io::Result<Observed> {
    let spec = match directory.read_spec() {
        Ok(None) => return Ok(Observed::Absent),
        Ok(Some(spec)) => Some(spec),
        Err(vmspec::directory::DirectoryError::Io(error)) => return Err(error),
        Err(vmspec::directory::DirectoryError::Spec(error)) => {
            tracing::warn!(directory = %directory.path().display(), %error, "a server's spec cannot be read");
            None
        }
    };
    // A record of an earlier start says nothing about the last one. One that cannot be read is none.
    let exit = directory.read_exit().ok().flatten().filter(|exit| {
        spec.as_ref().is_none_or(|spec| exit.boot_id == spec.boot_id && exit.generation == spec.generation)
    });
    Ok(Observed::Gone(Gone {
        boot_id: spec.as_ref().map(|spec| spec.boot_id),
        generation: spec.as_ref().map(|spec| spec.generation),
        exit,
    }))
}
