//! Rules of credentials, with upstream's names and defaults.

use rest::{Rule, rule};

const READ: &str =
    "(rule:admin_required) or (role:reader and system_scope:all) or user_id:%(target.credential.user_id)s";
const WRITE: &str = "(rule:admin_required) or user_id:%(target.credential.user_id)s";
const READ_EC2: &str = "((rule:admin_required) or (role:reader and system_scope:all) or \
     user_id:%(target.credential.user_id)s) and domain_id:None";
const WRITE_EC2: &str =
    "((rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)) and domain_id:None";

pub(crate) const GET: Rule =
    rule("identity:get_credential", READ, "Show a credential.", &[("GET", "/v3/credentials/{credential_id}")]);
pub(crate) const LIST: Rule =
    rule("identity:list_credentials", READ, "List credentials.", &[("GET", "/v3/credentials")]);
pub(crate) const CREATE: Rule =
    rule("identity:create_credential", WRITE, "Create a credential.", &[("POST", "/v3/credentials")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_credential", WRITE, "Change a credential.", &[("PATCH", "/v3/credentials/{credential_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_credential", WRITE, "Delete a credential.", &[("DELETE", "/v3/credentials/{credential_id}")]);

pub(crate) const EC2_GET: Rule = rule(
    "identity:ec2_get_credential",
    READ_EC2,
    "Show an EC2 credential.",
    &[("GET", "/v3/users/{user_id}/credentials/OS-EC2/{credential_id}")],
);
pub(crate) const EC2_LIST: Rule = rule(
    "identity:ec2_list_credentials",
    "((rule:admin_required) or (role:reader and system_scope:all) or rule:owner) and domain_id:None",
    "List a user's EC2 credentials.",
    &[("GET", "/v3/users/{user_id}/credentials/OS-EC2")],
);
pub(crate) const EC2_CREATE: Rule = rule(
    "identity:ec2_create_credential",
    WRITE_EC2,
    "Create an EC2 credential.",
    &[("POST", "/v3/users/{user_id}/credentials/OS-EC2")],
);
pub(crate) const EC2_DELETE: Rule = rule(
    "identity:ec2_delete_credential",
    WRITE_EC2,
    "Delete an EC2 credential.",
    &[("DELETE", "/v3/users/{user_id}/credentials/OS-EC2/{credential_id}")],
);
