//! Servers. Compute API reference, "Servers" and "Servers - run an action".

pub(crate) mod actions;
mod admin_actions;
pub(crate) mod attach;
pub(crate) mod begin;
pub(crate) mod config_drive;
mod cpus;
pub(crate) mod create;
mod deferred;
pub(crate) mod delete;
mod disk;
mod filters;
mod floating_ips;
pub(crate) mod handlers;
pub(crate) mod interfaces;
pub(crate) mod metadata;
pub(crate) mod model;
mod moves;
pub(crate) mod password;
pub(crate) mod personality;
pub(crate) mod policy;
pub(crate) mod power;
pub(crate) mod rebuild;
pub(crate) mod request;
pub(crate) mod rescue;
mod rescue_requests;
pub(crate) mod resize;
mod run;
pub(crate) mod shelve;
mod shelve_requests;
pub(crate) mod snapshots;
pub(crate) mod store;
pub(crate) mod tags;
pub(crate) mod topology;
pub(crate) mod unshelve;
pub(crate) mod views;

pub(crate) use model::Server;
