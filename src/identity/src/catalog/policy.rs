//! Rules of regions, services and endpoints, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

pub(crate) const GET_REGION: Rule =
    rule("identity:get_region", "", "Show a region.", &[("GET", "/v3/regions/{region_id}")]);
pub(crate) const LIST_REGIONS: Rule = rule("identity:list_regions", "", "List regions.", &[("GET", "/v3/regions")]);
pub(crate) const CREATE_REGION: Rule = rule(
    "identity:create_region",
    ADMIN,
    "Create a region.",
    &[("POST", "/v3/regions"), ("PUT", "/v3/regions/{region_id}")],
);
pub(crate) const UPDATE_REGION: Rule =
    rule("identity:update_region", ADMIN, "Change a region.", &[("PATCH", "/v3/regions/{region_id}")]);
pub(crate) const DELETE_REGION: Rule =
    rule("identity:delete_region", ADMIN, "Delete a region.", &[("DELETE", "/v3/regions/{region_id}")]);

pub(crate) const GET_SERVICE: Rule =
    rule("identity:get_service", ADMIN_OR_SYSTEM_READER, "Show a service.", &[("GET", "/v3/services/{service_id}")]);
pub(crate) const LIST_SERVICES: Rule =
    rule("identity:list_services", ADMIN_OR_SYSTEM_READER, "List services.", &[("GET", "/v3/services")]);
pub(crate) const CREATE_SERVICE: Rule =
    rule("identity:create_service", ADMIN, "Create a service.", &[("POST", "/v3/services")]);
pub(crate) const UPDATE_SERVICE: Rule =
    rule("identity:update_service", ADMIN, "Change a service.", &[("PATCH", "/v3/services/{service_id}")]);
pub(crate) const DELETE_SERVICE: Rule =
    rule("identity:delete_service", ADMIN, "Delete a service.", &[("DELETE", "/v3/services/{service_id}")]);

pub(crate) const GET_ENDPOINT: Rule = rule(
    "identity:get_endpoint",
    ADMIN_OR_SYSTEM_READER,
    "Show an endpoint.",
    &[("GET", "/v3/endpoints/{endpoint_id}")],
);
pub(crate) const LIST_ENDPOINTS: Rule =
    rule("identity:list_endpoints", ADMIN_OR_SYSTEM_READER, "List endpoints.", &[("GET", "/v3/endpoints")]);
pub(crate) const CREATE_ENDPOINT: Rule =
    rule("identity:create_endpoint", ADMIN, "Create an endpoint.", &[("POST", "/v3/endpoints")]);
pub(crate) const UPDATE_ENDPOINT: Rule =
    rule("identity:update_endpoint", ADMIN, "Change an endpoint.", &[("PATCH", "/v3/endpoints/{endpoint_id}")]);
pub(crate) const DELETE_ENDPOINT: Rule =
    rule("identity:delete_endpoint", ADMIN, "Delete an endpoint.", &[("DELETE", "/v3/endpoints/{endpoint_id}")]);
