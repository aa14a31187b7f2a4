//! The authority as a client meets it: every test looks at what is served, with a verifier that trusts the CA alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod files;
mod imports;
mod rotation;
mod served;
mod support;
