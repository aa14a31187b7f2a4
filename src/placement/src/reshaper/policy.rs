use rest::{Rule, rule};

use crate::policy::SERVICE;

pub const RESHAPE: Rule = rule(
    "placement:reshaper:reshape",
    SERVICE,
    "Move inventories and their allocations between providers.",
    &[("POST", "/reshaper")],
);
