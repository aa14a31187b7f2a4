//! Secrets that users keep here: `/v3/credentials`, and EC2 pairs below the user. Encrypted at rest.
//!
//! A delegated token (application credential) has no business with them: a secret made with it would outlive it.

pub(crate) mod ec2;
pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
