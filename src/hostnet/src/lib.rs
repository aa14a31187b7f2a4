//! The host's side of the network: namespaces, bridges, taps, routers, nftables, DHCP, the metadata socket.
//!
//! What must stay true:
//! - Every name in the kernel derives from ids, and every call may be repeated: `ensure_*` and `apply_*` bring the
//!   kernel to what is asked and change nothing when it is there already; `remove_*` succeeds when nothing is left.
//! - No thread of the async runtime ever changes its namespace. All work in a namespace runs on short-lived threads of
//!   its own ([`worker`]), one per call, one at a time per namespace.
//! - Every call ends by its deadline.
//! - What belongs to this instance is marked in the kernel with its tag; nothing without the tag is ever removed.
//! - Nothing that a user wrote reaches a configuration file or a rule as free text: ids, addresses and numbers only.

mod command;
mod conntrack;
mod dhcp;
mod error;
mod external;
mod firewall;
mod model;
mod namespace;
mod netfilter;
mod netlink;
mod network;
mod observe;
mod process;
mod router;
mod worker;

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use dhcp::host_resolvers;
pub use error::{Error, Result};
pub use model::*;
pub use network::tap_name;

/// Where guests find the metadata service.
pub const METADATA_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

/// A handle on this machine's network, for one instance of the cloud. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    /// Eight hexadecimal digits that tell this instance's objects from those of another cloud on the same host.
    tag: String,
    /// Files of the DHCP servers. Not below the caller's directory, because dnsmasq reads them as its own user and
    /// the state directory is nobody else's business.
    files: PathBuf,
    deadline: Duration,
    workers: worker::Workers,
    /// The rules that were last applied, per namespace name, and nft's generation right after.
    applied: Mutex<HashMap<String, netfilter::Applied>>,
    dnsmasq_user: String,
}

impl Host {
    /// Opens the network of the instance whose tag is kept in `run_dir` (made if missing), and checks that the host can
    /// do all this: root, `nft`, `dnsmasq`, conntrack and bridge netfilter.
    pub async fn open(run_dir: impl AsRef<Path>) -> Result<Self> {
        let run_dir = run_dir.as_ref().to_owned();
        let inner = tokio::task::spawn_blocking(move || worker::open(&run_dir))
            .await
            .map_err(|e| Error::io("opening the host network", std::io::Error::other(e)))??;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The tag of this instance: part of the names of its nft tables in the host's namespace, and of the aliases of all
    /// its namespaces and interfaces.
    pub fn tag(&self) -> &str {
        &self.inner.tag
    }

    /// Makes the namespace `net-<id>` with the bridge `br0`, closed to all ports until [`Host::apply_firewall`], with
    /// the metadata address on it. `br0` and the taps get the MTU; routes of subnets that are gone are removed.
    pub async fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        let spec = spec.clone();
        network::check(&spec)?;
        self.run(namespace::network(spec.id), "making a network", move |host| network::ensure(host, &spec)).await
    }

    /// Stops the network's DHCP server and removes its namespace with all that is in it. Sockets from
    /// [`Host::metadata_listener`] must be dropped by the caller, or the kernel keeps an invisible empty namespace.
    pub async fn remove_network(&self, id: Id) -> Result<()> {
        self.run(namespace::network(id), "removing a network", move |host| network::remove(host, id)).await
    }

    /// Opens the tap of a port: persistent, one queue, with virtio-net headers (`IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`),
    /// on the network's bridge and up. The descriptor is close-on-exec and may be handed to another process. Works
    /// again after its holder died; [`Error::Busy`] while another process holds it.
    ///
    /// The port stays closed until a firewall with it is applied.
    pub async fn ensure_tap(&self, network_id: Id, port_id: Id, mac: Mac, mtu: u32) -> Result<OwnedFd> {
        network::check_mtu(mtu)?;
        network::check_mac(mac)?;
        self.run(namespace::network(network_id), "opening a tap", move |host| {
            network::ensure_tap(host, network_id, port_id, mac, mtu)
        })
        .await
    }

    pub async fn remove_tap(&self, network_id: Id, port_id: Id) -> Result<()> {
        self.run(namespace::network(network_id), "removing a tap", move |_| network::remove_tap(network_id, port_id))
            .await
    }

    /// What has gone through the tap of a port, in the guest's words: `received` is what the guest received. [`Error::NotFound`]
    /// where there is no tap.
    pub async fn tap_traffic(&self, network_id: Id, port_id: Id) -> Result<Traffic> {
        self.run(namespace::network(network_id), "reading a tap's counters", move |_| {
            network::tap_traffic(network_id, port_id)
        })
        .await
    }

    /// Brings the namespace `rtr-<id>` to the specification: interfaces, addresses, routes, NAT, announcements. Flows
    /// through floating IPs that are gone end at once. The networks named in it must exist.
    pub async fn apply_router(&self, spec: &RouterSpec) -> Result<()> {
        router::check(spec)?;
        let spec = spec.clone();
        self.run(namespace::router(spec.id), "applying a router", move |host| router::apply(host, &spec)).await
    }

    pub async fn remove_router(&self, id: Id) -> Result<()> {
        self.run(namespace::router(id), "removing a router", move |host| router::remove(host, id)).await
    }

    /// Connects an external network to the host and masquerades it to the outside.
    pub async fn apply_external(&self, spec: &ExternalSpec) -> Result<()> {
        external::check(spec)?;
        let spec = spec.clone();
        self.run(namespace::HOST.to_owned(), "applying an external network", move |host| external::apply(host, &spec))
            .await
    }

    /// Disconnects an external network from the host; its namespace stays until [`Host::remove_network`].
    pub async fn remove_external(&self, id: Id) -> Result<()> {
        self.run(namespace::HOST.to_owned(), "removing an external network", move |host| external::remove(host, id))
            .await
    }

    /// Replaces all rules of the network in one transaction; ports that are not named are closed. On error the old
    /// rules stay and the error says why. Established flows that are no longer allowed are ended.
    pub async fn apply_firewall(&self, network_id: Id, firewall: &NetworkFirewall) -> Result<FirewallChange> {
        let rules = firewall::compile(network_id, firewall)?;
        self.run(namespace::network(network_id), "applying a firewall", move |host| {
            firewall::apply(host, network_id, rules)
        })
        .await
    }

    /// Brings the network's DHCP and DNS server to the specification: started, reloaded or restarted as needed, found
    /// again after a restart of this process, never doubled.
    pub async fn apply_dhcp(&self, spec: &DhcpSpec) -> Result<DhcpChange> {
        let files = dhcp::compile(spec)?;
        let spec = spec.clone();
        self.run(namespace::network(spec.network_id), "applying DHCP", move |host| dhcp::apply(host, &spec, files))
            .await
    }

    pub async fn remove_dhcp(&self, network_id: Id) -> Result<()> {
        self.run(namespace::network(network_id), "removing DHCP", move |host| dhcp::remove(host, network_id)).await
    }

    /// A socket on 169.254.169.254:80 inside the network's namespace. It keeps its namespace; set it non-blocking (it is)
    /// and accept wherever you like. The peer's address is the port's: packets with any other source never arrive.
    pub async fn metadata_listener(&self, network_id: Id) -> Result<TcpListener> {
        self.run(namespace::network(network_id), "opening the metadata socket", move |_| {
            network::metadata_listener(network_id)
        })
        .await
    }

    /// Everything of this instance that exists now.
    pub async fn observe(&self) -> Result<Observed> {
        self.run("observe".to_owned(), "observing the network", observe::observe).await
    }

    /// Removes everything of this instance, in an order that leaves nothing behind.
    pub async fn remove_all(&self) -> Result<()> {
        let seen = self.observe().await?;
        let mut first_error = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                tracing::warn!(%error, "removing the network");
                first_error.get_or_insert(error);
            }
        };
        note(self.run(namespace::HOST.to_owned(), "removing host links", external::remove_all).await);
        for (kind, ids) in [("routers", seen.routers.keys()), ("networks", seen.networks.keys())] {
            let mut removals = tokio::task::JoinSet::new();
            for id in ids.copied() {
                let host = self.clone();
                removals.spawn(async move {
                    if kind == "routers" { host.remove_router(id).await } else { host.remove_network(id).await }
                });
            }
            while let Some(result) = removals.join_next().await {
                note(result.unwrap_or_else(|e| Err(Error::io(format!("removing {kind}"), std::io::Error::other(e)))));
            }
        }
        note(self.run("observe".to_owned(), "removing remains", observe::remove_remains).await);
        first_error.map_or(Ok(()), Err)
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: String,
        what: &'static str,
        act: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        worker::run(&self.inner, lane, what, act).await
    }
}
