//! Identity's stories, driven through the gateway.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod access;
mod catalog;
mod cloud;
mod delegation;
mod federation;
mod issuer;
mod oauth1;
mod oidc;
mod passwords;
mod people;
mod roles;
mod tokens;
mod websso;
