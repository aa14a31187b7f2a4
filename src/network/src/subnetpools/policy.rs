use rest::{Rule, rule};

use crate::policy::{ADMIN, MEMBER};

pub(crate) const CREATE: Rule = rule("create_subnetpool", MEMBER, "Create a subnet pool", &[("POST", "/subnetpools")]);
pub(crate) const CREATE_SHARED: Rule =
    rule("create_subnetpool:shared", ADMIN, "Create a shared subnet pool", &[("POST", "/subnetpools")]);
pub(crate) const CREATE_DEFAULT: Rule =
    rule("create_subnetpool:is_default", ADMIN, "Create the default subnet pool", &[("POST", "/subnetpools")]);
pub(crate) const GET_ONE: Rule = rule(
    "get_subnetpool",
    "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared_subnetpools",
    "See a subnet pool",
    &[("GET", "/subnetpools"), ("GET", "/subnetpools/{id}")],
);
pub(crate) const SHARED: Rule =
    rule("shared_subnetpools", "field:subnetpools:shared=True", "The subnet pool is shared with all projects", &[]);
pub(crate) const UPDATE: Rule =
    rule("update_subnetpool", MEMBER, "Change a subnet pool", &[("PUT", "/subnetpools/{id}")]);
pub(crate) const UPDATE_DEFAULT: Rule =
    rule("update_subnetpool:is_default", ADMIN, "Make it the default subnet pool", &[("PUT", "/subnetpools/{id}")]);
pub(crate) const DELETE: Rule =
    rule("delete_subnetpool", MEMBER, "Delete a subnet pool", &[("DELETE", "/subnetpools/{id}")]);
