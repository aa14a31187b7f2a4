use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SERVICE;

pub const LIST: Rule = rule(
    "placement:allocation_candidates:list",
    ADMIN_OR_SERVICE,
    "List allocation candidates.",
    &[("GET", "/allocation_candidates")],
);
