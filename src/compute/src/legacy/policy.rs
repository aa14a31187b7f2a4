//! Rules of what is passed on, upstream names and defaults. Upstream leaves images to Glance's own rules; here Compute asks
//! rules of its own with the same effect.

use rest::{Rule, rule};

const READER: &str = "rule:project_reader_or_admin";
const MEMBER: &str = "rule:project_member_or_admin";

pub(crate) const NETWORKS: Rule =
    rule("os_compute_api:os-networks:list", READER, "List networks", &[("GET", "/os-networks")]);
pub(crate) const NETWORKS_SHOW: Rule =
    rule("os_compute_api:os-networks:show", READER, "Show a network", &[("GET", "/os-networks/{network_id}")]);
pub(crate) const TENANT_NETWORKS: Rule =
    rule("os_compute_api:os-tenant-networks:list", READER, "List networks", &[("GET", "/os-tenant-networks")]);
pub(crate) const TENANT_NETWORKS_SHOW: Rule = rule(
    "os_compute_api:os-tenant-networks:show",
    READER,
    "Show a network",
    &[("GET", "/os-tenant-networks/{network_id}")],
);
pub(crate) const POOLS: Rule = rule(
    "os_compute_api:os-floating-ip-pools",
    "@",
    "List where floating IPs come from",
    &[("GET", "/os-floating-ip-pools")],
);
pub(crate) const FLOATING_IPS: Rule =
    rule("os_compute_api:os-floating-ips:list", READER, "List floating IPs", &[("GET", "/os-floating-ips")]);
pub(crate) const FLOATING_IPS_SHOW: Rule = rule(
    "os_compute_api:os-floating-ips:show",
    READER,
    "Show a floating IP",
    &[("GET", "/os-floating-ips/{floating_ip_id}")],
);
pub(crate) const FLOATING_IPS_CREATE: Rule =
    rule("os_compute_api:os-floating-ips:create", MEMBER, "Get a floating IP", &[("POST", "/os-floating-ips")]);
pub(crate) const FLOATING_IPS_DELETE: Rule = rule(
    "os_compute_api:os-floating-ips:delete",
    MEMBER,
    "Give a floating IP back",
    &[("DELETE", "/os-floating-ips/{floating_ip_id}")],
);
pub(crate) const GROUPS: Rule =
    rule("os_compute_api:os-security-groups:get", READER, "List security groups", &[("GET", "/os-security-groups")]);
pub(crate) const GROUPS_SHOW: Rule = rule(
    "os_compute_api:os-security-groups:show",
    READER,
    "Show a security group",
    &[("GET", "/os-security-groups/{security_group_id}")],
);
pub(crate) const GROUPS_CREATE: Rule = rule(
    "os_compute_api:os-security-groups:create",
    MEMBER,
    "Create a security group",
    &[("POST", "/os-security-groups")],
);
pub(crate) const GROUPS_UPDATE: Rule = rule(
    "os_compute_api:os-security-groups:update",
    MEMBER,
    "Change a security group",
    &[("PUT", "/os-security-groups/{security_group_id}")],
);
pub(crate) const GROUPS_DELETE: Rule = rule(
    "os_compute_api:os-security-groups:delete",
    MEMBER,
    "Delete a security group",
    &[("DELETE", "/os-security-groups/{security_group_id}")],
);
pub(crate) const RULES_CREATE: Rule = rule(
    "os_compute_api:os-security-groups:rule:create",
    MEMBER,
    "Add a rule to a security group",
    &[("POST", "/os-security-group-rules")],
);
pub(crate) const RULES_DELETE: Rule = rule(
    "os_compute_api:os-security-groups:rule:delete",
    MEMBER,
    "Remove a rule from a security group",
    &[("DELETE", "/os-security-group-rules/{security_group_rule_id}")],
);
pub(crate) const IMAGES: Rule =
    rule("os_compute_api:images:index", "@", "List images", &[("GET", "/images"), ("GET", "/images/detail")]);
pub(crate) const IMAGES_SHOW: Rule = rule(
    "os_compute_api:images:show",
    "@",
    "Show an image and its metadata",
    &[("GET", "/images/{image_id}"), ("GET", "/images/{image_id}/metadata")],
);
pub(crate) const IMAGES_DELETE: Rule =
    rule("os_compute_api:images:delete", MEMBER, "Delete an image", &[("DELETE", "/images/{image_id}")]);
pub(crate) const IMAGES_METADATA: Rule = rule(
    "os_compute_api:image-metadata:update",
    MEMBER,
    "Change an image's metadata",
    &[
        ("POST", "/images/{image_id}/metadata"),
        ("PUT", "/images/{image_id}/metadata"),
        ("PUT", "/images/{image_id}/metadata/{key}"),
        ("DELETE", "/images/{image_id}/metadata/{key}"),
    ],
);
