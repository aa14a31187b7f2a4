//! `/v2/images/{id}/file`: the bytes.

pub mod download;
pub mod handlers;
pub mod policy;
pub mod receive;
