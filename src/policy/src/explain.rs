//! Why a decision is what it is.

use std::fmt;

use serde_json::{Map, Value};

use crate::check::{Check, FieldTest, Left, Part, Template};

/// One sub-check of a decision, in the order in which they were asked; what was not asked is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 0 is the rule itself.
    pub depth: usize,
    /// As a policy file writes it.
    pub check: String,
    pub allowed: bool,
}

/// Rules by index, for [`Check::Rule`].
pub(crate) struct Rules<'a> {
    pub names: &'a [String],
    pub checks: &'a [Check<usize>],
}

pub(crate) fn explain(
    rules: &Rules<'_>,
    check: &Check<usize>,
    depth: usize,
    creds: &Map<String, Value>,
    target: &Map<String, Value>,
    steps: &mut Vec<Step>,
) -> bool {
    let place = steps.len();
    steps.push(Step { depth, check: rules.text(check), allowed: false });
    let mut ask = |check: &Check<usize>| explain(rules, check, depth + 1, creds, target, steps);
    let allowed = match check {
        Check::And(all) => all.iter().all(&mut ask),
        Check::Or(any) => any.iter().any(&mut ask),
        Check::Not(inner) => !ask(inner),
        Check::Rule(index) => rules.checks.get(*index).is_some_and(&mut ask),
        _ => check.decide(rules.checks, creds, target),
    };
    if let Some(step) = steps.get_mut(place) {
        step.allowed = allowed;
    }
    allowed
}

impl Rules<'_> {
    fn text(&self, check: &Check<usize>) -> String {
        let join = |parts: &[Check<usize>], word: &str| {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| match part {
                    Check::And(_) | Check::Or(_) => format!("({})", self.text(part)),
                    _ => self.text(part),
                })
                .collect();
            parts.join(word)
        };
        match check {
            Check::Always => "@".into(),
            Check::Never => "!".into(),
            Check::Role(name) => format!("role:{name}"),
            Check::Rule(index) => format!("rule:{}", self.names.get(*index).map_or("?", String::as_str)),
            Check::Compare(Left::Null, right) => format!("None:{right}"),
            Check::Compare(Left::Literal(text), right) => format!("'{text}':{right}"),
            Check::Compare(Left::Attribute(path), right) => format!("{path}:{right}"),
            Check::Field { name, test: FieldTest::Equals(text) } => format!("field:{name}={text}"),
            Check::Field { name, test: FieldTest::StartsWith(text) } => format!("field:{name}=~^{text}"),
            Check::And(all) => join(all, " and "),
            Check::Or(any) => join(any, " or "),
            Check::Not(inner) => format!("not {}", join(std::slice::from_ref(inner), "")),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Key(key) => write!(f, "%({key})s"),
        })
    }
}
