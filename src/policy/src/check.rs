//! A parsed check and how it is decided against credentials and a target. Pure; never fails: what is missing denies.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// `R` is how another rule is referred to: by name as parsed, by index once resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Check<R> {
    Always,
    Never,
    Role(Template),
    Rule(R),
    Compare(Left, Template),
    Field { name: String, test: FieldTest },
    And(Vec<Check<R>>),
    Or(Vec<Check<R>>),
    Not(Box<Check<R>>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Left {
    /// `None`: equal only to a target value that is null, not to the text "None", which a user may choose as a name.
    Null,
    /// A quoted string, a number, `True` or `False`, in the form that Python's `str()` gives it.
    Literal(String),
    /// A dotted path into the credentials.
    Attribute(String),
}

/// Neutron's `field:networks:shared=True` and `field:port:device_owner=~^network:`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldTest {
    Equals(String),
    StartsWith(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(pub(crate) Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Key(String),
}

/// Every token has these, null where it has another scope: `not domain_id:None` means "scoped to a domain", whether the
/// caller wrote the nulls down or left them out.
const SCOPES: [&str; 4] = ["system_scope", "domain_id", "project_id", "project_domain_id"];

impl Template {
    fn names_the_target(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Key(_)))
    }

    /// The text with the target's values filled in; `None` when one of them is missing or is no scalar.
    fn fill<'a>(&'a self, target: &'a Map<String, Value>) -> Option<Cow<'a, str>> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(Cow::Borrowed(text)),
            [Part::Key(key)] => text_of(find(target, key)?),
            parts => {
                let mut filled = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => filled.push_str(text),
                        Part::Key(key) => filled.push_str(&text_of(find(target, key)?)?),
                    }
                }
                Some(Cow::Owned(filled))
            }
        }
    }

    fn is_null(&self, target: &Map<String, Value>) -> bool {
        matches!(self.0.as_slice(), [Part::Key(key)] if matches!(find(target, key), Some(Value::Null)))
    }
}

impl Check<usize> {
    /// `rules` is what indices refer to; it holds no cycle and its depth and cost are bounded.
    pub(crate) fn decide(
        &self,
        rules: &[Check<usize>],
        creds: &Map<String, Value>,
        target: &Map<String, Value>,
    ) -> bool {
        match self {
            Check::Always => true,
            Check::Never => false,
            Check::And(all) => all.iter().all(|check| check.decide(rules, creds, target)),
            Check::Or(any) => any.iter().any(|check| check.decide(rules, creds, target)),
            Check::Not(check) => !check.decide(rules, creds, target),
            Check::Rule(index) => rules.get(*index).is_some_and(|check| check.decide(rules, creds, target)),
            Check::Role(name) => match (name.fill(target), creds.get("roles")) {
                (Some(wanted), Some(Value::Array(roles))) => {
                    roles.iter().filter_map(Value::as_str).any(|role| same_ignoring_case(role, &wanted))
                }
                _ => false,
            },
            Check::Compare(Left::Null, right) => {
                if right.names_the_target() {
                    right.is_null(target)
                } else {
                    right.fill(target).is_some_and(|text| text == "None")
                }
            }
            Check::Compare(Left::Literal(text), right) => right.fill(target).is_some_and(|filled| filled == *text),
            Check::Compare(Left::Attribute(path), right) => match right.fill(target) {
                // A credential that is not set is never equal to a field that is not set: a token without a project
                // does not own what belongs to no project. (oslo.policy compares the texts "None" here.)
                Some(wanted) => {
                    let literal = !right.names_the_target();
                    credential_equals(creds, path, &wanted, literal)
                        || literal && wanted == "None" && SCOPES.contains(&path.as_str()) && !creds.contains_key(path)
                }
                None => false,
            },
            Check::Field { name, test } => find(target, name).is_some_and(|value| match (test, text_of(value)) {
                (FieldTest::Equals(wanted), Some(text)) => {
                    text == *wanted || (value.is_boolean() && same_ignoring_case(&text, wanted))
                }
                (FieldTest::StartsWith(prefix), Some(text)) => value.is_string() && text.starts_with(prefix.as_str()),
                (_, None) => false,
            }),
        }
    }
}

/// A scalar as Python's `str()` writes it, which is what policy files are written against.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(true) => Some(Cow::Borrowed("True")),
        Value::Bool(false) => Some(Cow::Borrowed("False")),
        Value::Null => Some(Cow::Borrowed("None")),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The value at a dotted key, where any run of segments may also be one flat key.
fn find<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    if let Some(value) = map.get(key) {
        return Some(value);
    }
    key.match_indices('.').find_map(|(dot, _)| match map.get(&key[..dot]) {
        Some(Value::Object(inner)) => find(inner, &key[dot + 1..]),
        _ => None,
    })
}

fn credential_equals(map: &Map<String, Value>, path: &str, wanted: &str, null_counts: bool) -> bool {
    if map.get(path).is_some_and(|value| leaf_equals(value, wanted, null_counts)) {
        return true;
    }
    path.match_indices('.').any(|(dot, _)| match map.get(&path[..dot]) {
        Some(Value::Object(inner)) => credential_equals(inner, &path[dot + 1..], wanted, null_counts),
        Some(Value::Array(items)) => items.iter().any(|item| match item {
            Value::Object(inner) => credential_equals(inner, &path[dot + 1..], wanted, null_counts),
            _ => false,
        }),
        _ => false,
    })
}

fn leaf_equals(value: &Value, wanted: &str, null_counts: bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| !item.is_array() && leaf_equals(item, wanted, null_counts)),
        Value::Null if !null_counts => false,
        other => text_of(other).is_some_and(|text| text == wanted),
    }
}

fn same_ignoring_case(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase())
}
