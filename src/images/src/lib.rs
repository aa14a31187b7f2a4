//! The Image service, API v2: records of disk images, their bytes, who may use them, and the raw copies that servers
//! boot from.
//!
//! What must stay true:
//! - an image is active exactly when its file is whole, inspected and durable; nothing else ever becomes active;
//! - what interrupts an upload leaves neither file nor state: the reconciler finishes what a crash left;
//! - the format of an image is what its record says, never what its bytes look like.

mod actions;
mod app;
mod cache;
mod cached;
mod file;
mod files;
#[path = "images/mod.rs"]
mod image;
mod imports;
mod info;
mod live;
mod locations;
mod members;
mod metadefs;
pub mod peer;
mod policy;
mod proxied;
mod reconcile;
mod routes;
mod schemas;
mod snapshots;
mod tags;

use std::time::Duration;

pub use app::{Converter, Downloads, Images, Options};
pub use imports::web::guard::Guard;
use rest::{ApiVersion, DiscoveryStyle, ServiceInfo, Style};
use tasks::{EngineBuilder, Reconciler};

const fn version(id: &'static str, status: &'static str) -> ApiVersion {
    ApiVersion { id, status, path: "/v2/", updated: "", microversions: false }
}

/// The minor versions name features of one API that a client cannot choose between.
pub const INFO: ServiceInfo = ServiceInfo {
    kind: "image",
    name: "glance",
    style: Style::Images,
    prefix: "/image",
    port: 9292,
    catalog_path: "",
    microversions: None,
    discovery: DiscoveryStyle::Images,
    versions: &[
        version("v2.17", "CURRENT"),
        version("v2.16", "SUPPORTED"),
        version("v2.15", "SUPPORTED"),
        version("v2.14", "SUPPORTED"),
        version("v2.13", "SUPPORTED"),
        version("v2.12", "SUPPORTED"),
        version("v2.11", "SUPPORTED"),
        version("v2.10", "SUPPORTED"),
        version("v2.9", "SUPPORTED"),
        version("v2.8", "SUPPORTED"),
        version("v2.7", "SUPPORTED"),
        version("v2.6", "SUPPORTED"),
        version("v2.5", "SUPPORTED"),
        version("v2.4", "SUPPORTED"),
        version("v2.3", "SUPPORTED"),
        version("v2.2", "SUPPORTED"),
        version("v2.1", "SUPPORTED"),
        version("v2.0", "SUPPORTED"),
    ],
};

/// The service as the wiring mounts it.
#[must_use]
pub fn service(app: &Images) -> rest::Service {
    rest::Service::new(INFO, app.clone(), routes::table(), policy::BASE)
}

/// Adds this service's operations and reconcilers to the engine.
#[must_use]
pub fn operations(engine: EngineBuilder, app: &Images) -> EngineBuilder {
    engine.operation::<imports::operation::Import>(app.clone()).reconcilers(vec![reconciler(app)])
}

fn reconciler(app: &Images) -> Reconciler {
    let signal = app.db().changes(app::FILES);
    let app = app.clone();
    Reconciler::new("images.files", Duration::from_secs(300), vec![signal], move || {
        let app = app.clone();
        async move { reconcile::run(&app).await.map_err(Into::into) }
    })
}

/// Every policy rule of this service.
#[must_use]
pub fn rules() -> Vec<rest::Rule> {
    rest::rules_of(&routes::table(), policy::BASE)
}
