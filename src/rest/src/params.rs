//! The query string as ordered pairs: repeated keys are kept, and what nobody took can be refused.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::{Error, Result};

/// Query parameters in the order sent. Extracted by handlers as an argument.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    #[must_use]
    pub fn parse(query: &str) -> Self {
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect() }
    }

    /// Takes the last value of `name` (a later one overrides, as WebOb does), removing all.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.take_all(name).pop()
    }

    /// Takes every value of `name`.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        let mut taken = Vec::new();
        self.pairs.retain_mut(|(key, value)| {
            let hit = key == name;
            if hit {
                taken.push(std::mem::take(value));
            }
            !hit
        });
        taken
    }

    /// Takes `name` as a boolean in any of the spellings that oslo accepts.
    ///
    /// # Errors
    /// 400 when the value is none of them.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        parse_bool(&value)
            .map(Some)
            .ok_or_else(|| Error::bad_request(format!("Invalid value {value:?} for {name:?}: expected a boolean.")))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Refuses what is left, for services that do.
    ///
    /// # Errors
    /// 400 naming the first parameter that nothing took.
    pub fn finish(self) -> Result<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::bad_request(format!("Invalid query parameter {name:?}."))),
        }
    }

    /// The query string again, with `changes` put in place of pairs of the same name.
    #[must_use]
    pub fn with(&self, changes: &[(&str, &str)]) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (key, value) in &self.pairs {
            if !changes.iter().any(|(changed, _)| changed == key) {
                out.append_pair(key, value);
            }
        }
        for (key, value) in changes {
            out.append_pair(key, value);
        }
        out.finish()
    }
}

/// oslo.utils' spellings of a boolean.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}
