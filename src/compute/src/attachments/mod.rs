//! Volumes and shares of servers: there are none in this cloud. Lists are empty, and whoever wants one learns why not.
//! Compute API reference, "Servers with volume attachments" and "Servers with shares attachments".

pub(crate) mod policy;
pub(crate) mod shares;
pub(crate) mod volumes;
