//! Aggregates: names that providers are grouped under, for requests and for sharing.

pub mod handlers;
pub mod policy;
pub mod store;
