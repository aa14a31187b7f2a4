use rest::{Rule, rule};

use crate::policy::ADMIN;

pub const SHOW: Rule =
    rule("solostack:support-bundle:show", ADMIN, "Download the support bundle.", &[("GET", "/v1/support-bundle")]);
