//! Key pairs: public keys that servers are made with. Compute API reference, "Keypairs".

pub(crate) mod handlers;
mod model;
pub(crate) mod policy;
pub(crate) mod store;
mod views;

pub(crate) use model::Keypair;
