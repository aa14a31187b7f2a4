//! The language of mapping rules: what an assertion must be like (`remote`), and who then comes in (`local`). OS-FEDERATION,
//! "Mapping combinations".

use rest::Result;
use serde_json::{Map, Value};

use super::mapping;
use crate::errors::invalid;

const RULES_MAX: usize = 200;
const CONDITIONS: [&str; 4] = ["any_one_of", "not_any_of", "whitelist", "blacklist"];

/// 400 with the first thing in these rules that makes no sense.
pub(crate) fn check(rules: &Value) -> Result<()> {
    let rules = rules.as_array().ok_or_else(|| wrong("they must be an array"))?;
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(wrong(format_args!("there must be 1 to {RULES_MAX} of them")));
    }
    for rule in rules {
        let rule = object(rule, "a rule")?;
        only(rule, &["local", "remote"], "a rule")?;
        // A rule that lets nobody in is a rule: upstream takes an empty `local`, not an empty `remote`.
        let local = rule.get("local").and_then(Value::as_array).ok_or_else(|| wrong("`local` must be an array"))?;
        let remote = list(rule, "remote")?;
        let mut direct = 0;
        for part in remote {
            direct += usize::from(check_remote(object(part, "a part of `remote`")?)?);
        }
        for part in local {
            check_local(object(part, "a part of `local`")?)?;
            check_places(part, direct)?;
        }
    }
    Ok(())
}

fn wrong(why: impl std::fmt::Display) -> rest::Error {
    invalid("rules", why)
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| wrong(format_args!("{what} must be an object")))
}

fn list<'a>(rule: &'a Map<String, Value>, name: &str) -> Result<&'a Vec<Value>> {
    let found = rule.get(name).and_then(Value::as_array).filter(|items| !items.is_empty());
    found.ok_or_else(|| wrong(format_args!("`{name}` must be an array that is not empty")))
}

fn only(map: &Map<String, Value>, known: &[&str], what: &str) -> Result<()> {
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(wrong(format_args!("{what} has no {name:?}"))),
        None => Ok(()),
    }
}

/// Whether it hands the attribute's values to `local`.
fn check_remote(part: &Map<String, Value>) -> Result<bool> {
    only(part, &["type", "regex", "any_one_of", "not_any_of", "whitelist", "blacklist"], "a part of `remote`")?;
    if !part.get("type").is_some_and(Value::is_string) {
        return Err(wrong("each part of `remote` needs a `type`: the name of an attribute"));
    }
    let conditions: Vec<&str> = CONDITIONS.into_iter().filter(|name| part.contains_key(*name)).collect();
    if conditions.len() > 1 {
        return Err(wrong(format_args!("a part of `remote` has one of {}", CONDITIONS.join(", "))));
    }
    let regex = match part.get("regex") {
        None => false,
        Some(Value::Bool(regex)) if !conditions.is_empty() => *regex,
        Some(_) => return Err(wrong("`regex` is true or false, beside a condition")),
    };
    let Some(condition) = conditions.first() else { return Ok(true) };
    let values = part.get(*condition).and_then(Value::as_array);
    for value in values.ok_or_else(|| wrong(format_args!("`{condition}` must be an array")))? {
        let text = value.as_str().ok_or_else(|| wrong(format_args!("`{condition}` must hold strings")))?;
        if regex && mapping::pattern(text).is_err() {
            let why = "is not a regular expression that can be matched in bounded time (no lookaround, no references)";
            return Err(wrong(format_args!("{text:?} {why}")));
        }
    }
    Ok(matches!(*condition, "whitelist" | "blacklist"))
}

fn check_local(part: &Map<String, Value>) -> Result<()> {
    only(part, &["user", "group", "groups", "group_ids", "domain", "projects"], "a part of `local`")?;
    if let Some(user) = part.get("user") {
        let user = object(user, "`user`")?;
        only(user, &["id", "name", "email", "domain", "type"], "`user`")?;
        if !matches!(user.get("type").map(Value::as_str), None | Some(Some("local" | "ephemeral"))) {
            return Err(wrong("the `type` of a user is local or ephemeral"));
        }
        check_texts(user, &["id", "name", "email"])?;
        user.get("domain").map_or(Ok(()), check_domain)?;
    }
    if let Some(group) = part.get("group") {
        let group = object(group, "`group`")?;
        only(group, &["id", "name", "domain"], "`group`")?;
        check_texts(group, &["id", "name"])?;
        match (group.contains_key("id"), group.contains_key("name"), group.get("domain")) {
            (true, false, None) => {}
            (false, true, Some(domain)) => check_domain(domain)?,
            _ => return Err(wrong("a group has either an `id`, or a `name` and a `domain`")),
        }
    }
    check_texts(part, &["groups", "group_ids"])?;
    if part.contains_key("groups") && !part.contains_key("domain") {
        return Err(wrong("`groups` are names: they need a `domain`"));
    }
    part.get("domain").map_or(Ok(()), check_domain)?;
    for project in part
        .get("projects")
        .map_or(Ok(&Vec::new()), |all| all.as_array().ok_or_else(|| wrong("`projects` must be an array")))?
    {
        let project = object(project, "a project")?;
        only(project, &["name", "roles", "domain"], "a project")?;
        check_texts(project, &["name"])?;
        for role in list(project, "roles")? {
            let role = object(role, "a role")?;
            only(role, &["name"], "a role")?;
            check_texts(role, &["name"])?;
        }
    }
    Ok(())
}

fn check_texts(map: &Map<String, Value>, names: &[&str]) -> Result<()> {
    match names.iter().find(|name| map.get(**name).is_some_and(|value| !value.is_string())) {
        Some(name) => Err(wrong(format_args!("`{name}` must be a string"))),
        None => Ok(()),
    }
}

fn check_domain(domain: &Value) -> Result<()> {
    let domain = object(domain, "`domain`")?;
    only(domain, &["id", "name"], "`domain`")?;
    check_texts(domain, &["id", "name"])
}

/// `{0}` stands for the values of the first part of `remote` that hands them over; there must be one.
fn check_places(value: &Value, direct: usize) -> Result<()> {
    match value {
        Value::String(text) => {
            for place in text.split('{').skip(1) {
                let number = place.split_once('}').and_then(|(number, _)| number.parse::<usize>().ok());
                if number.is_none_or(|number| number >= direct) {
                    return Err(wrong(format_args!("{text:?} asks for an attribute that `remote` does not hand over")));
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_places(item, direct)),
        Value::Object(map) => map.values().try_for_each(|value| check_places(value, direct)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_the_documentation_are_understood() {
        for rules in [
            json!([{"local": [{"user": {"name": "{0}"}, "group": {"id": "0cd5e9"}}],
                    "remote": [{"type": "UserName"}, {"type": "orgPersonType", "not_any_of": ["Contractor", "Guest"]}]}]),
            json!([{"local": [{"user": {"name": "{0} {1}", "email": "{2}"}}, {"groups": "{3}", "domain": {"id": "x"}}],
                    "remote": [{"type": "First"}, {"type": "Last"}, {"type": "Email"},
                               {"type": "Groups", "whitelist": ["a", ".*@example.com"], "regex": true}]}]),
            json!([{"local": [{"user": {"name": "{0}", "type": "local", "domain": {"name": "Default"}}},
                              {"projects": [{"name": "p", "roles": [{"name": "member"}]}]}],
                    "remote": [{"type": "HTTP_OIDC_SUB"}]}]),
            // It lets nobody in.
            json!([{"local": [], "remote": [{"type": "a"}]}]),
        ] {
            assert!(check(&rules).is_ok(), "{rules}");
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let with = |local: Value, remote: Value| json!([{"local": [local], "remote": [remote]}]);
        let user = json!({"user": {"name": "x"}});
        for rules in [
            json!(null),
            json!([]),
            json!([{}]),
            json!([{"local": [user], "remote": []}]),
            json!([{"remote": [{"type": "a"}]}]),
            json!([{"local": [user], "remote": [{"type": "a"}], "more": 1}]),
            with(user.clone(), json!({})),
            with(user.clone(), json!({"type": 1})),
            with(user.clone(), json!({"type": "a", "any_one_of": "x"})),
            with(user.clone(), json!({"type": "a", "any_one_of": ["x"], "whitelist": ["x"]})),
            with(user.clone(), json!({"type": "a", "any_one_of": ["("], "regex": true})),
            with(user.clone(), json!({"type": "a", "regex": true})),
            with(user, json!({"type": "a", "unknown": []})),
            with(json!({"user": {"name": "{1}"}}), json!({"type": "a"})),
            with(json!({"user": {"name": "{0}"}}), json!({"type": "a", "any_one_of": ["x"]})),
            with(json!({"user": {"name": "{x}"}}), json!({"type": "a"})),
            with(json!({"user": {"name": "x", "type": "other"}}), json!({"type": "a"})),
            with(json!({"group": {"name": "x"}}), json!({"type": "a"})),
            with(json!({"groups": "{0}"}), json!({"type": "a"})),
            with(json!({"projects": [{"name": "p"}]}), json!({"type": "a"})),
        ] {
            assert!(check(&rules).is_err(), "{rules}");
        }
    }
}
