//! What `compute::vms` promises, kept by both of its drivers: the fake, and real processes around QEMU with a guest of
//! one sector.
//!
//! The module is taken in by its path: the suite needs no more of compute than that. This program has its own main,
//! because it is also the VM process that the driver spawns (`<this> vm <dir>`), as `solostack` is.
//!
//! Needs QEMU, and root for the tests about walls; without them it fails and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

// The suite uses what the module offers, and the module offers more than one driver needs.
#[path = "vms/live.rs"]
mod live;
#[allow(dead_code, reason = "taken in by its path; what compute uses is not all used here")]
#[path = "../../compute/src/vms/mod.rs"]
mod vms;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::broadcast;
use uuid::Uuid;
use vms::{
    Driver, FakeDriver, Gone, Observed, ProcessConfig, ProcessDriver, Rebooted, Running, VmError, VmEvent, VmEventKind,
};
use vmspec::client::{Client, connect_socket};
use vmspec::protocol::{EventKind, MAX_MESSAGE_BYTES, VmState};
use vmspec::{
    Cpu, Disk, DiskKind, ExitCause, ExitRecord, Firmware, LockState, Mac, Nic, ServerDirectory, Smbios, VmSpec,
    directory,
};

const GUEST: &[u8] = include_bytes!("payload/guest.bin");
const DISK_BYTES: u64 = 1024 * 1024;
/// A range of user ids that nobody has here.
const FIRST_UID: u32 = 0x5010_0000;
/// For OVMF, which takes seconds of emulated work.
const FIRMWARE: Duration = Duration::from_secs(100);
/// For whatever takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fake,
    Tcg,
}

/// A state directory, of this process or of another.
enum State {
    Own(tempfile::TempDir),
    Other(PathBuf),
}

impl State {
    fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Other(path) => path,
        }
    }
}

/// A state directory with a driver on it.
struct Bench {
    kind: Kind,
    state: State,
    servers: PathBuf,
    driver: Driver,
    events: broadcast::Receiver<VmEvent>,
}

impl Bench {
    fn new(kind: Kind) -> Self {
        let state = tempfile::tempdir().unwrap();
        let servers = state.path().join("servers");
        Self::at(kind, State::Own(state), servers)
    }

    fn over(kind: Kind, state: &Path) -> Self {
        Self::at(kind, State::Other(state.to_owned()), state.join("servers"))
    }

    fn at(kind: Kind, state: State, servers: PathBuf) -> Self {
        let driver = open_driver(kind, &servers);
        let events = driver.events();
        Self { kind, state, servers, driver, events }
    }

    /// What a supervisor that was killed and started again has: nothing but the directory.
    fn restart_supervisor(&mut self) {
        self.driver = open_driver(self.kind, &self.servers);
        self.events = self.driver.events();
    }

    fn spec(&self) -> VmSpec {
        let server_id = Uuid::from_u128(u128::from_ne_bytes(random()));
        let uid = FIRST_UID + u32::from_ne_bytes(random()) % 65_536;
        VmSpec {
            version: vmspec::spec::SPEC_VERSION,
            server_id,
            name: "a, guest".to_owned(),
            boot_id: vmspec::host_boot_id().unwrap(),
            generation: 1,
            driver: if self.kind == Kind::Fake { vmspec::Driver::Fake } else { vmspec::Driver::Tcg },
            vcpus: 1,
            memory_mib: 32,
            page_size: Default::default(),
            cpu: Cpu::default(),
            disks: vec![Disk {
                slot: 0,
                kind: DiskKind::Root,
                descriptor: 0,
                read_only: false,
                serial: "root".to_owned(),
                size_bytes: DISK_BYTES,
                limits: Default::default(),
            }],
            nics: vec![],
            console_log_bytes: 8192,
            smbios: Smbios::openstack(server_id),
            firmware: Firmware::Bios,
            secure_boot: vmspec::SecureBoot::Disabled,
            guest_os: vmspec::GuestOs::Other,
            display: false,
            run_as: nix::unistd::Uid::effective().is_root().then_some(uid),
            restore: None,
        }
    }

    /// The disk of a server, open.
    fn disk(&self, spec: &VmSpec) -> Vec<OwnedFd> {
        let path = self.state.path().join(format!("{}.raw", spec.server_id));
        if !path.exists() {
            let mut file = File::create(&path).unwrap();
            file.write_all(GUEST).unwrap();
            file.set_len(DISK_BYTES).unwrap();
        }
        vec![File::options().read(true).write(true).open(path).unwrap().into()]
    }

    async fn start(&self, spec: &VmSpec) {
        self.driver.ensure_running(spec, self.disk(spec)).await.unwrap();
    }

    /// Started, with the guest at the point where it listens.
    async fn booted(&self) -> VmSpec {
        let spec = self.spec();
        self.start(&spec).await;
        self.wait_for_console(spec.server_id, "hello").await;
        spec
    }

    fn directory(&self, id: Uuid) -> ServerDirectory {
        ServerDirectory::of(&self.servers, id)
    }

    fn fake(&self) -> Option<&FakeDriver> {
        match &self.driver {
            Driver::Fake(fake) => Some(fake),
            Driver::Process(_) => None,
        }
    }

    async fn type_in(&self, id: Uuid, text: &str) {
        let mut line = connect_socket(&self.directory(id), directory::SERIAL).await.unwrap();
        line.write_all(text.as_bytes()).await.unwrap();
        // Until the guest has it: closing earlier might drop what is in between.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn guest_powers_off(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_powers_off(id).await.unwrap(),
            None => self.type_in(id, "q").await,
        }
    }

    async fn guest_reboots(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_reboots(id).await.unwrap(),
            None => self.type_in(id, "r").await,
        }
    }

    async fn guest_goes_deaf(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_ignores_power_button(id, true),
            None => {
                self.type_in(id, "d").await;
                self.wait_for_console(id, "hello\r\nd").await;
            }
        }
    }

    async fn crash(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.crash(id).await.unwrap(),
            None => signal(self.qemu_of(id).await, Signal::SIGKILL),
        }
    }

    async fn guest_floods_its_console(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_prints(id, &"x".repeat(100_000)).await.unwrap(),
            None => self.type_in(id, "f").await,
        }
    }

    async fn console(&self, id: Uuid) -> String {
        String::from_utf8_lossy(&self.driver.console_tail(id, None, 1 << 20).await.unwrap()).into_owned()
    }

    async fn wait_for_console(&self, id: Uuid, text: &str) {
        // What a fake prints is its own.
        let text = if self.kind == Kind::Fake { "fake server" } else { text };
        eventually(async || self.console(id).await.contains(text)).await;
    }

    async fn running(&self, id: Uuid) -> Running {
        match self.driver.observe(id).await.unwrap() {
            Observed::Running(running) => running,
            other => panic!("{id} is not running: {other:?}"),
        }
    }

    async fn gone(&self, id: Uuid) -> Gone {
        match self.driver.observe(id).await.unwrap() {
            Observed::Gone(gone) => gone,
            other => panic!("{id} is not gone: {other:?}"),
        }
    }

    async fn exit(&self, id: Uuid) -> ExitRecord {
        self.gone(id).await.exit.expect("it left a record")
    }

    /// The next event of this server that is not one of its beginning.
    async fn event(&mut self, id: Uuid) -> VmEventKind {
        loop {
            let event = tokio::time::timeout(SOON, self.events.recv()).await.expect("an event").unwrap();
            if event.server_id == id && event.kind != VmEventKind::Changed(EventKind::Started) {
                return event.kind;
            }
        }
    }

    async fn event_gone(&mut self, id: Uuid) -> Option<ExitRecord> {
        loop {
            if let VmEventKind::Gone { exit } = self.event(id).await {
                return exit;
            }
        }
    }

    /// The QEMU of a server: the child of its VM process.
    async fn qemu_of(&self, id: Uuid) -> u32 {
        let minder = self.running(id).await.pid;
        children(minder).into_iter().next().expect("a VM process has a QEMU")
    }
}

impl Drop for Bench {
    /// Leave nothing behind, also after a failure.
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(&self.servers) else { return };
        for entry in entries.flatten() {
            let server = ServerDirectory::at(entry.path());
            if server.lock_state().is_ok_and(|state| state == LockState::Held)
                && let Ok(Some(pid)) = server.read_bounded(directory::LOCK, 64)
                && let Ok(pid) = String::from_utf8_lossy(&pid).trim().parse()
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let id = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
            if let Some(group) = id.and_then(vmspec::cgroup::path_of) {
                let until = Instant::now() + Duration::from_secs(2);
                while vmspec::cgroup::remove(&group).is_err() && Instant::now() < until {
                    std::thread::yield_now();
                }
            }
        }
    }
}

fn open_driver(kind: Kind, servers: &Path) -> Driver {
    match kind {
        Kind::Fake => Driver::fake(servers.to_owned()).unwrap(),
        Kind::Tcg => {
            let command: Vec<OsString> = vec![std::env::current_exe().unwrap().into(), "vm".into()];
            Driver::process(ProcessConfig { command, ..ProcessConfig::new(servers.to_owned()) }).unwrap()
        }
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

async fn eventually(holds: impl AsyncFnMut() -> bool) {
    eventually_within(SOON, holds).await;
}

async fn eventually_within(patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < until, "it did not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn alive(pid: u32) -> bool {
    // A zombie is as dead as it gets without its parent.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

// What both drivers promise.

async fn a_started_vm_runs_and_says_so(mut bench: Bench) {
    let spec = bench.spec();
    assert_eq!(bench.driver.observe(spec.server_id).await.unwrap(), Observed::Absent);
    bench.start(&spec).await;
    let running = bench.running(spec.server_id).await;
    assert_eq!((running.spec_hash, running.generation, running.state), (spec.hash(), 1, VmState::Running));
    assert_eq!(running.boot_id, spec.boot_id);
    let event = tokio::time::timeout(SOON, bench.events.recv()).await.unwrap().unwrap();
    assert_eq!(event.kind, VmEventKind::Changed(EventKind::Started));
    assert_eq!((event.server_id, event.generation), (spec.server_id, 1));
    bench.wait_for_console(spec.server_id, "hello\r\n").await;
}

async fn starting_what_runs_changes_nothing(bench: Bench) {
    let spec = bench.booted().await;
    let before = bench.running(spec.server_id).await;
    bench.start(&spec).await;
    assert_eq!(bench.running(spec.server_id).await, before);
}

async fn starting_another_spec_over_what_runs_is_refused(bench: Bench) {
    let spec = bench.booted().await;
    let before = bench.running(spec.server_id).await;
    let other = VmSpec { memory_mib: 48, generation: 2, ..spec.clone() };
    let error = bench.driver.ensure_running(&other, bench.disk(&other)).await.unwrap_err();
    assert!(matches!(error, VmError::DifferentSpec { running_generation: 1, .. }), "{error}");
    assert_eq!(bench.running(spec.server_id).await, before);
    assert_eq!(
        bench.directory(spec.server_id).read_spec().unwrap().unwrap(),
        spec,
        "the spec on disk is the running one"
    );
}

async fn two_starts_at_once_make_one_vm(bench: Bench) {
    let spec = bench.spec();
    let (one, two) = tokio::join!(
        bench.driver.ensure_running(&spec, bench.disk(&spec)),
        bench.driver.ensure_running(&spec, bench.disk(&spec))
    );
    one.unwrap();
    two.unwrap();
    bench.running(spec.server_id).await;
}

async fn a_stopped_vm_is_gone_and_starts_again(mut bench: Bench) {
    let mut spec = bench.booted().await;
    let id = spec.server_id;
    bench.driver.stop(id, None).await.unwrap();
    let exit = bench.exit(id).await;
    assert_eq!((exit.cause, exit.requested, exit.generation), (ExitCause::Stopped, false, 1));
    assert_eq!(bench.event_gone(id).await, Some(exit));
    eventually(async || vmspec::cgroup::path_of(id).is_none_or(|path| !path.exists())).await;
    bench.driver.stop(id, None).await.unwrap();
    bench.driver.stop(id, Some(Duration::from_secs(60))).await.unwrap();
    bench.driver.kill(id).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped, "killing what is gone changes no record");

    spec.generation = 2;
    bench.start(&spec).await;
    assert_eq!(bench.running(id).await.generation, 2);
    bench.driver.stop(id, None).await.unwrap();
    assert_eq!(bench.exit(id).await.generation, 2);
}

async fn a_guest_that_is_asked_shuts_down_itself(bench: Bench) {
    let id = bench.booted().await.server_id;
    let started = Instant::now();
    bench.driver.stop(id, Some(Duration::from_secs(60))).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    let exit = bench.exit(id).await;
    assert_eq!((exit.cause, exit.requested), (ExitCause::GuestShutdown, true));
}

async fn a_guest_that_does_not_listen_is_stopped_when_its_time_is_over(bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.guest_goes_deaf(id).await;
    let started = Instant::now();
    bench.driver.stop(id, Some(Duration::from_secs(1))).await.unwrap();
    assert!((1..20).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

async fn a_paused_guest_is_stopped_without_waiting_for_it(bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.pause(id).await.unwrap();
    let started = Instant::now();
    bench.driver.stop(id, Some(Duration::from_secs(60))).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

async fn a_guest_that_powers_itself_off_is_heard(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.guest_powers_off(id).await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::GuestShutdown { requested: false }));
    let exit = bench.event_gone(id).await.unwrap();
    assert_eq!((exit.cause, exit.requested), (ExitCause::GuestShutdown, false));
    assert_eq!(bench.exit(id).await, exit);
}

async fn a_machine_that_crashes_is_heard_with_its_reason(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.crash(id).await;
    let exit = bench.event_gone(id).await.unwrap();
    assert_eq!(exit.cause, ExitCause::HypervisorFailed);
    assert!(exit.detail.is_some());
}

async fn a_guest_that_reboots_stays_in_its_process(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    let before = bench.running(id).await;
    bench.guest_reboots(id).await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Reset { by_guest: true }));
    assert_eq!(bench.running(id).await, before);
    if bench.kind == Kind::Tcg {
        eventually(async || bench.console(id).await.matches("hello").count() == 2).await;
    }
    bench.guest_powers_off(id).await;
    let next = bench.event(id).await;
    assert_eq!(next, VmEventKind::Changed(EventKind::GuestShutdown { requested: false }), "a reboot is told once");
}

async fn a_reset_starts_the_guest_anew(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.reset(id).await.unwrap();
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Reset { by_guest: false }));
    if bench.kind == Kind::Tcg {
        eventually(async || bench.console(id).await.matches("hello").count() == 2).await;
        bench.driver.pause(id).await.unwrap();
        bench.driver.reset(id).await.unwrap();
        assert_eq!(bench.running(id).await.state, VmState::Running, "a reset also ends a pause");
        eventually(async || bench.console(id).await.matches("hello").count() == 3).await;
    }
}

async fn a_soft_reboot_asks_first_and_resets_later(bench: Bench) {
    let id = bench.booted().await.server_id;
    let before = bench.running(id).await;
    assert_eq!(bench.driver.reboot_soft(id, Duration::from_secs(30)).await.unwrap(), Rebooted::Soft);
    assert_eq!(bench.running(id).await, before, "same process, running");
    if bench.kind == Kind::Tcg {
        eventually(async || bench.console(id).await.matches("hello").count() == 2).await;
        assert!(bench.console(id).await.contains("bye"));
    }
    match bench.fake() {
        Some(fake) => fake.guest_ignores_power_button(id, true),
        None => bench.type_in(id, "d").await,
    }
    assert_eq!(bench.driver.reboot_soft(id, Duration::from_millis(500)).await.unwrap(), Rebooted::Hard);
    assert_eq!(bench.running(id).await, before);
}

async fn pause_and_resume_can_be_repeated(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.pause(id).await.unwrap();
    bench.driver.pause(id).await.unwrap();
    assert_eq!(bench.running(id).await.state, VmState::Paused);
    bench.driver.resume(id).await.unwrap();
    bench.driver.resume(id).await.unwrap();
    assert_eq!(bench.running(id).await.state, VmState::Running);
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Paused));
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Resumed));
    // If a repetition had sent another, it would be next.
    bench.guest_powers_off(id).await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::GuestShutdown { requested: false }));
}

async fn what_does_not_run_cannot_be_told_anything(bench: Bench) {
    let id = bench.spec().server_id;
    for refused in [
        bench.driver.pause(id).await,
        bench.driver.resume(id).await,
        bench.driver.reset(id).await,
        bench.driver.reboot_soft(id, SOON).await.map(|_| ()),
        bench.driver.statistics(id).await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(VmError::NotRunning { .. })), "{refused:?}");
    }
    bench.driver.stop(id, None).await.unwrap();
    bench.driver.kill(id).await.unwrap();
    bench.driver.remove(id).await.unwrap();
    assert!(bench.driver.console_tail(id, Some(10), 1000).await.unwrap().is_empty());
    assert_eq!(bench.driver.observe(id).await.unwrap(), Observed::Absent);
    assert!(!bench.directory(id).path().exists(), "asking makes no directory");
}

async fn a_supervisor_that_comes_back_finds_everything(mut bench: Bench) {
    let (runs, stopped, left) = (bench.booted().await, bench.booted().await, bench.booted().await);
    bench.driver.stop(stopped.server_id, None).await.unwrap();
    let before = bench.running(runs.server_id).await;
    let pid = bench.running(left.server_id).await.pid;
    // A crash of an earlier supervisor between making the directory and writing the spec.
    let torn = Uuid::from_u128(7);
    fs::create_dir(bench.servers.join(torn.to_string())).unwrap();
    fs::write(bench.servers.join("not-a-server"), "").unwrap();

    bench.restart_supervisor();
    if bench.kind == Kind::Tcg {
        // Ends while nobody listens.
        signal(pid, Signal::SIGTERM);
        let directory = bench.directory(left.server_id);
        eventually(async || directory.lock_state().unwrap() == LockState::Free).await;
    } else {
        bench.driver.stop(left.server_id, None).await.unwrap();
    }
    let found = bench.driver.adopt_all().await.unwrap();
    assert_eq!(found.len(), 4);
    let of = |id| found.iter().find(|(found, _)| *found == id).unwrap().1.clone();
    assert_eq!(of(runs.server_id), Observed::Running(before));
    assert_eq!(of(torn), Observed::Absent);
    for id in [stopped.server_id, left.server_id] {
        let Observed::Gone(Gone { exit: Some(exit), boot_id, generation }) = of(id) else { panic!("{:?}", of(id)) };
        assert_eq!((exit.cause, boot_id, generation), (ExitCause::Stopped, Some(runs.boot_id), Some(1)));
    }

    bench.start(&runs).await;
    bench.guest_powers_off(runs.server_id).await;
    let exit = bench.event_gone(runs.server_id).await.expect("an adopted VM is listened to");
    assert_eq!(exit.cause, ExitCause::GuestShutdown);
    for id in [runs.server_id, stopped.server_id, left.server_id, torn] {
        bench.driver.remove(id).await.unwrap();
    }
    assert!(bench.driver.adopt_all().await.unwrap().is_empty());
}

async fn a_killed_vm_is_gone(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.kill(id).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Killed);
    let _ = bench.event_gone(id).await;
    bench.driver.kill(id).await.unwrap();
}

async fn removing_leaves_nothing_and_can_be_repeated(bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    fs::write(bench.directory(id).file("disk.raw"), "x").unwrap();
    bench.driver.remove(id).await.unwrap();
    assert!(!bench.directory(id).path().exists());
    assert!(vmspec::cgroup::path_of(id).is_none_or(|path| !path.exists()));
    assert_eq!(bench.driver.observe(id).await.unwrap(), Observed::Absent);
    bench.driver.remove(id).await.unwrap();
    bench.start(&spec).await;
    bench.running(id).await;
}

async fn the_console_log_is_bounded_and_its_end_is_shown(bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    bench.guest_floods_its_console(id).await;
    let file = bench.directory(id).file(directory::CONSOLE);
    let bound = spec.console_log_bytes;
    let mut most = 0;
    eventually(async || {
        most = most.max(fs::metadata(&file).unwrap().len());
        !bench.console(id).await.contains("hello") && most > bound
    })
    .await;
    for _ in 0..100 {
        most = most.max(fs::metadata(&file).unwrap().len());
        tokio::time::sleep(Duration::from_millis(2)).await;
        let tail = bench.driver.console_tail(id, None, bound).await.unwrap();
        assert_eq!(tail.len() as u64, bound);
        assert!(tail.iter().all(|byte| *byte == b'x'));
    }
    assert!(most <= 2 * bound, "{most}");
    // And the one who asks is served meanwhile.
    assert_eq!(bench.running(id).await.state, VmState::Running);
}

async fn the_last_lines_of_the_console_can_be_had(bench: Bench) {
    let id = bench.booted().await.server_id;
    let last = bench.driver.console_tail(id, Some(1), 1 << 20).await.unwrap();
    let last = String::from_utf8(last).unwrap();
    assert_eq!(last.lines().count(), 1, "{last:?}");
    assert!(bench.driver.console_tail(id, Some(0), 1 << 20).await.unwrap().is_empty());
    assert_eq!(bench.driver.console_tail(id, Some(5), 3).await.unwrap().len(), 3);
}

async fn a_path_longer_than_a_socket_address_does_not_matter(kind: Kind) {
    let state = tempfile::tempdir().unwrap();
    let servers = state.path().join("long".repeat(50)).join("servers");
    assert!(servers.as_os_str().len() > 200);
    let mut bench = Bench::at(kind, State::Own(state), servers);
    let id = bench.booted().await.server_id;
    bench.restart_supervisor();
    bench.running(id).await;
    bench.driver.stop(id, None).await.unwrap();
}

async fn a_spec_that_does_not_fit_is_refused_and_leaves_nothing(bench: Bench) {
    let spec = bench.spec();
    let refused = |result: Result<(), VmError>| assert!(matches!(result, Err(VmError::Spec(_))), "{result:?}");
    refused(bench.driver.ensure_running(&spec, vec![]).await);
    let old = VmSpec { boot_id: Uuid::from_u128(1), ..spec.clone() };
    refused(bench.driver.ensure_running(&old, bench.disk(&old)).await);
    let none = VmSpec { vcpus: 0, ..spec.clone() };
    refused(bench.driver.ensure_running(&none, bench.disk(&none)).await);
    assert_eq!(bench.driver.observe(spec.server_id).await.unwrap(), Observed::Absent);
}

async fn a_start_that_fails_says_why_and_can_be_tried_again(bench: Bench) {
    let spec = bench.spec();
    let id = spec.server_id;
    let result = match bench.fake() {
        Some(fake) => {
            fake.fail_next_start("the fake was told to fail");
            bench.driver.ensure_running(&spec, bench.disk(&spec)).await
        }
        None => {
            let _ = bench.disk(&spec);
            let path = bench.state.path().join(format!("{id}.raw"));
            let read_only = vec![File::open(path).unwrap().into()];
            bench.driver.ensure_running(&spec, read_only).await
        }
    };
    let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
    assert!(
        reason.contains(if bench.kind == Kind::Fake { "told to fail" } else { "disk 0 is not open for what it is" }),
        "{reason}"
    );
    assert!(!matches!(bench.driver.observe(id).await.unwrap(), Observed::Running(_)));
    bench.start(&spec).await;
    bench.running(id).await;
}

async fn vms_start_and_stop_side_by_side(bench: Bench) {
    let count = if bench.kind == Kind::Fake { 200 } else { 4 };
    let specs: Vec<VmSpec> = (0..count).map(|_| bench.spec()).collect();
    let started = Instant::now();
    futures::future::join_all(specs.iter().map(|spec| bench.start(spec))).await;
    if bench.kind == Kind::Fake {
        // 2 ms each is the aim; the machine that runs this is busy.
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
    let found = bench.driver.adopt_all().await.unwrap();
    assert_eq!(found.iter().filter(|(_, observed)| matches!(observed, Observed::Running(_))).count(), count);
    let removed = futures::future::join_all(specs.iter().map(|spec| bench.driver.remove(spec.server_id))).await;
    assert!(removed.into_iter().all(|result| result.is_ok()));
    assert!(bench.driver.adopt_all().await.unwrap().is_empty());
}

async fn a_running_vm_counts_what_it_uses(bench: Bench) {
    let id = bench.booted().await.server_id;
    let statistics = bench.driver.statistics(id).await.unwrap();
    assert_eq!(statistics.disks.len(), 1);
    if bench.kind == Kind::Tcg {
        assert!(statistics.resident_bytes > 1024 * 1024, "{statistics:?}");
        assert!(statistics.disks[0].read_operations > 0, "{statistics:?}");
    }
}

/// The three servers of a state directory; others may be tested at the same time.
fn three(state: &Path) -> [Uuid; 3] {
    [b"1", b"2", b"3"]
        .map(|name| Uuid::new_v5(&Uuid::NAMESPACE_URL, &[state.to_str().unwrap().as_bytes(), name].concat()))
}

/// A supervisor that does random things to three servers until it is killed.
async fn supervise(kind: Kind, state: &Path) {
    let bench = std::mem::ManuallyDrop::new(Bench::over(kind, state));
    bench.driver.adopt_all().await.unwrap();
    futures::future::join_all(three(state).into_iter().zip(FIRST_UID..).map(|(id, uid)| {
        let bench = &bench;
        async move {
            loop {
                match random::<1>()[0] % 6 {
                    0..=2 => {
                        // As an operation does: what was started before keeps its generation.
                        let before = bench.directory(id).read_spec().unwrap().map_or(0, |spec| spec.generation);
                        let runs = matches!(bench.driver.observe(id).await, Ok(Observed::Running(_)));
                        let mut spec = VmSpec { server_id: id, generation: before + u64::from(!runs), ..bench.spec() };
                        spec.smbios = Smbios::openstack(id);
                        spec.run_as = spec.run_as.map(|_| uid);
                        bench.driver.ensure_running(&spec, bench.disk(&spec)).await.unwrap();
                    }
                    3 => bench.driver.stop(id, None).await.unwrap(),
                    4 => bench.driver.kill(id).await.unwrap(),
                    _ => bench.driver.remove(id).await.unwrap(),
                }
            }
        }
    }))
    .await;
}

/// All processes that belong to those servers of this state directory.
fn processes_of(state: &Path) -> Vec<String> {
    let servers = state.join("servers").to_str().unwrap().to_owned();
    let ids = three(state).map(|id| id.to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        // A VM process names its directory; its QEMU has the server's id.
        let named = line.contains(&servers) || ids.iter().any(|id| line.contains(id));
        if named && !line.contains(" supervise ") && alive(pid) {
            found.push(line);
        }
    }
    found
}

/// `SOLOSTACK_TEST_KILLS` sets how many times; the default is for every day.
async fn killing_the_supervisor_at_any_instant_loses_and_leaves_nothing(bench: Bench) {
    let kills = std::env::var("SOLOSTACK_TEST_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let name = if bench.kind == Kind::Fake { "fake" } else { "tcg" };
    let mut lives = 0;
    for round in 0.. {
        // On a machine that is too busy the supervisor may never have come to anything: go on until it has.
        if round >= kills && (lives > 0 || round >= 20 * kills) {
            break;
        }
        let mut supervisor = tokio::process::Command::new(std::env::current_exe().unwrap())
            .arg("supervise")
            .arg(name)
            .arg(bench.state.path())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let wait_ms = 30 + u64::from(u16::from_ne_bytes(random()) % if bench.kind == Kind::Fake { 100 } else { 700 });
        let ended = tokio::time::timeout(Duration::from_millis(wait_ms), supervisor.wait()).await;
        assert!(ended.is_err(), "the supervisor failed by itself: {ended:?}");
        supervisor.kill().await.unwrap();
        for (id, observed) in bench.driver.adopt_all().await.unwrap() {
            match observed {
                Observed::Running(running) => {
                    lives += 1;
                    // What runs is what the directory says.
                    let spec = bench.directory(id).read_spec().unwrap().unwrap();
                    assert_eq!((running.spec_hash, running.generation), (spec.hash(), spec.generation));
                }
                Observed::Gone(_) | Observed::Absent => {}
                Observed::Unresponsive { reason } => panic!("{id} does not respond: {reason}"),
            }
        }
    }
    assert!(lives > 0, "no server ever survived: this proves nothing");
    for id in three(bench.state.path()) {
        // A process that was spawned just before the last kill may come to life in between.
        eventually(async || bench.driver.remove(id).await.is_ok()).await;
    }
    assert!(bench.driver.adopt_all().await.unwrap().is_empty());
    if bench.kind == Kind::Tcg {
        eventually(async || processes_of(bench.state.path()).is_empty()).await;
        assert!(bench.driver.adopt_all().await.unwrap().is_empty(), "a late process brought nothing back");
        for id in three(bench.state.path()) {
            assert!(vmspec::cgroup::path_of(id).is_none_or(|path| !path.exists()));
        }
    }
}

// What only real processes have to promise.

async fn killing_the_vm_process_kills_its_qemu_and_is_seen(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    signal(minder, Signal::SIGKILL);
    eventually(async || !alive(qemu)).await;
    assert_eq!(bench.event_gone(id).await, None, "it could not leave a record");
    assert_eq!(bench.gone(id).await.exit, None);
}

async fn a_vm_process_that_is_told_to_terminate_ends_in_order(bench: Bench) {
    let id = bench.booted().await.server_id;
    signal(bench.running(id).await.pid, Signal::SIGTERM);
    let directory = bench.directory(id);
    eventually(async || directory.lock_state().unwrap() == LockState::Free).await;
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

async fn a_guest_that_panics_is_heard(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.type_in(id, "p").await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::GuestPanicked));
    assert_eq!(bench.event_gone(id).await.unwrap().cause, ExitCause::GuestPanicked);
}

async fn a_second_vm_process_on_the_same_directory_is_refused(bench: Bench) {
    let id = bench.booted().await.server_id;
    let before = bench.running(id).await;
    let pid = fs::read(bench.directory(id).file(directory::LOCK)).unwrap();
    let disk = File::options().read(true).write(true).open(bench.state.path().join(format!("{id}.raw"))).unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.arg("vm").arg(bench.directory(id).path());
    use command_fds::CommandFdExt as _;
    command.fd_mappings(vec![command_fds::FdMapping { parent_fd: disk.into(), child_fd: 3 }]).unwrap();
    let status = tokio::process::Command::from(command).status().await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(bench.running(id).await, before);
    assert_eq!(fs::read(bench.directory(id).file(directory::LOCK)).unwrap(), pid);
    bench.driver.stop(id, None).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

async fn a_vm_process_that_hangs_is_unresponsive_and_can_be_killed(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    signal(minder, Signal::SIGSTOP);
    let started = Instant::now();
    bench.restart_supervisor();
    let found = bench.driver.adopt_all().await.unwrap();
    assert!(matches!(&found[..], [(found, Observed::Unresponsive { .. })] if *found == id), "{found:?}");
    assert!((4..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let spec = bench.directory(id).read_spec().unwrap().unwrap();
    let refused = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    assert!(matches!(refused, Err(VmError::Unresponsive { .. })), "{refused:?}");
    bench.driver.kill(id).await.unwrap();
    eventually(async || !alive(qemu)).await;
    assert_eq!(bench.exit(id).await.cause, ExitCause::Killed);
}

async fn without_a_cgroup_the_holder_of_the_lock_is_killed_and_nobody_else(bench: Bench) {
    let id = bench.booted().await.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    if let Some(mount) = vmspec::cgroup::mount_point().filter(|_| bench.running_isolated()) {
        for pid in [minder, qemu] {
            fs::write(mount.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
    signal(minder, Signal::SIGSTOP);
    // A VM process that was taken over names somebody else: that one does not have the lock file open.
    let mut innocent = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    let lock = bench.directory(id).file(directory::LOCK);
    fs::write(&lock, format!("{}\n", innocent.id().unwrap())).unwrap();
    assert!(bench.driver.kill(id).await.is_err());
    assert!(alive(innocent.id().unwrap()) && alive(qemu));
    fs::write(&lock, format!("{minder}\n")).unwrap();
    bench.driver.kill(id).await.unwrap();
    eventually(async || !alive(qemu)).await;
    innocent.kill().await.unwrap();
}

impl Bench {
    fn running_isolated(&self) -> bool {
        nix::unistd::Uid::effective().is_root()
    }
}

async fn whatever_is_said_on_the_control_socket_the_guest_runs_on(bench: Bench) {
    let id = bench.booted().await.server_id;
    let directory = bench.directory(id);
    let before = bench.running(id).await;
    let hello = b"{\"id\":1,\"call\":{\"hello\":{\"newest\":1,\"oldest\":1}}}\n";
    let said: Vec<Vec<u8>> = vec![
        b"\n".to_vec(),
        b"garbage\n".to_vec(),
        random::<4096>().to_vec(),
        vec![b'['; MAX_MESSAGE_BYTES + 1],
        vec![b'x'; 20 * MAX_MESSAGE_BYTES],
        b"{\"id\":1,\"call\":\"stop\"}\n".to_vec(),
        b"{\"id\":1,\"call\":{\"hello\":{\"newest\":99,\"oldest\":98}}}\n".to_vec(),
        [&hello[..], b"{\"id\":2,\"call\":\"self_destruct\"}\n"].concat(),
        [&hello[..], b"{\"id\":2,\"call\":\"stop\",\"really\":true}\n"].concat(),
        [&hello[..], "{\"id\":2,\"call\":{\"reboot\":{\"deadline_ms\":-1}}}\n".as_bytes()].concat(),
        [&hello[..], &[b'['; 60_000], b"\n"].concat(),
    ];
    for bytes in said {
        let mut stream = connect_socket(&directory, directory::CONTROL).await.unwrap();
        // It may hang up in the middle.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "it neither answered nor hung up: {:?}", &bytes[..bytes.len().min(60)]);
    }
    assert_eq!(bench.running(id).await, before);

    // Silent ones take all the places, for as long as its patience lasts and no longer.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect_socket(&directory, directory::CONTROL).await.unwrap());
    }
    // One that asks for much and never reads.
    let mut deaf = connect_socket(&directory, directory::CONTROL).await.unwrap();
    eventually(async || matches!(bench.driver.observe(id).await.unwrap(), Observed::Running(_))).await;
    let _ = deaf.write_all(hello).await;
    for _ in 0..20_000 {
        if tokio::time::timeout(Duration::from_millis(100), deaf.write_all(b"{\"id\":3,\"call\":\"status\"}\n"))
            .await
            .is_err()
        {
            break;
        }
    }
    assert_eq!(bench.running(id).await, before);
    let resident = fs::read_to_string(format!("/proc/{}/statm", before.pid)).unwrap();
    let pages: u64 = resident.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 < 64 * 1024 * 1024, "the VM process has grown to {pages} pages");
}

async fn a_supervisor_that_was_away_gets_the_events_it_missed(bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.pause(id).await.unwrap();
    bench.driver.resume(id).await.unwrap();
    let client = Client::connect(&bench.directory(id), SOON).await.unwrap();
    let mut events = client.subscribe(Some(1)).await.unwrap();
    let mut next = async || tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap();
    let paused = next().await;
    assert_eq!((paused.number, paused.kind), (2, EventKind::Paused));
    assert_eq!(next().await.kind, EventKind::Resumed);
    client.stop().await.unwrap();
    let last = next().await;
    assert!(matches!(last.kind, EventKind::PoweredOff { cause: ExitCause::Stopped, .. }), "{last:?}");
    assert!(bench.directory(id).read_exit().unwrap().is_some(), "the record is there before the event");
    client.closed().await;
}

async fn the_serial_line_can_be_used_by_hand(bench: Bench) {
    let id = bench.booted().await.server_id;
    let mut one = connect_socket(&bench.directory(id), directory::SERIAL).await.unwrap();
    let mut two = connect_socket(&bench.directory(id), directory::SERIAL).await.unwrap();
    one.write_all(b"z").await.unwrap();
    for line in [&mut one, &mut two] {
        let byte = tokio::time::timeout(SOON, line.read_u8()).await.unwrap().unwrap();
        assert_eq!(byte, b'z');
    }
    // One that never reads holds up nobody.
    bench.guest_floods_its_console(id).await;
    let mut read = 0;
    let mut chunk = vec![0; 65536];
    while read < 200_000 {
        read += tokio::time::timeout(SOON, two.read(&mut chunk)).await.unwrap().unwrap();
    }
    assert_eq!(bench.running(id).await.state, VmState::Running);
}

async fn a_start_that_is_abandoned_can_be_taken_up(bench: Bench) {
    for after_ms in [0, 5, 20, 60, 150] {
        let spec = bench.spec();
        let start = bench.driver.ensure_running(&spec, bench.disk(&spec));
        let _ = tokio::time::timeout(Duration::from_millis(after_ms), start).await;
        bench.start(&spec).await;
        bench.running(spec.server_id).await;
        bench.driver.remove(spec.server_id).await.unwrap();
    }
}

async fn qemu_is_fenced_in(bench: Bench) {
    assert!(nix::unistd::Uid::effective().is_root(), "this test needs root");
    // A descriptor of the supervisor that, by a mistake, any child would inherit.
    let leaked = File::open("/etc/hostname").unwrap();
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let leaked_inode = leaked.metadata().unwrap().ino();

    let spec = bench.booted().await;
    let id = spec.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    let uid = spec.run_as.unwrap().to_string();
    for pid in [minder, qemu] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Uid:"), [uid.as_str(); 4].join("\t"));
        assert_eq!(field("Gid:"), [uid.as_str(); 4].join("\t"));
        assert_eq!(field("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set} of {pid}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session: u32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().parse().unwrap();
        assert_eq!(session, minder, "its own session");
        for namespace in ["net", "ipc", "uts"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
            assert_ne!(of(&pid.to_string()), of("self"), "{namespace} namespace");
        }
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        let names: HashSet<&str> = environment.split('\0').filter_map(|entry| entry.split('=').next()).collect();
        assert!(names.iter().all(|name| ["", "PATH"].contains(name)), "{names:?}");
        if let Some(group) = vmspec::cgroup::path_of(id) {
            let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
            assert!(members.lines().any(|member| member == pid.to_string()), "{pid} is not in {group:?}");
        }
    }
    let root = PathBuf::from(format!("/proc/{qemu}/root"));
    for hidden in ["proc/self", "sys/kernel", "etc/passwd", "root", "home", "tmp", "var", "run"] {
        assert!(!root.join(hidden).exists(), "QEMU can see /{hidden}");
    }
    assert!(!root.join(bench.state.path().strip_prefix("/").unwrap()).exists(), "QEMU can see the state directory");
    for written in ["x", "usr/x", "dev/x"] {
        let error = File::create(root.join(written)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "/{written}");
    }
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "QEMU has a seccomp filter");
    let pids = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_ne!(pids(&qemu.to_string()), pids("self"), "QEMU cannot name, so not signal, its VM process");

    let disk = fs::metadata(bench.state.path().join(format!("{id}.raw"))).unwrap().ino();
    for entry in fs::read_dir(format!("/proc/{qemu}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).unwrap();
        let inode = fs::metadata(&path).map_or(0, |file| file.ino());
        assert_ne!(inode, leaked_inode, "the supervisor's descriptor reached QEMU");
        let text = target.to_string_lossy();
        let expected = inode == disk
            || ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:"].iter().any(|known| text.starts_with(known));
        assert!(expected, "QEMU has {text} open");
    }
    assert!(bench.running(id).await.isolation.missing.is_empty(), "{:?}", bench.running(id).await.isolation);
}

/// A tap of this name with a header for offloads, as the network hands one over.
#[allow(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]
fn tap(name: &str) -> OwnedFd {
    let tun = File::options().read(true).write(true).open("/dev/net/tun").expect("this test needs /dev/net/tun");
    // struct ifreq: 16 bytes of name, then flags (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), 40 bytes in all.
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&0x5002_u16.to_le_bytes());
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is as large as, for the duration of the call.
    let made = unsafe { libc::ioctl(tun.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    tun.into()
}

async fn a_nic_is_the_tap_that_was_handed_over(bench: Bench) {
    let mut spec = bench.spec();
    let mac = Mac([0xfa, 0x16, 0x3e, 1, 2, 3]);
    let (port_id, limits) = (Uuid::from_u128(5), Default::default());
    spec.nics = vec![Nic { slot: 0, port_id, mac, mtu: 1400, descriptor: 1, queues: 1, limits }];
    let name = format!("t{}", u32::from_ne_bytes(random()));
    let descriptors = |tap| {
        let mut descriptors = bench.disk(&spec);
        descriptors.push(tap);
        descriptors
    };
    let wrong = bench.driver.ensure_running(&spec, descriptors(File::open("/etc/hostname").unwrap().into())).await;
    assert!(matches!(&wrong, Err(VmError::StartFailed { reason, .. }) if reason.contains("not a tap")), "{wrong:?}");
    bench.driver.ensure_running(&spec, descriptors(tap(&name))).await.unwrap();
    let id = spec.server_id;
    bench.wait_for_console(id, "hello").await;
    // It stays in this namespace, and lives as long as QEMU has it open.
    let here = PathBuf::from(format!("/sys/class/net/{name}"));
    assert!(here.exists());
    let seen = fs::read_to_string(format!("/proc/{}/net/dev", bench.qemu_of(id).await)).unwrap();
    assert!(!seen.contains(&name) && seen.contains("lo:"), "QEMU's own namespace is empty: {seen}");
    bench.driver.stop(id, None).await.unwrap();
    eventually(async || !here.exists()).await;
}

async fn a_uefi_server_boots_with_variables_of_its_own(bench: Bench) {
    let spec = VmSpec { firmware: Firmware::Uefi, memory_mib: 256, ..bench.spec() };
    let id = spec.server_id;
    if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
        let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains("package ovmf"), "{reason}");
        return;
    }
    bench.start(&spec).await;
    // The guest of one sector is no UEFI program: the firmware says so, on the serial line.
    eventually_within(FIRMWARE, async || bench.console(id).await.contains("BdsDxe")).await;
    let variables = bench.directory(id).file("uefi-vars.fd");
    assert_ne!(
        fs::read(variables).unwrap(),
        fs::read("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap(),
        "it keeps its variables"
    );
}

/// Real guests of the built-in machine need a KVM that is more than an interpreter (`tests/guests`); this is its life.
async fn the_built_in_machine_starts_pauses_resets_and_stops(bench: Bench) {
    let spec = VmSpec { driver: vmspec::Driver::Kvm, ..bench.spec() };
    let id = spec.server_id;
    let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    if !Path::new("/dev/kvm").exists() {
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains("/dev/kvm"), "{reason}");
        return;
    }
    result.unwrap();
    if let hypervisor::KvmVerdict::Unusable { reason } = hypervisor::probe::probe_kvm() {
        // One that interprets fails at instructions of our firmware, sooner or later: then that is how it ended.
        let stopped = bench.driver.stop(id, None).await;
        let cause = bench.exit(id).await.cause;
        assert!(matches!(cause, ExitCause::Stopped | ExitCause::HypervisorFailed), "{cause:?}, {stopped:?}, {reason}");
        let log = fs::read_to_string(bench.directory(id).file("vm.log")).unwrap();
        assert!(!log.contains("is not allowed"), "the jail fits the process: {log}");
        return;
    }
    // Our firmware hands a disk of one sector over to SeaBIOS, which starts it.
    bench.wait_for_console(id, "hello").await;
    bench.driver.pause(id).await.unwrap();
    bench.driver.pause(id).await.unwrap();
    bench.driver.resume(id).await.unwrap();
    bench.driver.reset(id).await.unwrap();
    bench.driver.stop(id, None).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
    bench.driver.ensure_running(&spec, bench.disk(&spec)).await.unwrap();
    bench.driver.stop(id, None).await.unwrap();
    let log = fs::read_to_string(bench.directory(id).file("vm.log")).unwrap();
    assert!(!log.contains("is not allowed"), "the jail fits the process: {log}");
}

async fn the_built_in_machine_takes_what_it_was_promised_or_says_what_is_missing(bench: Bench) {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("not tested: no /dev/kvm");
        return;
    }
    let mut spec = VmSpec { driver: vmspec::Driver::Kvm, ..bench.spec() };
    let huge = VmSpec { page_size: vmspec::PageSize::OneGib, memory_mib: 1 << 20, ..spec.clone() };
    let refused = |result| match result {
        Err(VmError::StartFailed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let reason = refused(bench.driver.ensure_running(&huge, bench.disk(&huge)).await);
    assert!(reason.contains("not enough huge pages for 1048576 MiB"), "{reason}");
    let own = |cpu: u16| vmspec::Dedicated { vcpus: vec![[cpu].into()], others: [0].into() };
    spec.cpu.dedicated = Some(own(1023));
    let reason = refused(bench.driver.ensure_running(&spec, bench.disk(&spec)).await);
    assert!(reason.contains("vcpu0 cannot run on CPUs 1023"), "{reason}");
    spec.cpu.dedicated = Some(own(0));
    bench.driver.ensure_running(&spec, bench.disk(&spec)).await.unwrap();
    let _ = bench.driver.stop(spec.server_id, None).await;
    let log = fs::read_to_string(bench.directory(spec.server_id).file("vm.log")).unwrap();
    assert!(!log.contains("is not allowed"), "the jail fits the process: {log}");
}

async fn limits_are_kept_and_what_a_driver_cannot_do_is_no_reason_not_to_start(bench: Bench) {
    let mut spec = VmSpec { page_size: vmspec::PageSize::Large, ..bench.spec() };
    let vcpus = vec![std::collections::BTreeSet::from([0])];
    spec.cpu.dedicated = Some(vmspec::Dedicated { vcpus, others: Default::default() });
    spec.disks[0].limits.read_bytes_per_second = Some(1 << 20);
    spec.disks[0].limits.total_operations_per_second = Some(100);
    bench.start(&spec).await;
    bench.running(spec.server_id).await;
    let log = fs::read_to_string(bench.directory(spec.server_id).file("vm.log")).unwrap();
    assert!(log.contains("huge pages") && log.contains("dedicated"), "{log}");
}

async fn qemus_own_words_are_in_the_reason_of_a_failed_start(bench: Bench) {
    let spec = VmSpec { cpu: Cpu { model: Some("no-such-cpu".to_owned()), ..Cpu::default() }, ..bench.spec() };
    let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
    assert!(reason.contains("no-such-cpu"), "{reason}");
}

async fn the_program_that_spawns_vm_processes_may_be_missing(kind: Kind) {
    let state = tempfile::tempdir().unwrap();
    let servers = state.path().join("servers");
    let mut bench = Bench::at(kind, State::Own(state), servers.clone());
    for (program, said) in [("/nonexistent/solostack", "cannot be spawned"), ("/bin/false", "died")] {
        let config = ProcessConfig { command: vec![program.into()], ..ProcessConfig::new(servers.clone()) };
        bench.driver = Driver::Process(ProcessDriver::new(config).unwrap());
        let spec = bench.spec();
        let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains(said), "{reason}");
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let [_, vm, directory] = arguments.as_slice()
        && vm == "vm"
    {
        return hypervisor::vm_process::main(Path::new(directory));
    }

    if let [_, supervisor, kind, state] = arguments.as_slice()
        && supervisor == "supervise"
    {
        let kind = if kind == "fake" { Kind::Fake } else { Kind::Tcg };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(supervise(kind, Path::new(state)));
        return ExitCode::FAILURE;
    }

    fn trial<F: Future<Output = ()>>(name: String, test: impl FnOnce() -> F + Send + 'static) -> Trial {
        Trial::test(name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test()).await })?;
            Ok(())
        })
    }
    let mut trials = Vec::new();
    macro_rules! both {
        ($($name:ident)*) => { $(
            trials.push(trial(concat!("fake::", stringify!($name)).to_owned(), || $name(Bench::new(Kind::Fake))));
            trials.push(trial(concat!("tcg::", stringify!($name)).to_owned(), || $name(Bench::new(Kind::Tcg))));
        )* };
    }
    macro_rules! only_tcg {
        ($($name:ident)*) => { $(
            trials.push(trial(concat!("tcg::", stringify!($name)).to_owned(), || $name(Bench::new(Kind::Tcg))));
        )* };
    }
    both! {
        a_started_vm_runs_and_says_so
        starting_what_runs_changes_nothing
        starting_another_spec_over_what_runs_is_refused
        two_starts_at_once_make_one_vm
        a_stopped_vm_is_gone_and_starts_again
        a_guest_that_is_asked_shuts_down_itself
        a_guest_that_does_not_listen_is_stopped_when_its_time_is_over
        a_paused_guest_is_stopped_without_waiting_for_it
        a_guest_that_powers_itself_off_is_heard
        a_machine_that_crashes_is_heard_with_its_reason
        a_guest_that_reboots_stays_in_its_process
        a_reset_starts_the_guest_anew
        a_soft_reboot_asks_first_and_resets_later
        pause_and_resume_can_be_repeated
        what_does_not_run_cannot_be_told_anything
        a_supervisor_that_comes_back_finds_everything
        a_killed_vm_is_gone
        removing_leaves_nothing_and_can_be_repeated
        the_console_log_is_bounded_and_its_end_is_shown
        the_last_lines_of_the_console_can_be_had
        a_spec_that_does_not_fit_is_refused_and_leaves_nothing
        a_start_that_fails_says_why_and_can_be_tried_again
        vms_start_and_stop_side_by_side
        a_running_vm_counts_what_it_uses
        killing_the_supervisor_at_any_instant_loses_and_leaves_nothing
    }
    only_tcg! {
        killing_the_vm_process_kills_its_qemu_and_is_seen
        a_vm_process_that_is_told_to_terminate_ends_in_order
        a_guest_that_panics_is_heard
        a_second_vm_process_on_the_same_directory_is_refused
        a_vm_process_that_hangs_is_unresponsive_and_can_be_killed
        without_a_cgroup_the_holder_of_the_lock_is_killed_and_nobody_else
        whatever_is_said_on_the_control_socket_the_guest_runs_on
        a_supervisor_that_was_away_gets_the_events_it_missed
        the_serial_line_can_be_used_by_hand
        a_start_that_is_abandoned_can_be_taken_up
        qemu_is_fenced_in
        a_nic_is_the_tap_that_was_handed_over
        a_uefi_server_boots_with_variables_of_its_own
        the_built_in_machine_starts_pauses_resets_and_stops
        the_built_in_machine_takes_what_it_was_promised_or_says_what_is_missing
        qemus_own_words_are_in_the_reason_of_a_failed_start
        limits_are_kept_and_what_a_driver_cannot_do_is_no_reason_not_to_start
    }
    use live::*;
    only_tcg! {
        a_server_with_secure_boot_has_variables_with_keys_in_them
        what_the_built_in_machine_cannot_run_is_run_by_qemu_with_kvm
        disks_and_nics_come_and_go_while_the_guest_runs
        a_suspended_guest_goes_on_where_it_was
        what_our_firmware_does_not_start_is_left_to_seabios_with_the_reason
    }
    for kind in [Kind::Fake, Kind::Tcg] {
        let name = if kind == Kind::Fake { "fake" } else { "tcg" };
        trials.push(trial(format!("{name}::a_path_longer_than_a_socket_address_does_not_matter"), move || {
            a_path_longer_than_a_socket_address_does_not_matter(kind)
        }));
    }
    trials.push(trial("tcg::the_program_that_spawns_vm_processes_may_be_missing".to_owned(), || {
        the_program_that_spawns_vm_processes_may_be_missing(Kind::Tcg)
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
