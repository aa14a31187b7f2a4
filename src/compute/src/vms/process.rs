//! VMs that are processes: `solostack vm <dir>`, one each, whatever runs the guest inside (DESIGN section 8).
//!
//! What must stay true:
//! - The lock is the truth: free means no process, held means there is one. Nothing is concluded from pids or sockets.
//! - A process is killed only through its cgroup, or through a pidfd that was opened before the process was seen to have
//!   the lock file open; a number that may have been reused is never signalled.
//! - Dropping the driver ends nothing but its own tasks.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;
use vmspec::client::{Client, ClientError, SILENCE};
use vmspec::protocol::{EventKind, Statistics, VmState};
use vmspec::spec::FIRST_DESCRIPTOR;
use vmspec::{Driver, ExitCause, ExitRecord, LockState, ServerDirectory, SpecError, VmSpec, cgroup, directory};

use super::{
    EVENTS_KEPT, Observed, Rebooted, Running, VmError, VmEvent, VmEventKind, blocking, ids_in, observe_remains,
};

/// How long a process may take from its end of the guest to its own end.
pub(super) const END: Duration = Duration::from_secs(10);
/// A guest that is booting misses its power button; Nova presses it again after this long.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// How many servers are looked at at once.
const ADOPT_AT_ONCE: usize = 64;
/// The most a VM process says on its standard output before it runs.
const MAX_READY_BYTES: u64 = 4096;

#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// `<state>/servers`.
    pub servers: PathBuf,
    /// What to run; the server's directory is added as the last argument.
    pub command: Vec<OsString>,
    /// How long a start may take until the guest executes.
    pub start_deadline: Duration,
}

impl ProcessConfig {
    /// This very program as `solostack vm <dir>`. `/proc/self/exe` and not its path: after an upgrade the path holds
    /// another version, or none.
    pub fn new(servers: PathBuf) -> Self {
        Self { servers, command: vec!["/proc/self/exe".into(), "vm".into()], start_deadline: Duration::from_secs(60) }
    }
}

#[derive(Clone, Debug)]
pub struct ProcessDriver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProcessConfig,
    boot_id: Uuid,
    events: broadcast::Sender<VmEvent>,
    known: Mutex<HashMap<Uuid, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Held while something is done to this server.
    turn: Arc<tokio::sync::Mutex<()>>,
    watcher: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for known in self.known.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            if let Some(watcher) = &known.watcher {
                watcher.abort();
            }
        }
    }
}

/// What every driver checks before it starts anything.
pub(super) fn check_start(spec: &VmSpec, descriptors: &[OwnedFd], boot_id: Uuid) -> Result<(), VmError> {
    spec.validate()?;
    let refused = |why: String| Err(VmError::Spec(SpecError::Invalid(why)));
    if descriptors.len() != spec.descriptor_count() {
        return refused(format!("{} descriptors for a spec of {}", descriptors.len(), spec.descriptor_count()));
    }
    if spec.boot_id != boot_id {
        return refused(format!("it was written in another boot of the host ({})", spec.boot_id));
    }
    Ok(())
}

impl ProcessDriver {
    pub fn new(config: ProcessConfig) -> io::Result<Self> {
        if config.command.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command for VM processes"));
        }
        fs::create_dir_all(&config.servers)?;
        let inner = Inner {
            config,
            boot_id: vmspec::host_boot_id()?,
            events: broadcast::channel(EVENTS_KEPT).0,
            known: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn servers(&self) -> &Path {
        &self.inner.config.servers
    }

    pub fn events(&self) -> broadcast::Receiver<VmEvent> {
        self.inner.events.subscribe()
    }

    pub async fn ensure_running(&self, spec: &VmSpec, descriptors: Vec<OwnedFd>) -> Result<(), VmError> {
        let server_id = spec.server_id;
        check_start(spec, &descriptors, self.inner.boot_id)?;
        if spec.driver == Driver::Fake {
            return Err(VmError::Spec(SpecError::Invalid("a fake is not a process".to_owned())));
        }
        // In a task of its own: a caller that is dropped in the middle must not leave a process half started behind that
        // the next caller would not know of.
        let (driver, spec) = (self.clone(), spec.clone());
        let turn = self.turn(server_id).await;
        let starting = tokio::spawn(async move {
            let _turn = turn;
            driver.start_unless_running(&spec, descriptors).await
        });
        starting.await.unwrap_or_else(|join| Err(VmError::StartFailed { server_id, reason: join.to_string() }))
    }

    async fn start_unless_running(&self, spec: &VmSpec, descriptors: Vec<OwnedFd>) -> Result<(), VmError> {
        let server_id = spec.server_id;
        if self.wait_for_running(spec).await? {
            return Ok(());
        }
        match self.start(spec, descriptors).await {
            Ok(()) => {
                self.watch(server_id, Some(0));
                Ok(())
            }
            // One that a supervisor before this one had spawned has just come to life. If it is the right one, good.
            Err(VmError::StartFailed { .. }) if self.lock_state(server_id)? == LockState::Held => {
                if self.wait_for_running(spec).await? {
                    return Ok(());
                }
                let reason = "another process of this server started and ended meanwhile".to_owned();
                Err(VmError::StartFailed { server_id, reason })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether exactly this runs; if it is about to, once it does. Something else running is an error.
    async fn wait_for_running(&self, spec: &VmSpec) -> Result<bool, VmError> {
        let server_id = spec.server_id;
        match self.look(server_id).await? {
            Observed::Running(running) if !spec.has_hash(&running.spec_hash) => {
                Err(VmError::DifferentSpec { server_id, running_generation: running.generation })
            }
            // One that is ending is waited for, to be started again.
            Observed::Running(running) if running.state == VmState::Stopping => {
                self.wait_gone(server_id, END).await?;
                Ok(false)
            }
            Observed::Running(running) => {
                if running.state == VmState::Starting {
                    self.wait_started(server_id).await?;
                }
                self.watch(server_id, None);
                Ok(true)
            }
            Observed::Unresponsive { reason } => Err(VmError::Unresponsive { server_id, reason }),
            Observed::Gone(_) | Observed::Absent => Ok(false),
        }
    }

    async fn start(&self, spec: &VmSpec, descriptors: Vec<OwnedFd>) -> Result<(), VmError> {
        let server_id = spec.server_id;
        let directory = self.directory(server_id);
        let log = {
            let (directory, spec) = (directory.clone(), spec.clone());
            blocking(server_id, "cannot write the spec", move || {
                directory.ensure()?;
                directory.write_spec(&spec).map_err(io::Error::other)?;
                open_log(&directory)
            })
            .await?
        };
        let mut child = self.spawn(&directory, log, descriptors).map_err(|error| VmError::StartFailed {
            server_id,
            reason: format!("the VM process cannot be spawned: {error}"),
        })?;
        let said = child.stdout.take();
        // Not a child in any sense that matters: it outlives this process. Waiting only keeps it from staying a zombie.
        let process = tokio::spawn(async move { child.wait().await });

        // Its standard output says one word when the guest runs, and ends when the process does.
        let mut text = Vec::new();
        let heard = timeout(self.inner.config.start_deadline, async {
            match said {
                Some(said) => said.take(MAX_READY_BYTES).read_to_end(&mut text).await,
                None => Ok(0),
            }
        })
        .await;
        if heard.is_err() {
            self.kill_now(server_id).await?;
            let seconds = self.inner.config.start_deadline.as_secs();
            return Err(VmError::StartFailed {
                server_id,
                reason: format!("the guest did not run within {seconds} s"),
            });
        }
        if text.starts_with(b"ready\n") {
            return Ok(());
        }
        // It is ending, and will leave its reason. The lock tells when, not the process: another one may hold it.
        let _ = timeout(END, process).await;
        let reason = match observe_remains(&directory) {
            Ok(Observed::Gone(gone)) => gone.exit.and_then(|exit| exit.detail),
            _ => None,
        };
        let reason = reason.or_else(|| last_words(&directory)).unwrap_or_else(|| "the VM process died".to_owned());
        Err(VmError::StartFailed { server_id, reason })
    }

    fn spawn(
        &self,
        directory: &ServerDirectory,
        log: File,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<tokio::process::Child> {
        let [program, arguments @ ..] = self.inner.config.command.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command for VM processes"));
        };
        // An absolute path: the child's working directory is another.
        let path = std::path::absolute(directory.path())?;
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .arg(path)
            .current_dir("/")
            // Nothing of the supervisor's environment, where secrets may be.
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mappings = descriptors
            .into_iter()
            .zip(FIRST_DESCRIPTOR..)
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
            .collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        let mut command = tokio::process::Command::from(command);
        // Not its own process group here: a leader of one cannot make its own session, which it does first of all.
        command.kill_on_drop(false);
        command.spawn()
    }

    pub async fn stop(&self, server_id: Uuid, graceful: Option<Duration>) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        if self.lock_state(server_id)? == LockState::Free {
            return Ok(());
        }
        match Client::connect(&self.directory(server_id), SILENCE).await {
            Ok(client) => {
                if let Some(deadline) = graceful
                    && client.hello().state == VmState::Running
                    && ask_to_shut_down(&client, deadline).await
                {
                    tracing::debug!(%server_id, "guest shut down when asked");
                } else if client.stop().await.is_ok() {
                    let _ = timeout(END, client.closed()).await;
                }
            }
            Err(error) => tracing::warn!(%server_id, %error, "cannot ask the VM process to stop, killing it"),
        }
        if self.wait_gone(server_id, END).await.is_ok() {
            return Ok(());
        }
        self.kill_now(server_id).await
    }

    pub async fn kill(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.kill_now(server_id).await
    }

    pub async fn reset(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.connect(server_id).await?.reset().await.map_err(|error| client_error(server_id, error))
    }

    pub async fn reboot_soft(&self, server_id: Uuid, deadline: Duration) -> Result<Rebooted, VmError> {
        let _turn = self.turn(server_id).await;
        let failed = |error| client_error(server_id, error);
        let client = self.connect(server_id).await?;
        let before = client.status().await.map_err(failed)?.last_event;
        let mut events = client.subscribe(Some(before)).await.map_err(failed)?;
        client.reboot(deadline).await.map_err(failed)?;
        let rebooted = timeout(deadline, async {
            while let Some(event) = events.recv().await {
                if matches!(event.kind, EventKind::Reset { .. }) {
                    return true;
                }
            }
            false
        })
        .await;
        match rebooted {
            Ok(true) => return Ok(Rebooted::Soft),
            // The connection ended: the VM did, most likely.
            Ok(false) => return Err(VmError::NotRunning { server_id }),
            Err(_) => {}
        }
        client.reset().await.map_err(failed)?;
        Ok(Rebooted::Hard)
    }

    pub async fn pause(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.connect(server_id).await?.pause().await.map_err(|error| client_error(server_id, error))
    }

    pub async fn resume(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        self.connect(server_id).await?.resume().await.map_err(|error| client_error(server_id, error))
    }

    pub async fn statistics(&self, server_id: Uuid) -> Result<Statistics, VmError> {
        self.connect(server_id).await?.statistics().await.map_err(|error| client_error(server_id, error))
    }

    pub async fn observe(&self, server_id: Uuid) -> Result<Observed, VmError> {
        self.look(server_id).await
    }

    pub async fn adopt_all(&self) -> io::Result<Vec<(Uuid, Observed)>> {
        let servers = self.inner.config.servers.clone();
        let mut ids =
            tokio::task::spawn_blocking(move || ids_in(&servers)).await.map_err(io::Error::other)??.into_iter();
        let mut all = Vec::with_capacity(ids.len());
        let mut looking = JoinSet::new();
        loop {
            while looking.len() < ADOPT_AT_ONCE
                && let Some(id) = ids.next()
            {
                let driver = self.clone();
                looking.spawn(async move { (id, driver.look(id).await) });
            }
            let Some(looked) = looking.join_next().await else { break };
            let (id, observed) = looked.map_err(io::Error::other)?;
            let observed = observed.unwrap_or_else(|error| Observed::Unresponsive { reason: error.to_string() });
            if matches!(observed, Observed::Running(_) | Observed::Unresponsive { .. }) {
                self.watch(id, None);
            }
            all.push((id, observed));
        }
        all.sort_unstable_by_key(|(id, _)| *id);
        Ok(all)
    }

    pub async fn remove(&self, server_id: Uuid) -> Result<(), VmError> {
        let turn = self.turn(server_id).await;
        // A process that an earlier supervisor had spawned may come to life only now: it is killed as well.
        let until = Instant::now() + END;
        loop {
            self.kill_now(server_id).await?;
            let directory = self.directory(server_id);
            let removed = blocking(server_id, "cannot remove the directory", move || {
                if !directory.path().try_exists()? {
                    return Ok(true);
                }
                // Held while the files go, the lock among them: who comes later finds its lock taken, or not where it was.
                match directory.try_lock()? {
                    Some(_lock) => fs::remove_dir_all(directory.path()).map(|()| true),
                    None if Instant::now() < until => Ok(false),
                    None => Err(io::Error::new(io::ErrorKind::ResourceBusy, "a VM process has just come to life")),
                }
            });
            if removed.await? {
                break;
            }
        }
        if let Some(path) = cgroup::path_of(server_id) {
            // A process that has just died leaves its cgroup an instant later.
            let until = Instant::now() + END;
            while let Err(error) = cgroup::remove(&path) {
                if Instant::now() > until || error.kind() != io::ErrorKind::ResourceBusy {
                    return Err(VmError::Io { server_id, what: "cannot remove the cgroup", source: error });
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        drop(turn);
        let mut known = self.known();
        if let Some(entry) = known.get(&server_id)
            && Arc::strong_count(&entry.turn) == 1
            && let Some(Known { watcher: Some(watcher), .. }) = known.remove(&server_id)
        {
            watcher.abort();
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn turn(&self, server_id: Uuid) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(&self.known().entry(server_id).or_default().turn);
        turn.lock_owned().await
    }

    pub(super) fn directory(&self, server_id: Uuid) -> ServerDirectory {
        ServerDirectory::of(&self.inner.config.servers, server_id)
    }

    fn lock_state(&self, server_id: Uuid) -> Result<LockState, VmError> {
        let looked = self.directory(server_id).lock_state();
        looked.map_err(|source| VmError::Io { server_id, what: "cannot look at the lock", source })
    }

    pub(super) async fn connect(&self, server_id: Uuid) -> Result<Client, VmError> {
        if self.lock_state(server_id)? == LockState::Free {
            return Err(VmError::NotRunning { server_id });
        }
        Client::connect(&self.directory(server_id), SILENCE).await.map_err(|error| client_error(server_id, error))
    }

    pub(super) async fn look(&self, server_id: Uuid) -> Result<Observed, VmError> {
        let directory = self.directory(server_id);
        let until = Instant::now() + SILENCE;
        loop {
            if self.lock_state(server_id)? == LockState::Free {
                let looked = observe_remains(&directory);
                return looked.map_err(|source| VmError::Io { server_id, what: "cannot look at what is left", source });
            }
            let reason = match Client::connect(&directory, until.saturating_duration_since(Instant::now())).await {
                Ok(client) => match observed(&client, server_id) {
                    Ok(running) => return Ok(Observed::Running(running)),
                    Err(reason) => reason,
                },
                // Just starting, or just ending: the lock will tell.
                Err(ClientError::NotListening(_) | ClientError::Closed) if Instant::now() < until => {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            // It may have ended while it was being asked.
            if self.lock_state(server_id)? == LockState::Held {
                return Ok(Observed::Unresponsive { reason });
            }
        }
    }

    async fn wait_started(&self, server_id: Uuid) -> Result<(), VmError> {
        let failed = |error| client_error(server_id, error);
        let until = Instant::now() + self.inner.config.start_deadline;
        let client = self.connect(server_id).await?;
        let mut events = client.subscribe(None).await.map_err(failed)?;
        let started = timeout_at(until, async {
            while let Some(event) = events.recv().await {
                if event.kind == EventKind::Started {
                    return true;
                }
            }
            false
        });
        match started.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(VmError::StartFailed { server_id, reason: "the VM process died while starting".to_owned() })
            }
            Err(_) => Err(VmError::Unresponsive { server_id, reason: "the guest does not start".to_owned() }),
        }
    }

    pub(super) async fn wait_gone(&self, server_id: Uuid, deadline: Duration) -> Result<(), VmError> {
        wait_free(&self.directory(server_id), deadline)
            .await
            .map_err(|reason| VmError::Unresponsive { server_id, reason })
    }

    /// Kill whatever holds the lock, and whatever is left in the cgroup; leave a record of it.
    pub(super) async fn kill_now(&self, server_id: Uuid) -> Result<(), VmError> {
        let directory = self.directory(server_id);
        let group = cgroup::path_of(server_id);
        let failed = |what| move |source| VmError::Io { server_id, what, source };
        let populated = group.as_deref().is_some_and(cgroup::is_populated);
        if let Some(group) = group.as_deref().filter(|_| populated) {
            // Also when the lock is free: a guest that took over its process might have left something behind.
            cgroup::kill(group).map_err(failed("cannot kill the cgroup"))?;
        }
        if self.lock_state(server_id)? == LockState::Held {
            if !populated {
                kill_holder(&directory).map_err(failed("cannot kill the VM process"))?;
            }
            self.wait_gone(server_id, END).await?;
        } else if !populated {
            return Ok(());
        }
        let Some(_lock) = directory.try_lock().map_err(failed("cannot take the lock"))? else { return Ok(()) };
        if let Ok(Some(spec)) = directory.read_spec()
            && let Ok(Observed::Gone(gone)) = observe_remains(&directory)
            && gone.exit.is_none()
        {
            let detail = Some("the supervisor killed the VM process".to_owned());
            let record = ExitRecord::new(&spec, ExitCause::Killed, false, detail);
            directory.write_exit(&record).map_err(failed("cannot write the exit record"))?;
        }
        Ok(())
    }

    /// Listen to this VM until it is gone, if nobody does yet: to events after number `after`, or from now on.
    fn watch(&self, server_id: Uuid, after: Option<u64>) {
        let mut known = self.known();
        let entry = known.entry(server_id).or_default();
        if entry.watcher.as_ref().is_some_and(|watcher| !watcher.is_finished()) {
            return;
        }
        // The task holds no part of the driver that would keep it alive.
        let watching = watch(server_id, self.directory(server_id), after, self.inner.events.clone());
        entry.watcher = Some(tokio::spawn(watching).abort_handle());
    }
}

/// True once the guest has shut down and the connection ended; false if it has not in time.
async fn ask_to_shut_down(client: &Client, deadline: Duration) -> bool {
    timeout(deadline, async {
        loop {
            if client.power_button().await.is_err() {
                // It has just ended, or it cannot be asked: either way the caller looks.
                return;
            }
            if timeout(PRESS_AGAIN, client.closed()).await.is_ok() {
                return;
            }
        }
    })
    .await
    .is_ok()
        && timeout(Duration::from_millis(100), client.closed()).await.is_ok()
}

async fn wait_free(directory: &ServerDirectory, deadline: Duration) -> Result<(), String> {
    let until = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        match directory.lock_state() {
            Ok(LockState::Free) => return Ok(()),
            Ok(LockState::Held) => {}
            Err(error) => return Err(error.to_string()),
        }
        if Instant::now() > until {
            return Err(format!("its process has not ended within {} s", deadline.as_secs()));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn observed(client: &Client, server_id: Uuid) -> Result<Running, String> {
    let hello = client.hello();
    if hello.server_id != server_id {
        return Err(format!("it answers for server {}", hello.server_id));
    }
    Ok(Running {
        spec_hash: hello.spec_hash.clone(),
        boot_id: hello.boot_id,
        generation: hello.generation,
        state: hello.state,
        pid: hello.pid,
        isolation: hello.isolation.clone(),
    })
}

pub(super) fn client_error(server_id: Uuid, error: ClientError) -> VmError {
    match error {
        ClientError::Refused(refusal) => VmError::Refused { server_id, reason: refusal.message },
        ClientError::Closed => VmError::NotRunning { server_id },
        other => VmError::Unresponsive { server_id, reason: other.to_string() },
    }
}

async fn watch(server_id: Uuid, directory: ServerDirectory, mut last: Option<u64>, events: broadcast::Sender<VmEvent>) {
    let generation_of =
        |directory: &ServerDirectory| directory.read_spec().ok().flatten().map_or(0, |spec: VmSpec| spec.generation);
    let mut generation = generation_of(&directory);
    let mut silent = false;
    let mut pause = Duration::from_millis(20);
    loop {
        match Client::connect(&directory, SILENCE).await {
            Ok(client) => {
                generation = client.hello().generation;
                silent = false;
                pause = Duration::from_millis(20);
                // What was kept from before is old news to a supervisor that has just looked.
                if last.is_none() {
                    last = client.status().await.ok().map(|status| status.last_event);
                }
                if let Ok(mut incoming) = client.subscribe(last).await {
                    while let Some(event) = incoming.recv().await {
                        last = Some(event.number);
                        if !matches!(event.kind, EventKind::PoweredOff { .. }) {
                            let kind = VmEventKind::Changed(event.kind);
                            let _ = events.send(VmEvent { server_id, generation, kind });
                        }
                    }
                }
            }
            Err(ClientError::Timeout) if !silent => {
                silent = true;
                let kind = VmEventKind::Unresponsive { reason: ClientError::Timeout.to_string() };
                let _ = events.send(VmEvent { server_id, generation, kind });
            }
            Err(_) => {}
        }
        // Ended for good, or only the connection? The process holds its lock a moment longer than its socket.
        if wait_free(&directory, pause).await.is_ok() {
            let exit = match observe_remains(&directory) {
                Ok(Observed::Gone(gone)) => gone.exit,
                _ => None,
            };
            let _ = events.send(VmEvent { server_id, generation, kind: VmEventKind::Gone { exit } });
            tidy_cgroup(server_id).await;
            return;
        }
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Remove the cgroup of a VM that has ended, which its process leaves an instant after its lock. Best effort: `remove`
/// insists.
async fn tidy_cgroup(server_id: Uuid) {
    let Some(group) = cgroup::path_of(server_id) else { return };
    for _ in 0..100 {
        if cgroup::remove(&group).is_ok() || !group.exists() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// The standard error of the VM process: emptied at each start, a few lines long.
fn open_log(directory: &ServerDirectory) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let log = options.open(directory.file(directory::VM_LOG))?;
    log.set_len(0)?;
    Ok(log)
}

/// What a VM process that died without a record wrote last.
fn last_words(directory: &ServerDirectory) -> Option<String> {
    let log = directory.read_bounded(directory::VM_LOG, 1024 * 1024).ok()??;
    let text = String::from_utf8_lossy(vmspec::console::last_lines(&log, 3)).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Kill the process that holds the lock. Its pid is read from the lock file, which is only a hint; the pidfd is opened
/// first, and used only if the process it names is then seen to have the lock file open.
fn kill_holder(directory: &ServerDirectory) -> io::Result<()> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "no process is seen to have the lock file open");
    let lock = fs::metadata(directory.file(directory::LOCK))?;
    let hint = directory.read_bounded(directory::LOCK, 64)?.unwrap_or_default();
    let pid = std::str::from_utf8(&hint).ok().and_then(|text| text.trim().parse::<i32>().ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(gone)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let has_lock_open = fs::read_dir(format!("/proc/{pid}/fd", pid = pid.as_raw_nonzero()))?.any(|entry| {
        entry
            .and_then(|entry| fs::metadata(entry.path()))
            .is_ok_and(|open| open.dev() == lock.dev() && open.ino() == lock.ino())
    });
    if !has_lock_open {
        return Err(gone());
    }
    pidfd_send_signal(&pidfd, Signal::KILL)?;
    Ok(())
}
