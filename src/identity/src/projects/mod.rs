//! `/v3/projects`, their tags and their place in the tree. Domains are rows of the same table (`crate::domains`).

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod tags;
pub(crate) mod views;
