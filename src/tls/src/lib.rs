//! The authority of this machine: a root, an intermediate, and server certificates that renew themselves.
//!
//! What must stay true:
//! - A root is made once. If anything suggests that one was ever made and it cannot be read, [`Authority::open`] refuses:
//!   a second root would silently cut off every client that trusts the first.
//! - What is served is always a leaf that is valid now, whatever the clock did, if the authority can still sign at all.
//! - Private keys are 0600 from the first byte, and the leaf's key never touches the disk.
//! - Files change by rename after fsync, one file per fact, so no crash leaves a key without its certificate.
//! - The chain is served leaf first, without the root.
//!
//! No I/O but files below one directory, no runtime, no global state: the clock and the crypto provider are explicit.

mod authority;
mod chain;
mod files;
mod import;
mod keys;
mod names;
mod view;
mod x509;

pub use authority::{Authority, Clock, Error, Renewal, Setup, Status, system_clock};
pub use import::ImportError;
pub use names::{InvalidName, Names};
pub use view::{Certificate, Place};

/// How long a leaf certificate lives. It is renewed at half of it.
pub const LEAF_LIFETIME: time::Duration = time::Duration::hours(12);
