//! `/v3/users/<id>/application_credentials` and `/v3/users/<id>/access_rules`.
//!
//! A credential hands on part of its owner's roles on one project. It never holds more than the owner still has: a role
//! taken away from the owner voids it (`crate::tokens::store`).

pub(crate) mod access_rules;
pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
