//! `/v3/auth/tokens` and everything that a token is.
//!
//! ```text
//! text --unseal--> Payload --resolve(tx)--> Known --> Credentials
//!        (keys)              (user, scope, roles, revocations; cached under the tables' generation)
//! ```

pub(crate) mod authenticate;
mod cache;
pub(crate) mod certificate;
mod check;
pub(crate) mod handlers;
pub(crate) mod model;
pub(crate) mod policy;
mod receipt;
pub(crate) mod request;
pub(crate) mod store;
pub(crate) mod views;

pub use authenticate::ScopeName;
pub(crate) use cache::Cache;
pub(crate) use check::Checker;
