//! The dashboard, by a browser without script.

mod sessions;
