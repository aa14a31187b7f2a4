//! Rules of tokens, with upstream's names and defaults.

use rest::{Rule, rule};

pub(crate) const CHECK: Rule = rule(
    "identity:check_token",
    "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject",
    "See whether a token is good.",
    &[("HEAD", "/v3/auth/tokens")],
);
pub(crate) const VALIDATE: Rule = rule(
    "identity:validate_token",
    "rule:admin_required or (role:reader and system_scope:all) or rule:service_role or rule:token_subject",
    "Read what a token stands for.",
    &[("GET", "/v3/auth/tokens")],
);
pub(crate) const REVOKE: Rule = rule(
    "identity:revoke_token",
    "rule:admin_required or rule:token_subject",
    "Void a token.",
    &[("DELETE", "/v3/auth/tokens")],
);
pub(crate) const AUTH_CATALOG: Rule =
    rule("identity:get_auth_catalog", "", "Read the catalog of one's own scope.", &[("GET", "/v3/auth/catalog")]);
pub(crate) const AUTH_PROJECTS: Rule = rule(
    "identity:get_auth_projects",
    "",
    "List the projects one can be scoped to.",
    &[("GET", "/v3/auth/projects"), ("GET", "/v3/OS-FEDERATION/projects")],
);
pub(crate) const AUTH_DOMAINS: Rule = rule(
    "identity:get_auth_domains",
    "",
    "List the domains one can be scoped to.",
    &[("GET", "/v3/auth/domains"), ("GET", "/v3/OS-FEDERATION/domains")],
);
pub(crate) const AUTH_SYSTEM: Rule =
    rule("identity:get_auth_system", "", "List the system scopes one can have.", &[("GET", "/v3/auth/system")]);
pub(crate) const LIST_REVOKED: Rule = rule(
    "identity:list_revoke_events",
    "rule:service_or_admin",
    "List the tokens that were voided.",
    &[("GET", "/v3/OS-REVOKE/events")],
);
