//! Rules of members, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::MEMBER;

const SEEN: &str = "rule:context_is_admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)";

pub const INDEX: Rule = rule("get_members", SEEN, "List image members", &[("GET", "/v2/images/{image_id}/members")]);
pub const SHOW: Rule =
    rule("get_member", SEEN, "Show image member details", &[("GET", "/v2/images/{image_id}/members/{member_id}")]);
pub const CREATE: Rule =
    rule("add_member", MEMBER, "Create image member", &[("POST", "/v2/images/{image_id}/members")]);
pub const DELETE: Rule =
    rule("delete_member", MEMBER, "Delete image member", &[("DELETE", "/v2/images/{image_id}/members/{member_id}")]);
pub const UPDATE: Rule = rule(
    "modify_member",
    "rule:context_is_admin or (role:member and project_id:%(member_id)s)",
    "Update image member",
    &[("PUT", "/v2/images/{image_id}/members/{member_id}")],
);
