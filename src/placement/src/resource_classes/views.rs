use serde_json::{Value, json};

use super::store::ResourceClass;

pub fn show(class: &ResourceClass) -> Value {
    let link = format!("/resource_classes/{}", class.name);
    json!({"name": class.name, "links": [{"rel": "self", "href": link}]})
}

pub fn index(classes: &[ResourceClass]) -> Value {
    json!({"resource_classes": classes.iter().map(show).collect::<Vec<_>>()})
}
