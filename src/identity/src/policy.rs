//! Rules that others refer to, with upstream's names, and the pieces that many checks share.

use rest::{Rule, rule};

pub(crate) const BASE: &[Rule] = &[
    rule("admin_required", "role:admin or is_admin:1", "An administrator, in any scope.", &[]),
    rule("service_role", "role:service", "A service's own user.", &[]),
    rule("service_or_admin", "rule:admin_required or rule:service_role", "A service or an administrator.", &[]),
    rule("owner", "user_id:%(user_id)s", "The user that the path names.", &[]),
    rule("admin_or_owner", "rule:admin_required or rule:owner", "An administrator or the user itself.", &[]),
    rule("token_subject", "user_id:%(target.token.user_id)s", "The user that the token is about.", &[]),
    rule(
        "admin_or_token_subject",
        "rule:admin_required or rule:token_subject",
        "An administrator or the user that the token is about.",
        &[],
    ),
    rule(
        "service_admin_or_token_subject",
        "rule:service_or_admin or rule:token_subject",
        "A service, an administrator or the user that the token is about.",
        &[],
    ),
    rule(
        "domain_managed_target_role",
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s",
        "A role that the manager of a domain may hand out.",
        &[],
    ),
];

/// Upstream lets most administrative rules be used from a system or project scope only ("scope types"): the administrator
/// of one domain is not that of the cloud. `domain_id:None` says so in the rule itself.
pub(crate) const ADMIN: &str = "rule:admin_required and domain_id:None";
pub(crate) const ADMIN_OR_SYSTEM_READER: &str =
    "(rule:admin_required or (role:reader and system_scope:all)) and domain_id:None";
