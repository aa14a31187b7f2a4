//! `/v3/users` and what hangs below them: passwords, projects, groups.

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;
