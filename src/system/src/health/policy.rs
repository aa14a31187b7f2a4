use rest::{Rule, rule};

use crate::policy::ADMIN_OR_SYSTEM_READER;

pub const SHOW: Rule =
    rule("solostack:health:show", ADMIN_OR_SYSTEM_READER, "See how the machine is.", &[("GET", "/v1/health")]);
