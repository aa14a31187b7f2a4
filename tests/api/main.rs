//! The APIs, asked by people with different rights: one file per resource, and some that walk the whole route table.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test that called it")]

mod actions;
mod aggregates;
mod audit;
mod consoles;
mod crashes;
mod dashboard;
mod diagnostics;
mod flavors;
mod gone;
mod host;
mod hostile;
mod images;
mod instance_actions;
mod interfaces;
mod keypairs;
mod legacy;
mod limits;
mod logins;
mod microversions;
mod moves;
mod passwords;
mod pauses;
mod placement;
mod policies;
mod rebuilds;
mod rescue;
mod resizes;
mod routes;
mod server_groups;
mod servers;
mod shelving;
mod snapshots;
mod tuning;
mod wire;
mod world;
