//! What a running server uses, from its VM process. Compute API reference, "Servers diagnostics".

pub(crate) mod handlers;
pub(crate) mod policy;
mod views;
