use rest::{Rule, rule};

use crate::policy::{ADMIN, NETWORK_MEMBER};

pub(crate) const CREATE: Rule = rule("create_subnet", NETWORK_MEMBER, "Create a subnet", &[("POST", "/subnets")]);
pub(crate) const CREATE_SERVICE_TYPES: Rule =
    rule("create_subnet:service_types", ADMIN, "Reserve a subnet for device owners", &[("POST", "/subnets")]);
pub(crate) const GET_ONE: Rule = rule(
    "get_subnet",
    "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared or (role:reader and rule:network_owner) \
     or rule:service_api",
    "See a subnet",
    &[("GET", "/subnets"), ("GET", "/subnets/{id}")],
);
pub(crate) const UPDATE: Rule = rule(
    "update_subnet",
    "rule:admin_only or (role:member and project_id:%(project_id)s) or (role:member and rule:network_owner)",
    "Change a subnet",
    &[("PUT", "/subnets/{id}")],
);
pub(crate) const UPDATE_SERVICE_TYPES: Rule =
    rule("update_subnet:service_types", ADMIN, "Reserve a subnet for device owners", &[("PUT", "/subnets/{id}")]);
pub(crate) const DELETE: Rule = rule(
    "delete_subnet",
    "rule:admin_only or (role:member and project_id:%(project_id)s) or (role:member and rule:network_owner)",
    "Delete a subnet",
    &[("DELETE", "/subnets/{id}")],
);
