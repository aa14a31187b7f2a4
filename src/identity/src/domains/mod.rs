//! `/v3/domains`: the projects that own everything else.

pub(crate) mod config;
pub(crate) mod handlers;
pub(crate) mod policy;
