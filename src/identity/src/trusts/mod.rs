//! `/v3/OS-TRUST/trusts`: a user (trustor) lets another (trustee) act with some of its roles on one project.
//!
//! A trust never holds more than its trustor still has: a role taken away, a disabled trustor, a deleted trust void its
//! tokens at once (`crate::tokens::store`).

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
