//! Rules of domains, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::ADMIN;

pub(crate) const GET: Rule = rule(
    "identity:get_domain",
    "rule:admin_required or (role:reader and system_scope:all) or token.domain.id:%(target.domain.id)s or \
     token.project.domain.id:%(target.domain.id)s",
    "Show a domain.",
    &[("GET", "/v3/domains/{domain_id}")],
);
pub(crate) const LIST: Rule = rule(
    "identity:list_domains",
    "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain.id)s)",
    "List domains.",
    &[("GET", "/v3/domains")],
);
pub(crate) const CREATE: Rule = rule("identity:create_domain", ADMIN, "Create a domain.", &[("POST", "/v3/domains")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_domain", ADMIN, "Change a domain.", &[("PATCH", "/v3/domains/{domain_id}")]);
pub(crate) const DELETE: Rule = rule(
    "identity:delete_domain",
    ADMIN,
    "Delete a domain and everything in it.",
    &[("DELETE", "/v3/domains/{domain_id}")],
);
