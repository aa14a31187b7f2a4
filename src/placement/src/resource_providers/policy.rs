use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const LIST: Rule = rule(
    "placement:resource_providers:list",
    ADMIN_OR_SERVICE,
    "List resource providers.",
    &[("GET", "/resource_providers")],
);
pub const CREATE: Rule = rule(
    "placement:resource_providers:create",
    ADMIN_OR_SERVICE,
    "Create a resource provider.",
    &[("POST", "/resource_providers")],
);
pub const SHOW: Rule = rule(
    "placement:resource_providers:show",
    ADMIN_OR_SERVICE,
    "Show a resource provider.",
    &[("GET", "/resource_providers/{uuid}")],
);
pub const UPDATE: Rule = rule(
    "placement:resource_providers:update",
    ADMIN_OR_SERVICE,
    "Rename a resource provider or give it a parent.",
    &[("PUT", "/resource_providers/{uuid}")],
);
pub const DELETE: Rule = rule(
    "placement:resource_providers:delete",
    ADMIN_OR_SERVICE,
    "Delete a resource provider.",
    &[("DELETE", "/resource_providers/{uuid}")],
);
