//! `/v2.0/routers`: layer 3 between networks, and the way out. API reference: Network API v2.0, "Routers".

pub(crate) mod handlers;
pub(crate) mod interfaces;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;
