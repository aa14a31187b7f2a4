//! Rules of groups, with upstream's names and defaults.

use rest::{Rule, rule};

const READ: &str = "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and \
     domain_id:%(target.group.domain_id)s)";
const WRITE: &str = "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s)";
const WRITE_MEMBER: &str = "(rule:admin_required) or (role:manager and domain_id:%(target.group.domain_id)s and \
     domain_id:%(target.user.domain_id)s)";

pub(crate) const GET: Rule = rule("identity:get_group", READ, "Show a group.", &[("GET", "/v3/groups/{group_id}")]);
pub(crate) const LIST: Rule = rule("identity:list_groups", READ, "List groups.", &[("GET", "/v3/groups")]);
pub(crate) const LIST_OF_USER: Rule = rule(
    "identity:list_groups_for_user",
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and \
     domain_id:%(target.user.domain_id)s) or user_id:%(user_id)s",
    "List the groups of a user.",
    &[("GET", "/v3/users/{user_id}/groups")],
);
pub(crate) const CREATE: Rule = rule("identity:create_group", WRITE, "Create a group.", &[("POST", "/v3/groups")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_group", WRITE, "Change a group.", &[("PATCH", "/v3/groups/{group_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_group", WRITE, "Delete a group.", &[("DELETE", "/v3/groups/{group_id}")]);
pub(crate) const LIST_USERS: Rule =
    rule("identity:list_users_in_group", READ, "List the users of a group.", &[("GET", "/v3/groups/{group_id}/users")]);
pub(crate) const CHECK_USER: Rule = rule(
    "identity:check_user_in_group",
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and \
     domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)",
    "See whether a user is in a group.",
    &[("GET", "/v3/groups/{group_id}/users/{user_id}")],
);
pub(crate) const ADD_USER: Rule = rule(
    "identity:add_user_to_group",
    WRITE_MEMBER,
    "Put a user into a group.",
    &[("PUT", "/v3/groups/{group_id}/users/{user_id}")],
);
pub(crate) const REMOVE_USER: Rule = rule(
    "identity:remove_user_from_group",
    WRITE_MEMBER,
    "Take a user out of a group.",
    &[("DELETE", "/v3/groups/{group_id}/users/{user_id}")],
);
