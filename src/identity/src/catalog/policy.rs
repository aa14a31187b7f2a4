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

pub(crate) const CREATE_GROUP: Rule = rule(
    "identity:create_endpoint_group",
    ADMIN,
    "Create an endpoint group.",
    &[("POST", "/v3/OS-EP-FILTER/endpoint_groups")],
);
pub(crate) const LIST_GROUPS: Rule = rule(
    "identity:list_endpoint_groups",
    ADMIN_OR_SYSTEM_READER,
    "List endpoint groups.",
    &[("GET", "/v3/OS-EP-FILTER/endpoint_groups")],
);
pub(crate) const GET_GROUP: Rule = rule(
    "identity:get_endpoint_group",
    ADMIN_OR_SYSTEM_READER,
    "Show an endpoint group.",
    &[("GET", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}")],
);
pub(crate) const UPDATE_GROUP: Rule = rule(
    "identity:update_endpoint_group",
    ADMIN,
    "Change an endpoint group.",
    &[("PATCH", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}")],
);
pub(crate) const DELETE_GROUP: Rule = rule(
    "identity:delete_endpoint_group",
    ADMIN,
    "Delete an endpoint group.",
    &[("DELETE", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}")],
);
pub(crate) const LIST_PROJECTS_OF_GROUP: Rule = rule(
    "identity:list_projects_associated_with_endpoint_group",
    ADMIN_OR_SYSTEM_READER,
    "List the projects of an endpoint group.",
    &[("GET", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects")],
);
pub(crate) const LIST_ENDPOINTS_OF_GROUP: Rule = rule(
    "identity:list_endpoints_associated_with_endpoint_group",
    ADMIN_OR_SYSTEM_READER,
    "List the endpoints that a group picks.",
    &[("GET", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints")],
);
pub(crate) const GET_GROUP_IN_PROJECT: Rule = rule(
    "identity:get_endpoint_group_in_project",
    ADMIN_OR_SYSTEM_READER,
    "See whether a project has an endpoint group.",
    &[("GET", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}")],
);
pub(crate) const LIST_GROUPS_OF_PROJECT: Rule = rule(
    "identity:list_endpoint_groups_for_project",
    ADMIN_OR_SYSTEM_READER,
    "List the endpoint groups of a project.",
    &[("GET", "/v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups")],
);
pub(crate) const ADD_GROUP_TO_PROJECT: Rule = rule(
    "identity:add_endpoint_group_to_project",
    ADMIN,
    "Give a project an endpoint group.",
    &[("PUT", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}")],
);
pub(crate) const REMOVE_GROUP_FROM_PROJECT: Rule = rule(
    "identity:remove_endpoint_group_from_project",
    ADMIN,
    "Take an endpoint group from a project.",
    &[("DELETE", "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}")],
);
pub(crate) const LIST_PROJECTS_OF_ENDPOINT: Rule = rule(
    "identity:list_projects_for_endpoint",
    ADMIN_OR_SYSTEM_READER,
    "List the projects of an endpoint.",
    &[("GET", "/v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects")],
);
pub(crate) const ADD_ENDPOINT_TO_PROJECT: Rule = rule(
    "identity:add_endpoint_to_project",
    ADMIN,
    "Give a project an endpoint.",
    &[("PUT", "/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}")],
);
pub(crate) const CHECK_ENDPOINT_IN_PROJECT: Rule = rule(
    "identity:check_endpoint_in_project",
    ADMIN_OR_SYSTEM_READER,
    "See whether a project has an endpoint.",
    &[("GET", "/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}")],
);
pub(crate) const LIST_ENDPOINTS_OF_PROJECT: Rule = rule(
    "identity:list_endpoints_for_project",
    ADMIN_OR_SYSTEM_READER,
    "List the endpoints of a project.",
    &[("GET", "/v3/OS-EP-FILTER/projects/{project_id}/endpoints")],
);
pub(crate) const REMOVE_ENDPOINT_FROM_PROJECT: Rule = rule(
    "identity:remove_endpoint_from_project",
    ADMIN,
    "Take an endpoint from a project.",
    &[("DELETE", "/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}")],
);
