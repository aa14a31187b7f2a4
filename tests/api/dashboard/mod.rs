//! The dashboard, by a browser without script.

mod live;
mod sessions;
mod system;
