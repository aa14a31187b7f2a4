//! The Network service: Neutron's API v2.0 on namespaces, bridges and nftables of this machine.
//!
//! Requests write rows only. What the rows want is brought to the kernel by [`App::reconcilers`], which wakes with every
//! committed write, and by [`peer`]'s `plug` and `unplug` for the one port that Compute is waiting for. There is no other
//! way into the kernel, and no state besides the rows: whatever is lost or left over is put right by the next round.

mod agents;
mod attributes;
mod auto_topology;
mod availability;
mod bootstrap;
mod desired;
mod errors;
mod extensions;
mod floatingips;
mod host;
mod ip;
mod metadata;
mod networks;
pub mod peer;
mod policy;
mod ports;
mod query;
mod quotas;
mod reconcile;
mod routers;
mod routes;
mod security_groups;
mod subnetpools;
mod subnets;
mod tags;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use rest::{ApiVersion, DiscoveryStyle, Service, ServiceInfo, Style};

pub use host::{FakeHost, FakeState, HostSide};
pub use metadata::{Caller, MetadataHandler};

/// How this cloud's network is set up.
#[derive(Clone, Debug)]
pub struct Options {
    pub region: String,
    /// The name that ports are bound to and agents report: this machine's.
    pub host_name: String,
    /// The one availability zone; Compute's has the same name.
    pub zone: &'static str,
    /// Where guests' DHCP servers ask for names outside the cloud; loopback addresses cannot be reached from there.
    pub dns_servers: Vec<IpAddr>,
    /// The domain that guests are told: `openstacklocal`.
    pub dns_domain: String,
    /// Default limits by resource (`port`, `security_group` ...) that differ from Neutron's own; -1 for none.
    pub quotas: HashMap<String, i64>,
    /// The range of the external network `public`: its first address is the host's.
    pub external_cidr: IpNet,
    /// The range of the network `private` of the first project.
    pub private_cidr: IpNet,
    /// The IPv6 range of `private` (SLAAC); None: IPv4 only.
    pub private_cidr_v6: Option<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        let v4 =
            |a, b, c, d, length| IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), length));
        Self {
            region: "RegionOne".to_owned(),
            host_name: "solostack".to_owned(),
            zone: "nova",
            dns_servers: Vec::new(),
            dns_domain: "openstacklocal".to_owned(),
            quotas: HashMap::new(),
            external_cidr: v4(172, 24, 4, 0, 24),
            private_cidr: v4(10, 0, 0, 0, 24),
            private_cidr_v6: None,
        }
    }
}

/// The service's state. Clones share everything.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) db: db::Db,
    pub(crate) clock: db::Clock,
    pub(crate) options: Arc<Options>,
    pub(crate) host: HostSide,
    pub(crate) state: Arc<reconcile::State>,
}

impl App {
    #[must_use]
    pub fn new(db: db::Db, clock: db::Clock, options: Options, host: HostSide) -> Self {
        Self { db, clock, options: Arc::new(options), host, state: Arc::default() }
    }

    pub(crate) fn now(&self) -> String {
        self.clock.now_text()
    }

    /// Makes the first networks: `public` outside, `private` for the given project, `router1` between. Once in the life of
    /// the database.
    ///
    /// # Errors
    /// The database's own.
    pub async fn bootstrap(&self, admin_project_id: &str) -> rest::Result<()> {
        bootstrap::run(self, admin_project_id).await
    }

    /// What keeps the kernel as the rows say. Start them with the engine's others.
    #[must_use]
    pub fn reconcilers(&self) -> Vec<tasks::Reconciler> {
        let app = self.clone();
        let round = move || {
            let app = app.clone();
            async move { reconcile::next_round(&app).await.map_err(Into::into) }
        };
        vec![tasks::Reconciler::new("network", Duration::from_secs(15), vec![self.db.changes("network")], round)]
    }

    /// One round: everything in the kernel as the rows say, as far as it can be.
    ///
    /// # Errors
    /// The first thing that could not be done; all others were tried.
    pub async fn reconcile(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        reconcile::round(self).await.map_err(Into::into)
    }

    /// Who answers guests' metadata requests; until it is set they get a 503.
    pub fn set_metadata_handler(&self, handler: MetadataHandler) {
        self.state.set_metadata_handler(handler);
    }

    /// Closes the metadata listeners, after which no guest's request is answered and another process may take over. Call
    /// it once the reconcilers have ended.
    pub async fn stop(&self) {
        reconcile::stop(self).await;
    }

    /// The machine's side, for `solostack down` and for checks that nothing leaked.
    #[must_use]
    pub fn host(&self) -> &HostSide {
        &self.host
    }
}

/// What the gateway and the catalog know of Network.
pub const INFO: ServiceInfo = ServiceInfo {
    kind: "network",
    name: "neutron",
    style: Style::Network,
    prefix: "/network",
    port: 9696,
    catalog_path: "",
    microversions: None,
    discovery: DiscoveryStyle::Network,
    versions: &[ApiVersion { id: "v2.0", status: "CURRENT", path: "/v2.0/", updated: "", microversions: false }],
};

/// The service, to be mounted.
#[must_use]
pub fn service(app: App) -> Service {
    Service::new(INFO, app, routes::table(), &base_rules())
}

/// Every policy rule of this service.
#[must_use]
pub fn rules() -> Vec<rest::Rule> {
    rest::rules_of(&routes::table(), &base_rules())
}

fn base_rules() -> Vec<rest::Rule> {
    let mut base = policy::BASE.to_vec();
    base.push(subnetpools::policy::SHARED);
    base
}
