//! Rules of migrations, upstream names and defaults.

use rest::{Rule, rule};

const ADMIN: &str = "rule:context_is_admin";
const MANAGER: &str = "rule:project_manager_or_admin";

pub(crate) const INDEX: Rule = rule(
    "os_compute_api:os-migrations:index",
    MANAGER,
    "List migrations without naming hosts",
    &[("GET", "/os-migrations")],
);
pub(crate) const INDEX_ALL: Rule = rule(
    "os_compute_api:os-migrations:index:all_projects",
    ADMIN,
    "List migrations of other projects",
    &[("GET", "/os-migrations")],
);
pub(crate) const INDEX_HOST: Rule =
    rule("os_compute_api:os-migrations:index:host", ADMIN, "See the hosts of migrations", &[("GET", "/os-migrations")]);
pub(crate) const OF_SERVER: Rule = rule(
    "os_compute_api:servers:migrations:index",
    MANAGER,
    "List the live migrations of a server that are in progress",
    &[("GET", "/servers/{server_id}/migrations")],
);
pub(crate) const OF_SERVER_SHOW: Rule = rule(
    "os_compute_api:servers:migrations:show",
    ADMIN,
    "Show a live migration that is in progress",
    &[("GET", "/servers/{server_id}/migrations/{migration_id}")],
);
pub(crate) const OF_SERVER_DELETE: Rule = rule(
    "os_compute_api:servers:migrations:delete",
    MANAGER,
    "Abort a live migration that is in progress",
    &[("DELETE", "/servers/{server_id}/migrations/{migration_id}")],
);
pub(crate) const OF_SERVER_FORCE: Rule = rule(
    "os_compute_api:servers:migrations:force_complete",
    MANAGER,
    "Make a live migration that is in progress end",
    &[("POST", "/servers/{server_id}/migrations/{migration_id}/action")],
);
