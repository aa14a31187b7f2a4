//! What was done to a server, from the log of operations. Compute API reference, "Servers actions".

pub(crate) mod handlers;
pub(crate) mod policy;
