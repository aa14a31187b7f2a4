//! What every OpenStack service shares above its own resources: request context, errors, parameters, paging,
//! microversions, discovery documents, and the gateway that takes a request to its service.
//!
//! A request passes `routes.rs` -> `handlers.rs` -> `store.rs` of a service; this crate is what it meets before and after.

mod audit;
mod body;
mod context;
mod discovery;
mod error;
mod error_body;
mod gateway;
mod home;
mod html;
mod list;
mod meter;
mod microversion;
mod params;
mod reply;
mod route;
mod service;

pub use audit::{AuditEvent, AuditTrail};
pub use body::{Body, JSON_BODY_MAX_BYTES, RawJson, from_json, nullable};
pub use context::{
    Arrival, ClientCertificate, Credentials, Ctx, Delegation, NamedRef, RequestLine, Scope, TokenCheck, target,
};
pub use discovery::{ApiVersion, DiscoveryStyle};
pub use error::{Error, Kind, Result};
pub use error_body::Style;
pub use gateway::{Gateway, GatewayOptions, Refusal};
pub use list::{Dialect, Direction, Filter, FilterKind, ListSpec, Listing, Page};
pub use meter::Requests;
pub use microversion::{Microversion, Range};
pub use params::{Params, parse_bool};
pub use policy::{Rule, rule};
pub use reply::Reply;
pub use route::{Access, Route, RouteInfo, delete, get, head, patch, post, put};
pub use service::{Service, ServiceInfo, rules_of};

/// A new id as most services write it: a UUID with dashes.
#[must_use]
pub fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A new id as Identity writes it: 32 hexadecimal digits.
#[must_use]
pub fn new_hex_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Whether `text` is a UUID in the form with dashes (either case).
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}
