//! Resource classes: the kinds of thing that can be counted out. Standard ones are fixed, custom ones come and go.

pub mod handlers;
pub mod policy;
pub mod store;
mod views;
