//! `/v2.0/subnets`: address ranges of networks. API reference: Network API v2.0, "Subnets".

pub(crate) mod handlers;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;
