//! Checking a body against one of our schemas, and cutting it into what is kept.
//!
//! The checker knows the words that our own schemas use and no others: a schema never comes from a client.

use rest::{Error, Result};
use serde_json::{Map, Value};

/// How many items of one kind a namespace may hold.
pub const ITEMS_MAX: i64 = 1000;

/// The four kinds of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Property,
    Tag,
    Association,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Property => "property",
            Kind::Tag => "tag",
            Kind::Association => "association",
        }
    }
}

/// An object, a property, a tag or an association: a name, and what else is said of it.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    /// Without the name.
    pub body: Map<String, Value>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Clone, Debug)]
pub struct Namespace {
    pub id: String,
    pub namespace: String,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub is_public: bool,
    pub protected: bool,
    /// None: the cloud's own.
    pub owner: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

impl Namespace {
    pub fn visibility(&self) -> &'static str {
        if self.is_public { "public" } else { "private" }
    }
}

/// Takes the body of a request if it is what `schema` says.
pub fn checked(schema: &Value, body: Value) -> Result<Map<String, Value>> {
    let name = schema["name"].as_str().unwrap_or_default();
    let wrong =
        |reason: String| Error::bad_request(format!("Provided object does not match schema '{name}': {reason}"));
    let Value::Object(map) = &body else { return Err(wrong("it is not an object".to_owned())) };
    let read_only = |key: &&String| schema["properties"][key.as_str()]["readOnly"] == Value::Bool(true);
    if let Some(key) = map.keys().find(read_only) {
        return Err(Error::forbidden(format!("Attribute '{key}' is read-only.")));
    }
    check(schema, &schema["definitions"], &body).map_err(wrong)?;
    match body {
        Value::Object(map) => Ok(map),
        _ => Err(Error::bad_request("The body must be an object.")),
    }
}

/// The name out of a checked body; the rest is the item's body.
pub fn item(mut map: Map<String, Value>, now: &str) -> Result<Item> {
    let name = match map.remove("name") {
        Some(Value::String(name)) => check_name(&name)?,
        _ => return Err(Error::bad_request("A name is required.")),
    };
    map.retain(|_, value| !value.is_null());
    Ok(Item { name, body: map, created_at: now.to_owned(), updated_at: now.to_owned() })
}

/// A name that a URL can hold.
pub fn check_name(name: &str) -> Result<String> {
    let length = name.chars().count();
    if length == 0 || length > 80 || name.contains('/') || name.chars().any(char::is_control) {
        return Err(Error::bad_request("A name has 1 to 80 characters and holds no slash and no control characters."));
    }
    Ok(name.to_owned())
}

fn check(schema: &Value, definitions: &Value, value: &Value) -> std::result::Result<(), String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
        return check(&definitions[name], definitions, value);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(part, definitions, value)?;
    }
    if let Some(wanted) = schema["type"].as_str()
        && !is_type(wanted, value)
        // An enumeration that holds null admits it whatever the type.
        && !(value.is_null() && schema["enum"].as_array().is_some_and(|values| values.contains(value)))
    {
        return Err(format!("{} is not of type '{wanted}'", brief(value)));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        return Err(format!("{} is not one of [{}]", brief(value), values.join(", ")));
    }
    if let (Some(max), Some(text)) = (schema["maxLength"].as_u64(), value.as_str())
        && text.chars().count() as u64 > max
    {
        return Err(format!("{} is too long: at most {max} characters", brief(value)));
    }
    if let (Some(min), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < min
    {
        return Err(format!("{number} is less than the minimum of {min}"));
    }
    if schema["format"] == "regex"
        && let Some(text) = value.as_str()
        && text.chars().count() > 1000
    {
        return Err("the pattern is too long: at most 1000 characters".to_owned());
    }
    if let Some(list) = value.as_array() {
        if schema["uniqueItems"] == Value::Bool(true) && (1..list.len()).any(|at| list[..at].contains(&list[at])) {
            return Err(format!("{} has an item twice", brief(value)));
        }
        if schema["items"].is_object() {
            list.iter().try_for_each(|one| check(&schema["items"], definitions, one))?;
        }
    }
    match value {
        Value::Object(map) => check_fields(schema, definitions, map),
        _ => Ok(()),
    }
}

fn check_fields(schema: &Value, definitions: &Value, map: &Map<String, Value>) -> std::result::Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(name) {
            return Err(format!("'{name}' is a required property"));
        }
    }
    for (key, value) in map {
        let inner = match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(inner), _) => inner,
            (None, Value::Bool(false)) => {
                return Err(format!("Additional properties are not allowed ({key:?} was unexpected)"));
            }
            (None, inner) => inner,
        };
        check(inner, definitions, value).map_err(|reason| format!("{key}: {reason}"))?;
    }
    Ok(())
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schemas;
    use super::*;

    #[test]
    fn bodies_are_held_to_the_schema_that_clients_read() {
        let refused = |schema: &Value, body: Value| checked(schema, body).unwrap_err().public().to_owned();
        let namespace = schemas::namespace();
        assert!(checked(&namespace, json!({"namespace": "a", "visibility": "public", "protected": true})).is_ok());
        assert!(refused(&namespace, json!({"visibility": "public"})).contains("'namespace' is a required property"));
        assert!(refused(&namespace, json!({"namespace": 1})).contains("is not of type 'string'"));
        assert!(refused(&namespace, json!({"namespace": "a".repeat(81)})).contains("too long"));
        assert!(refused(&namespace, json!({"namespace": "a", "visibility": "shared"})).contains("is not one of"));
        assert!(refused(&namespace, json!({"namespace": "a", "colour": 1})).contains("\"colour\" was unexpected"));
        assert!(refused(&namespace, json!({"namespace": "a", "self": "b"})).contains("read-only"));
        assert!(refused(&namespace, json!([])).contains("not an object"));
        let property = schemas::property();
        assert!(checked(&property, json!({"name": "a", "title": "b", "type": "integer", "minimum": 0.5})).is_ok());
        assert!(checked(&property, json!({"name": "a", "title": "b", "type": null})).is_ok());
        assert!(refused(&property, json!({"name": "a", "title": "b", "type": "int"})).contains("is not one of"));
        assert!(
            refused(&property, json!({"name": "a", "title": "b", "type": "string", "maxLength": -1}))
                .contains("minimum")
        );
        assert!(
            refused(&property, json!({"name": "a", "title": "b", "type": "string", "required": ["x", "x"]}))
                .contains("twice")
        );
        let object = json!({"name": "o", "properties": {"p": {"title": "t"}}});
        assert!(refused(&schemas::object(), object).contains("properties: p: 'type' is a required property"));
    }

    #[test]
    fn names_can_stand_in_a_url() {
        for fine in ["OS::Compute::Quota", "a b", "ü"] {
            assert_eq!(check_name(fine).unwrap(), fine);
        }
        for bad in ["", "a/b", "a\nb", &"x".repeat(81)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
