//! `/v1/about`: what anybody may know.

pub(crate) mod handlers;
