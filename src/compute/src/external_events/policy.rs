//! The rule of external events, upstream name and default.

use rest::{Rule, rule};

pub(crate) const CREATE: Rule = rule(
    "os_compute_api:os-server-external-events:create",
    "rule:context_is_admin",
    "Tell Compute what happened to servers",
    &[("POST", "/os-server-external-events")],
);
