use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

pub const LIST: Rule = rule(
    "solostack:certificates:list",
    ADMIN_OR_SYSTEM_READER,
    "See the certificates in service.",
    &[("GET", "/v1/certificates")],
);
pub const ROTATE: Rule = rule(
    "solostack:certificates:rotate",
    ADMIN,
    "Make a new server certificate now.",
    &[("POST", "/v1/certificates/rotate")],
);
pub const BRING: Rule = rule(
    "solostack:certificates:bring",
    ADMIN,
    "Have an intermediate of one's own sign.",
    &[("PUT", "/v1/certificates/intermediate")],
);
pub const RESET: Rule = rule(
    "solostack:certificates:reset",
    ADMIN,
    "Return to the built-in intermediate.",
    &[("DELETE", "/v1/certificates/intermediate")],
);
