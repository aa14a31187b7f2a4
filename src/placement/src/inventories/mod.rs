//! Inventories: how much of a resource class a provider has, and in which portions it is given out.

pub mod handlers;
pub mod model;
pub mod policy;
pub mod store;
mod views;
