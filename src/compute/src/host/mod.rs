//! This machine as Compute's only host: services, hypervisor, availability zones, extensions.

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
