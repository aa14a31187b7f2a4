//! `/v2.0/networks`: layer 2, one namespace with one bridge each. API reference: Network API v2.0, "Networks".

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;
