//! `/v3/groups` and their members.

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;
