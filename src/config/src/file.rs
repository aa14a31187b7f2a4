//! From TOML to checked values.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{GROUPS, Group, KEYS, Key, Problem, Value};

pub(crate) fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

/// Checked values, by key, each with the line that gave it.
#[derive(Default)]
pub(crate) struct Values(
    pub BTreeMap<&'static str, (Value, Option<usize>)>,
    pub Members,
    /// A section that is somebody else's.
    pub Option<&'static str>,
);

/// Sections with ids, by the name of their group and their id: their values.
pub(crate) type Members = BTreeMap<(&'static str, String), Member>;

/// One section with an id.
pub(crate) struct Member {
    group: &'static Group,
    line: Option<usize>,
    values: BTreeMap<&'static str, Value>,
}

impl Member {
    fn get(&self, name: &str) -> Option<Value> {
        match self.values.get(name) {
            Some(value) => Some(value.clone()),
            None => self.group.keys.iter().find(|key| key.name == name)?.kind.default(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        if let Some(Value::Text(value)) = self.get(name) { Some(value) } else { None }
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        if let Some(Value::List(values)) = self.get(name) { values } else { Vec::new() }
    }

    pub(crate) fn small(&self, name: &str) -> u16 {
        if let Some(Value::Int(value)) = self.get(name) { u16::try_from(value).unwrap_or(0) } else { 0 }
    }

    /// Whether the file says it, and not the default.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(crate) fn line(&self) -> Option<usize> {
        self.line
    }
}

/// The sections of a group.
fn read_group(
    text: &str,
    group: &'static Group,
    table: &DeTable<'_>,
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    for (id, section) in table {
        let (line, id) = (Some(line_of(text, &id.span())), id.get_ref().to_string());
        let name = format!("{}.{id}", group.name);
        let DeValue::Table(keys) = section.get_ref() else {
            let found = describe(section.get_ref());
            problems.push(Problem { line, text: format!("{name}: expected a section [{name}], found {found}") });
            continue;
        };
        let mut member = Member { group, line, values: BTreeMap::new() };
        for (key, value) in keys {
            let line = Some(line_of(text, &key.span()));
            let bare = key.get_ref();
            let Some(known) = group.keys.iter().find(|known| known.name == bare.as_ref()) else {
                let near = most_like(bare, group.keys).unwrap_or_default();
                let text = format!("unknown key {name}.{bare}; the nearest known key is {name}.{near}");
                problems.push(Problem { line, text });
                continue;
            };
            match plain(value.get_ref()).and_then(|value| known.kind.accept(value)) {
                Ok(value) => drop(member.values.insert(known.name, value)),
                Err(reason) => problems.push(Problem { line, text: format!("{name}.{bare}: {reason}") }),
            }
        }
        for key in group.required {
            if !keys.iter().any(|(own, _)| own.get_ref() == key) {
                problems.push(Problem { line, text: format!("{name}: the key {key} is missing") });
            }
        }
        values.1.insert((group.name, id), member);
    }
}

pub(crate) fn read_table(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if values.2 == Some(name.as_str()) {
            continue;
        }
        let line = Some(line_of(text, &key.span()));
        let known = KEYS.iter().find(|known| known.name == name);
        let is_section =
            KEYS.iter().any(|known| known.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')));
        let group = GROUPS.iter().find(|group| group.name == name);
        if let (Some(group), DeValue::Table(inner)) = (group, value.get_ref()) {
            read_group(text, group, inner, values, problems);
            continue;
        }
        match (known, value.get_ref()) {
            (Some(known), value) => match plain(value).and_then(|value| known.kind.accept(value)) {
                Ok(value) => {
                    values.0.insert(known.name, (value, line));
                }
                Err(reason) => problems.push(Problem { line, text: format!("{name}: {reason}") }),
            },
            (None, DeValue::Table(inner)) if is_section || !inner.is_empty() => {
                read_table(text, &format!("{name}."), inner, values, problems);
            }
            (None, value) if is_section => {
                let found = describe(value);
                problems.push(Problem { line, text: format!("{name}: expected a section [{name}], found {found}") });
            }
            (None, _) => {
                let text = format!("unknown key {name}; the nearest known key is {}", nearest(&name));
                problems.push(Problem { line, text });
            }
        }
    }
}

/// The known key that looks most like `name`, which may also be right but in the wrong section.
pub(crate) fn nearest(name: &str) -> &'static str {
    most_like(name, KEYS).unwrap_or("state_dir")
}

fn most_like(name: &str, keys: &'static [Key]) -> Option<&'static str> {
    let name = &name.to_ascii_lowercase();
    let last = |name: &'_ str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, known).max(strsim::jaro_winkler(name, known) - 0.1);
        // Half for the bare key: `subnet` is like `private_subnet`, but `network.subnets` in full is nearer to itself.
        let bare = strsim::normalized_damerau_levenshtein(&last(name), &last(known));
        // Of keys that are called the same, the one in the section that looks most alike.
        (whole.max(bare * 0.95), whole)
    };
    let nearer = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
    keys.iter().map(|key| (likeness(key.name), key.name)).max_by(|a, b| nearer(&a.0, &b.0)).map(|(_, name)| name)
}

fn plain(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(value) => {
            let digits = value.as_str().replace('_', "");
            Value::Int(i64::from_str_radix(&digits, value.radix()).map_err(|_| format!("{digits} is out of range"))?)
        }
        DeValue::Float(value) => {
            let digits = value.as_str().replace('_', "");
            Value::Float(digits.parse().map_err(|_| format!("{digits} is not a number"))?)
        }
        DeValue::String(value) => Value::Text(value.to_string()),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!("expected a list of texts in quotes, found {} in it", describe(other))),
            };
            Value::List(items.iter().map(text).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("found {}", describe(other))),
    })
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Boolean(_) => "true or false",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::String(_) => "a text",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
        DeValue::Datetime(_) => "a date",
    }
}

/// A text of the user in a message: short, and on one line.
impl Values {
    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        match self.0.get(name) {
            Some((value, _)) => Some(value.clone()),
            None => KEYS.iter().find(|key| key.name == name)?.kind.default(),
        }
    }

    pub(crate) fn line(&self, name: &str) -> Option<usize> {
        self.0.get(name).and_then(|(_, line)| *line)
    }

    // The kind of each key is checked before, and a test reads every key: the fallbacks are never used.

    pub(crate) fn bool(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        if let Some(Value::Int(value)) = self.get(name) { value } else { 0 }
    }

    pub(crate) fn unsigned(&self, name: &str) -> u64 {
        u64::try_from(self.int(name)).unwrap_or(0)
    }

    pub(crate) fn small(&self, name: &str) -> u32 {
        u32::try_from(self.int(name)).unwrap_or(0)
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        u16::try_from(self.int(name)).unwrap_or(0)
    }

    pub(crate) fn float(&self, name: &str) -> f64 {
        if let Some(Value::Float(value)) = self.get(name) { value } else { 1.0 }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        if let Some(Value::Text(value)) = self.get(name) { Some(value) } else { None }
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        if let Some(Value::List(values)) = self.get(name) { values } else { Vec::new() }
    }

    pub(crate) fn parsed<T: std::str::FromStr>(&self, name: &str, fallback: T) -> T {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(fallback)
    }
}
