//! Data from the web: `web-download`. The addresses that a user names lead out of this machine and nowhere else.

pub mod address;
pub mod client;
pub mod guard;
