//! `/v3/policies`: documents that a client keeps here. Nothing in this cloud reads them; the rules in force are files.

pub(crate) mod associations;
pub(crate) mod handlers;
pub(crate) mod policy;
