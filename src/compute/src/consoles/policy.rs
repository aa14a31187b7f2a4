//! Rules of consoles, upstream names and defaults.

use rest::{Rule, rule};

pub(crate) const CREATE: Rule = rule(
    "os_compute_api:os-remote-consoles",
    "rule:project_member_or_admin",
    "Open a console of a server",
    &[("POST", "/servers/{server_id}/remote-consoles"), ("POST", "/servers/{server_id}/action")],
);
pub(crate) const TOKENS: Rule = rule(
    "os_compute_api:os-console-auth-tokens",
    "rule:context_is_admin",
    "See what a console token opens",
    &[("GET", "/os-console-auth-tokens/{console_token}")],
);
