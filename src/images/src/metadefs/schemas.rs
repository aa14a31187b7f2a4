//! `/v2/schemas/metadefs/...`, and the same documents as the check of what clients send (API reference, "Metadata definition
//! schemas").

use axum::extract::Path;
use rest::{Error, Reply, Result};
use serde_json::{Map, Value, json};

pub async fn show(Path(name): Path<String>) -> Result<Reply> {
    let schema = match name.as_str() {
        "namespace" => namespace(),
        "namespaces" => collection("namespaces", namespace(), false),
        "object" => object(),
        "objects" => collection("objects", object(), false),
        "property" => property(),
        "properties" => collection("properties", property(), true),
        "tag" => tag(),
        "tags" => collection("tags", tag(), false),
        "resource_type" => resource_type(),
        "resource_types" => collection("resource_type_associations", resource_type(), false),
        _ => return Err(Error::no_such_route()),
    };
    Ok(Reply::ok(&schema))
}

/// Lists hold items; properties are held by name.
fn collection(name: &str, mut item: Value, by_name: bool) -> Value {
    let definitions = item.as_object_mut().and_then(|item| item.remove("definitions"));
    let held = match by_name {
        false => json!({"type": "array", "items": item}),
        true => json!({"type": "object", "additionalProperties": item}),
    };
    let text = json!({"type": "string"});
    let mut schema = json!({
        "name": name,
        "properties": {name: held, "first": text, "next": text, "schema": text},
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    });
    if let Some(definitions) = definitions {
        schema["definitions"] = definitions;
    }
    schema
}

fn of(name: &str, required: &[&str], properties: Value, definitions: bool) -> Value {
    let mut schema =
        json!({"name": name, "properties": properties, "additionalProperties": false, "required": required});
    if definitions {
        schema["definitions"] = self::definitions();
    }
    schema
}

fn text(description: &str, max: usize) -> Value {
    json!({"type": "string", "description": description, "maxLength": max})
}

fn shown(mut schema: Map<String, Value>) -> Value {
    schema.insert("readOnly".to_owned(), Value::Bool(true));
    Value::Object(schema)
}

fn time(description: &str) -> Value {
    shown(Map::from_iter([
        ("type".to_owned(), json!("string")),
        ("description".to_owned(), json!(description)),
        ("format".to_owned(), json!("date-time")),
    ]))
}

fn link() -> Value {
    shown(Map::from_iter([("type".to_owned(), json!("string"))]))
}

fn types() -> Value {
    json!({"type": "string", "enum": ["array", "boolean", "integer", "number", "object", "string", null]})
}

/// What a property's own schema may say.
fn property_fields() -> Value {
    json!({
        "name": {"type": "string", "maxLength": 80},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "operators": {"type": "array", "items": {"type": "string"}},
        "type": types(),
        "required": {"$ref": "#/definitions/stringArray"},
        "minimum": {"type": "number"},
        "maximum": {"type": "number"},
        "maxLength": {"$ref": "#/definitions/positiveInteger"},
        "minLength": {"$ref": "#/definitions/positiveIntegerDefault0"},
        "pattern": {"type": "string", "format": "regex"},
        "enum": {"type": "array"},
        "readonly": {"type": "boolean"},
        "default": {},
        "items": {"type": "object", "properties": {"type": types(), "enum": {"type": "array"}}},
        "maxItems": {"$ref": "#/definitions/positiveInteger"},
        "minItems": {"$ref": "#/definitions/positiveIntegerDefault0"},
        "uniqueItems": {"type": "boolean", "default": false},
        "additionalItems": {"type": "boolean"},
    })
}

fn definitions() -> Value {
    json!({
        "positiveInteger": {"type": "integer", "minimum": 0},
        "positiveIntegerDefault0": {"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]},
        "stringArray": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        "property": {
            "type": "object",
            "additionalProperties": {"type": "object", "required": ["title", "type"], "properties": property_fields()},
        },
    })
}

pub fn namespace() -> Value {
    let name = json!({"type": "string"});
    let properties = json!({
        "namespace": text("The unique namespace text.", 80),
        "display_name": text("The name that user interfaces show.", 80),
        "description": text("What the namespace is about.", 500),
        "visibility": {"type": "string", "description": "Who may see the namespace.", "enum": ["public", "private"]},
        "protected": {"type": "boolean", "description": "If true, the namespace cannot be deleted."},
        "owner": text("Owner of the namespace.", 255),
        "created_at": time("Date and time of namespace creation"),
        "updated_at": time("Date and time of the last namespace modification"),
        "schema": link(),
        "self": link(),
        "resource_type_associations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": name, "prefix": name, "properties_target": name},
            },
        },
        "properties": {"$ref": "#/definitions/property"},
        "objects": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": name,
                    "description": name,
                    "required": {"$ref": "#/definitions/stringArray"},
                    "properties": {"$ref": "#/definitions/property"},
                },
            },
        },
        "tags": {"type": "array", "items": {"type": "object", "properties": {"name": name}}},
    });
    of("namespace", &["namespace"], properties, true)
}

pub fn object() -> Value {
    let properties = json!({
        "name": {"type": "string", "maxLength": 80},
        "description": {"type": "string"},
        "required": {"$ref": "#/definitions/stringArray"},
        "properties": {"$ref": "#/definitions/property"},
        "schema": link(),
        "self": link(),
        "created_at": time("Date and time of object creation"),
        "updated_at": time("Date and time of the last object modification"),
    });
    of("object", &["name"], properties, true)
}

pub fn property() -> Value {
    of("property", &["type", "title", "name"], property_fields(), true)
}

pub fn tag() -> Value {
    let properties = json!({
        "name": {"type": "string", "maxLength": 80},
        "created_at": time("Date and time of tag creation"),
        "updated_at": time("Date and time of the last tag modification"),
    });
    of("tag", &["name"], properties, false)
}

/// The body that makes many tags; not a document of its own.
pub fn tags() -> Value {
    let item = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 80}},
        "required": ["name"],
        "additionalProperties": false,
    });
    of("tags", &["tags"], json!({"tags": {"type": "array", "items": item}}), false)
}

pub fn resource_type() -> Value {
    let properties = json!({
        "name": text("Names follow Heat's resource types where there is one.", 80),
        "prefix": text(
            "What goes before every property of the namespace where it is set on this type, with its separator.",
            80,
        ),
        "properties_target": text(
            "Which of the type's sets of properties is meant, where it has several: a volume has its own and its image's.",
            80,
        ),
        "created_at": time("Date and time of resource type association"),
        "updated_at": time("Date and time of the last resource type association modification"),
    });
    of("resource_type_association", &["name"], properties, false)
}
