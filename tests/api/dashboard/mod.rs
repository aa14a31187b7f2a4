//! The dashboard, by a browser without script.

mod identity;
mod images;
mod live;
mod network;
mod servers;
mod sessions;
mod system;
