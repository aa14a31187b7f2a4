//! The whole program in process, on a state directory of its own.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use axum::body::Body;
use compute::vms::{Driver, FakeDriver};
use db::Clock;
use http::{Request, Response};
use network::{FakeHost, HostSide};
use rest::Arrival;
use solostack::cloud::{Cloud, Hooks, StateLock};
use tasks::Faults;
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{Client, Persona, personas::Login};

/// The name by which tests reach the cloud; it stands in every link.
pub const HOST: &str = "cloud.test";

/// Ratios so large that the machine under the tests does not matter: servers here take nothing. `configured` overrides.
const DEFAULTS: &[(&str, &str)] = &[
    ("driver", "\"fake\""),
    ("public_host", "\"cloud.test\""),
    ("scheduling.cpu_allocation_ratio", "100.0"),
    ("scheduling.ram_allocation_ratio", "100.0"),
    ("scheduling.disk_allocation_ratio", "100.0"),
    ("scheduling.reserved_memory_mib", "0"),
    ("scheduling.reserved_disk_gib", "0"),
];

/// A cloud of one test.
pub struct TestCloud {
    /// Time, for everything in this cloud.
    pub clock: Clock,
    pub(crate) logins: tokio::sync::Mutex<HashMap<Persona, Login>>,
    pub(crate) image: OnceCell<String>,
    config: String,
    /// Whether it has certificates.
    certified: bool,
    /// Outlives a process that dies, as a kernel does.
    machine: FakeHost,
    process: Option<Process>,
    state: tempfile::TempDir,
}

/// What a process would be: all that runs, on threads of its own, so that it can die as a process does.
struct Process {
    cloud: Arc<Cloud>,
    runtime: Runtime,
    faults: Faults,
}

impl TestCloud {
    /// A new cloud with the default configuration.
    pub async fn start() -> Self {
        Self::configured("").await
    }

    /// A new cloud with these lines added to its configuration file.
    pub async fn configured(lines: &str) -> Self {
        Self::new(lines, false).await
    }

    /// A new cloud that has certificates, as one with sockets has.
    pub async fn certified() -> Self {
        Self::new("", true).await
    }

    async fn new(lines: &str, certified: bool) -> Self {
        let state = tempfile::Builder::new().prefix("solostack-test-").tempdir_in(roomy()).expect("a state directory");
        let own: Vec<&str> = lines.lines().filter_map(|line| line.split('=').next()).map(str::trim).collect();
        let defaults = DEFAULTS.iter().filter(|(key, _)| !own.contains(key));
        let defaults: String = defaults.map(|(key, value)| format!("{key} = {value}\n")).collect();
        let config = format!("state_dir = {:?}\n{defaults}{lines}\n", state.path().to_str().expect("a path of text"));
        let mut cloud = Self {
            clock: Clock::default(),
            logins: tokio::sync::Mutex::default(),
            image: OnceCell::new(),
            config,
            certified,
            machine: FakeHost::new(),
            process: None,
            state,
        };
        cloud.open(Faults::default()).await;
        cloud
    }

    async fn open(&mut self, faults: Faults) {
        let config = config::resolve(&self.config, &[])
            .unwrap_or_else(|problems| panic!("the test's configuration is refused: {problems:?}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let tls = self.certified.then(|| tls::Authority::open(tls::Setup::in_state_dir(self.state())).unwrap());
        let (clock, machine) = (self.clock.clone(), self.machine.clone());
        let hooks = Hooks { clock, faults: faults.clone(), machine, tls };
        let opening = runtime.spawn(async move {
            let lock = StateLock::take(&config.state_dir)?;
            Cloud::open(&config, lock, hooks, axum::Router::new(), HOST).await
        });
        let cloud = opening.await.expect("starting did not panic");
        let cloud = Arc::new(cloud.unwrap_or_else(|error| panic!("the cloud did not start: {error}")));
        self.process = Some(Process { cloud, runtime, faults });
    }

    /// An orderly stop, and a start on the same state.
    pub async fn restart(&mut self) {
        let process = self.process.as_ref().expect("a running cloud");
        let cloud = Arc::clone(&process.cloud);
        process.runtime.spawn(async move { cloud.close().await }).await.expect("stopping did not panic");
        self.crash().await;
    }

    /// Everything stops where it stands, and a new process starts on what is left.
    pub async fn crash(&mut self) {
        self.crash_at(Faults::default()).await;
    }

    /// As [`TestCloud::crash`]; the new process dies at the point that `faults` says.
    pub async fn crash_at(&mut self, faults: Faults) {
        let Process { cloud, runtime, .. } = self.process.take().expect("a running cloud");
        drop(cloud);
        // The end of a runtime is waited for on a thread that may wait.
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
        self.open(faults).await;
    }

    /// The points at which this process could have died so far, and whether it has.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.process().faults.clone()
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("a running cloud")
    }

    /// The program itself.
    #[must_use]
    pub fn inner(&self) -> &Arc<Cloud> {
        &self.process().cloud
    }

    /// Where the cloud keeps everything.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// What runs the servers: tests do with it what guests and hardware do.
    ///
    /// # Panics
    /// Never: the configuration says `fake`.
    #[must_use]
    pub fn vms(&self) -> &FakeDriver {
        match self.inner().compute.driver() {
            Driver::Fake(driver) => driver,
            Driver::Process(_) => panic!("the driver is not the fake one"),
        }
    }

    /// The machine below Network.
    ///
    /// # Panics
    /// Never: the configuration says `fake`.
    #[must_use]
    pub fn host(&self) -> &FakeHost {
        match self.inner().network.host() {
            HostSide::Fake(host) => host,
            HostSide::Kernel(_) => panic!("the machine is not the fake one"),
        }
    }

    pub(crate) fn admin_password(&self) -> String {
        let openrc = std::fs::read_to_string(self.state().join("admin-openrc")).expect("admin-openrc");
        let line = openrc.lines().find_map(|line| line.strip_prefix("export OS_PASSWORD=")).expect("a password");
        line.trim_matches('\'').to_owned()
    }

    /// A client for `who`.
    #[must_use]
    pub fn as_(&self, who: Persona) -> Client<'_> {
        Client::new(self, who)
    }

    /// A client with any token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Client<'_> {
        Client::new(self, Persona::Anonymous).token(token)
    }

    /// One request as it comes from a socket, on the threads of the cloud.
    ///
    /// # Panics
    /// When the cloud did, or does not answer within a minute.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let cloud = Arc::clone(&self.process().cloud);
        let arrival = Arrival { peer: ([127, 0, 0, 1], 40_000).into(), scheme: "https", service: None };
        let answering = self.process().runtime.spawn(async move { cloud.handle(arrival, request).await });
        let answered = tokio::time::timeout(Duration::from_secs(60), answering).await.expect("an answer in time");
        answered.expect("a handler that does not panic")
    }
}

impl Drop for TestCloud {
    fn drop(&mut self) {
        if let Some(Process { cloud, runtime, .. }) = self.process.take() {
            drop(cloud);
            runtime.shutdown_background();
        }
    }
}

/// Memory where there is some: what is tested here survives the death of a process, not that of the machine, and
/// waiting for a disk thousands of times would be all that these tests do.
fn roomy() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    let roomy = nix::sys::statvfs::statvfs(memory)
        .is_ok_and(|stat| stat.blocks_available() * stat.fragment_size() > 2 << 30 && writable(memory));
    if roomy { memory.to_owned() } else { std::env::temp_dir() }
}

fn writable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}
