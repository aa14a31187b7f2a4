//! Rules of OS-OAUTH1, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, ADMIN_OR_SYSTEM_READER};

pub(crate) const GET_CONSUMER: Rule = rule(
    "identity:get_consumer",
    ADMIN_OR_SYSTEM_READER,
    "Show an OAuth consumer.",
    &[("GET", "/v3/OS-OAUTH1/consumers/{consumer_id}")],
);
pub(crate) const LIST_CONSUMERS: Rule = rule(
    "identity:list_consumers",
    ADMIN_OR_SYSTEM_READER,
    "List OAuth consumers.",
    &[("GET", "/v3/OS-OAUTH1/consumers")],
);
pub(crate) const CREATE_CONSUMER: Rule =
    rule("identity:create_consumer", ADMIN, "Create an OAuth consumer.", &[("POST", "/v3/OS-OAUTH1/consumers")]);
pub(crate) const UPDATE_CONSUMER: Rule = rule(
    "identity:update_consumer",
    ADMIN,
    "Change an OAuth consumer.",
    &[("PATCH", "/v3/OS-OAUTH1/consumers/{consumer_id}")],
);
pub(crate) const DELETE_CONSUMER: Rule = rule(
    "identity:delete_consumer",
    ADMIN,
    "Delete an OAuth consumer.",
    &[("DELETE", "/v3/OS-OAUTH1/consumers/{consumer_id}")],
);
