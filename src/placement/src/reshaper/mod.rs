//! The reshaper: inventories and allocations that change together, when a provider's resources move to another.

pub mod handlers;
pub mod policy;
