//! Wiring: which service mounts where, what starts in which order, and the command line.

pub mod access;
pub mod audit;
pub mod ca;
pub mod capacity;
pub mod cli;
pub mod cloud;
pub mod console;
pub mod exposition;
pub mod first_boot;
pub mod install;
pub mod listen;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod monitor;
pub mod onsite;
pub mod place;
pub mod policies;
pub mod process;
pub mod profile;
pub mod safety;
pub mod serve;
pub mod update;
