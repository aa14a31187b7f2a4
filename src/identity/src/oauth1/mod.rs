//! OS-OAUTH1: consumers, the applications that an administrator knows by a key (the id) and a secret.
//!
//! The secret leaves the service once, in the answer that made the consumer, and is encrypted at rest.

pub(crate) mod consumers;
pub(crate) mod policy;
