//! Rules of attachments, upstream names and defaults.

use rest::{Rule, rule};

const READER: &str = "rule:project_reader_or_admin";
const MEMBER: &str = "rule:project_member_or_admin";

pub(crate) const VOLUMES: Rule = rule(
    "os_compute_api:os-volumes-attachments:index",
    READER,
    "List the volumes of a server",
    &[("GET", "/servers/{server_id}/os-volume_attachments")],
);
pub(crate) const VOLUMES_SHOW: Rule = rule(
    "os_compute_api:os-volumes-attachments:show",
    READER,
    "Show a volume of a server",
    &[("GET", "/servers/{server_id}/os-volume_attachments/{volume_id}")],
);
pub(crate) const VOLUMES_CREATE: Rule = rule(
    "os_compute_api:os-volumes-attachments:create",
    MEMBER,
    "Attach a volume to a server",
    &[("POST", "/servers/{server_id}/os-volume_attachments")],
);
pub(crate) const VOLUMES_UPDATE: Rule = rule(
    "os_compute_api:os-volumes-attachments:update",
    MEMBER,
    "Change how a volume is attached to a server",
    &[("PUT", "/servers/{server_id}/os-volume_attachments/{volume_id}")],
);
pub(crate) const VOLUMES_DELETE: Rule = rule(
    "os_compute_api:os-volumes-attachments:delete",
    MEMBER,
    "Detach a volume from a server",
    &[("DELETE", "/servers/{server_id}/os-volume_attachments/{volume_id}")],
);
pub(crate) const SHARES: Rule = rule(
    "os_compute_api:os-server-shares:index",
    "rule:project_reader_api",
    "List the shares of a server",
    &[("GET", "/servers/{server_id}/shares")],
);
pub(crate) const SHARES_SHOW: Rule = rule(
    "os_compute_api:os-server-shares:show",
    "rule:project_reader_api",
    "Show a share of a server",
    &[("GET", "/servers/{server_id}/shares/{share_id}")],
);
pub(crate) const SHARES_CREATE: Rule = rule(
    "os_compute_api:os-server-shares:create",
    "rule:project_member_api",
    "Attach a share to a server",
    &[("POST", "/servers/{server_id}/shares")],
);
pub(crate) const SHARES_DELETE: Rule = rule(
    "os_compute_api:os-server-shares:delete",
    "rule:project_member_api",
    "Detach a share from a server",
    &[("DELETE", "/servers/{server_id}/shares/{share_id}")],
);
