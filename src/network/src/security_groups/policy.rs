use rest::{Rule, rule};

use crate::policy::{MEMBER, READER};

pub(crate) const CREATE: Rule =
    rule("create_security_group", MEMBER, "Create a security group", &[("POST", "/security-groups")]);
pub(crate) const GET_ONE: Rule = rule(
    "get_security_group",
    READER,
    "See a security group",
    &[("GET", "/security-groups"), ("GET", "/security-groups/{id}")],
);
pub(crate) const UPDATE: Rule =
    rule("update_security_group", MEMBER, "Change a security group", &[("PUT", "/security-groups/{id}")]);
pub(crate) const DELETE: Rule =
    rule("delete_security_group", MEMBER, "Delete a security group", &[("DELETE", "/security-groups/{id}")]);
pub(crate) const CREATE_RULE: Rule =
    rule("create_security_group_rule", MEMBER, "Create a rule", &[("POST", "/security-group-rules")]);
pub(crate) const GET_RULE: Rule = rule(
    "get_security_group_rule",
    "rule:admin_only or (role:reader and project_id:%(project_id)s) or (role:reader and rule:ext_parent_owner)",
    "See a rule",
    &[("GET", "/security-group-rules"), ("GET", "/security-group-rules/{id}")],
);
pub(crate) const DELETE_RULE: Rule = rule(
    "delete_security_group_rule",
    "rule:admin_only or (role:member and project_id:%(project_id)s) or (role:member and rule:ext_parent_owner)",
    "Delete a rule",
    &[("DELETE", "/security-group-rules/{id}")],
);
