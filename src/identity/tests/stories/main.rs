//! Identity's stories, driven through the gateway.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cloud;
mod federation;
mod passwords;
mod resources;
mod tokens;
