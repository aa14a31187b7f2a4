//! `/v3/roles`, what they imply, and `/v3/role_inferences`.

pub(crate) mod handlers;
pub(crate) mod implied;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;
