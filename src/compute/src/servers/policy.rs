//! Rules of servers, upstream names and defaults.

use rest::{Rule, rule};

const READER: &str = "rule:project_reader_or_admin";
const MEMBER: &str = "rule:project_member_or_admin";
const MANAGER: &str = "rule:project_manager_or_admin";
const ADMIN: &str = "rule:context_is_admin";
const ACTION: &[(&str, &str)] = &[("POST", "/servers/{server_id}/action")];

pub(crate) const INDEX: Rule = rule("os_compute_api:servers:index", READER, "List servers", &[("GET", "/servers")]);
pub(crate) const DETAIL: Rule =
    rule("os_compute_api:servers:detail", READER, "List servers with details", &[("GET", "/servers/detail")]);
pub(crate) const INDEX_ALL: Rule =
    rule("os_compute_api:servers:index:get_all_tenants", ADMIN, "List servers of all projects", &[("GET", "/servers")]);
pub(crate) const DETAIL_ALL: Rule = rule(
    "os_compute_api:servers:detail:get_all_tenants",
    ADMIN,
    "List servers of all projects with details",
    &[("GET", "/servers/detail")],
);
pub(crate) const ALLOW_ALL_FILTERS: Rule =
    rule("os_compute_api:servers:allow_all_filters", ADMIN, "Use every filter", &[("GET", "/servers")]);
pub(crate) const SHOW: Rule =
    rule("os_compute_api:servers:show", READER, "Show a server", &[("GET", "/servers/{server_id}")]);
pub(crate) const SHOW_HOST_STATUS: Rule = rule(
    "os_compute_api:servers:show:host_status",
    ADMIN,
    "See the host's status",
    &[("GET", "/servers/{server_id}"), ("GET", "/servers/detail")],
);
pub(crate) const EXTENDED: Rule = rule(
    "os_compute_api:os-extended-server-attributes",
    ADMIN,
    "See OS-EXT-SRV-ATTR attributes",
    &[("GET", "/servers/{server_id}"), ("GET", "/servers/detail")],
);
pub(crate) const CREATE: Rule =
    rule("os_compute_api:servers:create", MEMBER, "Create a server", &[("POST", "/servers")]);
pub(crate) const UPDATE: Rule =
    rule("os_compute_api:servers:update", MEMBER, "Update a server", &[("PUT", "/servers/{server_id}")]);
pub(crate) const DELETE: Rule =
    rule("os_compute_api:servers:delete", MEMBER, "Delete a server", &[("DELETE", "/servers/{server_id}")]);
pub(crate) const START: Rule = rule("os_compute_api:servers:start", MEMBER, "Start a server", ACTION);
pub(crate) const STOP: Rule = rule("os_compute_api:servers:stop", MEMBER, "Stop a server", ACTION);
pub(crate) const REBOOT: Rule = rule("os_compute_api:servers:reboot", MEMBER, "Reboot a server", ACTION);
pub(crate) const PAUSE: Rule = rule("os_compute_api:os-pause-server:pause", MEMBER, "Pause a server", ACTION);
pub(crate) const UNPAUSE: Rule = rule("os_compute_api:os-pause-server:unpause", MEMBER, "Unpause a server", ACTION);
pub(crate) const SUSPEND: Rule = rule("os_compute_api:os-suspend-server:suspend", MEMBER, "Suspend a server", ACTION);
pub(crate) const RESUME: Rule = rule("os_compute_api:os-suspend-server:resume", MEMBER, "Resume a server", ACTION);
pub(crate) const CONSOLE_OUTPUT: Rule =
    rule("os_compute_api:os-console-output", MEMBER, "Read the console log", ACTION);
pub(crate) const CREATE_IMAGE: Rule =
    rule("os_compute_api:servers:create_image", MEMBER, "Create an image of a server", ACTION);
pub(crate) const CREATE_BACKUP: Rule =
    rule("os_compute_api:os-create-backup", MEMBER, "Create a backup of a server", ACTION);
pub(crate) const RESCUE: Rule = rule("os_compute_api:os-rescue", MEMBER, "Rescue a server", ACTION);
pub(crate) const UNRESCUE: Rule = rule("os_compute_api:os-unrescue", MEMBER, "Unrescue a server", ACTION);
pub(crate) const SHELVE: Rule = rule("os_compute_api:os-shelve:shelve", MEMBER, "Shelve a server", ACTION);
pub(crate) const SHELVE_OFFLOAD: Rule =
    rule("os_compute_api:os-shelve:shelve_offload", ADMIN, "Remove a shelved server from its host", ACTION);
pub(crate) const UNSHELVE: Rule = rule("os_compute_api:os-shelve:unshelve", MEMBER, "Unshelve a server", ACTION);
pub(crate) const UNSHELVE_TO_HOST: Rule =
    rule("os_compute_api:os-shelve:unshelve_to_host", ADMIN, "Unshelve a server to a given host", ACTION);
pub(crate) const LOCK: Rule = rule("os_compute_api:os-lock-server:lock", MEMBER, "Lock a server", ACTION);
pub(crate) const UNLOCK: Rule = rule("os_compute_api:os-lock-server:unlock", MEMBER, "Unlock a server", ACTION);
pub(crate) const UNLOCK_OVERRIDE: Rule =
    rule("os_compute_api:os-lock-server:unlock:unlock_override", ADMIN, "Unlock what an administrator locked", ACTION);
pub(crate) const RESET_STATE: Rule =
    rule("os_compute_api:os-admin-actions:reset_state", ADMIN, "Set a server's state", ACTION);
pub(crate) const SECURITY_GROUPS: Rule = rule(
    "os_compute_api:os-security-groups:list",
    READER,
    "List the security groups of a server",
    &[("GET", "/servers/{server_id}/os-security-groups")],
);
pub(crate) const SECURITY_GROUPS_ADD: Rule =
    rule("os_compute_api:os-security-groups:add", MEMBER, "Add a security group to a server", ACTION);
pub(crate) const SECURITY_GROUPS_REMOVE: Rule =
    rule("os_compute_api:os-security-groups:remove", MEMBER, "Remove a security group from a server", ACTION);
pub(crate) const FIXED_IP_ADD: Rule =
    rule("os_compute_api:os-multinic:add", MEMBER, "Give a server one more address", ACTION);
pub(crate) const FIXED_IP_REMOVE: Rule =
    rule("os_compute_api:os-multinic:remove", MEMBER, "Take an address from a server", ACTION);
pub(crate) const IPS: Rule =
    rule("os_compute_api:ips:index", READER, "List the addresses of a server", &[("GET", "/servers/{server_id}/ips")]);
pub(crate) const IPS_SHOW: Rule = rule(
    "os_compute_api:ips:show",
    READER,
    "List the addresses of a server on one network",
    &[("GET", "/servers/{server_id}/ips/{network_label}")],
);
pub(crate) const INTERFACES: Rule = rule(
    "os_compute_api:os-attach-interfaces:list",
    READER,
    "List the interfaces of a server",
    &[("GET", "/servers/{server_id}/os-interface")],
);
pub(crate) const INTERFACES_SHOW: Rule = rule(
    "os_compute_api:os-attach-interfaces:show",
    READER,
    "Show an interface of a server",
    &[("GET", "/servers/{server_id}/os-interface/{port_id}")],
);
pub(crate) const INTERFACES_CREATE: Rule = rule(
    "os_compute_api:os-attach-interfaces:create",
    MEMBER,
    "Attach an interface to a server",
    &[("POST", "/servers/{server_id}/os-interface")],
);
pub(crate) const INTERFACES_DELETE: Rule = rule(
    "os_compute_api:os-attach-interfaces:delete",
    MEMBER,
    "Detach an interface from a server",
    &[("DELETE", "/servers/{server_id}/os-interface/{port_id}")],
);
pub(crate) const METADATA_INDEX: Rule =
    rule("os_compute_api:server-metadata:index", READER, "List metadata", &[("GET", "/servers/{server_id}/metadata")]);
pub(crate) const METADATA_SHOW: Rule = rule(
    "os_compute_api:server-metadata:show",
    READER,
    "Show a metadata item",
    &[("GET", "/servers/{server_id}/metadata/{key}")],
);
pub(crate) const METADATA_CREATE: Rule =
    rule("os_compute_api:server-metadata:create", MEMBER, "Add metadata", &[("POST", "/servers/{server_id}/metadata")]);
pub(crate) const METADATA_UPDATE_ALL: Rule = rule(
    "os_compute_api:server-metadata:update_all",
    MEMBER,
    "Replace metadata",
    &[("PUT", "/servers/{server_id}/metadata")],
);
pub(crate) const METADATA_UPDATE: Rule = rule(
    "os_compute_api:server-metadata:update",
    MEMBER,
    "Change a metadata item",
    &[("PUT", "/servers/{server_id}/metadata/{key}")],
);
pub(crate) const METADATA_DELETE: Rule = rule(
    "os_compute_api:server-metadata:delete",
    MEMBER,
    "Remove a metadata item",
    &[("DELETE", "/servers/{server_id}/metadata/{key}")],
);
pub(crate) const TAGS_INDEX: Rule =
    rule("os_compute_api:os-server-tags:index", READER, "List tags", &[("GET", "/servers/{server_id}/tags")]);
pub(crate) const TAGS_SHOW: Rule =
    rule("os_compute_api:os-server-tags:show", READER, "Look for a tag", &[("GET", "/servers/{server_id}/tags/{tag}")]);
pub(crate) const TAGS_UPDATE: Rule =
    rule("os_compute_api:os-server-tags:update", MEMBER, "Add a tag", &[("PUT", "/servers/{server_id}/tags/{tag}")]);
pub(crate) const TAGS_UPDATE_ALL: Rule =
    rule("os_compute_api:os-server-tags:update_all", MEMBER, "Replace tags", &[("PUT", "/servers/{server_id}/tags")]);
pub(crate) const TAGS_DELETE: Rule = rule(
    "os_compute_api:os-server-tags:delete",
    MEMBER,
    "Remove a tag",
    &[("DELETE", "/servers/{server_id}/tags/{tag}")],
);
pub(crate) const TAGS_DELETE_ALL: Rule = rule(
    "os_compute_api:os-server-tags:delete_all",
    MEMBER,
    "Remove all tags",
    &[("DELETE", "/servers/{server_id}/tags")],
);
pub(crate) const TOPOLOGY: Rule = rule(
    "compute:server:topology:index",
    READER,
    "See what of its machine a server has",
    &[("GET", "/servers/{server_id}/topology")],
);
pub(crate) const TOPOLOGY_HOST: Rule = rule(
    "compute:server:topology:host:index",
    ADMIN,
    "See which of the host's CPUs and nodes a server has",
    &[("GET", "/servers/{server_id}/topology")],
);
pub(crate) const CREATE_ON_HOST: Rule = rule(
    "compute:servers:create:requested_destination",
    ADMIN,
    "Create a server on a host of one's choice",
    &[("POST", "/servers")],
);
pub(crate) const REBUILD: Rule = rule("os_compute_api:servers:rebuild", MEMBER, "Rebuild a server", ACTION);
pub(crate) const RESIZE: Rule = rule("os_compute_api:servers:resize", MEMBER, "Resize a server", ACTION);
pub(crate) const CONFIRM_RESIZE: Rule =
    rule("os_compute_api:servers:confirm_resize", MEMBER, "Confirm the resize of a server", ACTION);
pub(crate) const REVERT_RESIZE: Rule =
    rule("os_compute_api:servers:revert_resize", MEMBER, "Take the resize of a server back", ACTION);
pub(crate) const CRASH_DUMP: Rule =
    rule("os_compute_api:servers:trigger_crash_dump", MEMBER, "Have a server's kernel dump its memory", ACTION);
pub(crate) const MIGRATE: Rule =
    rule("os_compute_api:os-migrate-server:migrate", MANAGER, "Move a server that is shut off for it", ACTION);
pub(crate) const MIGRATE_HOST: Rule =
    rule("os_compute_api:os-migrate-server:migrate:host", ADMIN, "Move a server to a host by its name", ACTION);
pub(crate) const MIGRATE_LIVE: Rule =
    rule("os_compute_api:os-migrate-server:migrate_live", MANAGER, "Move a server while it runs", ACTION);
pub(crate) const MIGRATE_LIVE_HOST: Rule = rule(
    "os_compute_api:os-migrate-server:migrate_live:host",
    ADMIN,
    "Move a server while it runs to a host by its name",
    ACTION,
);
pub(crate) const EVACUATE: Rule =
    rule("os_compute_api:os-evacuate", ADMIN, "Make a server of a failed host again elsewhere", ACTION);
pub(crate) const INJECT_NETWORK_INFO: Rule =
    rule("os_compute_api:os-admin-actions:inject_network_info", ADMIN, "Tell a server again about its network", ACTION);
pub(crate) const FORCE_DELETE: Rule =
    rule("os_compute_api:os-deferred-delete:force", MEMBER, "Delete a server at once", ACTION);
pub(crate) const RESTORE: Rule =
    rule("os_compute_api:os-deferred-delete:restore", MEMBER, "Restore a server that was deleted softly", ACTION);
pub(crate) const CHANGE_PASSWORD: Rule =
    rule("os_compute_api:os-admin-password", MEMBER, "Change the administrator's password of a server", ACTION);
pub(crate) const FLOATING_IP_ADD: Rule =
    rule("os_compute_api:os-floating-ips:add", MEMBER, "Lead a floating IP to a server", ACTION);
pub(crate) const FLOATING_IP_REMOVE: Rule =
    rule("os_compute_api:os-floating-ips:remove", MEMBER, "Take a floating IP from a server", ACTION);
pub(crate) const PASSWORD_SHOW: Rule = rule(
    "os_compute_api:os-server-password:show",
    READER,
    "Read the administrator's password that a server has encrypted",
    &[("GET", "/servers/{server_id}/os-server-password")],
);
pub(crate) const PASSWORD_CLEAR: Rule = rule(
    "os_compute_api:os-server-password:clear",
    MEMBER,
    "Forget the administrator's password that a server has encrypted",
    &[("DELETE", "/servers/{server_id}/os-server-password")],
);
