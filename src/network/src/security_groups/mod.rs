//! `/v2.0/security-groups` and `/v2.0/security-group-rules`: what ports may send and receive. Stateful; nothing comes in
//! unless a rule lets it. API reference: Network API v2.0, "Security groups" and "Security group rules".

pub(crate) mod handlers;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod rules;
pub(crate) mod store;
