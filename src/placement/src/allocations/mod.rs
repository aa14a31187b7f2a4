//! Allocations: what a consumer has of which provider. Written as a whole per consumer, checked in the same transaction.

pub mod handlers;
pub mod model;
pub mod policy;
pub mod store;
mod views;
