//! The rules that others refer to.

use rest::{Rule, rule};

pub const ADMIN: &str = "rule:solostack:admin";
pub const ADMIN_OR_SYSTEM_READER: &str = "rule:solostack:admin_or_system_reader";

pub const BASE: &[Rule] = &[
    rule("solostack:admin", "role:admin", "An administrator.", &[]),
    rule(
        "solostack:admin_or_system_reader",
        "role:admin or (role:reader and system_scope:all)",
        "Who may see how the machine is.",
        &[],
    ),
];
