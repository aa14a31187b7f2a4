use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SYSTEM_READER;

pub const LIST: Rule = rule(
    "solostack:operations:list",
    ADMIN_OR_SYSTEM_READER,
    "List durable operations of every project.",
    &[("GET", "/v1/operations")],
);
