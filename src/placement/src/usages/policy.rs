use rest::{Rule, rule};

use crate::policy::{ADMIN_OR_PROJECT_READER_OR_SERVICE, ADMIN_OR_SERVICE};

pub const PROVIDER: Rule = rule(
    "placement:resource_providers:usages",
    ADMIN_OR_SERVICE,
    "Show what is allocated of a resource provider.",
    &[("GET", "/resource_providers/{uuid}/usages")],
);
pub const TOTAL: Rule = rule(
    "placement:usages",
    ADMIN_OR_PROJECT_READER_OR_SERVICE,
    "Show what is allocated to a project.",
    &[("GET", "/usages")],
);
