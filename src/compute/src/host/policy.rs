//! Rules about the host, upstream names and defaults.

use rest::{Rule, rule};

const ADMIN: &str = "rule:context_is_admin";

pub(crate) const ZONES: Rule = rule(
    "os_compute_api:os-availability-zone:list",
    "@",
    "List availability zones",
    &[("GET", "/os-availability-zone")],
);
pub(crate) const ZONES_DETAIL: Rule = rule(
    "os_compute_api:os-availability-zone:detail",
    ADMIN,
    "List availability zones with hosts",
    &[("GET", "/os-availability-zone/detail")],
);
pub(crate) const SERVICES: Rule =
    rule("os_compute_api:os-services:list", ADMIN, "List services", &[("GET", "/os-services")]);
pub(crate) const SERVICES_UPDATE: Rule = rule(
    "os_compute_api:os-services:update",
    ADMIN,
    "Enable, disable, force down",
    &[("PUT", "/os-services/{service_id}")],
);
pub(crate) const HYPERVISORS: Rule =
    rule("os_compute_api:os-hypervisors:list", ADMIN, "List hypervisors", &[("GET", "/os-hypervisors")]);
pub(crate) const HYPERVISORS_DETAIL: Rule = rule(
    "os_compute_api:os-hypervisors:list-detail",
    ADMIN,
    "List hypervisors with details",
    &[("GET", "/os-hypervisors/detail")],
);
pub(crate) const HYPERVISORS_SHOW: Rule = rule(
    "os_compute_api:os-hypervisors:show",
    ADMIN,
    "Show a hypervisor",
    &[("GET", "/os-hypervisors/{hypervisor_id}")],
);
pub(crate) const HYPERVISORS_UPTIME: Rule = rule(
    "os_compute_api:os-hypervisors:uptime",
    ADMIN,
    "Show how long a hypervisor has been up",
    &[("GET", "/os-hypervisors/{hypervisor_id}/uptime")],
);
pub(crate) const HYPERVISORS_STATISTICS: Rule = rule(
    "os_compute_api:os-hypervisors:statistics",
    ADMIN,
    "Sums over all hypervisors",
    &[("GET", "/os-hypervisors/statistics")],
);
pub(crate) const HYPERVISORS_SEARCH: Rule = rule(
    "os_compute_api:os-hypervisors:search",
    ADMIN,
    "Find hypervisors by name",
    &[("GET", "/os-hypervisors/{hypervisor_hostname_pattern}/search")],
);
pub(crate) const HYPERVISORS_SERVERS: Rule = rule(
    "os_compute_api:os-hypervisors:servers",
    ADMIN,
    "List the servers of hypervisors",
    &[("GET", "/os-hypervisors/{hypervisor_hostname_pattern}/servers")],
);
pub(crate) const SERVICES_DELETE: Rule =
    rule("os_compute_api:os-services:delete", ADMIN, "Delete a service", &[("DELETE", "/os-services/{service_id}")]);
pub(crate) const HOSTS: Rule = rule("os_compute_api:os-hosts:list", ADMIN, "List hosts", &[("GET", "/os-hosts")]);
pub(crate) const HOSTS_SHOW: Rule =
    rule("os_compute_api:os-hosts:show", ADMIN, "Show a host", &[("GET", "/os-hosts/{host_name}")]);
pub(crate) const HOSTS_UPDATE: Rule =
    rule("os_compute_api:os-hosts:update", ADMIN, "Enable or disable a host", &[("PUT", "/os-hosts/{host_name}")]);
pub(crate) const HOSTS_START: Rule =
    rule("os_compute_api:os-hosts:start", ADMIN, "Start a host", &[("GET", "/os-hosts/{host_name}/startup")]);
pub(crate) const HOSTS_SHUTDOWN: Rule =
    rule("os_compute_api:os-hosts:shutdown", ADMIN, "Shut down a host", &[("GET", "/os-hosts/{host_name}/shutdown")]);
pub(crate) const HOSTS_REBOOT: Rule =
    rule("os_compute_api:os-hosts:reboot", ADMIN, "Reboot a host", &[("GET", "/os-hosts/{host_name}/reboot")]);
