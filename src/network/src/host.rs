//! The machine's side: the kernel through `hostnet`, or a fake that remembers what would be there. Nothing above this
//! file knows which.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hostnet::{
    DhcpSpec, Error, ExternalSpec, FirewallChange, Id, Mac, NetworkFirewall, NetworkSpec, Observed, ObservedNamespace,
    Result, RouterSpec, Traffic,
};

/// Where networks are made.
#[derive(Clone)]
pub enum HostSide {
    Kernel(hostnet::Host),
    Fake(FakeHost),
}

impl std::fmt::Debug for HostSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel(_) => "Kernel",
            Self::Fake(_) => "Fake",
        })
    }
}

/// A machine that exists in memory only. Keeps the kernel's rules: what is built on must be there first, and removing
/// what is not there succeeds.
#[derive(Clone, Debug, Default)]
pub struct FakeHost {
    state: Arc<Mutex<FakeState>>,
    fails_firewall: Arc<AtomicBool>,
}

/// What the fake machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeState {
    pub networks: BTreeMap<Id, NetworkSpec>,
    pub externals: BTreeMap<Id, ExternalSpec>,
    pub routers: BTreeMap<Id, RouterSpec>,
    pub dhcp: BTreeMap<Id, DhcpSpec>,
    pub firewalls: BTreeMap<Id, NetworkFirewall>,
    pub taps: BTreeSet<(Id, Id)>,
}

impl FakeHost {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the machine has now.
    #[must_use]
    pub fn state(&self) -> FakeState {
        self.lock().clone()
    }

    /// Makes every firewall fail from now on, or no more.
    pub fn fail_firewall(&self, fails: bool) {
        self.fails_firewall.store(fails, Ordering::Relaxed);
    }

    /// Forgets everything, as a reboot does.
    pub fn reboot(&self) {
        *self.lock() = FakeState::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self) -> Observed {
        let state = self.lock();
        let mut seen = Observed::default();
        for id in state.networks.keys() {
            let taps = state.taps.iter().filter(|(network, _)| network == id).map(|(_, port)| hostnet::tap_name(*port));
            let mut namespace = ObservedNamespace { bridges: vec!["br0".to_owned()], ..ObservedNamespace::default() };
            namespace.taps = taps.collect();
            namespace.tables = vec!["bridge solostack".to_owned()];
            seen.networks.insert(*id, namespace);
        }
        for id in state.routers.keys() {
            seen.routers
                .insert(*id, ObservedNamespace { tables: vec!["inet solostack".to_owned()], ..Default::default() });
        }
        for id in state.externals.keys() {
            seen.host_links.push(format!("ext-{}", &id.to_string()[..11]));
        }
        // No process has this number.
        seen.dnsmasq = state.dhcp.keys().map(|id| (*id, 0)).collect();
        seen
    }
}

fn missing(what: &str, id: Id) -> Error {
    Error::NotFound(format!("{what} {id}"))
}

impl HostSide {
    pub(crate) async fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        match self {
            Self::Kernel(host) => host.ensure_network(spec).await,
            Self::Fake(fake) => {
                fake.lock().networks.insert(spec.id, spec.clone());
                Ok(())
            }
        }
    }

    pub(crate) async fn remove_network(&self, id: Id) -> Result<()> {
        match self {
            Self::Kernel(host) => host.remove_network(id).await,
            Self::Fake(fake) => {
                let mut state = fake.lock();
                state.networks.remove(&id);
                state.dhcp.remove(&id);
                state.firewalls.remove(&id);
                state.taps.retain(|(network, _)| *network != id);
                Ok(())
            }
        }
    }

    pub(crate) async fn ensure_tap(&self, network_id: Id, port_id: Id, mac: Mac, mtu: u32) -> Result<OwnedFd> {
        match self {
            Self::Kernel(host) => host.ensure_tap(network_id, port_id, mac, mtu).await,
            Self::Fake(fake) => {
                {
                    let mut state = fake.lock();
                    if !state.networks.contains_key(&network_id) {
                        return Err(missing("network", network_id));
                    }
                    state.taps.insert((network_id, port_id));
                }
                // Something that is open and that a test may pass on.
                let null = std::fs::File::options().read(true).write(true).open("/dev/null");
                Ok(null.map_err(|source| Error::Io { what: "opening /dev/null".to_owned(), source })?.into())
            }
        }
    }

    pub(crate) async fn remove_tap(&self, network_id: Id, port_id: Id) -> Result<()> {
        match self {
            Self::Kernel(host) => host.remove_tap(network_id, port_id).await,
            Self::Fake(fake) => {
                fake.lock().taps.remove(&(network_id, port_id));
                Ok(())
            }
        }
    }

    pub(crate) async fn tap_traffic(&self, network_id: Id, port_id: Id) -> Result<Traffic> {
        match self {
            Self::Kernel(host) => host.tap_traffic(network_id, port_id).await,
            // A fake guest has nobody to talk to.
            Self::Fake(fake) if fake.lock().taps.contains(&(network_id, port_id)) => Ok(Traffic::default()),
            Self::Fake(_) => Err(missing("tap", port_id)),
        }
    }

    pub(crate) async fn apply_router(&self, spec: &RouterSpec) -> Result<()> {
        match self {
            Self::Kernel(host) => host.apply_router(spec).await,
            Self::Fake(fake) => {
                let mut state = fake.lock();
                let networks = spec.interfaces.iter().map(|interface| interface.network_id);
                for id in networks.chain(spec.gateway.as_ref().map(|gateway| gateway.network_id)) {
                    if !state.networks.contains_key(&id) {
                        return Err(missing("network", id));
                    }
                }
                state.routers.insert(spec.id, spec.clone());
                Ok(())
            }
        }
    }

    pub(crate) async fn remove_router(&self, id: Id) -> Result<()> {
        match self {
            Self::Kernel(host) => host.remove_router(id).await,
            Self::Fake(fake) => {
                fake.lock().routers.remove(&id);
                Ok(())
            }
        }
    }

    pub(crate) async fn apply_external(&self, spec: &ExternalSpec) -> Result<()> {
        match self {
            Self::Kernel(host) => host.apply_external(spec).await,
            Self::Fake(fake) => {
                let mut state = fake.lock();
                if !state.networks.contains_key(&spec.id) {
                    return Err(missing("network", spec.id));
                }
                state.externals.insert(spec.id, spec.clone());
                Ok(())
            }
        }
    }

    pub(crate) async fn remove_external(&self, id: Id) -> Result<()> {
        match self {
            Self::Kernel(host) => host.remove_external(id).await,
            Self::Fake(fake) => {
                fake.lock().externals.remove(&id);
                Ok(())
            }
        }
    }

    pub(crate) async fn apply_firewall(&self, network_id: Id, firewall: &NetworkFirewall) -> Result<FirewallChange> {
        match self {
            Self::Kernel(host) => host.apply_firewall(network_id, firewall).await,
            Self::Fake(fake) => {
                let mut state = fake.lock();
                if !state.networks.contains_key(&network_id) {
                    return Err(missing("network", network_id));
                }
                if fake.fails_firewall.load(Ordering::Relaxed) {
                    return Err(Error::Command {
                        program: "nft".to_owned(),
                        status: "exit status: 1".to_owned(),
                        stderr: "told to fail".to_owned(),
                    });
                }
                let changed = state.firewalls.insert(network_id, firewall.clone()).as_ref() != Some(firewall);
                Ok(FirewallChange { changed, ..FirewallChange::default() })
            }
        }
    }

    pub(crate) async fn apply_dhcp(&self, spec: &DhcpSpec) -> Result<()> {
        match self {
            Self::Kernel(host) => host.apply_dhcp(spec).await.map(|_| ()),
            Self::Fake(fake) => {
                let mut state = fake.lock();
                if !state.networks.contains_key(&spec.network_id) {
                    return Err(missing("network", spec.network_id));
                }
                if spec.subnets.is_empty() {
                    state.dhcp.remove(&spec.network_id);
                } else {
                    state.dhcp.insert(spec.network_id, spec.clone());
                }
                Ok(())
            }
        }
    }

    /// None where guests cannot reach anything anyway.
    pub(crate) async fn metadata_listener(&self, network_id: Id) -> Result<Option<std::net::TcpListener>> {
        match self {
            Self::Kernel(host) => host.metadata_listener(network_id).await.map(Some),
            Self::Fake(_) => Ok(None),
        }
    }

    /// Everything of this cloud that exists now.
    ///
    /// # Errors
    /// The kernel's own.
    pub async fn observe(&self) -> Result<Observed> {
        match self {
            Self::Kernel(host) => host.observe().await,
            Self::Fake(fake) => Ok(fake.observe()),
        }
    }

    /// Removes everything of this cloud: `solostack down`.
    ///
    /// # Errors
    /// The first thing that could not be removed; the others are.
    pub async fn remove_all(&self) -> Result<()> {
        match self {
            Self::Kernel(host) => host.remove_all().await,
            Self::Fake(fake) => {
                fake.reboot();
                Ok(())
            }
        }
    }
}
