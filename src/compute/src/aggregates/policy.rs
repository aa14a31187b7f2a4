//! Rules of host aggregates, upstream names and defaults.

use rest::{Rule, rule};

const ADMIN: &str = "rule:context_is_admin";

pub(crate) const INDEX: Rule =
    rule("os_compute_api:os-aggregates:index", ADMIN, "List aggregates", &[("GET", "/os-aggregates")]);
pub(crate) const CREATE: Rule =
    rule("os_compute_api:os-aggregates:create", ADMIN, "Create an aggregate", &[("POST", "/os-aggregates")]);
pub(crate) const SHOW: Rule =
    rule("os_compute_api:os-aggregates:show", ADMIN, "Show an aggregate", &[("GET", "/os-aggregates/{aggregate_id}")]);
pub(crate) const UPDATE: Rule = rule(
    "os_compute_api:os-aggregates:update",
    ADMIN,
    "Change an aggregate's name or zone",
    &[("PUT", "/os-aggregates/{aggregate_id}")],
);
pub(crate) const DELETE: Rule = rule(
    "os_compute_api:os-aggregates:delete",
    ADMIN,
    "Delete an aggregate",
    &[("DELETE", "/os-aggregates/{aggregate_id}")],
);
pub(crate) const ADD_HOST: Rule = rule(
    "os_compute_api:os-aggregates:add_host",
    ADMIN,
    "Add a host to an aggregate",
    &[("POST", "/os-aggregates/{aggregate_id}/action")],
);
pub(crate) const REMOVE_HOST: Rule = rule(
    "os_compute_api:os-aggregates:remove_host",
    ADMIN,
    "Remove a host from an aggregate",
    &[("POST", "/os-aggregates/{aggregate_id}/action")],
);
pub(crate) const SET_METADATA: Rule = rule(
    "os_compute_api:os-aggregates:set_metadata",
    ADMIN,
    "Set or remove an aggregate's metadata",
    &[("POST", "/os-aggregates/{aggregate_id}/action")],
);
pub(crate) const IMAGES: Rule = rule(
    "compute:aggregates:images",
    ADMIN,
    "Have images ready on the hosts of an aggregate",
    &[("POST", "/os-aggregates/{aggregate_id}/images")],
);
