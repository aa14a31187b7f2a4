//! Rules of application credentials and access rules, with upstream's names and defaults.

use rest::{Rule, rule};

const READ: &str = "((rule:admin_required) or (role:reader and system_scope:all) or rule:owner) and domain_id:None";

pub(crate) const GET: Rule = rule(
    "identity:get_application_credential",
    READ,
    "Show an application credential.",
    &[("GET", "/v3/users/{user_id}/application_credentials/{application_credential_id}")],
);
pub(crate) const LIST: Rule = rule(
    "identity:list_application_credentials",
    READ,
    "List a user's application credentials.",
    &[("GET", "/v3/users/{user_id}/application_credentials")],
);
pub(crate) const CREATE: Rule = rule(
    "identity:create_application_credential",
    "user_id:%(user_id)s and not project_id:None",
    "Create an application credential of one's own.",
    &[("POST", "/v3/users/{user_id}/application_credentials")],
);
pub(crate) const DELETE: Rule = rule(
    "identity:delete_application_credential",
    "rule:admin_or_owner and domain_id:None",
    "Delete an application credential.",
    &[("DELETE", "/v3/users/{user_id}/application_credentials/{application_credential_id}")],
);
pub(crate) const GET_RULE: Rule = rule(
    "identity:get_access_rule",
    "((role:reader and system_scope:all) or user_id:%(target.user.id)s) and domain_id:None",
    "Show an access rule.",
    &[("GET", "/v3/users/{user_id}/access_rules/{access_rule_id}")],
);
pub(crate) const LIST_RULES: Rule = rule(
    "identity:list_access_rules",
    "((role:reader and system_scope:all) or user_id:%(target.user.id)s) and domain_id:None",
    "List a user's access rules.",
    &[("GET", "/v3/users/{user_id}/access_rules")],
);
pub(crate) const DELETE_RULE: Rule = rule(
    "identity:delete_access_rule",
    "((role:admin and system_scope:all) or user_id:%(target.user.id)s) and domain_id:None",
    "Delete an access rule.",
    &[("DELETE", "/v3/users/{user_id}/access_rules/{access_rule_id}")],
);
