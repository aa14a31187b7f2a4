//! The rule of server diagnostics, upstream name and default.

use rest::{Rule, rule};

pub(crate) const SHOW: Rule = rule(
    "os_compute_api:os-server-diagnostics",
    "rule:context_is_admin",
    "Show what a running server uses",
    &[("GET", "/servers/{server_id}/diagnostics")],
);
