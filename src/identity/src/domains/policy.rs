//! Rules of domains, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

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
pub(crate) const CREATE_CONFIG: Rule = rule(
    "identity:create_domain_config",
    ADMIN,
    "Write a domain's own configuration.",
    &[("PUT", "/v3/domains/{domain_id}/config")],
);
pub(crate) const GET_CONFIG: Rule = rule(
    "identity:get_domain_config",
    ADMIN_OR_SYSTEM_READER,
    "Read a domain's own configuration.",
    &[
        ("GET", "/v3/domains/{domain_id}/config"),
        ("GET", "/v3/domains/{domain_id}/config/{group}"),
        ("GET", "/v3/domains/{domain_id}/config/{group}/{option}"),
    ],
);
pub(crate) const GET_COMPLIANCE: Rule = rule(
    "identity:get_security_compliance_domain_config",
    "",
    "Read what a password must be like.",
    &[
        ("GET", "/v3/domains/{domain_id}/config/security_compliance"),
        ("GET", "/v3/domains/{domain_id}/config/security_compliance/{option}"),
    ],
);
pub(crate) const UPDATE_CONFIG: Rule = rule(
    "identity:update_domain_config",
    ADMIN,
    "Change a domain's own configuration.",
    &[
        ("PATCH", "/v3/domains/{domain_id}/config"),
        ("PATCH", "/v3/domains/{domain_id}/config/{group}"),
        ("PATCH", "/v3/domains/{domain_id}/config/{group}/{option}"),
    ],
);
pub(crate) const DELETE_CONFIG: Rule = rule(
    "identity:delete_domain_config",
    ADMIN,
    "Delete a domain's own configuration.",
    &[
        ("DELETE", "/v3/domains/{domain_id}/config"),
        ("DELETE", "/v3/domains/{domain_id}/config/{group}"),
        ("DELETE", "/v3/domains/{domain_id}/config/{group}/{option}"),
    ],
);
pub(crate) const GET_CONFIG_DEFAULT: Rule = rule(
    "identity:get_domain_config_default",
    ADMIN_OR_SYSTEM_READER,
    "Read what holds for domains without a configuration of their own.",
    &[
        ("GET", "/v3/domains/config/default"),
        ("GET", "/v3/domains/config/{group}/default"),
        ("GET", "/v3/domains/config/{group}/{option}/default"),
    ],
);
