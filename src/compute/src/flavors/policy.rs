//! Rules of flavors, upstream names and defaults.

use rest::{Rule, rule};

const MANAGE: &str = "rule:context_is_admin";

pub(crate) const CREATE: Rule =
    rule("os_compute_api:os-flavor-manage:create", MANAGE, "Create a flavor", &[("POST", "/flavors")]);
pub(crate) const UPDATE: Rule =
    rule("os_compute_api:os-flavor-manage:update", MANAGE, "Update a flavor", &[("PUT", "/flavors/{flavor_id}")]);
pub(crate) const DELETE: Rule =
    rule("os_compute_api:os-flavor-manage:delete", MANAGE, "Delete a flavor", &[("DELETE", "/flavors/{flavor_id}")]);
pub(crate) const SHOW: Rule = rule(
    "os_compute_api:flavors",
    "@",
    "List and show flavors; upstream asks no rule",
    &[("GET", "/flavors"), ("GET", "/flavors/{flavor_id}")],
);
pub(crate) const ACCESS: Rule = rule(
    "os_compute_api:os-flavor-access",
    MANAGE,
    "List who may use a flavor",
    &[("GET", "/flavors/{flavor_id}/os-flavor-access")],
);
pub(crate) const ACCESS_ADD: Rule = rule(
    "os_compute_api:os-flavor-access:add_tenant_access",
    MANAGE,
    "Let a project use a flavor",
    &[("POST", "/flavors/{flavor_id}/action (addTenantAccess)")],
);
pub(crate) const ACCESS_REMOVE: Rule = rule(
    "os_compute_api:os-flavor-access:remove_tenant_access",
    MANAGE,
    "Let a project no longer use a flavor",
    &[("POST", "/flavors/{flavor_id}/action (removeTenantAccess)")],
);
pub(crate) const EXTRA_SPECS_INDEX: Rule = rule(
    "os_compute_api:os-flavor-extra-specs:index",
    "rule:project_reader_or_admin",
    "List extra specs",
    &[("GET", "/flavors/{flavor_id}/os-extra_specs"), ("GET", "/flavors/detail")],
);
pub(crate) const EXTRA_SPECS_SHOW: Rule = rule(
    "os_compute_api:os-flavor-extra-specs:show",
    "rule:project_reader_or_admin",
    "Show an extra spec",
    &[("GET", "/flavors/{flavor_id}/os-extra_specs/{key}")],
);
pub(crate) const EXTRA_SPECS_CREATE: Rule = rule(
    "os_compute_api:os-flavor-extra-specs:create",
    MANAGE,
    "Add extra specs",
    &[("POST", "/flavors/{flavor_id}/os-extra_specs")],
);
pub(crate) const EXTRA_SPECS_UPDATE: Rule = rule(
    "os_compute_api:os-flavor-extra-specs:update",
    MANAGE,
    "Change an extra spec",
    &[("PUT", "/flavors/{flavor_id}/os-extra_specs/{key}")],
);
pub(crate) const EXTRA_SPECS_DELETE: Rule = rule(
    "os_compute_api:os-flavor-extra-specs:delete",
    MANAGE,
    "Remove an extra spec",
    &[("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}")],
);
