//! Resource providers: things that have something to give out, in trees.

pub mod handlers;
pub mod policy;
pub mod store;
mod views;
