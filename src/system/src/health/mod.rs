//! `/v1/health`: how each part is, and why.

pub(crate) mod handlers;
mod parts;
pub(crate) mod policy;

pub(crate) use parts::{Integrity, report};
