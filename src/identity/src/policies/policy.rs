//! Rules of stored policies, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

pub(crate) const GET: Rule = rule(
    "identity:get_policy",
    ADMIN_OR_SYSTEM_READER,
    "Show a stored policy.",
    &[("GET", "/v3/policies/{policy_id}")],
);
pub(crate) const LIST: Rule =
    rule("identity:list_policies", ADMIN_OR_SYSTEM_READER, "List stored policies.", &[("GET", "/v3/policies")]);
pub(crate) const CREATE: Rule = rule("identity:create_policy", ADMIN, "Store a policy.", &[("POST", "/v3/policies")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_policy", ADMIN, "Change a stored policy.", &[("PATCH", "/v3/policies/{policy_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_policy", ADMIN, "Delete a stored policy.", &[("DELETE", "/v3/policies/{policy_id}")]);

/// The rules of one kind of association: create, check, delete.
macro_rules! association {
    ($create:ident $check:ident $delete:ident, $what:literal, $noun:literal, $path:literal) => {
        pub(crate) const $create: Rule = rule(
            concat!("identity:create_policy_association_for_", $what),
            ADMIN,
            concat!("Associate a stored policy with ", $noun, "."),
            &[("PUT", $path)],
        );
        pub(crate) const $check: Rule = rule(
            concat!("identity:check_policy_association_for_", $what),
            ADMIN_OR_SYSTEM_READER,
            concat!("See whether a stored policy is associated with ", $noun, "."),
            &[("GET", $path)],
        );
        pub(crate) const $delete: Rule = rule(
            concat!("identity:delete_policy_association_for_", $what),
            ADMIN,
            concat!("End the association of a stored policy with ", $noun, "."),
            &[("DELETE", $path)],
        );
    };
}

association!(CREATE_FOR_ENDPOINT CHECK_FOR_ENDPOINT DELETE_FOR_ENDPOINT, "endpoint", "an endpoint",
    "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}");
association!(CREATE_FOR_SERVICE CHECK_FOR_SERVICE DELETE_FOR_SERVICE, "service", "a service",
    "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}");
association!(CREATE_FOR_REGION CHECK_FOR_REGION DELETE_FOR_REGION, "region_and_service", "a service in a region",
    "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}");

pub(crate) const GET_FOR_ENDPOINT: Rule = rule(
    "identity:get_policy_for_endpoint",
    ADMIN_OR_SYSTEM_READER,
    "Show the stored policy that is in force for an endpoint.",
    &[("GET", "/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy")],
);
pub(crate) const LIST_ENDPOINTS: Rule = rule(
    "identity:list_endpoints_for_policy",
    ADMIN_OR_SYSTEM_READER,
    "List the endpoints that a stored policy belongs to.",
    &[("GET", "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints")],
);
