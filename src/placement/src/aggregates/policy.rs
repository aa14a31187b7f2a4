use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const LIST: Rule = rule(
    "placement:resource_providers:aggregates:list",
    ADMIN_OR_SERVICE,
    "List a resource provider's aggregates.",
    &[("GET", "/resource_providers/{uuid}/aggregates")],
);
pub const UPDATE: Rule = rule(
    "placement:resource_providers:aggregates:update",
    ADMIN_OR_SERVICE,
    "Replace a resource provider's aggregates.",
    &[("PUT", "/resource_providers/{uuid}/aggregates")],
);
