//! `/v2/images`: the records.

pub mod handlers;
pub mod list;
pub mod model;
pub mod patch;
pub mod policy;
pub mod store;
pub mod views;
