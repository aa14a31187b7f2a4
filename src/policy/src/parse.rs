//! Text and legacy lists to checks. Precedence: parentheses, `not`, `and`, `or`.
//!
//! Bounded: a rule's text, its nesting and the segments of its keys are limited, so hostile files cost nothing.
//! oslo.policy turns what it cannot parse into "deny" with a log line; here it is an error, so that a typing mistake
//! under a `not` cannot allow.

use serde_json::Value;

use crate::check::{Check, FieldTest, Left, Part, Template};

const TEXT_BYTES: usize = 64 * 1024;
const NESTING: usize = 64;
const KEY_SEGMENTS: usize = 16;

/// Why a check is refused, with the byte offset of the place in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} (at byte {at} of the check)")]
pub struct ParseError {
    pub why: String,
    pub at: usize,
}

fn refuse<T>(at: usize, why: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError { why: why.into(), at })
}

/// The text of a policy rule. The empty text allows.
pub(crate) fn parse(text: &str) -> Result<Check<String>, ParseError> {
    if text.is_empty() {
        return Ok(Check::Always);
    }
    if text.len() > TEXT_BYTES {
        return refuse(TEXT_BYTES, format!("a check may have at most {TEXT_BYTES} bytes"));
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return refuse(0, "the check has only blanks; write \"\" or \"@\" to allow everyone");
    }
    let mut parser = Parser { tokens, next: 0, end: text.len() };
    let check = parser.any_of(0)?;
    match parser.peek() {
        None => Ok(check),
        Some((at, Token::Close)) => refuse(*at, "a closing parenthesis too many"),
        Some((at, _)) => refuse(*at, "expected \"and\" or \"or\" between two checks"),
    }
}

/// The value of a rule in a policy file: text, or the older list of lists (an `or` of `and`s).
pub(crate) fn parse_value(value: &Value) -> Result<Check<String>, ParseError> {
    match value {
        Value::String(text) => parse(text),
        Value::Array(outer) if outer.is_empty() => Ok(Check::Always),
        Value::Array(outer) => {
            let mut any = Vec::new();
            for inner in outer {
                match inner {
                    Value::String(text) => any.push(one_check(text)?),
                    Value::Array(texts) => {
                        let mut all = Vec::new();
                        for text in texts {
                            match text {
                                Value::String(text) => all.push(one_check(text)?),
                                other => return refuse(0, format!("expected a check in the inner list, not {other}")),
                            }
                        }
                        if all.len() == 1 {
                            any.append(&mut all);
                        } else if !all.is_empty() {
                            any.push(Check::And(all));
                        }
                    }
                    other => return refuse(0, format!("expected a list of checks or a check, not {other}")),
                }
            }
            match any.len() {
                0 => Ok(Check::Never),
                1 => Ok(any.remove(0)),
                _ => Ok(Check::Or(any)),
            }
        }
        Value::Null => refuse(0, "the rule has no check; write \"\" or \"@\" to allow everyone, \"!\" to allow nobody"),
        other => refuse(0, format!("a check is text or a list of lists, not {other}; put it in quotes")),
    }
}

/// The text that stands for a value in listings and samples.
pub(crate) fn text_of_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One element of the legacy lists: a single check, no operators.
fn one_check(text: &str) -> Result<Check<String>, ParseError> {
    if text.len() > TEXT_BYTES {
        return refuse(TEXT_BYTES, format!("a check may have at most {TEXT_BYTES} bytes"));
    }
    match tokens(text)?.as_slice() {
        [(_, Token::Check(check))] => Ok(check.clone()),
        _ => refuse(0, format!("{text:?}: an element of a list is one check, without operators")),
    }
}

#[derive(Debug, Clone)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(Check<String>),
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        match first {
            '(' => found.push((at, Token::Open)),
            ')' => found.push((at, Token::Close)),
            blank if blank.is_whitespace() => {}
            _ => {
                let end = word_end(text, at)?;
                let word = &text[at..end];
                let token = match word.to_ascii_lowercase().as_str() {
                    "and" => Token::And,
                    "or" => Token::Or,
                    "not" => Token::Not,
                    _ => Token::Check(check(word, at)?),
                };
                if text[end..].starts_with('(') && matches!(token, Token::Check(_)) {
                    return refuse(end, "an opening parenthesis inside a check; put the value in quotes");
                }
                found.push((at, token));
                at = end;
                continue;
            }
        }
        at += first.len_utf8();
    }
    Ok(found)
}

/// A word ends at a blank or a parenthesis, except inside quotes and inside `%(key)s`.
fn word_end(text: &str, start: usize) -> Result<usize, ParseError> {
    let mut at = start;
    let mut quote_may_open = true;
    while let Some(c) = text[at..].chars().next() {
        if (c == '\'' || c == '"') && quote_may_open {
            match text[at + 1..].find(c) {
                Some(length) => at += length + 2,
                None => return refuse(at, "a quote is not closed"),
            }
            quote_may_open = false;
            continue;
        }
        if text[at..].starts_with("%(") {
            match text[at..].find(')') {
                Some(length) => at += length + 1,
                None => return refuse(at, "\"%(\" is not closed"),
            }
            quote_may_open = false;
            continue;
        }
        if c.is_whitespace() || c == '(' || c == ')' {
            break;
        }
        quote_may_open = c == ':';
        at += c.len_utf8();
    }
    Ok(at)
}

fn check(word: &str, at: usize) -> Result<Check<String>, ParseError> {
    match word {
        "@" => return Ok(Check::Always),
        "!" => return Ok(Check::Never),
        _ => {}
    }
    // A quoted left side may hold colons itself.
    let search_from = match word.chars().next() {
        Some(quote @ ('\'' | '"')) => word[1..].find(quote).map_or(0, |length| length + 2),
        _ => 0,
    };
    let Some(colon) = word[search_from..].find(':').map(|offset| offset + search_from) else {
        return refuse(at, format!("{word:?} is no check: expected \"kind:match\", \"@\" or \"!\""));
    };
    let (kind, right) = (&word[..colon], &word[colon + 1..]);
    let right_at = at + colon + 1;
    if kind.is_empty() || right.is_empty() {
        return refuse(at, format!("{word:?} is no check: both sides of the colon need a value"));
    }
    match kind {
        "http" | "https" => {
            refuse(at, format!("\"{kind}:\" checks ask another server and are not offered; use roles or attributes"))
        }
        "rule" => {
            let name = unquote(right);
            if name.contains("%(") {
                return refuse(right_at, "the name of a rule cannot depend on the target");
            }
            Ok(Check::Rule(name.to_owned()))
        }
        "role" => Ok(Check::Role(template(unquote(right), right_at)?)),
        "field" => field(right, right_at),
        _ => Ok(Check::Compare(left(kind, at)?, template(unquote(right), right_at)?)),
    }
}

fn left(kind: &str, at: usize) -> Result<Left, ParseError> {
    if let Some(text) = quoted(kind) {
        return Ok(Left::Literal(text.to_owned()));
    }
    if kind == "None" {
        return Ok(Left::Null);
    }
    if kind == "True" || kind == "False" {
        return Ok(Left::Literal(kind.to_owned()));
    }
    if let Ok(number) = kind.parse::<i64>() {
        return Ok(Left::Literal(number.to_string()));
    }
    if kind.starts_with(|c: char| c.is_ascii_digit() || c == '-') && kind.parse::<f64>().is_ok_and(f64::is_finite) {
        return Ok(Left::Literal(kind.to_owned()));
    }
    if let Some(odd) = kind.chars().find(|c| matches!(c, '\'' | '"' | '%' | '[' | ']' | '{' | '}' | ',')) {
        return refuse(at, format!("{kind:?} is no attribute of the credentials: {odd:?} may not stand in its name"));
    }
    if kind.split('.').count() > KEY_SEGMENTS {
        return refuse(at, format!("an attribute may have at most {KEY_SEGMENTS} dotted parts"));
    }
    Ok(Left::Attribute(kind.to_owned()))
}

fn field(text: &str, at: usize) -> Result<Check<String>, ParseError> {
    let Some((_resource, rest)) = text.split_once(':') else {
        return refuse(at, "a field check is written \"field:resource:attribute=value\"");
    };
    let Some((name, value)) = rest.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return refuse(at, "a field check is written \"field:resource:attribute=value\"");
    };
    let test = match value.strip_prefix('~') {
        None => FieldTest::Equals(value.to_owned()),
        Some(pattern) => match pattern.strip_prefix('^') {
            Some(prefix) if !prefix.contains(|c: char| ".*+?[](){}|\\^$".contains(c)) => {
                FieldTest::StartsWith(prefix.to_owned())
            }
            _ => return refuse(at, "of patterns only a plain prefix (\"~^text\") is offered"),
        },
    };
    Ok(Check::Field { name: name.to_owned(), test })
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote).filter(|inner| !inner.contains(*quote)))
}

fn unquote(text: &str) -> &str {
    quoted(text).unwrap_or(text)
}

fn template(text: &str, at: usize) -> Result<Template, ParseError> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        let place = at + (text.len() - rest.len()) + percent;
        plain.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let Some((key, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) else {
            return refuse(place, "expected \"%(key)s\" (a percent sign itself is written \"%%\")");
        };
        let Some(after) = after.strip_prefix('s') else {
            return refuse(place, format!("expected an \"s\" after \"%({key})\""));
        };
        if key.is_empty() || key.split('.').count() > KEY_SEGMENTS {
            return refuse(place, format!("a target key has 1 to {KEY_SEGMENTS} dotted parts"));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Key(key.to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(Template(parts))
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&(usize, Token)> {
        self.tokens.get(self.next)
    }

    fn any_of(&mut self, depth: usize) -> Result<Check<String>, ParseError> {
        let first = self.all_of(depth)?;
        let mut any = vec![first];
        while matches!(self.peek(), Some((_, Token::Or))) {
            self.next += 1;
            any.push(self.all_of(depth)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Check::Or(any) })
    }

    fn all_of(&mut self, depth: usize) -> Result<Check<String>, ParseError> {
        let first = self.single(depth)?;
        let mut all = vec![first];
        while matches!(self.peek(), Some((_, Token::And))) {
            self.next += 1;
            all.push(self.single(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Check::And(all) })
    }

    fn single(&mut self, depth: usize) -> Result<Check<String>, ParseError> {
        let Some((at, token)) = self.peek().cloned() else {
            return refuse(self.end, "the check ends where another check was expected");
        };
        if depth >= NESTING {
            return refuse(at, format!("nested more than {NESTING} deep"));
        }
        self.next += 1;
        match token {
            Token::Check(check) => Ok(check),
            Token::Not => Ok(Check::Not(Box::new(self.single(depth + 1)?))),
            Token::Open => {
                let inner = self.any_of(depth + 1)?;
                match self.peek() {
                    Some((_, Token::Close)) => {
                        self.next += 1;
                        Ok(inner)
                    }
                    Some((at, _)) => refuse(*at, "expected \"and\", \"or\" or a closing parenthesis"),
                    None => refuse(self.end, format!("the parenthesis opened at byte {at} is not closed")),
                }
            }
            Token::Close => refuse(at, "a closing parenthesis where a check was expected"),
            Token::And | Token::Or => refuse(at, "an operator where a check was expected"),
        }
    }
}
