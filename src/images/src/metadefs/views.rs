//! What clients are shown. Nothing is null: what is not known is left out.

use rest::{Listing, Params};
use serde_json::{Map, Value, json};

use super::model::{Item, Namespace};

fn put(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.insert(key.to_owned(), value.into());
}

pub fn namespace(namespace: &Namespace) -> Map<String, Value> {
    let mut view = Map::new();
    put(&mut view, "namespace", namespace.namespace.as_str());
    for (key, value) in [
        ("display_name", &namespace.display_name),
        ("description", &namespace.description),
        ("owner", &namespace.owner),
    ] {
        if let Some(value) = value {
            put(&mut view, key, value.as_str());
        }
    }
    put(&mut view, "visibility", namespace.visibility());
    put(&mut view, "protected", namespace.protected);
    put(&mut view, "created_at", db::clock::seconds(&namespace.created_at));
    put(&mut view, "updated_at", db::clock::seconds(&namespace.updated_at));
    put(&mut view, "self", format!("/v2/metadefs/namespaces/{}", namespace.namespace));
    put(&mut view, "schema", "/v2/schemas/metadefs/namespace");
    view
}

/// A namespace with what it holds. `prefix` goes before every property's name.
pub struct Held {
    pub objects: Vec<Item>,
    pub properties: Vec<Item>,
    pub tags: Vec<Item>,
    pub associations: Vec<Item>,
    pub prefix: String,
}

pub fn whole(space: &Namespace, held: &Held) -> Value {
    let mut view = namespace(space);
    if !held.objects.is_empty() {
        let objects: Vec<Value> =
            held.objects.iter().map(|item| prefixed(object(&space.namespace, item), &held.prefix)).collect();
        put(&mut view, "objects", objects);
    }
    if !held.properties.is_empty() {
        put(&mut view, "properties", renamed(by_name(&held.properties), &held.prefix));
    }
    if !held.tags.is_empty() {
        put(&mut view, "tags", held.tags.iter().map(tag).collect::<Vec<_>>());
    }
    if !held.associations.is_empty() {
        put(&mut view, "resource_type_associations", held.associations.iter().map(association).collect::<Vec<_>>());
    }
    Value::Object(view)
}

fn renamed(map: Map<String, Value>, prefix: &str) -> Map<String, Value> {
    map.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)).collect()
}

fn prefixed(mut object: Value, prefix: &str) -> Value {
    if let Some(Value::Object(properties)) = object.get_mut("properties").map(Value::take) {
        object["properties"] = Value::Object(renamed(properties, prefix));
    }
    for name in object["required"].as_array_mut().into_iter().flatten() {
        if let Some(text) = name.as_str() {
            *name = Value::from(format!("{prefix}{text}"));
        }
    }
    object
}

pub fn index(listing: &Listing<(Namespace, Vec<Item>)>, params: &Params) -> Value {
    let link = |query: String| match query.is_empty() {
        true => "/v2/metadefs/namespaces".to_owned(),
        false => format!("/v2/metadefs/namespaces?{query}"),
    };
    let mut first = params.clone();
    first.take("marker");
    let rows: Vec<Value> = listing
        .rows
        .iter()
        .map(|(space, associations)| {
            let mut view = namespace(space);
            if !associations.is_empty() {
                let types = associations.iter().map(association).collect::<Vec<_>>();
                put(&mut view, "resource_type_associations", types);
            }
            Value::Object(view)
        })
        .collect();
    let mut body =
        json!({"namespaces": rows, "first": link(first.with(&[])), "schema": "/v2/schemas/metadefs/namespaces"});
    if let Some((last, _)) = listing.rows.last().filter(|_| listing.more) {
        body["next"] = Value::from(link(params.with(&[("marker", &last.namespace)])));
    }
    body
}

fn with_times(mut map: Map<String, Value>, item: &Item) -> Map<String, Value> {
    put(&mut map, "created_at", db::clock::seconds(&item.created_at));
    put(&mut map, "updated_at", db::clock::seconds(&item.updated_at));
    map
}

fn named(item: &Item) -> Map<String, Value> {
    let mut map = item.body.clone();
    put(&mut map, "name", item.name.as_str());
    map
}

pub fn object(namespace: &str, item: &Item) -> Value {
    let mut view = with_times(named(item), item);
    if !view.contains_key("properties") {
        put(&mut view, "properties", Map::new());
    }
    put(&mut view, "self", format!("/v2/metadefs/namespaces/{namespace}/objects/{}", item.name));
    put(&mut view, "schema", "/v2/schemas/metadefs/object");
    Value::Object(view)
}

pub fn property(item: &Item) -> Value {
    Value::Object(named(item))
}

/// Properties as a namespace holds them: by name.
pub fn by_name(items: &[Item]) -> Map<String, Value> {
    items.iter().map(|item| (item.name.clone(), Value::Object(item.body.clone()))).collect()
}

pub fn tag(item: &Item) -> Value {
    json!({"name": item.name})
}

pub fn association(item: &Item) -> Value {
    Value::Object(with_times(named(item), item))
}
