//! Wiring.

pub mod cli;
pub mod config;
pub mod doctor;
pub mod listen;
pub mod logging;
pub mod serve;
