//! The policy language of OpenStack's services and a registry of named rules.
//!
//! A rule is a name (`os_compute_api:servers:show`) and a check in the oslo.policy syntax
//! (`role:admin or project_id:%(project_id)s`). An [`Enforcer`] holds the defaults of the services and what the
//! operator's files override. No input or output happens here: callers read the files.
//!
//! What must stay true: whatever is unknown, missing or malformed denies; a file with any mistake changes nothing; the work
//! of one decision is bounded when the rules are loaded, so deciding cannot fail, loop or overflow.

mod check;
mod enforcer;
mod explain;
mod parse;

pub use enforcer::{Enforcer, OverrideError, RegistryError, Rule, rule};
pub use explain::Step;
pub use parse::ParseError;

/// What a rule is asked about: the attributes of the thing, flat (`"target.project.domain_id"`) or nested.
pub type Target = serde_json::Map<String, serde_json::Value>;
