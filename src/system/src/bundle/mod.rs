//! `/v1/support-bundle`: everything that helps to find a fault, and no secret.

pub(crate) mod handlers;
pub(crate) mod policy;
mod tar;
