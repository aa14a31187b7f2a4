//! The Network API through the gateway, with a fake machine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod discovery;
mod floatingips;
mod hostile;
mod kit;
mod machine;
mod networks;
mod peer;
mod ports;
mod projects;
mod routers;
mod security_groups;
mod speed;
mod subnets;
