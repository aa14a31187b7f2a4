//! Traits: what a provider is like, besides how much it has. Standard ones are fixed, custom ones come and go.

pub mod handlers;
pub mod policy;
pub mod store;
