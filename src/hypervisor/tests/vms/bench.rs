//! A state directory with a driver on it, and what every test asks of both.

use super::*;

pub const GUEST: &[u8] = include_bytes!("../payload/guest.bin");
pub const DISK_BYTES: u64 = 1024 * 1024;
/// A range of user ids that nobody has here.
pub const FIRST_UID: u32 = 0x5010_0000;
/// For OVMF, which takes seconds of emulated work.
pub const FIRMWARE: Duration = Duration::from_secs(100);
/// For whatever takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Fake,
    Tcg,
}

/// A state directory, of this process or of another.
pub enum State {
    Own(tempfile::TempDir),
    Other(PathBuf),
}

impl State {
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Other(path) => path,
        }
    }
}

/// A state directory with a driver on it.
pub struct Bench {
    pub kind: Kind,
    pub state: State,
    pub servers: PathBuf,
    pub driver: Driver,
    pub events: broadcast::Receiver<VmEvent>,
}

impl Bench {
    pub fn new(kind: Kind) -> Self {
        let state = tempfile::tempdir().unwrap();
        let servers = state.path().join("servers");
        Self::at(kind, State::Own(state), servers)
    }

    pub fn over(kind: Kind, state: &Path) -> Self {
        Self::at(kind, State::Other(state.to_owned()), state.join("servers"))
    }

    pub fn at(kind: Kind, state: State, servers: PathBuf) -> Self {
        let driver = open_driver(kind, &servers);
        let events = driver.events();
        Self { kind, state, servers, driver, events }
    }

    /// What a supervisor that was killed and started again has: nothing but the directory.
    pub fn restart_supervisor(&mut self) {
        self.driver = open_driver(self.kind, &self.servers);
        self.events = self.driver.events();
    }

    pub fn spec(&self) -> VmSpec {
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
    pub fn disk(&self, spec: &VmSpec) -> Vec<OwnedFd> {
        let path = self.state.path().join(format!("{}.raw", spec.server_id));
        if !path.exists() {
            let mut file = File::create(&path).unwrap();
            file.write_all(GUEST).unwrap();
            file.set_len(DISK_BYTES).unwrap();
        }
        vec![File::options().read(true).write(true).open(path).unwrap().into()]
    }

    pub async fn start(&self, spec: &VmSpec) {
        self.driver.ensure_running(spec, self.disk(spec)).await.unwrap();
    }

    /// Started, with the guest at the point where it listens.
    pub async fn booted(&self) -> VmSpec {
        let spec = self.spec();
        self.start(&spec).await;
        self.wait_for_console(spec.server_id, "hello").await;
        spec
    }

    pub fn directory(&self, id: Uuid) -> ServerDirectory {
        ServerDirectory::of(&self.servers, id)
    }

    pub fn fake(&self) -> Option<&FakeDriver> {
        match &self.driver {
            Driver::Fake(fake) => Some(fake),
            Driver::Process(_) => None,
        }
    }

    pub async fn type_in(&self, id: Uuid, text: &str) {
        let mut line = connect_socket(&self.directory(id), directory::SERIAL).await.unwrap();
        line.write_all(text.as_bytes()).await.unwrap();
        // Until the guest has it: closing earlier might drop what is in between.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub async fn guest_powers_off(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_powers_off(id).await.unwrap(),
            None => self.type_in(id, "q").await,
        }
    }

    pub async fn guest_reboots(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_reboots(id).await.unwrap(),
            None => self.type_in(id, "r").await,
        }
    }

    pub async fn guest_goes_deaf(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_ignores_power_button(id, true),
            None => {
                self.type_in(id, "d").await;
                self.wait_for_console(id, "hello\r\nd").await;
            }
        }
    }

    pub async fn crash(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.crash(id).await.unwrap(),
            None => signal(self.qemu_of(id).await, Signal::SIGKILL),
        }
    }

    pub async fn guest_floods_its_console(&self, id: Uuid) {
        match self.fake() {
            Some(fake) => fake.guest_prints(id, &"x".repeat(100_000)).await.unwrap(),
            None => self.type_in(id, "f").await,
        }
    }

    pub async fn console(&self, id: Uuid) -> String {
        String::from_utf8_lossy(&self.driver.console_tail(id, None, 1 << 20).await.unwrap()).into_owned()
    }

    pub async fn wait_for_console(&self, id: Uuid, text: &str) {
        // What a fake prints is its own.
        let text = if self.kind == Kind::Fake { "fake server" } else { text };
        eventually(async || self.console(id).await.contains(text)).await;
    }

    pub async fn running(&self, id: Uuid) -> Running {
        match self.driver.observe(id).await.unwrap() {
            Observed::Running(running) => running,
            other => panic!("{id} is not running: {other:?}"),
        }
    }

    pub async fn gone(&self, id: Uuid) -> Gone {
        match self.driver.observe(id).await.unwrap() {
            Observed::Gone(gone) => gone,
            other => panic!("{id} is not gone: {other:?}"),
        }
    }

    pub async fn exit(&self, id: Uuid) -> ExitRecord {
        self.gone(id).await.exit.expect("it left a record")
    }

    /// The next event of this server that is not one of its beginning.
    pub async fn event(&mut self, id: Uuid) -> VmEventKind {
        loop {
            let event = tokio::time::timeout(SOON, self.events.recv()).await.expect("an event").unwrap();
            if event.server_id == id && event.kind != VmEventKind::Changed(EventKind::Started) {
                return event.kind;
            }
        }
    }

    pub async fn event_gone(&mut self, id: Uuid) -> Option<ExitRecord> {
        loop {
            if let VmEventKind::Gone { exit } = self.event(id).await {
                return exit;
            }
        }
    }

    pub fn running_isolated(&self) -> bool {
        nix::unistd::Uid::effective().is_root()
    }

    /// The QEMU of a server: the child of its VM process.
    pub async fn qemu_of(&self, id: Uuid) -> u32 {
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

pub fn open_driver(kind: Kind, servers: &Path) -> Driver {
    match kind {
        Kind::Fake => Driver::fake(servers.to_owned()).unwrap(),
        Kind::Tcg => {
            let command: Vec<OsString> = vec![std::env::current_exe().unwrap().into(), "vm".into()];
            Driver::process(ProcessConfig { command, ..ProcessConfig::new(servers.to_owned()) }).unwrap()
        }
    }
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

pub async fn eventually(holds: impl AsyncFnMut() -> bool) {
    eventually_within(SOON, holds).await;
}

pub async fn eventually_within(patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < until, "it did not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

pub fn alive(pid: u32) -> bool {
    // A zombie is as dead as it gets without its parent.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

/// A tap of this name with a header for offloads, as the network hands one over.
#[expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]
pub fn tap(name: &str) -> OwnedFd {
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
