//! This machine as Compute's only host: services, hypervisor, availability zones.

pub(crate) mod hosts;
pub(crate) mod hypervisors;
pub(crate) mod policy;
pub(crate) mod services;
pub(crate) mod store;
pub(crate) mod zones;
