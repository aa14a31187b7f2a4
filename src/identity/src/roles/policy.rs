//! Rules of roles, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

pub(crate) const GET: Rule = rule(
    "identity:get_role",
    "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and rule:domain_managed_target_role)",
    "Show a role.",
    &[("GET", "/v3/roles/{role_id}")],
);
pub(crate) const LIST: Rule = rule(
    "identity:list_roles",
    "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and not domain_id:None)",
    "List roles.",
    &[("GET", "/v3/roles")],
);
pub(crate) const CREATE: Rule = rule("identity:create_role", ADMIN, "Create a role.", &[("POST", "/v3/roles")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_role", ADMIN, "Change a role.", &[("PATCH", "/v3/roles/{role_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_role", ADMIN, "Delete a role.", &[("DELETE", "/v3/roles/{role_id}")]);

pub(crate) const GET_OF_DOMAIN: Rule = rule(
    "identity:get_domain_role",
    ADMIN_OR_SYSTEM_READER,
    "Show a role of a domain.",
    &[("GET", "/v3/roles/{role_id}")],
);
pub(crate) const LIST_OF_DOMAIN: Rule = rule(
    "identity:list_domain_roles",
    ADMIN_OR_SYSTEM_READER,
    "List the roles of a domain.",
    &[("GET", "/v3/roles?domain_id={domain_id}")],
);
pub(crate) const CREATE_OF_DOMAIN: Rule =
    rule("identity:create_domain_role", ADMIN, "Create a role of a domain.", &[("POST", "/v3/roles")]);
pub(crate) const UPDATE_OF_DOMAIN: Rule =
    rule("identity:update_domain_role", ADMIN, "Change a role of a domain.", &[("PATCH", "/v3/roles/{role_id}")]);
pub(crate) const DELETE_OF_DOMAIN: Rule =
    rule("identity:delete_domain_role", ADMIN, "Delete a role of a domain.", &[("DELETE", "/v3/roles/{role_id}")]);

pub(crate) const GET_IMPLIED: Rule = rule(
    "identity:get_implied_role",
    ADMIN_OR_SYSTEM_READER,
    "Show that one role implies another.",
    &[("GET", "/v3/roles/{prior_role_id}/implies/{implied_role_id}")],
);
pub(crate) const CHECK_IMPLIED: Rule = rule(
    "identity:check_implied_role",
    ADMIN_OR_SYSTEM_READER,
    "See whether one role implies another.",
    &[("HEAD", "/v3/roles/{prior_role_id}/implies/{implied_role_id}")],
);
pub(crate) const LIST_IMPLIED: Rule = rule(
    "identity:list_implied_roles",
    ADMIN_OR_SYSTEM_READER,
    "List what a role implies.",
    &[("GET", "/v3/roles/{prior_role_id}/implies")],
);
pub(crate) const CREATE_IMPLIED: Rule = rule(
    "identity:create_implied_role",
    ADMIN,
    "Let one role imply another.",
    &[("PUT", "/v3/roles/{prior_role_id}/implies/{implied_role_id}")],
);
pub(crate) const DELETE_IMPLIED: Rule = rule(
    "identity:delete_implied_role",
    ADMIN,
    "Let one role no longer imply another.",
    &[("DELETE", "/v3/roles/{prior_role_id}/implies/{implied_role_id}")],
);
pub(crate) const LIST_INFERENCES: Rule = rule(
    "identity:list_role_inference_rules",
    ADMIN_OR_SYSTEM_READER,
    "List all implications.",
    &[("GET", "/v3/role_inferences")],
);
