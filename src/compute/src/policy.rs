//! Base rules that the resources' rules refer to, as upstream names and words them.

use rest::{Rule, rule};

pub(crate) const BASE: &[Rule] = &[
    rule("context_is_admin", "role:admin", "Who is an administrator", &[]),
    rule(
        "admin_or_owner",
        "is_admin:True or project_id:%(project_id)s",
        "Deprecated upstream, kept for overrides",
        &[],
    ),
    rule("admin_api", "role:admin", "Deprecated upstream, kept for overrides", &[]),
    rule("project_manager_api", "role:manager and project_id:%(project_id)s", "Managers of the project", &[]),
    rule("project_manager_or_admin", "rule:project_manager_api or rule:context_is_admin", "Managers or admins", &[]),
    rule("project_member_api", "role:member and project_id:%(project_id)s", "Members of the project", &[]),
    rule("project_reader_api", "role:reader and project_id:%(project_id)s", "Readers of the project", &[]),
    rule("project_member_or_admin", "rule:project_member_api or rule:context_is_admin", "Members or admins", &[]),
    rule("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin", "Readers or admins", &[]),
];
