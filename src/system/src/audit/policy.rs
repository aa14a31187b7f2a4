use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SYSTEM_READER;

pub const LIST: Rule = rule(
    "solostack:audit:list",
    ADMIN_OR_SYSTEM_READER,
    "List calls that may have changed something, of every project.",
    &[("GET", "/v1/audit")],
);
