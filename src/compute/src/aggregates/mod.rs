//! Host aggregates: names and metadata for sets of hosts, here of one or none. An aggregate whose metadata has an
//! `availability_zone` gives the host its zone. Compute API reference, "Host aggregates (os-aggregates)".

pub(crate) mod handlers;
mod model;
pub(crate) mod policy;
pub(crate) mod store;
mod views;

pub(crate) use model::Aggregate;
