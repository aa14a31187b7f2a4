//! The dashboard, by a browser without script.

mod live;
mod network;
mod sessions;
mod system;
