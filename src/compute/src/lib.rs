//! Compute (Nova v2.1): servers, flavors, key pairs, and this machine as the one hypervisor.

mod adopt;
mod aggregates;
mod allocation;
mod attachments;
mod census;
mod consoles;
mod diagnostics;
mod documents;
mod extensions;
mod external_events;
mod flavors;
mod gone;
mod host;
mod image_info;
mod instance_actions;
mod keypairs;
mod leftovers;
mod legacy;
mod limits;
mod lost_ports;
mod metadata;
mod migrations;
mod network_info;
mod offload;
mod policy;
mod power_state;
mod retired;
mod routes;
mod server_groups;
mod servers;
mod sisters;
mod tenant_usage;
mod versions;
pub mod vms;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use db::{Clock, Db};
use rest::{ApiVersion, DiscoveryStyle, Service, ServiceInfo, Style};
use tasks::{EngineBuilder, Reconciler};

pub use adopt::adopt;
pub use allocation::{Capacity, register as register_host};
pub use census::{Guest, NicCounters, Share};
pub use servers::config_drive::ConfigDriveFormat;

/// Limits of a project where none of its own is set. -1: none.
#[derive(Clone, Debug)]
pub struct Quotas {
    pub instances: i64,
    pub cores: i64,
    pub ram_mib: i64,
    pub metadata_items: i64,
    pub key_pairs: i64,
    pub server_groups: i64,
    pub server_group_members: i64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            instances: 10,
            cores: 20,
            ram_mib: 51_200,
            metadata_items: 128,
            key_pairs: 100,
            server_groups: 10,
            server_group_members: 10,
        }
    }
}

/// How long, and how many at most, deleted servers are remembered.
#[derive(Clone, Copy, Debug)]
pub struct KeepDeleted {
    pub days: u32,
    pub count: u32,
}

/// Facts that the wiring knows and Compute needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this machine in `os-services`, `os-hypervisors` and `OS-EXT-SRV-ATTR:host`.
    pub host_name: String,
    pub host_address: String,
    pub availability_zone: String,
    pub quotas: Quotas,
    /// What runs new VMs, and why it was chosen: shown by `hypervisor show`.
    pub driver: vmspec::Driver,
    pub driver_reason: String,
    pub hypervisor_version: i64,
    /// First of the user ids that VM processes run as; `None`: all run as the supervisor does (not root).
    pub run_as_base: Option<u32>,
    pub console_log_bytes: u64,
    /// How long a guest has to react to its power button.
    pub shutdown_timeout: Duration,
    /// Start servers again that ran when the host went down.
    pub resume_after_host_boot: bool,
    pub keep_deleted: KeepDeleted,
    /// After this long a resize is confirmed by itself; `None`: never.
    pub resize_confirm_window: Option<Duration>,
    /// How long a shelved server keeps its share of this host; `None`: until it is offloaded by hand.
    pub shelved_offload_after: Option<Duration>,
    pub config_drive_format: ConfigDriveFormat,
    /// `vendor_data.json` of every server.
    pub vendor_data: BTreeMap<String, String>,
}

/// What handlers, operations and reconcilers of Compute share.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) options: Arc<Options>,
    pub(crate) driver: vms::Driver,
    pub(crate) images: images::Images,
    pub(crate) network: network::App,
    /// Where servers have their directories.
    pub(crate) servers_dir: PathBuf,
}

impl App {
    #[must_use]
    pub fn new(
        db: Db,
        clock: Clock,
        options: Options,
        driver: vms::Driver,
        images: images::Images,
        network: network::App,
    ) -> Self {
        let servers_dir = driver.servers().to_owned();
        Self { db, clock, options: Arc::new(options), driver, images, network, servers_dir }
    }

    /// What runs the VMs: tests make fakes misbehave through it.
    #[must_use]
    pub fn driver(&self) -> &vms::Driver {
        &self.driver
    }

    /// What Compute serves beside its API: consoles over WebSocket.
    pub fn pages(&self) -> axum::Router {
        consoles::router(self)
    }

    /// Makes the rows that a first start needs; a second run changes nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn bootstrap(&self) -> rest::Result<()> {
        self.db.write(host::store::bootstrap).await
    }

    /// Adds Compute's operations and reconcilers, and answers the metadata service.
    #[must_use]
    pub fn register(&self, engine: EngineBuilder) -> EngineBuilder {
        metadata::serve(self);
        engine
            .operation::<servers::create::Create>(self.clone())
            .operation::<servers::delete::Delete>(self.clone())
            .operation::<servers::power::Power>(self.clone())
            .operation::<servers::attach::Interfaces>(self.clone())
            .operation::<servers::rebuild::Rebuild>(self.clone())
            .operation::<servers::resize::Resize>(self.clone())
            .operation::<servers::password::SetPassword>(self.clone())
            .operation::<servers::snapshots::operation::Snapshot>(self.clone())
            .operation::<servers::rescue::Rescuing>(self.clone())
            .operation::<servers::shelve::Shelve>(self.clone())
            .operation::<servers::unshelve::Unshelve>(self.clone())
            .reconcilers(self.reconcilers())
    }

    fn reconcilers(&self) -> Vec<Reconciler> {
        let mut all = vec![
            power_state::reconciler(self),
            leftovers::reconciler(self),
            lost_ports::reconciler(self),
            gone::reconciler(self),
            offload::reconciler(self),
        ];
        all.extend(servers::resize::reconciler(self));
        all
    }
}

/// What the gateway and the catalog know of Compute.
pub const INFO: ServiceInfo = ServiceInfo {
    kind: "compute",
    name: "nova",
    style: Style::Compute,
    prefix: "/compute",
    port: 8774,
    catalog_path: "/v2.1",
    microversions: Some(versions::RANGE),
    discovery: DiscoveryStyle::Compute,
    versions: &[
        // Served as 2.1 is, and without microversions. Clients of old expect it first.
        ApiVersion {
            id: "v2.0",
            status: "SUPPORTED",
            path: "/v2/",
            updated: "2011-01-21T11:33:21Z",
            microversions: false,
        },
        ApiVersion {
            id: "v2.1",
            status: "CURRENT",
            path: "/v2.1/",
            updated: "2013-07-23T11:33:21Z",
            microversions: true,
        },
    ],
};

#[must_use]
pub fn service(app: App) -> Service {
    Service::new(INFO, app, routes::table(), policy::BASE)
}

/// Every policy rule of this service.
#[must_use]
pub fn rules() -> Vec<rest::Rule> {
    rest::rules_of(&routes::table(), policy::BASE)
}
