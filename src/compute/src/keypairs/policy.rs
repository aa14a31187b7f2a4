//! Rules of key pairs, upstream names and defaults: a user's own, or an administrator.

use rest::{Rule, rule};

const OWN: &str = "(rule:context_is_admin) or user_id:%(user_id)s";

pub(crate) const INDEX: Rule =
    rule("os_compute_api:os-keypairs:index", OWN, "List key pairs", &[("GET", "/os-keypairs")]);
pub(crate) const CREATE: Rule =
    rule("os_compute_api:os-keypairs:create", OWN, "Create or import a key pair", &[("POST", "/os-keypairs")]);
pub(crate) const SHOW: Rule =
    rule("os_compute_api:os-keypairs:show", OWN, "Show a key pair", &[("GET", "/os-keypairs/{keypair_name}")]);
pub(crate) const DELETE: Rule =
    rule("os_compute_api:os-keypairs:delete", OWN, "Delete a key pair", &[("DELETE", "/os-keypairs/{keypair_name}")]);
