//! Rules of OS-FEDERATION, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

pub(crate) const CREATE_IDENTITY_PROVIDER: Rule = rule(
    "identity:create_identity_provider",
    ADMIN,
    "Create an identity provider.",
    &[("PUT", "/v3/OS-FEDERATION/identity_providers/{idp_id}")],
);
pub(crate) const LIST_IDENTITY_PROVIDERS: Rule = rule(
    "identity:list_identity_providers",
    ADMIN_OR_SYSTEM_READER,
    "List identity providers.",
    &[("GET", "/v3/OS-FEDERATION/identity_providers")],
);
pub(crate) const GET_IDENTITY_PROVIDER: Rule = rule(
    "identity:get_identity_provider",
    ADMIN_OR_SYSTEM_READER,
    "Show an identity provider.",
    &[("GET", "/v3/OS-FEDERATION/identity_providers/{idp_id}")],
);
pub(crate) const UPDATE_IDENTITY_PROVIDER: Rule = rule(
    "identity:update_identity_provider",
    ADMIN,
    "Change an identity provider.",
    &[("PATCH", "/v3/OS-FEDERATION/identity_providers/{idp_id}")],
);
pub(crate) const DELETE_IDENTITY_PROVIDER: Rule = rule(
    "identity:delete_identity_provider",
    ADMIN,
    "Delete an identity provider.",
    &[("DELETE", "/v3/OS-FEDERATION/identity_providers/{idp_id}")],
);

pub(crate) const CREATE_MAPPING: Rule =
    rule("identity:create_mapping", ADMIN, "Create a mapping.", &[("PUT", "/v3/OS-FEDERATION/mappings/{mapping_id}")]);
pub(crate) const LIST_MAPPINGS: Rule =
    rule("identity:list_mappings", ADMIN_OR_SYSTEM_READER, "List mappings.", &[("GET", "/v3/OS-FEDERATION/mappings")]);
pub(crate) const GET_MAPPING: Rule = rule(
    "identity:get_mapping",
    ADMIN_OR_SYSTEM_READER,
    "Show a mapping.",
    &[("GET", "/v3/OS-FEDERATION/mappings/{mapping_id}")],
);
pub(crate) const UPDATE_MAPPING: Rule = rule(
    "identity:update_mapping",
    ADMIN,
    "Change a mapping.",
    &[("PATCH", "/v3/OS-FEDERATION/mappings/{mapping_id}")],
);
pub(crate) const DELETE_MAPPING: Rule = rule(
    "identity:delete_mapping",
    ADMIN,
    "Delete a mapping.",
    &[("DELETE", "/v3/OS-FEDERATION/mappings/{mapping_id}")],
);

pub(crate) const CREATE_PROTOCOL: Rule = rule(
    "identity:create_protocol",
    ADMIN,
    "Create a protocol of an identity provider.",
    &[("PUT", "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}")],
);
pub(crate) const LIST_PROTOCOLS: Rule = rule(
    "identity:list_protocols",
    ADMIN_OR_SYSTEM_READER,
    "List protocols of an identity provider.",
    &[("GET", "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols")],
);
pub(crate) const GET_PROTOCOL: Rule = rule(
    "identity:get_protocol",
    ADMIN_OR_SYSTEM_READER,
    "Show a protocol of an identity provider.",
    &[("GET", "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}")],
);
pub(crate) const UPDATE_PROTOCOL: Rule = rule(
    "identity:update_protocol",
    ADMIN,
    "Change a protocol of an identity provider.",
    &[("PATCH", "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}")],
);
pub(crate) const DELETE_PROTOCOL: Rule = rule(
    "identity:delete_protocol",
    ADMIN,
    "Delete a protocol of an identity provider.",
    &[("DELETE", "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}")],
);

pub(crate) const CREATE_SERVICE_PROVIDER: Rule = rule(
    "identity:create_service_provider",
    ADMIN,
    "Create a service provider.",
    &[("PUT", "/v3/OS-FEDERATION/service_providers/{sp_id}")],
);
pub(crate) const LIST_SERVICE_PROVIDERS: Rule = rule(
    "identity:list_service_providers",
    ADMIN_OR_SYSTEM_READER,
    "List service providers.",
    &[("GET", "/v3/OS-FEDERATION/service_providers")],
);
pub(crate) const GET_SERVICE_PROVIDER: Rule = rule(
    "identity:get_service_provider",
    ADMIN_OR_SYSTEM_READER,
    "Show a service provider.",
    &[("GET", "/v3/OS-FEDERATION/service_providers/{sp_id}")],
);
pub(crate) const UPDATE_SERVICE_PROVIDER: Rule = rule(
    "identity:update_service_provider",
    ADMIN,
    "Change a service provider.",
    &[("PATCH", "/v3/OS-FEDERATION/service_providers/{sp_id}")],
);
pub(crate) const DELETE_SERVICE_PROVIDER: Rule = rule(
    "identity:delete_service_provider",
    ADMIN,
    "Delete a service provider.",
    &[("DELETE", "/v3/OS-FEDERATION/service_providers/{sp_id}")],
);
