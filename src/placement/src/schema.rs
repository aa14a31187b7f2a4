//! What a request may hold, as data, and the check that says what is wrong and where.
//!
//! The words are those of JSON Schema as Placement's clients know them ("'total' is a required property"): they name the
//! rule that was broken and the place, and clients are known to look for them. Of several mistakes the outermost is told.

use std::fmt::Write as _;

use rest::{Error, Result};
use serde_json::Value;

/// SQL's INTEGER, the largest amount that the API takes.
pub const MAX_INT: i64 = 0x7FFF_FFFF;

/// How long a quoted value may get inside a message.
const QUOTE_BYTES: usize = 600;

#[derive(Debug)]
pub enum Schema {
    Integer { nullable: bool, min: Option<i64>, max: Option<i64> },
    Number { min: f64, max: f64 },
    Text { nullable: bool, min: usize, max: usize, form: Form },
    List { items: &'static Schema, min: usize, unique: bool },
    Object(Object),
}

#[derive(Debug)]
pub struct Object {
    pub required: &'static [&'static str],
    pub fields: &'static [(&'static str, &'static Schema)],
    /// For keys that are none of `fields`; a key that fits none of these either is refused.
    pub patterns: &'static [(Pattern, &'static Schema)],
    pub min: usize,
}

/// What a text must look like.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    Free,
    /// A UUID in any of its spellings.
    Uuid,
    /// A key or value of a given pattern.
    Pattern(Pattern),
    OneOf(&'static [&'static str]),
}

/// A regular expression as messages show it, and what decides.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    pub text: &'static str,
    pub fits: fn(&str) -> bool,
}

pub const UUID_KEY: Pattern = Pattern {
    text: "^[0-9a-fA-F-]{36}$",
    fits: |key| key.len() == 36 && key.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'),
};
pub const CLASS: Pattern = Pattern { text: "^[A-Z0-9_]+$", fits: is_upper_name };
pub const CUSTOM_CLASS: Pattern =
    Pattern { text: "^CUSTOM_[A-Z0-9_]+$", fits: |name| name.strip_prefix("CUSTOM_").is_some_and(is_upper_name) };
/// A request group's suffix inside `mappings`; the group without one has the empty suffix.
pub const SUFFIX: Pattern = Pattern {
    text: "^[a-zA-Z0-9_-]{0,64}$",
    fits: |key| key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
};
pub const DIGITS: Pattern = Pattern {
    text: "^[1-9][0-9]*$",
    fits: |text| !text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
};

pub fn is_upper_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

pub const INTEGER: Schema = Schema::Integer { nullable: false, min: None, max: None };
pub const UUID: Schema = Schema::Text { nullable: false, min: 0, max: usize::MAX, form: Form::Uuid };
pub const UUID_OR_NULL: Schema = Schema::Text { nullable: true, min: 0, max: usize::MAX, form: Form::Uuid };
pub const TEXT: Schema = Schema::Text { nullable: false, min: 0, max: usize::MAX, form: Form::Free };
pub const TEXT_255: Schema = Schema::Text { nullable: false, min: 1, max: 255, form: Form::Free };

/// An object that holds only these fields.
pub const fn object(required: &'static [&'static str], fields: &'static [(&'static str, &'static Schema)]) -> Schema {
    Schema::Object(Object { required, fields, patterns: &[], min: 0 })
}

/// An object whose keys fit a pattern.
pub const fn keyed(patterns: &'static [(Pattern, &'static Schema)], min: usize) -> Schema {
    Schema::Object(Object { required: &[], fields: &[], patterns, min })
}

/// Checks a request body.
pub fn check_body(schema: &Schema, body: &Value) -> Result<()> {
    check(schema, body).map_err(|why| Error::bad_request(format!("JSON does not validate: {why}")))
}

/// Checks a query string, given as an object of texts.
pub fn check_query(schema: &Schema, query: &Value) -> Result<()> {
    check(schema, query).map_err(|why| Error::bad_request(format!("Invalid query string parameters: {why}")))
}

fn check(schema: &Schema, value: &Value) -> std::result::Result<(), String> {
    let mut place = Place::default();
    place.check(schema, value).map_err(|(message, keyword)| {
        format!(
            "{message}\n\nFailed validating '{keyword}' in schema{}:\n\nOn instance{}",
            place.schema, place.instance
        )
    })
}

#[derive(Default)]
struct Place {
    schema: String,
    instance: String,
}

type Broken = (String, &'static str);

impl Place {
    fn check(&mut self, schema: &Schema, value: &Value) -> std::result::Result<(), Broken> {
        match schema {
            Schema::Integer { nullable, min, max } => integer(value, *nullable, *min, *max),
            Schema::Number { min, max } => number(value, *min, *max),
            Schema::Text { nullable, min, max, form } => text(value, *nullable, *min, *max, *form),
            Schema::List { items, min, unique } => self.list(value, items, *min, *unique),
            Schema::Object(object) => self.object(value, object),
        }
    }

    fn list(&mut self, value: &Value, items: &Schema, min: usize, unique: bool) -> std::result::Result<(), Broken> {
        let Value::Array(list) = value else {
            return Err((format!("{} is not of type 'array'", python(value)), "type"));
        };
        if list.len() < min {
            return Err((format!("{} is too short (should be non-empty)", python(value)), "minItems"));
        }
        if unique {
            let mut seen: Vec<String> = list.iter().map(Value::to_string).collect();
            seen.sort_unstable();
            if seen.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err((format!("{} has non-unique elements", python(value)), "uniqueItems"));
            }
        }
        for (index, item) in list.iter().enumerate() {
            self.below("['items']", &format!("[{index}]"), items, item)?;
        }
        Ok(())
    }

    fn object(&mut self, value: &Value, object: &Object) -> std::result::Result<(), Broken> {
        let Value::Object(map) = value else {
            return Err((format!("{} is not of type 'object'", python(value)), "type"));
        };
        if map.len() < object.min {
            let message = format!("{} does not have enough properties (should be non-empty)", python(value));
            return Err((message, "minProperties"));
        }
        if let Some(missing) = object.required.iter().find(|name| !map.contains_key(**name)) {
            return Err((format!("'{missing}' is a required property"), "required"));
        }
        let field = |name: &str| object.fields.iter().find(|(known, _)| *known == name).map(|(_, schema)| *schema);
        let pattern = |name: &str| object.patterns.iter().find(|(pattern, _)| (pattern.fits)(name));
        let odd: Vec<String> = map
            .keys()
            .filter(|name| field(name).is_none() && pattern(name).is_none())
            .map(|name| python(&Value::from(name.as_str())))
            .collect();
        if !odd.is_empty() {
            let message = if object.patterns.is_empty() {
                let were = if odd.len() == 1 { "was" } else { "were" };
                format!("Additional properties are not allowed ({} {were} unexpected)", odd.join(", "))
            } else {
                let patterns: Vec<String> =
                    object.patterns.iter().map(|(pattern, _)| format!("'{}'", pattern.text)).collect();
                let (do_not, them) = if odd.len() == 1 { ("does", "") } else { ("do", "") };
                format!("{} {do_not} not match any of the regexes: {}{them}", odd.join(", "), patterns.join(", "))
            };
            return Err((clip(message), "additionalProperties"));
        }
        for (name, inner) in map {
            if let Some(schema) = field(name) {
                self.below(&format!("['properties']['{name}']"), &format!("['{name}']"), schema, inner)?;
            } else if let Some((found, schema)) = pattern(name) {
                let rule = format!("['patternProperties']['{}']", found.text);
                self.below(&rule, &format!("['{name}']"), schema, inner)?;
            }
        }
        Ok(())
    }

    fn below(&mut self, rule: &str, at: &str, schema: &Schema, value: &Value) -> std::result::Result<(), Broken> {
        let (schema_length, instance_length) = (self.schema.len(), self.instance.len());
        self.schema.push_str(rule);
        self.instance.push_str(at);
        self.check(schema, value)?;
        self.schema.truncate(schema_length);
        self.instance.truncate(instance_length);
        Ok(())
    }
}

fn integer(value: &Value, nullable: bool, min: Option<i64>, max: Option<i64>) -> std::result::Result<(), Broken> {
    if nullable && value.is_null() {
        return Ok(());
    }
    let kind = if nullable { "'integer', 'null'" } else { "'integer'" };
    let whole = match value.as_f64() {
        Some(number) if number.fract() == 0.0 => number,
        _ => return Err((format!("{} is not of type {kind}", python(value)), "type")),
    };
    // Everything that is compared is far inside what f64 holds exactly.
    #[allow(clippy::cast_precision_loss, reason = "bounds are at most 2^31")]
    let bound = |limit: i64| limit as f64;
    if let Some(min) = min.filter(|min| whole < bound(*min)) {
        return Err((format!("{} is less than the minimum of {min}", python(value)), "minimum"));
    }
    if let Some(max) = max.filter(|max| whole > bound(*max)) {
        return Err((format!("{} is greater than the maximum of {max}", python(value)), "maximum"));
    }
    Ok(())
}

fn number(value: &Value, min: f64, max: f64) -> std::result::Result<(), Broken> {
    let Some(number) = value.as_f64() else {
        return Err((format!("{} is not of type 'number'", python(value)), "type"));
    };
    if number < min {
        return Err((format!("{} is less than the minimum of {min}", python(value)), "minimum"));
    }
    if number > max {
        return Err((format!("{} is greater than the maximum of {max:e}", python(value)), "maximum"));
    }
    Ok(())
}

fn text(value: &Value, nullable: bool, min: usize, max: usize, form: Form) -> std::result::Result<(), Broken> {
    let Value::String(text) = value else {
        if nullable && value.is_null() {
            return Ok(());
        }
        let kind = if nullable { "'string', 'null'" } else { "'string'" };
        return Err((format!("{} is not of type {kind}", python(value)), "type"));
    };
    let length = text.chars().count();
    if length < min {
        return Err((format!("{} is too short (should be non-empty)", python(value)), "minLength"));
    }
    if length > max {
        return Err((format!("{} is too long", python(value)), "maxLength"));
    }
    match form {
        Form::Free => Ok(()),
        Form::Uuid if normal_uuid(text).is_some() => Ok(()),
        Form::Uuid => Err((format!("{} is not a 'uuid'", python(value)), "format")),
        Form::Pattern(pattern) if (pattern.fits)(text) => Ok(()),
        Form::Pattern(pattern) => Err((format!("{} does not match '{}'", python(value), pattern.text), "pattern")),
        Form::OneOf(words) if words.contains(&text.as_str()) => Ok(()),
        Form::OneOf(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            Err((format!("{} is not one of [{}]", python(value), words.join(", ")), "enum"))
        }
    }
}

/// The one spelling that rows hold (lower case, dashes), from any that Python's `uuid` module takes; `None` for what is
/// no UUID.
pub fn normal_uuid(text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let bare = text.strip_prefix("urn:").unwrap_or(text);
    let bare = bare.strip_prefix("uuid:").unwrap_or(bare).trim_matches(|c| c == '{' || c == '}');
    let digits: String = bare.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    (digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| {
        format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
    })
}

/// A value as messages quote it.
fn python(value: &Value) -> String {
    let mut out = String::new();
    write_python(value, &mut out);
    clip(out)
}

fn clip(mut text: String) -> String {
    if text.len() > QUOTE_BYTES {
        let mut end = QUOTE_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn write_python(value: &Value, out: &mut String) {
    if out.len() > QUOTE_BYTES {
        return;
    }
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            out.push(quote);
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    c if c == quote => {
                        out.push('\\');
                        out.push(c);
                    }
                    c => out.push(c),
                }
            }
            out.push(quote);
        }
        Value::Array(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_python(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_python(&Value::from(key.as_str()), out);
                out.push_str(": ");
                write_python(item, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INNER: Schema =
        object(&["n"], &[("n", &Schema::Integer { nullable: false, min: Some(1), max: Some(MAX_INT) })]);
    const OUTER: Schema = object(&["inner"], &[("inner", &INNER), ("id", &UUID_OR_NULL)]);

    fn why(value: Value) -> String {
        check(&OUTER, &value).unwrap_err()
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(
            why(json!({})).starts_with("'inner' is a required property\n\nFailed validating 'required' in schema:")
        );
        assert!(why(json!({"inner": {"n": 0}})).contains(
            "0 is less than the minimum of 1\n\nFailed validating 'minimum' in schema['properties']['inner']['properties']['n']"
        ));
        assert!(why(json!({"inner": {"n": 2_147_483_648_i64}})).contains("Failed validating 'maximum'"));
        assert!(why(json!({"inner": {"n": "x"}})).contains("'x' is not of type 'integer'"));
        assert!(why(json!({"inner": {"n": true}})).contains("True is not of type 'integer'"));
        assert!(why(json!({"inner": {"n": 1.5}})).contains("1.5 is not of type 'integer'"));
        assert!(why(json!({"inner": {"n": 1}, "x": 1, "y": 2})).contains("('x', 'y' were unexpected)"));
        assert!(why(json!({"inner": {"n": 1}, "id": "harry"})).contains("'harry' is not a 'uuid'"));
        assert!(why(json!([])).contains("[] is not of type 'object'"));
        assert!(check(&OUTER, &json!({"inner": {"n": 1}, "id": null})).is_ok());
        assert!(check(&OUTER, &json!({"inner": {"n": 1.0}})).is_ok());
    }

    #[test]
    fn messages_stay_short_whatever_is_sent() {
        assert!(why(json!({"inner": "x".repeat(100_000)})).len() < 2_000);
        assert!(why(json!({"x".repeat(50_000): 1, "inner": {"n": 1}})).len() < 2_000);
    }

    #[test]
    fn uuids_are_kept_in_one_spelling() {
        let wanted = Some("2290d4af-9e6e-400b-9d65-1ee01376f71a".to_owned());
        for spelling in [
            "2290d4af-9e6e-400b-9d65-1ee01376f71a",
            "2290D4AF9E6E400B9D651EE01376F71A",
            "{2290d4af9e6e400b9d651ee01376f71a}",
            "urn:uuid:2290d4af-9e6e-400b-9d65-1ee01376f71a",
        ] {
            assert_eq!(normal_uuid(spelling), wanted);
        }
        for odd in ["", "x", "2290d4af-9e6e-400b-9d65-1ee01376f71", "2290d4af-9e6e-400b-9d65-1ee01376f71g", "é"] {
            assert_eq!(normal_uuid(odd), None);
        }
    }
}
