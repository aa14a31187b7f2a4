//! Placement: what there is to give out (providers with inventories and traits), who has it (allocations), and where a
//! request would fit (allocation candidates). API versions 1.0 to 1.39.
//!
//! What must stay true:
//! - a provider's generation moves with every change of its inventories, traits, aggregates (since 1.19) or allocations;
//! - usage is counted from allocations, never kept;
//! - a consumer exists exactly as long as it has allocations;
//! - what is allocated fits when it is written, because checks and rows share one transaction of the one writer.

mod aggregates;
mod allocation_candidates;
mod allocations;
mod error;
mod inventories;
pub mod peer;
mod policy;
mod query;
mod reply;
mod request;
mod reshaper;
mod resource_classes;
mod resource_providers;
mod routes;
mod schema;
mod traits;
mod usages;
mod versions;

use db::{Clock, Db};
use rest::{DiscoveryStyle, Service, ServiceInfo, Style};

pub const INFO: ServiceInfo = ServiceInfo {
    kind: "placement",
    name: "placement",
    style: Style::Placement,
    prefix: "/placement",
    port: 8778,
    catalog_path: "",
    microversions: Some(versions::RANGE),
    discovery: DiscoveryStyle::Placement,
    versions: versions::VERSIONS,
};

/// What handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub db: Db,
    pub clock: Clock,
}

/// The service, to be mounted behind the gateway.
#[must_use]
pub fn service(db: Db, clock: Clock) -> Service {
    Service::new(INFO, App { db, clock }, routes::table(), policy::BASE)
}

/// Every policy rule of this service.
#[must_use]
pub fn rules() -> Vec<rest::Rule> {
    rest::rules_of(&routes::table(), policy::BASE)
}
