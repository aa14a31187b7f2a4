//! An inventory and its arithmetic. No I/O.

use serde_json::Value;

use crate::{
    schema::{self, MAX_INT, Schema},
    traits::handlers::whole,
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inventory {
    pub total: i64,
    /// Never given out.
    pub reserved: i64,
    pub min_unit: i64,
    pub max_unit: i64,
    pub step_size: i64,
    /// How often each unit that is not reserved may be promised.
    pub allocation_ratio: f64,
}

const AMOUNT: Schema = Schema::Integer { nullable: false, min: Some(1), max: Some(MAX_INT) };
const RESERVED: Schema = Schema::Integer { nullable: false, min: Some(0), max: Some(MAX_INT) };
/// The largest single-precision number.
const RATIO: Schema = Schema::Number { min: 0.0, max: 3.402_82e38 };
const CLASS: Schema = Schema::Text { nullable: false, min: 1, max: 255, form: schema::Form::Pattern(schema::CLASS) };

/// One inventory inside `inventories`.
pub const ITEM: Schema = schema::object(
    &["total"],
    &[
        ("total", &AMOUNT),
        ("reserved", &RESERVED),
        ("min_unit", &AMOUNT),
        ("max_unit", &AMOUNT),
        ("step_size", &AMOUNT),
        ("allocation_ratio", &RATIO),
    ],
);
/// Body of POST.
pub const CREATE: Schema = schema::object(
    &["resource_class", "total"],
    &[
        ("resource_class", &CLASS),
        ("resource_provider_generation", &schema::INTEGER),
        ("total", &AMOUNT),
        ("reserved", &RESERVED),
        ("min_unit", &AMOUNT),
        ("max_unit", &AMOUNT),
        ("step_size", &AMOUNT),
        ("allocation_ratio", &RATIO),
    ],
);
/// Body of PUT of one.
pub const UPDATE: Schema = schema::object(
    &["total", "resource_provider_generation"],
    &[
        ("resource_provider_generation", &schema::INTEGER),
        ("total", &AMOUNT),
        ("reserved", &RESERVED),
        ("min_unit", &AMOUNT),
        ("max_unit", &AMOUNT),
        ("step_size", &AMOUNT),
        ("allocation_ratio", &RATIO),
    ],
);
/// Body of PUT of all, and a provider's part of a reshape.
pub const REPLACE: Schema = schema::object(
    &["resource_provider_generation", "inventories"],
    &[("resource_provider_generation", &schema::INTEGER), ("inventories", &ITEMS)],
);
const ITEMS: Schema = schema::keyed(&[(schema::CLASS, &ITEM)], 0);

impl Inventory {
    /// From a body that fits its schema.
    pub fn from_body(body: &Value) -> Self {
        let number = |name: &str, default: i64| body.get(name).map_or(default, whole);
        Self {
            total: number("total", 1),
            reserved: number("reserved", 0),
            min_unit: number("min_unit", 1),
            max_unit: number("max_unit", MAX_INT),
            step_size: number("step_size", 1),
            allocation_ratio: body["allocation_ratio"].as_f64().unwrap_or(1.0),
        }
    }

    /// What can be promised in all.
    pub fn capacity(&self) -> i64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "totals are below 2^31, and the cast saturates for absurd ratios"
        )]
        {
            ((self.total - self.reserved) as f64 * self.allocation_ratio) as i64
        }
    }

    /// Whether a single allocation of this size is allowed at all.
    pub fn takes(&self, amount: i64) -> bool {
        (self.min_unit..=self.max_unit).contains(&amount) && amount % self.step_size == 0
    }

    /// Why an inventory with this much reserved is refused, if it is. Since 1.26 everything may be reserved.
    pub fn reserved_problem(&self, all_may_be_reserved: bool) -> Option<&'static str> {
        if self.reserved > self.total && all_may_be_reserved {
            Some("The reserved value is greater than total.")
        } else if self.reserved >= self.total && !all_may_be_reserved {
            Some("The reserved value is greater than or equal to total.")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn capacity_is_what_is_not_reserved_times_the_ratio() {
        let inventory = Inventory::from_body(&json!({"total": 10, "reserved": 2, "allocation_ratio": 1.5}));
        assert_eq!(inventory.capacity(), 12);
        assert_eq!(Inventory { allocation_ratio: 3.4e38, ..inventory }.capacity(), i64::MAX);
        assert_eq!(Inventory { reserved: 10, ..inventory }.capacity(), 0);
    }

    #[test]
    fn portions_are_kept() {
        let inventory = Inventory::from_body(&json!({"total": 100, "min_unit": 10, "max_unit": 40, "step_size": 10}));
        let fits: Vec<i64> = (0..=50).filter(|amount| inventory.takes(*amount)).collect();
        assert_eq!(fits, [10, 20, 30, 40]);
    }
}
