//! `/v1/certificates`: what is served, who vouches for it, and how to change that.

pub(crate) mod handlers;
pub(crate) mod policy;
mod views;
