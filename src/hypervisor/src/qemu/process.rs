//! The process of a QEMU: started with descriptors only, watched, and ended.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rustix::fs::Dir;
use rustix::thread::Pid;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vmspec::console::BoundedLog;
use vmspec::{ExitCause, PageSize, VmSpec};

use super::agent;
use super::arguments::{self, Means, QMP_FD};
use super::firmware::Port;
use super::qmp::{QemuEvent, Qmp};
use super::uefi::UefiFiles;
use crate::machine::{Ended, Machine};
use crate::{pinning, sys};

const START: Duration = Duration::from_secs(50);
/// How long QEMU may take to end when told to, before it is killed.
const QUIT: Duration = Duration::from_secs(5);
const LAST_OUTPUT_BYTES: usize = 1500;
/// A client of the screen, on its way to QEMU.
const VIEWER: &str = "viewer";
const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];
const SEARCH: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/libexec"];

/// Where QEMU is on this host.
pub fn find_program() -> Option<PathBuf> {
    SEARCH
        .iter()
        .flat_map(|place| PROGRAMS.iter().map(move |name| PathBuf::from(place).join(name)))
        .find(|path| path.is_file())
}

/// What the process has opened before it gave up root.
#[derive(Debug)]
pub struct Resources {
    pub means: Means,
    pub descriptors: Vec<OwnedFd>,
    pub uefi: Option<UefiFiles>,
    pub console_log: BoundedLog,
    pub qemu_log: BoundedLog,
    pub serial: UnixListener,
    /// For the guest agent's clients.
    pub agent: UnixListener,
    /// For those who look at the screen; none if the machine has none.
    pub vnc: Option<UnixListener>,
    /// Of `/dev/vhost-vsock`, with the guest's address claimed, where `means` say that there is one.
    pub vsock: Option<OwnedFd>,
    /// `/proc`, which is out of sight later.
    pub processes: File,
}

/// A QEMU that runs.
pub struct Process {
    pub qmp: Qmp,
    pub events: mpsc::Receiver<QemuEvent>,
    pub firmware: Arc<Port>,
    /// Where those connect who look at the screen.
    pub viewers: Option<UnixListener>,
    child: Child,
    serial: JoinHandle<()>,
    output: JoinHandle<()>,
    last_output: Arc<Mutex<Vec<u8>>>,
    processes: File,
}

impl Process {
    /// Start QEMU, and wait until it answers.
    pub async fn start(spec: &VmSpec, resources: Resources) -> Result<Self, String> {
        let program = find_program().ok_or("no qemu-system-x86_64 on this host (package qemu-system-x86)")?;
        let pair = || UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"));
        let ((monitor, qemu_monitor), (line, qemu_line)) = (pair()?, pair()?);
        let ((said, qemu_said), (port, qemu_port)) = (pair()?, pair()?);
        let mut handed = Vec::new();
        for stream in [qemu_monitor, qemu_line, qemu_said, qemu_port] {
            handed.push(blocking(stream).map_err(|error| error.to_string())?);
        }
        handed.extend(resources.descriptors);
        handed.extend(resources.uefi.into_iter().flat_map(|files| [files.code, files.variables]));
        handed.extend(resources.vsock);
        let nowhere = BTreeSet::new();
        let others = spec.cpu.dedicated.as_ref().map_or(&nowhere, |dedicated| &dedicated.others);
        pinning::pin("a thread of this VM", others).map_err(|error| error.to_string())?;
        if spec.page_size == PageSize::Small {
            // QEMU asks for huge ones otherwise. It inherits this.
            let small = rustix::thread::disable_transparent_huge_pages(true);
            small.map_err(|error| format!("cannot do without huge pages: {error}"))?;
        }

        let mut command = std::process::Command::new(&program);
        command
            .args(arguments::line(spec, &resources.means))
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
        tokio::spawn(agent::carry(port, resources.agent));
        let firmware = Arc::new(Port::new(spec.server_id, said));
        tokio::spawn({
            let firmware = Arc::clone(&firmware);
            async move { firmware.listen().await }
        });
        match Qmp::open(monitor, START).await {
            Ok((qmp, events)) => {
                let processes = resources.processes;
                let viewers = resources.vnc;
                Ok(Self { qmp, events, firmware, viewers, child, serial, output, last_output, processes })
            }
            Err(error) => {
                let how = match timeout(Duration::from_secs(1), child.wait()).await {
                    Ok(Ok(status)) => format!("QEMU ended: {status}"),
                    _ => {
                        let _ = timeout(QUIT, child.kill()).await;
                        error.to_string()
                    }
                };
                let _ = timeout(Duration::from_secs(1), output).await;
                Err(with_output(how, &last_output))
            }
        }
    }

    /// CPU time in milliseconds and resident bytes.
    pub fn usage(&self) -> (u64, u64) {
        self.child.id().and_then(|pid| process_usage(&self.processes, pid)).unwrap_or_default()
    }

    /// Have each vCPU run where the spec says. Before the guest does.
    pub fn pin(&self, spec: &VmSpec) -> Result<(), String> {
        let Some(dedicated) = &spec.cpu.dedicated else { return Ok(()) };
        let process = self.child.id().ok_or("QEMU has ended")?;
        let threads = vcpu_threads(&self.processes, process).map_err(|error| format!("QEMU's threads: {error}"))?;
        for (index, cpus) in dedicated.vcpus.iter().enumerate() {
            let thread = threads.get(&index).ok_or_else(|| format!("QEMU has no thread for vCPU {index}"))?;
            pinning::pin_thread(Some(*thread), &format!("vCPU {index}"), cpus).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Whoever has connected sees the guest's screen, and types into it.
    pub async fn show(&mut self, viewer: UnixStream) {
        let viewer = match blocking(viewer) {
            Ok(viewer) => viewer,
            Err(error) => return tracing::warn!(%error, "a client of vnc.sock was lost"),
        };
        let shown = async {
            self.qmp.execute_with("getfd", json!({ "fdname": VIEWER }), &[viewer.as_fd()]).await?;
            // No password: the socket's directory is the guard.
            self.qmp.execute("add_client", json!({ "protocol": "vnc", "fdname": VIEWER, "skipauth": true })).await
        };
        if let Err(error) = shown.await {
            tracing::warn!(%error, "QEMU takes no client of vnc.sock");
        }
    }

    /// A reason, with what QEMU has said last.
    pub fn explained(&self, how: String) -> String {
        with_output(how, &self.last_output)
    }

    /// QEMU has ended, or is about to, without being told.
    pub async fn died(&mut self, machine: &Machine) -> Ended {
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
    pub async fn end(mut self) {
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

/// As QEMU wants its ends.
pub fn blocking(stream: UnixStream) -> std::io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
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

fn read_below(processes: &File, path: &str) -> std::io::Result<String> {
    let file = openat(processes, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    std::io::read_to_string(File::from(file))
}

/// QEMU's threads that are vCPUs, by their names.
fn vcpu_threads(processes: &File, pid: u32) -> std::io::Result<HashMap<usize, Pid>> {
    let tasks = format!("{pid}/task");
    let folder = openat(processes, tasks.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut threads = HashMap::new();
    for entry in Dir::new(folder)? {
        let entry = entry?;
        let Ok(thread) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let name = read_below(processes, &format!("{tasks}/{thread}/comm"))?;
        // "CPU 3/KVM"
        let index = name.trim().strip_prefix("CPU ").and_then(|rest| rest.split('/').next()?.parse().ok());
        if let (Some(index), Some(thread)) = (index, Pid::from_raw(thread)) {
            threads.insert(index, thread);
        }
    }
    Ok(threads)
}

/// CPU time in milliseconds and resident bytes of a process, as the kernel counts them.
fn process_usage(processes: &File, pid: u32) -> Option<(u64, u64)> {
    let stat = read_below(processes, &format!("{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    // Fields 14, 15 and 24 of proc(5), counted from the third; times in ticks of 1/100 s, which Linux fixes for userspace.
    let (user, system, pages) = (number(11)?, number(12)?, number(21)?);
    Some(((user + system) * 10, pages * 4096))
}
