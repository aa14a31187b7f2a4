use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const MANAGE: Rule = rule(
    "placement:allocations:manage",
    ADMIN_OR_SERVICE,
    "Write the allocations of several consumers at once.",
    &[("POST", "/allocations")],
);
pub const LIST: Rule = rule(
    "placement:allocations:list",
    ADMIN_OR_SERVICE,
    "Show a consumer's allocations.",
    &[("GET", "/allocations/{consumer_uuid}")],
);
pub const UPDATE: Rule = rule(
    "placement:allocations:update",
    ADMIN_OR_SERVICE,
    "Write a consumer's allocations.",
    &[("PUT", "/allocations/{consumer_uuid}")],
);
pub const DELETE: Rule = rule(
    "placement:allocations:delete",
    ADMIN_OR_SERVICE,
    "Delete a consumer's allocations.",
    &[("DELETE", "/allocations/{consumer_uuid}")],
);
pub const OF_PROVIDER: Rule = rule(
    "placement:resource_providers:allocations:list",
    ADMIN_OR_SERVICE,
    "List the allocations from a resource provider.",
    &[("GET", "/resource_providers/{uuid}/allocations")],
);
