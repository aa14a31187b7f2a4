//! `/v2.0/floatingips`: addresses outside that lead to ports inside. API reference: Network API v2.0, "Floating IPs".

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
