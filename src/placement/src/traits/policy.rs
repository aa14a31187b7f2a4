use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const LIST: Rule = rule("placement:traits:list", ADMIN_OR_SERVICE, "List traits.", &[("GET", "/traits")]);
pub const SHOW: Rule = rule("placement:traits:show", ADMIN_OR_SERVICE, "Show a trait.", &[("GET", "/traits/{name}")]);
pub const UPDATE: Rule =
    rule("placement:traits:update", ADMIN_OR_SERVICE, "Create or confirm a trait.", &[("PUT", "/traits/{name}")]);
pub const DELETE: Rule =
    rule("placement:traits:delete", ADMIN_OR_SERVICE, "Delete a trait.", &[("DELETE", "/traits/{name}")]);
pub const PROVIDER_LIST: Rule = rule(
    "placement:resource_providers:traits:list",
    ADMIN_OR_SERVICE,
    "List a resource provider's traits.",
    &[("GET", "/resource_providers/{uuid}/traits")],
);
pub const PROVIDER_UPDATE: Rule = rule(
    "placement:resource_providers:traits:update",
    ADMIN_OR_SERVICE,
    "Replace a resource provider's traits.",
    &[("PUT", "/resource_providers/{uuid}/traits")],
);
pub const PROVIDER_DELETE: Rule = rule(
    "placement:resource_providers:traits:delete",
    ADMIN_OR_SERVICE,
    "Remove all of a resource provider's traits.",
    &[("DELETE", "/resource_providers/{uuid}/traits")],
);
