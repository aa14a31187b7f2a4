//! Servers. Compute API reference, "Servers" and "Servers - run an action".

pub(crate) mod actions;
pub(crate) mod attach;
mod cpus;
pub(crate) mod create;
pub(crate) mod delete;
mod disk;
mod filters;
pub(crate) mod handlers;
pub(crate) mod interfaces;
pub(crate) mod metadata;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod power;
pub(crate) mod request;
mod run;
pub(crate) mod store;
pub(crate) mod tags;
pub(crate) mod topology;
pub(crate) mod views;

pub(crate) use model::Server;
