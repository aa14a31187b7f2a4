//! Rules of assignments, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

macro_rules! pairs {
    ($role:literal) => {
        concat!(
            "(role:",
            $role,
            " and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s)",
            " or (role:",
            $role,
            " and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s)",
            " or (role:",
            $role,
            " and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s)",
            " or (role:",
            $role,
            " and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)"
        )
    };
}

const READ_ONE: &str = concat!(
    "(rule:admin_required) or ((role:reader and system_scope:all) or (",
    pairs!("reader"),
    ") and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s))"
);
const READ_ALL: &str =
    concat!("(rule:admin_required) or ((role:reader and system_scope:all) or ", pairs!("reader"), ")");
const WRITE: &str = concat!(
    "(rule:admin_required) or (",
    pairs!("admin"),
    ") and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s) or (",
    pairs!("manager"),
    ") and rule:domain_managed_target_role"
);

const ONE: &[(&str, &str)] = &[
    ("GET", "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}"),
    ("GET", "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}"),
    ("GET", "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}"),
    ("GET", "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}"),
    ("GET", "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects"),
    ("GET", "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"),
    ("GET", "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects"),
    ("GET", "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"),
];

pub(crate) const CHECK: Rule = rule("identity:check_grant", READ_ONE, "See whether a role is granted.", ONE);
pub(crate) const LIST: Rule = rule(
    "identity:list_grants",
    READ_ALL,
    "List the roles granted to one user or group on one target.",
    &[
        ("GET", "/v3/projects/{project_id}/users/{user_id}/roles"),
        ("GET", "/v3/projects/{project_id}/groups/{group_id}/roles"),
        ("GET", "/v3/domains/{domain_id}/users/{user_id}/roles"),
        ("GET", "/v3/domains/{domain_id}/groups/{group_id}/roles"),
        ("GET", "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects"),
        ("GET", "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects"),
    ],
);
pub(crate) const CREATE: Rule = rule(
    "identity:create_grant",
    WRITE,
    "Grant a role on a project or domain.",
    &[
        ("PUT", "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}"),
        ("PUT", "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}"),
        ("PUT", "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}"),
        ("PUT", "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}"),
    ],
);
pub(crate) const REVOKE: Rule = rule(
    "identity:revoke_grant",
    WRITE,
    "Take a role on a project or domain away.",
    &[
        ("DELETE", "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}"),
        ("DELETE", "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}"),
        ("DELETE", "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}"),
        ("DELETE", "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}"),
    ],
);

pub(crate) const SYSTEM_USER_LIST: Rule = rule(
    "identity:list_system_grants_for_user",
    ADMIN_OR_SYSTEM_READER,
    "List the system roles of a user.",
    &[("GET", "/v3/system/users/{user_id}/roles")],
);
pub(crate) const SYSTEM_USER_CHECK: Rule = rule(
    "identity:check_system_grant_for_user",
    ADMIN_OR_SYSTEM_READER,
    "See whether a user has a system role.",
    &[("GET", "/v3/system/users/{user_id}/roles/{role_id}")],
);
pub(crate) const SYSTEM_USER_CREATE: Rule = rule(
    "identity:create_system_grant_for_user",
    ADMIN,
    "Grant a user a system role.",
    &[("PUT", "/v3/system/users/{user_id}/roles/{role_id}")],
);
pub(crate) const SYSTEM_USER_REVOKE: Rule = rule(
    "identity:revoke_system_grant_for_user",
    ADMIN,
    "Take a system role away from a user.",
    &[("DELETE", "/v3/system/users/{user_id}/roles/{role_id}")],
);
pub(crate) const SYSTEM_GROUP_LIST: Rule = rule(
    "identity:list_system_grants_for_group",
    ADMIN_OR_SYSTEM_READER,
    "List the system roles of a group.",
    &[("GET", "/v3/system/groups/{group_id}/roles")],
);
pub(crate) const SYSTEM_GROUP_CHECK: Rule = rule(
    "identity:check_system_grant_for_group",
    ADMIN_OR_SYSTEM_READER,
    "See whether a group has a system role.",
    &[("GET", "/v3/system/groups/{group_id}/roles/{role_id}")],
);
pub(crate) const SYSTEM_GROUP_CREATE: Rule = rule(
    "identity:create_system_grant_for_group",
    ADMIN,
    "Grant a group a system role.",
    &[("PUT", "/v3/system/groups/{group_id}/roles/{role_id}")],
);
pub(crate) const SYSTEM_GROUP_REVOKE: Rule = rule(
    "identity:revoke_system_grant_for_group",
    ADMIN,
    "Take a system role away from a group.",
    &[("DELETE", "/v3/system/groups/{group_id}/roles/{role_id}")],
);

const LISTING: &str =
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)";
pub(crate) const LIST_ASSIGNMENTS: Rule =
    rule("identity:list_role_assignments", LISTING, "List role assignments.", &[("GET", "/v3/role_assignments")]);
pub(crate) const LIST_ASSIGNMENTS_FOR_TREE: Rule = rule(
    "identity:list_role_assignments_for_tree",
    LISTING,
    "List role assignments of a project and all below it.",
    &[("GET", "/v3/role_assignments?include_subtree")],
);
