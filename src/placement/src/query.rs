//! The query parameters that listing providers and looking for candidates share: amounts, traits, aggregates.

use db::Tx;
use rest::{Ctx, Error, Params, Result};
use serde_json::{Map, Value};

use crate::{error, resource_classes, schema, traits};

/// The query as an object of texts, for the schema; of repeated keys the last counts.
pub fn query_object(params: &Params) -> Value {
    let map: Map<String, Value> =
        params.pairs().iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    Value::Object(map)
}

/// Every value of a parameter, in order.
pub fn all<'p>(params: &'p Params, name: &str) -> Vec<&'p str> {
    params.pairs().iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
}

/// `VCPU:2,MEMORY_MB:1024`.
pub fn amounts(text: &str) -> Result<Vec<(String, i64)>> {
    let mut found: Vec<(String, i64)> = Vec::new();
    let malformed = |got: &str| {
        Error::bad_request(format!(
            "Badly formed resources parameter. Expected resources query string parameter in form: \
             ?resources=VCPU:2,MEMORY_MB:1024. Got: {got}."
        ))
    };
    if text.trim().is_empty() {
        return Err(malformed("empty string"));
    }
    for piece in text.split(',') {
        let Some((class, amount)) = piece.split_once(':').filter(|(class, _)| !class.trim().is_empty()) else {
            return Err(malformed(piece));
        };
        let (class, amount) = (class.trim(), amount.trim());
        let amount: i64 = amount.parse().map_err(|_| {
            Error::bad_request(format!("Requested resource {class} expected positive integer amount. Got: {amount}."))
        })?;
        if !(1..=schema::MAX_INT).contains(&amount) {
            return Err(Error::bad_request(format!("Requested resource {class} requires amount >= 1. Got: {amount}.")));
        }
        match found.iter_mut().find(|(known, _)| known == class) {
            Some(known) => known.1 = amount,
            None => found.push((class.to_owned(), amount)),
        }
    }
    Ok(found)
}

/// Class names to ids.
pub fn class_ids(tx: &Tx<'_>, amounts: &[(String, i64)]) -> Result<Vec<(i64, i64)>> {
    let mut ids = Vec::with_capacity(amounts.len());
    for (name, amount) in amounts {
        let class = resource_classes::store::find(tx, name)?.ok_or_else(|| {
            Error::bad_request(format!("Invalid resource class in resources parameter: No such resource class {name}."))
        })?;
        ids.push((class.id, *amount));
    }
    Ok(ids)
}

/// Of every set of `any` at least one; of `forbidden` none.
#[derive(Debug, Clone)]
pub struct Wanted<T> {
    pub any: Vec<Vec<T>>,
    pub forbidden: Vec<T>,
}

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Self { any: Vec::new(), forbidden: Vec::new() }
    }
}

impl<T> Wanted<T> {
    pub fn required_by(&self, has: impl Fn(&T) -> bool) -> bool {
        self.any.iter().all(|set| set.iter().any(&has))
    }

    pub fn forbids(&self, has: impl Fn(&T) -> bool) -> bool {
        self.forbidden.iter().any(has)
    }

    pub fn admits(&self, has: impl Fn(&T) -> bool) -> bool {
        self.required_by(&has) && !self.forbids(&has)
    }
}

/// `required=A,!B` and, since 1.39, `required=in:C,D` and repetition (before, the last one counts).
pub fn traits(ctx: &Ctx, key: &str, values: &[&str]) -> Result<Wanted<String>> {
    let form = if ctx.since(1, 22) { "HW_CPU_X86_VMX,!CUSTOM_MAGIC" } else { "HW_CPU_X86_VMX,CUSTOM_MAGIC" };
    let values = if ctx.since(1, 39) { values } else { &values[values.len().saturating_sub(1)..] };
    let mut wanted = Wanted::default();
    for value in values {
        let malformed = || {
            Error::bad_request(format!(
                "Invalid query string parameters: Expected 'required' parameter value of the form: {form}. Got: {value}"
            ))
        };
        if let Some(set) = value.strip_prefix("in:") {
            if !ctx.since(1, 39) {
                return Err(Error::bad_request(format!(
                    "Invalid query string parameters: The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since \
                     microversion 1.39. Got: {value}"
                )));
            }
            let names: Vec<String> = set.split(',').map(|name| name.trim().to_owned()).collect();
            if names.iter().any(|name| !schema::is_upper_name(name)) {
                return Err(malformed());
            }
            wanted.any.push(names);
            continue;
        }
        for name in value.split(',') {
            let name = name.trim();
            match name.strip_prefix('!') {
                Some(forbidden) if ctx.since(1, 22) && schema::is_upper_name(forbidden) => {
                    wanted.forbidden.push(forbidden.to_owned());
                }
                None if schema::is_upper_name(name) => wanted.any.push(vec![name.to_owned()]),
                _ => return Err(malformed()),
            }
        }
    }
    let conflicts: Vec<&str> = wanted
        .any
        .iter()
        .filter(|set| set.len() == 1)
        .flatten()
        .filter(|name| wanted.forbidden.contains(name))
        .map(String::as_str)
        .collect();
    if !conflicts.is_empty() {
        let conflicts = conflicts.join(", ");
        let message = if key == "root_required" {
            format!("Conflicting required and forbidden traits found in {key}: {conflicts}")
        } else {
            format!(
                "Conflicting required and forbidden traits found in the following traits keys: {key}: ({conflicts})"
            )
        };
        return Err(Error::bad_request(message).with_code(error::BAD_VALUE));
    }
    Ok(wanted)
}

/// Trait names to ids.
pub fn trait_ids(tx: &Tx<'_>, wanted: &Wanted<String>) -> Result<Wanted<i64>> {
    let mut unknown: Vec<&str> = Vec::new();
    let resolve =
        |name: &'_ String| -> Result<Option<i64>> { Ok(traits::store::find(tx, name)?.map(|found| found.id)) };
    let mut ids = Wanted::default();
    for set in &wanted.any {
        let mut found = Vec::with_capacity(set.len());
        for name in set {
            match resolve(name)? {
                Some(id) => found.push(id),
                None => unknown.push(name),
            }
        }
        ids.any.push(found);
    }
    for name in &wanted.forbidden {
        match resolve(name)? {
            Some(id) => ids.forbidden.push(id),
            None => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(ids);
    }
    unknown.sort_unstable();
    unknown.dedup();
    Err(Error::bad_request(format!("No such trait(s): {}.", unknown.join(", "))))
}

/// `member_of=A`, `in:A,B`; since 1.24 repeated; since 1.32 `!A`, `!in:A,B`.
pub fn aggregates(ctx: &Ctx, values: &[&str]) -> Result<Wanted<String>> {
    if values.len() > 1 && !ctx.since(1, 24) {
        return Err(Error::bad_request("Multiple member_of parameters are not supported"));
    }
    let mut wanted = Wanted::default();
    for value in values {
        let (forbidden, rest) = match value.strip_prefix('!') {
            Some(_) if !ctx.since(1, 32) => {
                return Err(Error::bad_request(
                    "Forbidden member_of parameters are not supported in the specified microversion",
                ));
            }
            Some(rest) => (true, rest),
            None => (false, *value),
        };
        let list = match rest.strip_prefix("in:") {
            Some(list) => list,
            None if rest.contains(',') => {
                return Err(Error::bad_request(
                    "Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the \
                     valid microversion.",
                ));
            }
            None => rest,
        };
        let mut uuids = Vec::new();
        for text in list.split(',') {
            uuids.push(schema::normal_uuid(text).ok_or_else(|| {
                Error::bad_request(format!(
                    "Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). \
                     Got: {value}"
                ))
            })?);
        }
        if forbidden {
            wanted.forbidden.append(&mut uuids);
        } else {
            wanted.any.push(uuids);
        }
    }
    Ok(wanted)
}

/// A UUID parameter in the spelling of rows.
pub fn uuid(name: &str, value: &str) -> Result<String> {
    schema::normal_uuid(value).ok_or_else(|| {
        Error::bad_request(format!(
            "Invalid query string parameters: Expected '{name}' parameter to be a format of uuid. Got: {value}"
        ))
    })
}
