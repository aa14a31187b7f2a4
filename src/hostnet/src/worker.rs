//! Where blocking work happens: one fresh thread per call, because a thread that enters a network namespace must never
//! go back to the runtime. Calls on one namespace ("lane") run one after the other; a lane stays taken until its thread
//! really ended, even when the caller gave up at the deadline.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use crate::{Error, Inner, Result, command, dhcp, netfilter};

const DEADLINE: Duration = Duration::from_secs(20);
/// Threads at once. They mostly wait for the kernel; more would only contend for its network lock.
const THREADS: usize = 8;

type Lane = Arc<tokio::sync::Mutex<()>>;

pub(crate) struct Workers {
    lanes: Mutex<HashMap<String, Lane>>,
    threads: Arc<Semaphore>,
}

impl Workers {
    fn lane(&self, name: String) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if lanes.len() > 1024 {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        lanes.entry(name).or_default().clone()
    }
}

pub(crate) async fn run<T: Send + 'static>(
    inner: &Arc<Inner>,
    lane: String,
    what: &'static str,
    act: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
) -> Result<T> {
    let name = lane.clone();
    let timeout = || Error::Timeout(format!("{what} ({name})"));
    let work = async {
        let turn = inner.workers.lane(lane).lock_owned().await;
        let slot = inner.workers.threads.clone().acquire_owned().await.map_err(|_| timeout())?;
        let (done, wait) = oneshot::channel();
        let inner = inner.clone();
        std::thread::Builder::new()
            .name("hostnet".to_owned())
            .spawn(move || {
                let result = act(&inner);
                drop((turn, slot));
                let _ = done.send(result);
            })
            .map_err(|e| Error::io(what, e))?;
        wait.await.map_err(|_| Error::io(what, std::io::Error::other("the worker thread died")))?
    };
    tokio::time::timeout(inner.deadline, work).await.unwrap_or_else(|_| Err(timeout()))
}

/// Runs `act` on a thread of its own and waits: for a piece of work that enters another namespace than its caller's.
pub(crate) fn on_own_thread<T: Send>(what: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("hostnet".to_owned())
            .spawn_scoped(scope, act)
            .map_err(|e| Error::io(what, e))?
            .join()
            .unwrap_or_else(|_| Err(Error::io(what, std::io::Error::other("the worker thread died"))))
    })
}

/// The blocking part of [`crate::Host::open`].
pub(crate) fn open(run_dir: &Path) -> Result<Inner> {
    if !nix::unistd::geteuid().is_root() {
        return Err(unsupported("the network", "it must run as root"));
    }
    const FOR_ALL_BRIDGES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let had_bridge_netfilter = Path::new(FOR_ALL_BRIDGES).exists();
    // Modules on stock kernels, built in on others: failure shows below, where it matters.
    for module in ["br_netfilter", "nf_conntrack", "tun", "veth"] {
        let _ = command::run("modprobe", &["-q", module], None);
    }
    if !had_bridge_netfilter {
        // Just loaded, it would put the host's own bridges (of containers, of other VMs) under the host's firewall. Our
        // bridges ask for it one by one.
        for setting in ["iptables", "ip6tables", "arptables"] {
            let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{setting}"), "0");
        }
    }
    for (file, what) in [
        (FOR_ALL_BRIDGES, "bridge netfilter (br_netfilter)"),
        ("/proc/sys/net/netfilter/nf_conntrack_max", "connection tracking (nf_conntrack)"),
        ("/dev/net/tun", "tap devices (tun)"),
    ] {
        if !Path::new(file).exists() {
            return Err(unsupported("the network", &format!("the kernel has no {what}")));
        }
    }
    for (program, package) in [("nft", "nftables"), ("dnsmasq", "dnsmasq-base")] {
        if command::find(program).is_none() {
            return Err(unsupported("the network", &format!("{program} is not installed (package {package})")));
        }
    }
    let tag = tag(run_dir)?;
    let files = PathBuf::from("/run/solostack-net").join(&tag);
    dhcp::make_directory(Path::new("/run/solostack-net"))?;
    dhcp::make_directory(&files)?;
    Ok(Inner {
        tag,
        files,
        deadline: DEADLINE,
        workers: Workers { lanes: Mutex::default(), threads: Arc::new(Semaphore::new(THREADS)) },
        applied: Mutex::new(HashMap::<String, netfilter::Applied>::new()),
        dnsmasq_user: dnsmasq_user(),
    })
}

fn dnsmasq_user() -> String {
    let exists = |name: &str| matches!(nix::unistd::User::from_name(name), Ok(Some(_)));
    ["dnsmasq", "nobody"].into_iter().find(|name| exists(name)).unwrap_or("root").to_owned()
}

fn unsupported(what: &str, reason: &str) -> Error {
    Error::Unsupported { what: what.to_owned(), reason: reason.to_owned() }
}

/// Reads the instance's tag, or makes one that is complete on disk before it has a name.
fn tag(run_dir: &Path) -> Result<String> {
    let failed = |e| Error::io(format!("keeping the instance tag in {}", run_dir.display()), e);
    fs::create_dir_all(run_dir).map_err(failed)?;
    let path = run_dir.join("hostnet-tag");
    loop {
        match fs::read_to_string(&path) {
            Ok(text) if text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()) => return Ok(text),
            Ok(_) => return Err(failed(std::io::Error::other("the file does not hold a tag"))),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let tag: String = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
        let new = run_dir.join(format!("hostnet-tag.{tag}"));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(tag.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        // `hard_link` refuses an existing name: of two processes that start at once, one wins and both read its tag.
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new).map_err(failed)?;
        match linked {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
    }
}
