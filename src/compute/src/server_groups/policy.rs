//! Rules of server groups, upstream names and defaults.

use rest::{Rule, rule};

pub(crate) const INDEX: Rule = rule(
    "os_compute_api:os-server-groups:index",
    "rule:project_reader_or_admin",
    "List all server groups",
    &[("GET", "/os-server-groups")],
);
pub(crate) const INDEX_ALL: Rule = rule(
    "os_compute_api:os-server-groups:index:all_projects",
    "rule:context_is_admin",
    "List all server groups for all projects",
    &[("GET", "/os-server-groups")],
);
pub(crate) const CREATE: Rule = rule(
    "os_compute_api:os-server-groups:create",
    "rule:project_member_or_admin",
    "Create a new server group",
    &[("POST", "/os-server-groups")],
);
pub(crate) const SHOW: Rule = rule(
    "os_compute_api:os-server-groups:show",
    "rule:project_reader_or_admin",
    "Show details of a server group",
    &[("GET", "/os-server-groups/{server_group_id}")],
);
pub(crate) const DELETE: Rule = rule(
    "os_compute_api:os-server-groups:delete",
    "rule:project_member_or_admin",
    "Delete a server group",
    &[("DELETE", "/os-server-groups/{server_group_id}")],
);
