//! Allocation candidates: every way in which a request would fit now.

mod groups;
pub mod handlers;
pub mod policy;
mod search;
mod views;
