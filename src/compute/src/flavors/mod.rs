//! Flavors: sizes of servers. Compute API reference, "Flavors", "Flavors access", "Flavors extra-specs".

pub(crate) mod extra_specs;
pub(crate) mod handlers;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod store;
mod views;

pub(crate) use model::Flavor;
