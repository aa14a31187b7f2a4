use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const LIST: Rule = rule(
    "placement:resource_classes:list",
    ADMIN_OR_SERVICE,
    "List resource classes.",
    &[("GET", "/resource_classes")],
);
pub const CREATE: Rule = rule(
    "placement:resource_classes:create",
    ADMIN_OR_SERVICE,
    "Create a resource class.",
    &[("POST", "/resource_classes")],
);
pub const SHOW: Rule = rule(
    "placement:resource_classes:show",
    ADMIN_OR_SERVICE,
    "Show a resource class.",
    &[("GET", "/resource_classes/{name}")],
);
pub const UPDATE: Rule = rule(
    "placement:resource_classes:update",
    ADMIN_OR_SERVICE,
    "Create, confirm or (before 1.7) rename a resource class.",
    &[("PUT", "/resource_classes/{name}")],
);
pub const DELETE: Rule = rule(
    "placement:resource_classes:delete",
    ADMIN_OR_SERVICE,
    "Delete a resource class.",
    &[("DELETE", "/resource_classes/{name}")],
);
