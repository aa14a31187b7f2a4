use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const LIST: Rule = rule(
    "placement:resource_providers:inventories:list",
    ADMIN_OR_SERVICE,
    "List a resource provider's inventories.",
    &[("GET", "/resource_providers/{uuid}/inventories")],
);
pub const CREATE: Rule = rule(
    "placement:resource_providers:inventories:create",
    ADMIN_OR_SERVICE,
    "Add an inventory to a resource provider.",
    &[("POST", "/resource_providers/{uuid}/inventories")],
);
pub const SHOW: Rule = rule(
    "placement:resource_providers:inventories:show",
    ADMIN_OR_SERVICE,
    "Show one inventory of a resource provider.",
    &[("GET", "/resource_providers/{uuid}/inventories/{resource_class}")],
);
pub const UPDATE: Rule = rule(
    "placement:resource_providers:inventories:update",
    ADMIN_OR_SERVICE,
    "Change one or all inventories of a resource provider.",
    &[
        ("PUT", "/resource_providers/{uuid}/inventories"),
        ("PUT", "/resource_providers/{uuid}/inventories/{resource_class}"),
    ],
);
pub const DELETE: Rule = rule(
    "placement:resource_providers:inventories:delete",
    ADMIN_OR_SERVICE,
    "Delete one or all inventories of a resource provider.",
    &[
        ("DELETE", "/resource_providers/{uuid}/inventories"),
        ("DELETE", "/resource_providers/{uuid}/inventories/{resource_class}"),
    ],
);
