//! `/v1/audit`: who did what.

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
