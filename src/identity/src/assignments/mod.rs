//! Who has which role where: grants one by one, and `/v3/role_assignments`.
//!
//! A role reaches a user directly or through a group, on the target itself or (inherited) from the domain or a project
//! above it, and brings along the roles that it implies. Roles of a domain never appear in a token; they only imply.

mod effective;
pub(crate) mod handlers;
pub(crate) mod listing;
pub(crate) mod policy;
pub(crate) mod store;
