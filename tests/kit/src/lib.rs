//! What API tests stand on: the whole cloud in process, people who use it, a client that looks at every answer.
//!
//! What must stay true: no sockets, nothing of the host is touched outside the state directory, and no test sleeps.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test that called it")]

mod browser;
mod checks;
mod client;
mod cloud;
mod golden;
mod leaks;
mod personas;
mod servers;
mod wait;

pub use browser::Browser;
pub use client::{Client, Reply};
pub use cloud::{HOST, TestCloud};
pub use golden::golden;
pub use http::Method;
pub use personas::Persona;
pub use servers::{base64, merged};
pub use wait::wait_for;
