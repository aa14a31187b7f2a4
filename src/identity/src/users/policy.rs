//! Rules of users, with upstream's names and defaults.

use rest::{Rule, rule};

const WRITE: &str = "(rule:admin_required) or (role:manager and token.domain.id:%(target.user.domain_id)s)";

pub(crate) const GET: Rule = rule(
    "identity:get_user",
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and \
     token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s",
    "Show a user.",
    &[("GET", "/v3/users/{user_id}")],
);
pub(crate) const LIST: Rule = rule(
    "identity:list_users",
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)",
    "List users.",
    &[("GET", "/v3/users")],
);
pub(crate) const CREATE: Rule = rule("identity:create_user", WRITE, "Create a user.", &[("POST", "/v3/users")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_user", WRITE, "Change a user.", &[("PATCH", "/v3/users/{user_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_user", WRITE, "Delete a user.", &[("DELETE", "/v3/users/{user_id}")]);
