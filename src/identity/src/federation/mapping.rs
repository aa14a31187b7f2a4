//! From what an identity provider says about somebody to who that is here. OS-FEDERATION, "Mapping combinations". Pure.
//!
//! Every rule whose `remote` parts all match adds its `local` parts; the first user wins, groups add up. `{0}` is filled in
//! once, in one pass: what a provider says is never read as a rule. A rule that reaches nobody, and what cannot be filled
//! in, is a reason in words for the operator; the caller learns nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::tokens::request::DomainRef;

/// Attribute to its values, in the provider's order.
pub(crate) type Assertion = BTreeMap<String, Vec<String>>;

/// What a web server in front of Keystone calls the authenticated name: it stands in where no rule names a user.
pub(crate) const REMOTE_USER: &str = "REMOTE_USER";

/// Compiled, a pattern may take this much; matching is linear in what is matched.
const PATTERN_MAX_BYTES: usize = 1 << 20;
const NAME_MAX: usize = 255;
/// Named by an assertion; most of them may be unknown here.
const GROUPS_MAX: usize = 1000;
const PROJECTS_MAX: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserKind {
    /// Lives at the identity provider; here is its shadow.
    Ephemeral,
    /// Somebody who is here already.
    Local,
}

#[derive(Clone, Debug)]
pub(crate) struct MappedUser {
    pub kind: UserKind,
    /// What tells this user from others of the provider; the name where there is none.
    pub id: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub domain: Option<DomainRef>,
}

#[derive(Clone, Debug)]
pub(crate) struct MappedProject {
    pub name: String,
    /// `None`: the identity provider's.
    pub domain: Option<DomainRef>,
    pub roles: Vec<String>,
}

/// Who comes in.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    pub user: MappedUser,
    pub group_ids: BTreeSet<String>,
    pub groups: Vec<(String, DomainRef)>,
    pub projects: Vec<MappedProject>,
}

/// A pattern of a rule, as Python's `re.search` takes it: anywhere in the value. Without lookaround and back-references,
/// which cannot be matched in bounded time.
pub(crate) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(PATTERN_MAX_BYTES).build()
}

/// Applies rules that [`super::rules::check`] accepted. `schema_version` 1.0: domains of ephemeral users and of projects are
/// those of the identity provider, whatever the rules say.
///
/// # Errors
/// Why nobody comes in, for the log.
pub(crate) fn apply(rules: &Value, schema_version: &str, assertion: &Assertion) -> Result<Mapped, String> {
    let mut user: Option<MappedUser> = None;
    let mut mapped = Mapped { user: nobody(), group_ids: BTreeSet::new(), groups: Vec::new(), projects: Vec::new() };
    let domains = schema_version != "1.0";
    let mut reached = false;
    for (number, rule) in items(Some(rules)).enumerate() {
        let Some(direct) = direct_values(rule, assertion)? else { continue };
        for local in items(rule.get("local")) {
            reached = true;
            let local = Local { part: local, direct: &direct };
            local.add(&mut user, &mut mapped, domains).map_err(|why| format!("rule {number} of the mapping: {why}"))?;
        }
    }
    if !reached {
        return Err("no rule of the mapping matches what the identity provider says".into());
    }
    let mut user = user.unwrap_or_else(nobody);
    if user.id.is_none() && user.name.is_none() {
        let stand_in = assertion.get(REMOTE_USER).and_then(|values| values.first()).cloned();
        user.name = Some(stand_in.ok_or("the mapping gives the user neither a name nor an id")?);
    }
    for text in [&user.id, &user.name, &user.email].into_iter().flatten() {
        if text.chars().count() > NAME_MAX || text.chars().any(char::is_control) {
            return Err(format!("the user's name, id or email is longer than {NAME_MAX} or holds control characters"));
        }
    }
    if mapped.group_ids.len() + mapped.groups.len() > GROUPS_MAX {
        return Err(format!("the mapping gives more than {GROUPS_MAX} groups"));
    }
    if mapped.projects.len() > PROJECTS_MAX {
        return Err(format!("the mapping gives more than {PROJECTS_MAX} projects"));
    }
    mapped.user = user;
    Ok(mapped)
}

fn nobody() -> MappedUser {
    MappedUser { kind: UserKind::Ephemeral, id: None, name: None, email: None, domain: None }
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

fn texts<'a>(part: &'a Value, name: &str) -> Option<Vec<&'a str>> {
    part.get(name).map(|list| items(Some(list)).filter_map(Value::as_str).collect())
}

/// What the parts of `remote` hand over, in their order; `None` when one of them does not match.
fn direct_values(rule: &Value, assertion: &Assertion) -> Result<Option<Vec<Vec<String>>>, String> {
    let mut direct = Vec::new();
    for part in items(rule.get("remote")) {
        let values = part.get("type").and_then(Value::as_str).and_then(|name| assertion.get(name));
        let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(None) };
        let regex = part.get("regex").and_then(Value::as_bool).unwrap_or(false);
        let fits = |wanted: Vec<&str>| Wanted::new(&wanted, regex);
        if let Some(wanted) = texts(part, "any_one_of") {
            let wanted = fits(wanted)?;
            if !values.iter().any(|value| wanted.has(value)) {
                return Ok(None);
            }
        } else if let Some(wanted) = texts(part, "not_any_of") {
            let wanted = fits(wanted)?;
            if values.iter().any(|value| wanted.has(value)) {
                return Ok(None);
            }
        } else if let Some(wanted) = texts(part, "blacklist") {
            let wanted = fits(wanted)?;
            direct.push(values.iter().filter(|value| !wanted.has(value)).cloned().collect());
        } else if let Some(wanted) = texts(part, "whitelist") {
            let wanted = fits(wanted)?;
            direct.push(values.iter().filter(|value| wanted.has(value)).cloned().collect());
        } else {
            direct.push(values.clone());
        }
    }
    Ok(Some(direct))
}

/// Values of a condition.
enum Wanted {
    Plain(Vec<String>),
    Patterns(Vec<Regex>),
}

impl Wanted {
    fn new(values: &[&str], regex: bool) -> Result<Self, String> {
        if !regex {
            return Ok(Self::Plain(values.iter().map(|value| (*value).to_owned()).collect()));
        }
        let patterns = values.iter().map(|text| pattern(text).map_err(|_| format!("{text:?} is no usable pattern")));
        patterns.collect::<Result<_, _>>().map(Self::Patterns)
    }

    fn has(&self, value: &str) -> bool {
        match self {
            Self::Plain(values) => values.iter().any(|wanted| wanted == value),
            Self::Patterns(patterns) => patterns.iter().any(|pattern| pattern.is_match(value)),
        }
    }
}

/// One part of `local`, with what `remote` handed over.
struct Local<'a> {
    part: &'a Value,
    direct: &'a [Vec<String>],
}

impl Local<'_> {
    fn add(&self, user: &mut Option<MappedUser>, mapped: &mut Mapped, domains: bool) -> Result<(), String> {
        let own_domain = self.domain(self.part)?;
        if let Some(asked) = self.part.get("user")
            && user.is_none()
        {
            *user = Some(self.user(asked, own_domain.as_ref(), domains)?);
        }
        if let Some(group) = self.part.get("group") {
            if group.get("id").is_some() {
                mapped.group_ids.extend(self.all(group, "id")?);
            } else {
                let domain = self.domain(group)?.ok_or("a group with a name needs a domain")?;
                add_groups(mapped, self.all(group, "name")?, &domain);
            }
        }
        mapped.group_ids.extend(self.all(self.part, "group_ids")?);
        if self.part.get("groups").is_some() {
            let domain = own_domain.as_ref().ok_or("`groups` need a domain")?;
            add_groups(mapped, self.all(self.part, "groups")?, domain);
        }
        for project in items(self.part.get("projects")) {
            let domain = if domains { self.domain(project)?.or_else(|| own_domain.clone()) } else { None };
            let mut roles = Vec::new();
            for role in items(project.get("roles")) {
                roles.extend(self.all(role, "name")?);
            }
            for name in self.all(project, "name")? {
                mapped.projects.push(MappedProject { name, domain: domain.clone(), roles: roles.clone() });
            }
        }
        Ok(())
    }

    fn user(&self, asked: &Value, beside: Option<&DomainRef>, domains: bool) -> Result<MappedUser, String> {
        let local = asked.get("type").and_then(Value::as_str) == Some("local");
        let domain = self.domain(asked)?;
        Ok(MappedUser {
            kind: if local { UserKind::Local } else { UserKind::Ephemeral },
            id: self.one(asked, "id")?,
            name: self.one(asked, "name")?,
            email: self.one(asked, "email")?,
            domain: match (local, domains) {
                (true, _) => domain,
                (false, true) => domain.or_else(|| beside.cloned()),
                (false, false) => None,
            },
        })
    }

    fn domain(&self, of: &Value) -> Result<Option<DomainRef>, String> {
        let Some(domain) = of.get("domain") else { return Ok(None) };
        if let Some(id) = self.one(domain, "id")? {
            return Ok(Some(DomainRef::Id(id)));
        }
        Ok(self.one(domain, "name")?.map(DomainRef::Name))
    }

    /// A text that must not become several.
    fn one(&self, of: &Value, name: &str) -> Result<Option<String>, String> {
        let mut values = self.all(of, name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            count => Err(format!("`{name}` would have {count} values where it must have one")),
        }
    }

    /// The text, once for each value of the attribute in it.
    fn all(&self, of: &Value, name: &str) -> Result<Vec<String>, String> {
        match of.get(name).and_then(Value::as_str) {
            None => Ok(Vec::new()),
            Some(text) => fill(text, self.direct).map_err(|why| format!("`{name}`: {why}")),
        }
    }
}

fn add_groups(mapped: &mut Mapped, names: Vec<String>, domain: &DomainRef) {
    mapped.groups.extend(names.into_iter().map(|name| (name, domain.clone())));
}

/// Replaces `{n}` by the nth attribute handed over. An attribute with several values gives several texts; one without any
/// gives none. Empty texts are dropped.
fn fill(text: &str, direct: &[Vec<String>]) -> Result<Vec<String>, String> {
    // Literal text, then the number of the attribute that follows it.
    let mut pieces: Vec<(&str, Option<usize>)> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (number, after) = after.split_once('}').ok_or("a brace is not closed")?;
        pieces.push((before, Some(number.parse().map_err(|_| format!("{{{number}}} is no number"))?)));
        rest = after;
    }
    pieces.push((rest, None));
    let mut several = None;
    for number in pieces.iter().filter_map(|(_, number)| *number) {
        let values = direct.get(number).ok_or_else(|| format!("{{{number}}} is not handed over by `remote`"))?;
        match values.len() {
            0 => return Ok(Vec::new()),
            1 => {}
            _ if several.is_some_and(|other| other != number) => {
                return Err("two attributes with several values cannot stand in one text".into());
            }
            _ => several = Some(number),
        }
    }
    let count = several.and_then(|number| direct.get(number)).map_or(1, Vec::len);
    let mut found: Vec<String> = Vec::with_capacity(count);
    for turn in 0..count {
        let mut out = String::new();
        for (literal, number) in &pieces {
            out.push_str(literal);
            if let Some(values) = number.and_then(|number| direct.get(number)) {
                out.push_str(values.get(turn).or_else(|| values.first()).map_or("", String::as_str));
            }
        }
        if !out.is_empty() && !found.contains(&out) {
            found.push(out);
        }
    }
    Ok(found)
}

/// The values of one JSON object as an assertion, each under the names that mappings written for Keystone use for them: the
/// claim itself, `OIDC-<claim>` and `HTTP_OIDC_<CLAIM>`. Objects are opened (`realm_access.roles`), lists are lists: a
/// value is never split, so that nobody can put a second one into it.
pub(crate) fn of_claims(claims: &Map<String, Value>) -> Assertion {
    let mut plain = Assertion::new();
    collect("", claims, 0, &mut plain);
    // A claim that is called like one of these names never stands for the other.
    let mut assertion = plain.clone();
    for (name, values) in plain {
        let shouted: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        assertion.insert(format!("HTTP_OIDC_{shouted}"), values.clone());
        assertion.insert(format!("OIDC-{name}"), values);
    }
    assertion
}

const CLAIMS_MAX: usize = 500;
const DEPTH_MAX: usize = 4;

fn collect(prefix: &str, claims: &Map<String, Value>, depth: usize, into: &mut Assertion) {
    for (name, value) in claims {
        if into.len() >= CLAIMS_MAX {
            return;
        }
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if depth < DEPTH_MAX => collect(&format!("{name}."), inner, depth + 1, into),
            Value::Array(items) => {
                let values: Vec<String> = items.iter().filter_map(plain_text).collect();
                into.insert(name, values);
            }
            value => {
                if let Some(text) = plain_text(value) {
                    into.insert(name, vec![text]);
                }
            }
        }
    }
}

fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
