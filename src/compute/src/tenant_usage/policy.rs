//! Rules of usage reports, upstream names and defaults.

use rest::{Rule, rule};

pub(crate) const LIST: Rule = rule(
    "os_compute_api:os-simple-tenant-usage:list",
    "rule:context_is_admin",
    "Show what all projects used",
    &[("GET", "/os-simple-tenant-usage")],
);
pub(crate) const SHOW: Rule = rule(
    "os_compute_api:os-simple-tenant-usage:show",
    "rule:project_reader_or_admin",
    "Show what a project used",
    &[("GET", "/os-simple-tenant-usage/{tenant_id}")],
);
pub(crate) const AUDIT_LIST: Rule = rule(
    "os_compute_api:os-instance-usage-audit-log:list",
    "rule:context_is_admin",
    "Show how far usage audits of the last period are",
    &[("GET", "/os-instance_usage_audit_log")],
);
pub(crate) const AUDIT_SHOW: Rule = rule(
    "os_compute_api:os-instance-usage-audit-log:show",
    "rule:context_is_admin",
    "Show how far usage audits of the period before a time are",
    &[("GET", "/os-instance_usage_audit_log/{before_timestamp}")],
);
