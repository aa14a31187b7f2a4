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
