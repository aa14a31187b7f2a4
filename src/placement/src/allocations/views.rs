use rest::Ctx;
use serde_json::{Map, Value, json};

use super::{
    model::UNKNOWN,
    store::{Consumer, Given, Held},
};

/// A consumer without allocations is not there: the object is empty.
pub fn of_consumer(ctx: &Ctx, consumer: Option<&Consumer>, held: &[Held]) -> Value {
    let mut allocations: Map<String, Value> = Map::new();
    for row in held {
        let share = allocations
            .entry(row.provider_uuid.clone())
            .or_insert_with(|| json!({"generation": row.provider_generation, "resources": {}}));
        share["resources"][&row.class] = json!(row.used);
    }
    let mut view = json!({"allocations": allocations});
    if let Some(consumer) = consumer {
        if ctx.since(1, 12) {
            view["project_id"] = json!(consumer.project_id);
            view["user_id"] = json!(consumer.user_id);
        }
        if ctx.since(1, 28) {
            view["consumer_generation"] = json!(consumer.generation);
        }
        if ctx.since(1, 38) {
            view["consumer_type"] = json!(consumer.consumer_type.as_deref().unwrap_or(UNKNOWN));
        }
    }
    view
}

pub fn of_provider(ctx: &Ctx, given: &[Given], generation: i64) -> Value {
    let mut allocations: Map<String, Value> = Map::new();
    for row in given {
        let share = allocations.entry(row.consumer_uuid.clone()).or_insert_with(|| {
            if ctx.since(1, 28) {
                json!({"resources": {}, "consumer_generation": row.consumer_generation})
            } else {
                json!({"resources": {}})
            }
        });
        share["resources"][&row.class] = json!(row.used);
    }
    json!({"allocations": allocations, "resource_provider_generation": generation})
}
