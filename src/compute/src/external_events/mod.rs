//! What other services tell Compute about servers. Compute API reference, "Create external events
//! (os-server-external-events)".

pub(crate) mod handlers;
mod model;
pub(crate) mod policy;
