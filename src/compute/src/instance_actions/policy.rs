//! Rules of instance actions, upstream names and defaults.

use rest::{Rule, rule};

pub(crate) const LIST: Rule = rule(
    "os_compute_api:os-instance-actions:list",
    "rule:project_reader_or_admin",
    "List what was done to a server",
    &[("GET", "/servers/{server_id}/os-instance-actions")],
);
pub(crate) const SHOW: Rule = rule(
    "os_compute_api:os-instance-actions:show",
    "rule:project_reader_or_admin",
    "Show one thing that was done to a server",
    &[("GET", "/servers/{server_id}/os-instance-actions/{request_id}")],
);
pub(crate) const EVENTS: Rule = rule(
    "os_compute_api:os-instance-actions:events",
    "rule:context_is_admin",
    "See its events",
    &[("GET", "/servers/{server_id}/os-instance-actions/{request_id}")],
);
pub(crate) const EVENTS_DETAILS: Rule = rule(
    "os_compute_api:os-instance-actions:events:details",
    "rule:context_is_admin",
    "See where its events happened and what failed in them",
    &[("GET", "/servers/{server_id}/os-instance-actions/{request_id}")],
);
