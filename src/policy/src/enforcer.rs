//! The registry: default rules, what overrides them, and the resolved snapshot that decisions are made from.
//!
//! Decisions read an `Arc` under a read lock held for the clone only; loading builds a whole new snapshot first and then
//! swaps it, so a request sees either the old rules or the new ones.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value};

use crate::Target;
use crate::check::Check;
use crate::explain::{self, Step};
use crate::parse::{ParseError, parse, parse_value, text_of_value};

/// How deep rules may nest, references included; and how many checks one decision may visit at worst.
const DEPTH: usize = 200;
const COST: usize = 100_000;
const FILE_BYTES: usize = 1024 * 1024;

/// A named rule with its default check. Made by [`rule`] in the services' `policy.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    pub check: &'static str,
    pub description: &'static str,
    /// Method and path of what the rule guards.
    pub operations: &'static [(&'static str, &'static str)],
}

pub const fn rule(
    name: &'static str,
    check: &'static str,
    description: &'static str,
    operations: &'static [(&'static str, &'static str)],
) -> Rule {
    Rule { name, check, description, operations }
}

/// The services' own rules contradict each other or cannot be read: a mistake in the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("policy rule {name:?} is registered twice with different checks: {first:?} and {second:?}")]
    Duplicate { name: String, first: String, second: String },
    #[error("policy rule {name:?}: {why}")]
    Rule { name: String, why: String },
}

/// A policy file is refused as a whole; the rules in force stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("the policy file cannot be read as YAML: {0}")]
    Yaml(String),
    #[error("the policy file must map rule names to checks, and this is {0}")]
    Shape(String),
    #[error("policy rule {name:?}: {why}")]
    Rule { name: String, why: String },
}

struct Problem {
    name: String,
    why: String,
}

#[derive(Debug)]
struct Snapshot {
    index: HashMap<String, usize>,
    checks: Vec<Check<usize>>,
    default: Option<usize>,
    overrides: BTreeMap<String, String>,
    warnings: Vec<String>,
}

/// Named rules and what the operator's files override.
#[derive(Debug)]
pub struct Enforcer {
    rules: Vec<Rule>,
    snapshot: RwLock<Arc<Snapshot>>,
}

impl Enforcer {
    /// The defaults of all services. The same rule may be given twice; the same name with another check may not.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Enforcer, RegistryError> {
        let mut kept: Vec<Rule> = Vec::new();
        let mut known: HashMap<&'static str, &'static str> = HashMap::new();
        for rule in rules {
            match known.insert(rule.name, rule.check) {
                None => kept.push(rule),
                Some(first) if first == rule.check => {}
                Some(first) => {
                    return Err(RegistryError::Duplicate {
                        name: rule.name.to_owned(),
                        first: first.to_owned(),
                        second: rule.check.to_owned(),
                    });
                }
            }
        }
        let snapshot =
            build(&kept, &[]).map_err(|problem| RegistryError::Rule { name: problem.name, why: problem.why })?;
        Ok(Enforcer { rules: kept, snapshot: RwLock::new(Arc::new(snapshot)) })
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the rule lets these credentials do it to this target. An unknown rule is the rule `default` where one is
    /// defined, and otherwise denies.
    pub fn allows(&self, rule_name: &str, creds: &Map<String, Value>, target: &Target) -> bool {
        let snapshot = self.current();
        snapshot
            .index
            .get(rule_name)
            .copied()
            .or(snapshot.default)
            .and_then(|index| snapshot.checks.get(index))
            .is_some_and(|check| check.decide(&snapshot.checks, creds, target))
    }

    /// As [`Enforcer::allows`], with every sub-check that was asked. `None`: there is no such rule, nor a default.
    pub fn explain(&self, rule_name: &str, creds: &Map<String, Value>, target: &Target) -> Option<Vec<Step>> {
        let snapshot = self.current();
        let index = snapshot.index.get(rule_name).copied().or(snapshot.default)?;
        let mut names = vec![String::new(); snapshot.checks.len()];
        for (name, index) in &snapshot.index {
            if let Some(place) = names.get_mut(*index) {
                name.clone_into(place);
            }
        }
        let mut steps = Vec::new();
        let rules = explain::Rules { names: &names, checks: &snapshot.checks };
        explain::explain(&rules, snapshot.checks.get(index)?, 0, creds, target, &mut steps);
        Some(steps)
    }

    /// Whether a check given as text would allow: for `solostack policy check` and tests. Rules may be referred to.
    pub fn allows_check(&self, check: &str, creds: &Map<String, Value>, target: &Target) -> Result<bool, ParseError> {
        let snapshot = self.current();
        let parsed = parse(check)?;
        let resolved = resolve(parsed, &snapshot.index)
            .map_err(|name| ParseError { why: format!("there is no rule {name:?} to refer to"), at: 0 })?;
        Ok(resolved.decide(&snapshot.checks, creds, target))
    }

    /// Replaces all overrides by those of this file. On any mistake nothing changes and the error names rule and reason.
    pub fn load_overrides(&self, yaml: &str) -> Result<(), OverrideError> {
        self.load_override_files([yaml])
    }

    /// As [`Enforcer::load_overrides`] for several files; of rules in more than one the last counts.
    pub fn load_override_files<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> Result<(), OverrideError> {
        let mut overrides: Vec<(String, Value)> = Vec::new();
        for yaml in files {
            for (name, value) in read(yaml)? {
                overrides.retain(|(earlier, _)| *earlier != name);
                overrides.push((name, value));
            }
        }
        let snapshot = build(&self.rules, &overrides)
            .map_err(|problem| OverrideError::Rule { name: problem.name, why: problem.why })?;
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        Ok(())
    }

    /// What deserves a look in the overrides in force: names that no service asks for.
    pub fn warnings(&self) -> Vec<String> {
        self.current().warnings.clone()
    }

    /// Every rule in force: name, check, whether it is overridden. Defaults first, in order of registration.
    pub fn effective(&self) -> Vec<(String, String, bool)> {
        let snapshot = self.current();
        let mut rows: Vec<(String, String, bool)> = self
            .rules
            .iter()
            .map(|rule| match snapshot.overrides.get(rule.name) {
                Some(check) => (rule.name.to_owned(), check.clone(), true),
                None => (rule.name.to_owned(), rule.check.to_owned(), false),
            })
            .collect();
        let own: Vec<&str> = self.rules.iter().map(|rule| rule.name).collect();
        rows.extend(
            snapshot
                .overrides
                .iter()
                .filter(|(name, _)| !own.contains(&name.as_str()))
                .map(|(name, check)| (name.clone(), check.clone(), true)),
        );
        rows
    }

    /// The check of a rule as it is in force, with the rules it names written out: for people.
    pub fn check(&self, name: &str) -> Option<String> {
        let snapshot = self.current();
        let text = |name: &str| -> Option<String> {
            let overridden = snapshot.overrides.get(name).cloned();
            overridden.or_else(|| self.rules.iter().find(|rule| rule.name == name).map(|rule| rule.check.to_owned()))
        };
        let mut check = text(name)?;
        // Rules that name each other in a circle were refused when they were loaded; this bounds the length.
        for _ in 0..8 {
            let Some((before, rest)) = check.split_once("rule:") else { break };
            let end = rest.find(|c: char| c.is_whitespace() || c == ')').unwrap_or(rest.len());
            let (named, after) = rest.split_at(end);
            let Some(inner) = text(named) else { break };
            check = format!("{before}({inner}){after}");
        }
        Some(check)
    }

    /// A policy file with every default, commented out, to start an own file from.
    pub fn sample_yaml(&self) -> String {
        let mut text = String::new();
        for rule in &self.rules {
            for line in rule.description.lines() {
                let _ = writeln!(text, "# {line}");
            }
            for (method, path) in rule.operations {
                let _ = writeln!(text, "# {method}  {path}");
            }
            // JSON strings are YAML strings.
            let _ = writeln!(text, "#{}: {}\n", Value::from(rule.name), Value::from(rule.check));
        }
        text
    }
}

fn read(yaml: &str) -> Result<Vec<(String, Value)>, OverrideError> {
    if yaml.len() > FILE_BYTES {
        return Err(OverrideError::Shape(format!("larger than {FILE_BYTES} bytes")));
    }
    let document: serde_norway::Value =
        serde_norway::from_str(yaml).map_err(|error| OverrideError::Yaml(error.to_string()))?;
    let mapping = match document {
        serde_norway::Value::Null => return Ok(Vec::new()),
        serde_norway::Value::Mapping(mapping) => mapping,
        serde_norway::Value::Sequence(_) => return Err(OverrideError::Shape("a list".to_owned())),
        _ => return Err(OverrideError::Shape("a single value".to_owned())),
    };
    let mut rules = Vec::new();
    for (key, value) in mapping {
        let serde_norway::Value::String(name) = key else {
            return Err(OverrideError::Shape(format!("a mapping with the key {key:?}, which is no text")));
        };
        let value = serde_json::to_value(&value)
            .map_err(|error| OverrideError::Rule { name: name.clone(), why: error.to_string() })?;
        rules.push((name, value));
    }
    Ok(rules)
}

fn build(rules: &[Rule], overrides: &[(String, Value)]) -> Result<Snapshot, Problem> {
    let mut names: Vec<String> = rules.iter().map(|rule| rule.name.to_owned()).collect();
    let mut index: HashMap<String, usize> =
        names.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
    let mut sources: Vec<Result<Check<String>, ParseError>> = rules.iter().map(|rule| parse(rule.check)).collect();
    let mut texts = BTreeMap::new();
    let mut warnings = Vec::new();
    for (name, value) in overrides {
        let parsed = parse_value(value);
        texts.insert(name.clone(), text_of_value(value));
        match index.get(name) {
            Some(place) => sources[*place] = parsed,
            None => {
                warnings.push(format!("no service asks for the policy rule {name:?}; other rules may refer to it"));
                index.insert(name.clone(), sources.len());
                names.push(name.clone());
                sources.push(parsed);
            }
        }
    }
    let mut checks = Vec::with_capacity(sources.len());
    for (place, source) in sources.into_iter().enumerate() {
        let problem = |why: String| Problem { name: names[place].clone(), why };
        let check = source.map_err(|error| problem(error.to_string()))?;
        checks.push(resolve(check, &index).map_err(|to| problem(format!("it refers to {to:?}, which is no rule")))?);
    }
    bound(&names, &checks)?;
    Ok(Snapshot { default: index.get("default").copied(), index, checks, overrides: texts, warnings })
}

/// Names to indices; the name that is unknown otherwise. An unknown reference is refused, not denied: under a `not` a
/// typing mistake would allow.
fn resolve(check: Check<String>, index: &HashMap<String, usize>) -> Result<Check<usize>, String> {
    Ok(match check {
        Check::Rule(name) => match index.get(&name) {
            Some(place) => Check::Rule(*place),
            None => return Err(name),
        },
        Check::Always => Check::Always,
        Check::Never => Check::Never,
        Check::Role(role) => Check::Role(role),
        Check::Compare(left, right) => Check::Compare(left, right),
        Check::Field { name, test } => Check::Field { name, test },
        Check::And(all) => Check::And(all.into_iter().map(|one| resolve(one, index)).collect::<Result<_, _>>()?),
        Check::Or(any) => Check::Or(any.into_iter().map(|one| resolve(one, index)).collect::<Result<_, _>>()?),
        Check::Not(one) => Check::Not(Box::new(resolve(*one, index)?)),
    })
}

fn references(check: &Check<usize>, found: &mut Vec<usize>) {
    match check {
        Check::Rule(place) => found.push(*place),
        Check::And(many) | Check::Or(many) => many.iter().for_each(|one| references(one, found)),
        Check::Not(one) => references(one, found),
        _ => {}
    }
}

/// Refuses cycles, and rules whose decision would be too deep or too long. Goes from the leaves up without recursion over
/// rules, so that a file with a long chain of references is refused and does not exhaust the stack.
fn bound(names: &[String], checks: &[Check<usize>]) -> Result<(), Problem> {
    let refers: Vec<Vec<usize>> = checks
        .iter()
        .map(|check| {
            let mut found = Vec::new();
            references(check, &mut found);
            found.sort_unstable();
            found.dedup();
            found
        })
        .collect();
    let mut waiting: Vec<usize> = refers.iter().map(Vec::len).collect();
    let mut referred_by: Vec<Vec<usize>> = vec![Vec::new(); checks.len()];
    for (from, all) in refers.iter().enumerate() {
        for to in all {
            referred_by[*to].push(from);
        }
    }
    let mut ready: Vec<usize> = (0..checks.len()).filter(|place| waiting[*place] == 0).collect();
    // (depth, cost) of each rule that is done
    let mut size: Vec<Option<(usize, usize)>> = vec![None; checks.len()];
    while let Some(place) = ready.pop() {
        let (depth, cost) = measure(&checks[place], &size);
        if depth > DEPTH {
            return Err(Problem { name: names[place].clone(), why: format!("rules nest more than {DEPTH} deep here") });
        }
        if cost > COST {
            let why = format!("deciding it could take more than {COST} checks");
            return Err(Problem { name: names[place].clone(), why });
        }
        size[place] = Some((depth, cost));
        for from in &referred_by[place] {
            waiting[*from] -= 1;
            if waiting[*from] == 0 {
                ready.push(*from);
            }
        }
    }
    let Some(first) = size.iter().position(Option::is_none) else {
        return Ok(());
    };
    // Every rule that is left has a reference to one that is left: following them meets the cycle.
    let mut path: Vec<usize> = Vec::new();
    let mut place = first;
    while !path.contains(&place) {
        path.push(place);
        match refers[place].iter().find(|to| size[**to].is_none()) {
            Some(to) => place = *to,
            None => break,
        }
    }
    let start = path.iter().position(|step| *step == place).unwrap_or(0);
    let mut cycle: Vec<&str> = path[start..].iter().map(|step| names[*step].as_str()).collect();
    cycle.push(names[place].as_str());
    Err(Problem { name: names[place].clone(), why: format!("it refers to itself: {}", cycle.join(" -> ")) })
}

fn measure(check: &Check<usize>, size: &[Option<(usize, usize)>]) -> (usize, usize) {
    match check {
        Check::Rule(place) => {
            let (depth, cost) = size[*place].unwrap_or((DEPTH, COST));
            (depth + 1, cost.saturating_add(1))
        }
        Check::And(many) | Check::Or(many) => {
            many.iter().map(|one| measure(one, size)).fold((1, 1), |(depth, cost), (inner_depth, inner_cost)| {
                (depth.max(inner_depth + 1), cost.saturating_add(inner_cost))
            })
        }
        Check::Not(one) => {
            let (depth, cost) = measure(one, size);
            (depth + 1, cost.saturating_add(1))
        }
        _ => (1, 1),
    }
}
