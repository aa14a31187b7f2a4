//! Server groups: which servers shall share this host, or not. Compute API reference, "Server groups".
//!
//! With one host, `affinity` always holds, `anti-affinity` lets as many servers in as its rule allows on one host (one, if
//! it says nothing), and the soft policies are wishes that never keep a server out.

pub(crate) mod handlers;
mod model;
pub(crate) mod policy;
pub(crate) mod store;
mod views;

pub(crate) use model::{Group, Policy};
