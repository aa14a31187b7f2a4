//! The service `solostack`: what OpenStack has no API for. Health and operations of this machine, its certificates, the
//! audit trail, the support bundle.
//!
//! What must stay true:
//! - it knows the machine by [`Machine`] alone, and certificates by [`Certificates`]; the wiring gives both;
//! - no secret leaves it: neither in an answer, nor in the support bundle;
//! - what it says of operations and the trail is what their rows say; it writes neither.

mod about;
mod audit;
mod bundle;
mod certificates;
mod claim;
mod health;
mod machine;
mod operations;
mod policy;
mod routes;

use std::sync::Arc;

use db::{Clock, Db};
use rest::{ApiVersion, DiscoveryStyle, Service, ServiceInfo, Style};
use time::OffsetDateTime;

pub use claim::{Claims, FirstUser, SetPassword};
pub use machine::{Certificate, Certificates, Chain, Document, Machine, Part, Place, Refused, State, bytes_in_words};

/// What the gateway knows of this service. It stands in no catalog: clients of OpenStack would not know it.
pub const INFO: ServiceInfo = ServiceInfo {
    kind: "solostack",
    name: "solostack",
    style: Style::Identity,
    prefix: "/solostack",
    port: 443,
    catalog_path: "/v1",
    microversions: None,
    discovery: DiscoveryStyle::Compute,
    versions: &[ApiVersion {
        id: "v1",
        status: "CURRENT",
        path: "/v1/",
        updated: "2026-11-22T00:00:00Z",
        microversions: false,
    }],
};

/// What handlers work with. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub db: Db,
    pub clock: Clock,
    pub machine: Arc<dyn Machine>,
    pub certificates: Option<Arc<dyn Certificates>>,
    pub claims: Claims,
    pub region: Arc<str>,
    pub started_at: OffsetDateTime,
    pub integrity: Arc<health::Integrity>,
    pub bundling: Arc<tokio::sync::Semaphore>,
}

/// The service, to be mounted behind the gateway, and what tells the machine itself how the cloud is. Without `certificates`,
/// the resources that need them say so.
#[must_use]
pub fn service(
    db: Db,
    clock: Clock,
    region: &str,
    machine: Arc<dyn Machine>,
    certificates: Option<Arc<dyn Certificates>>,
    claims: Claims,
) -> (Service, Reporter) {
    let app = App {
        started_at: clock.now(),
        db,
        clock,
        machine,
        certificates,
        claims,
        region: region.into(),
        integrity: Arc::default(),
        bundling: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let reporter = Reporter(app.clone());
    (Service::new(INFO, app, routes::table(), policy::BASE), reporter)
}

/// For who stands before the machine, and needs no token: what `/v1/health` says.
#[derive(Clone, Debug)]
pub struct Reporter(App);

impl Reporter {
    /// The answer of `GET /v1/health`.
    pub async fn health(&self) -> serde_json::Value {
        health::report(&self.0).await
    }

    /// SHA-256 of what clients must trust; `None` without TLS.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Option<String> {
        self.0.certificates.as_ref().map(|certificates| certificates.fingerprint())
    }
}

/// Every policy rule of this service.
#[must_use]
pub fn rules() -> Vec<rest::Rule> {
    rest::rules_of(&routes::table(), policy::BASE)
}

/// The program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
