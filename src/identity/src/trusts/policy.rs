//! Rules of trusts, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SYSTEM_READER;

const READ: &str = "((rule:admin_required) or (role:reader and system_scope:all or \
     user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)) and domain_id:None";

pub(crate) const CREATE: Rule = rule(
    "identity:create_trust",
    "user_id:%(target.trust.trustor_user_id)s and not project_id:None",
    "Create a trust as its trustor.",
    &[("POST", "/v3/OS-TRUST/trusts")],
);
pub(crate) const LIST: Rule =
    rule("identity:list_trusts", ADMIN_OR_SYSTEM_READER, "List all trusts.", &[("GET", "/v3/OS-TRUST/trusts")]);
pub(crate) const LIST_OF_TRUSTOR: Rule = rule(
    "identity:list_trusts_for_trustor",
    "((rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s)) and \
     domain_id:None",
    "List a user's trusts in others.",
    &[("GET", "/v3/OS-TRUST/trusts?trustor_user_id={trustor_user_id}")],
);
pub(crate) const LIST_OF_TRUSTEE: Rule = rule(
    "identity:list_trusts_for_trustee",
    "((rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustee_user_id)s)) and \
     domain_id:None",
    "List others' trusts in a user.",
    &[("GET", "/v3/OS-TRUST/trusts?trustee_user_id={trustee_user_id}")],
);
pub(crate) const GET: Rule =
    rule("identity:get_trust", READ, "Show a trust.", &[("GET", "/v3/OS-TRUST/trusts/{trust_id}")]);
pub(crate) const DELETE: Rule = rule(
    "identity:delete_trust",
    "(rule:admin_required or user_id:%(target.trust.trustor_user_id)s) and domain_id:None",
    "End a trust.",
    &[("DELETE", "/v3/OS-TRUST/trusts/{trust_id}")],
);
pub(crate) const LIST_ROLES: Rule = rule(
    "identity:list_roles_for_trust",
    READ,
    "List the roles of a trust.",
    &[("GET", "/v3/OS-TRUST/trusts/{trust_id}/roles")],
);
pub(crate) const GET_ROLE: Rule = rule(
    "identity:get_role_for_trust",
    READ,
    "Show a role of a trust.",
    &[("GET", "/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}")],
);
