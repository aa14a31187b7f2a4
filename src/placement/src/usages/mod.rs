//! Usages: sums of allocations, by provider or by who pays.

pub mod handlers;
pub mod policy;
pub mod store;
