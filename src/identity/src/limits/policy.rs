//! Rules of limits, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::ADMIN;

pub(crate) const MODEL: Rule =
    rule("identity:get_limit_model", "", "Show how limits add up.", &[("GET", "/v3/limits/model")]);
pub(crate) const GET: Rule = rule(
    "identity:get_limit",
    "rule:admin_required or (role:reader and system_scope:all) or (domain_id:%(target.limit.domain.id)s or \
     domain_id:%(target.limit.project.domain_id)s) or (project_id:%(target.limit.project_id)s and not \
     None:%(target.limit.project_id)s)",
    "Show a limit.",
    &[("GET", "/v3/limits/{limit_id}")],
);
pub(crate) const LIST: Rule = rule("identity:list_limits", "", "List limits.", &[("GET", "/v3/limits")]);
pub(crate) const CREATE: Rule = rule("identity:create_limits", ADMIN, "Set limits.", &[("POST", "/v3/limits")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_limit", ADMIN, "Change a limit.", &[("PATCH", "/v3/limits/{limit_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_limit", ADMIN, "Take a limit away.", &[("DELETE", "/v3/limits/{limit_id}")]);

pub(crate) const GET_REGISTERED: Rule = rule(
    "identity:get_registered_limit",
    "",
    "Show a default limit.",
    &[("GET", "/v3/registered_limits/{registered_limit_id}")],
);
pub(crate) const LIST_REGISTERED: Rule =
    rule("identity:list_registered_limits", "", "List default limits.", &[("GET", "/v3/registered_limits")]);
pub(crate) const CREATE_REGISTERED: Rule =
    rule("identity:create_registered_limits", ADMIN, "Set default limits.", &[("POST", "/v3/registered_limits")]);
pub(crate) const UPDATE_REGISTERED: Rule = rule(
    "identity:update_registered_limit",
    ADMIN,
    "Change a default limit.",
    &[("PATCH", "/v3/registered_limits/{registered_limit_id}")],
);
pub(crate) const DELETE_REGISTERED: Rule = rule(
    "identity:delete_registered_limit",
    ADMIN,
    "Take a default limit away.",
    &[("DELETE", "/v3/registered_limits/{registered_limit_id}")],
);
