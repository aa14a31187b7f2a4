//! Request bodies of Identity: `{"user": {...}}` with known fields checked one by one and everything else kept as the
//! resource's own extra attributes.

use rest::{Error, Result};
use serde_json::{Map, Value};

use crate::errors::{expecting, invalid};

pub(crate) const NAME_MAX: usize = 255;
pub(crate) const PROJECT_NAME_MAX: usize = 64;
pub(crate) const TEXT_MAX: usize = 65_535;
pub(crate) const ID_MAX: usize = 64;

/// Attributes that no client may store: the server says them itself.
const RESERVED: &[&str] = &["id", "links", "password_expires_at", "created_at", "last_active_at", "original_password"];

#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    /// Takes the object under `noun` out of a body.
    pub(crate) fn open(body: Value, noun: &str) -> Result<Self> {
        let Value::Object(mut body) = body else {
            return Err(Error::bad_request("The request body must be a JSON object."));
        };
        match body.remove(noun) {
            Some(Value::Object(map)) => Ok(Self { map }),
            Some(_) => Err(invalid(noun, "it must be an object")),
            None => Err(expecting(noun, "request body")),
        }
    }

    pub(crate) fn of(map: Map<String, Value>) -> Self {
        Self { map }
    }

    /// 400 for an update that says nothing.
    pub(crate) fn some(self, noun: &str) -> Result<Self> {
        if self.map.is_empty() { Err(invalid(noun, "it does not have enough properties")) } else { Ok(self) }
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    pub(crate) fn peek(&self, field: &str) -> Option<&Value> {
        self.map.get(field)
    }

    pub(crate) fn take(&mut self, field: &str) -> Option<Value> {
        self.map.shift_remove(field)
    }

    /// A text that may be absent or null.
    pub(crate) fn nullable(&mut self, field: &str, max: usize) -> Result<Option<Option<String>>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) if text.chars().count() <= max => Ok(Some(Some(text))),
            Some(Value::String(_)) => Err(invalid(field, format_args!("it is longer than {max} characters"))),
            Some(_) => Err(invalid(field, "it must be a string or null")),
        }
    }

    /// A text that may be absent but not null.
    pub(crate) fn text(&mut self, field: &str, max: usize) -> Result<Option<String>> {
        match self.nullable(field, max)? {
            Some(None) => Err(invalid(field, "it must be a string")),
            other => Ok(other.flatten()),
        }
    }

    /// A name: trimmed, not blank, at most `max` characters.
    pub(crate) fn name(&mut self, field: &str, max: usize) -> Result<Option<String>> {
        let Some(text) = self.text(field, max)? else { return Ok(None) };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(invalid(field, "it must not be blank"));
        }
        Ok(Some(trimmed.to_owned()))
    }

    pub(crate) fn required_name(&mut self, field: &str, max: usize, noun: &str) -> Result<String> {
        self.name(field, max)?.ok_or_else(|| expecting(field, noun))
    }

    pub(crate) fn required_text(&mut self, field: &str, max: usize, noun: &str) -> Result<String> {
        self.text(field, max)?.ok_or_else(|| expecting(field, noun))
    }

    pub(crate) fn boolean(&mut self, field: &str) -> Result<Option<bool>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(invalid(field, "it must be a boolean")),
        }
    }

    pub(crate) fn object(&mut self, field: &str) -> Result<Option<Map<String, Value>>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(invalid(field, "it must be an object")),
        }
    }

    pub(crate) fn required_object(&mut self, field: &str, noun: &str) -> Result<Map<String, Value>> {
        self.object(field)?.ok_or_else(|| expecting(field, noun))
    }

    pub(crate) fn array(&mut self, field: &str) -> Result<Option<Vec<Value>>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(invalid(field, "it must be an array")),
        }
    }

    /// The tags of a project: at most 80, each 1 to 255 characters without comma and slash.
    pub(crate) fn tags(&mut self) -> Result<Option<Vec<String>>> {
        self.array("tags")?.map(tags).transpose()
    }

    /// An id in the body must be that of the path.
    pub(crate) fn same_id(&self, id: &str) -> Result<()> {
        match self.map.get("id") {
            None => Ok(()),
            Some(Value::String(own)) if own == id => Ok(()),
            Some(_) => Err(Error::bad_request("Cannot change the id of a resource.")),
        }
    }

    /// [`Fields::same_id`] where nothing else may be left ([`Fields::nothing_else`]).
    pub(crate) fn take_id(&mut self, id: &str) -> Result<()> {
        self.same_id(id)?;
        self.take("id");
        Ok(())
    }

    /// A field that never changes may be repeated in an update.
    pub(crate) fn unchanged(&mut self, field: &str, now: Option<&str>) -> Result<()> {
        match (self.take(field), now) {
            (None, _) | (Some(Value::Null), None) => Ok(()),
            (Some(Value::String(own)), Some(now)) if own == now => Ok(()),
            (Some(Value::String(_) | Value::Null), _) => {
                Err(Error::bad_request(format!("Update of `{field}` is not allowed.")))
            }
            (Some(_), _) => Err(invalid(field, "it must be a string")),
        }
    }

    /// 400 for what no field took, where a resource has no attributes of its own making.
    pub(crate) fn nothing_else(self, noun: &str) -> Result<()> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::bad_request(format!(
                "Additional properties are not allowed: {noun} has no attribute {name:?}."
            ))),
        }
    }

    /// What no field took.
    pub(crate) fn into_extra(self) -> Map<String, Value> {
        let mut map = self.map;
        map.retain(|name, _| !RESERVED.contains(&name.as_str()));
        map
    }
}

pub(crate) fn tags(items: Vec<Value>) -> Result<Vec<String>> {
    if items.len() > 80 {
        return Err(invalid("tags", "there are more than 80"));
    }
    let mut tags: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let Value::String(name) = item else { return Err(invalid("tags", "every tag must be a string")) };
        check_tag(&name)?;
        if tags.contains(&name) {
            return Err(invalid("tags", "the tags are not unique"));
        }
        tags.push(name);
    }
    Ok(tags)
}

pub(crate) fn check_tag(name: &str) -> Result<()> {
    let length = name.chars().count();
    if length == 0 || length > 255 || name.contains([',', '/']) {
        return Err(invalid("tags", "a tag has 1 to 255 characters and neither ',' nor '/'"));
    }
    Ok(())
}

/// What a resource's `options` may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OptionKind {
    Bool,
    /// Multi-factor rules: a list of lists of method names.
    Rules,
}

/// Checks options against the known ones; null stands for removal.
pub(crate) fn check_options(options: &Map<String, Value>, known: &[(&str, OptionKind)]) -> Result<()> {
    for (name, value) in options {
        let Some((_, kind)) = known.iter().find(|(known, _)| known == name) else {
            return Err(invalid("options", format_args!("there is no option {name:?}")));
        };
        let fits = match (kind, value) {
            (_, Value::Null) | (OptionKind::Bool, Value::Bool(_)) => true,
            (OptionKind::Rules, Value::Array(rules)) => rules.iter().all(|rule| {
                rule.as_array().is_some_and(|methods| !methods.is_empty() && methods.iter().all(Value::is_string))
            }),
            _ => false,
        };
        if !fits {
            return Err(invalid("options", format_args!("the option {name:?} has the wrong type")));
        }
    }
    Ok(())
}

/// Applies an update to stored attributes: null removes, everything else replaces.
pub(crate) fn merge(into: &mut Map<String, Value>, changes: Map<String, Value>, null_removes: bool) {
    for (name, value) in changes {
        if null_removes && value.is_null() {
            into.shift_remove(&name);
        } else {
            into.insert(name, value);
        }
    }
}

/// A JSON object as a column holds it.
pub(crate) fn map_text(map: &Map<String, Value>) -> String {
    serde_json::to_string(map).unwrap_or_else(|_| "{}".into())
}

/// The object in a column; most are empty.
pub(crate) fn text_map(text: &str) -> Map<String, Value> {
    if text == "{}" { Map::new() } else { serde_json::from_str(text).unwrap_or_default() }
}

/// Whether the resource refuses changes until this option is taken away.
pub(crate) fn immutable(options: &Map<String, Value>) -> bool {
    options.get("immutable") == Some(&Value::Bool(true))
}
