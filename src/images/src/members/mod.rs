//! `/v2/images/{id}/members`: projects with which an image is shared (API reference, "Sharing").

pub mod handlers;
pub mod policy;
mod store;
mod views;
