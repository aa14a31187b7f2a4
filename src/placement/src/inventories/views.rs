use serde_json::{Map, Value, json};

use super::{model::Inventory, store::Stocked};

fn item(inventory: &Inventory) -> Value {
    json!({
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit,
        "step_size": inventory.step_size,
        "allocation_ratio": inventory.allocation_ratio,
    })
}

pub fn show(inventory: &Inventory, generation: i64) -> Value {
    let mut view = item(inventory);
    view["resource_provider_generation"] = json!(generation);
    view
}

pub fn index(list: &[Stocked], generation: i64) -> Value {
    let inventories: Map<String, Value> =
        list.iter().map(|stocked| (stocked.class.clone(), item(&stocked.inventory))).collect();
    json!({"resource_provider_generation": generation, "inventories": inventories})
}
