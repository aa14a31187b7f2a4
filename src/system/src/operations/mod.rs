//! `/v1/operations`: what runs for longer than its request, and what has ended.

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
