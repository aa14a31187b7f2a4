//! Rules of limits and quota sets, upstream names and defaults.

use rest::{Rule, rule};

const ADMIN: &str = "rule:context_is_admin";

pub(crate) const SHOW: Rule =
    rule("os_compute_api:limits", "@", "Show limits of the own project", &[("GET", "/limits")]);
pub(crate) const OTHER_PROJECT: Rule =
    rule("os_compute_api:limits:other_project", ADMIN, "Show limits of another project", &[("GET", "/limits")]);
pub(crate) const QUOTA_SHOW: Rule = rule(
    "os_compute_api:os-quota-sets:show",
    "rule:project_reader_or_admin",
    "Show a quota set",
    &[("GET", "/os-quota-sets/{tenant_id}")],
);
pub(crate) const QUOTA_DEFAULTS: Rule = rule(
    "os_compute_api:os-quota-sets:defaults",
    "@",
    "Show the default quotas",
    &[("GET", "/os-quota-sets/{tenant_id}/defaults")],
);
pub(crate) const QUOTA_DETAIL: Rule = rule(
    "os_compute_api:os-quota-sets:detail",
    "rule:project_reader_or_admin",
    "Show a quota set with usage",
    &[("GET", "/os-quota-sets/{tenant_id}/detail")],
);
pub(crate) const QUOTA_UPDATE: Rule =
    rule("os_compute_api:os-quota-sets:update", ADMIN, "Update a quota set", &[("PUT", "/os-quota-sets/{tenant_id}")]);
pub(crate) const QUOTA_DELETE: Rule = rule(
    "os_compute_api:os-quota-sets:delete",
    ADMIN,
    "Go back to the default quotas",
    &[("DELETE", "/os-quota-sets/{tenant_id}")],
);
pub(crate) const CLASS_SHOW: Rule = rule(
    "os_compute_api:os-quota-class-sets:show",
    ADMIN,
    "Show the limits of a quota class",
    &[("GET", "/os-quota-class-sets/{quota_class}")],
);
pub(crate) const CLASS_UPDATE: Rule = rule(
    "os_compute_api:os-quota-class-sets:update",
    ADMIN,
    "Change the limits of a quota class",
    &[("PUT", "/os-quota-class-sets/{quota_class}")],
);
