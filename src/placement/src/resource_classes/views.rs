use rest::Ctx;
use serde_json::{Value, json};

use super::store::ResourceClass;
use crate::reply::href;

pub fn show(ctx: &Ctx, class: &ResourceClass) -> Value {
    let link = href(ctx, &format!("/resource_classes/{}", class.name));
    json!({"name": class.name, "links": [{"rel": "self", "href": link}]})
}

pub fn index(ctx: &Ctx, classes: &[ResourceClass]) -> Value {
    json!({"resource_classes": classes.iter().map(|class| show(ctx, class)).collect::<Vec<_>>()})
}
