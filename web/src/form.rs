//! What a form or an address holds: names and values as they were sent, so that a form that failed shows them again.

use axum::{
    extract::{FromRequest, RawForm, Request},
    response::{IntoResponse, Response},
};
use http::StatusCode;

use crate::failure::{Failure, Result};

/// Fields in their order; a name may stand there more than once.
#[derive(Clone, Default)]
pub struct Fields(Vec<(String, String)>);

/// Values may be secrets.
impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The first value of that name, without blanks around it; empty when there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The first value as it was sent: passwords may begin with a blank.
    #[must_use]
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Every value of that name that is not empty.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty()).collect()
    }

    /// Whether a box is marked.
    #[must_use]
    pub fn on(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Whether one of the values of that name is this one.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).contains(&value)
    }

    /// A whole number, or nothing.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| Failure::bad_request(format!("{name}: {text:?} is no whole number.")))
    }

    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// These, and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.push(name, value);
        self
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// As a query with another marker: the next page of a list that these are the filters of.
    #[must_use]
    pub fn after(&self, marker: &str) -> String {
        let kept = self.0.iter().filter(|(name, value)| name != "marker" && !value.is_empty());
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept.map(|(name, value)| (name.as_str(), value.as_str())))
            .append_pair("marker", marker)
            .finish()
    }
}

/// Of the body of a POST, or of the query of a GET.
impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> std::result::Result<Self, Response> {
        match RawForm::from_request(request, state).await {
            Ok(RawForm(bytes)) => Ok(Self::parse(&bytes)),
            Err(_) => Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "This is not a form.").into_response()),
        }
    }
}

/// Texts between commas, each once.
#[must_use]
pub fn listed(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if !found.iter().any(|known| known == part) {
            found.push(part.to_owned());
        }
    }
    found
}

/// Lines of `name=value`.
///
/// # Errors
/// 400 naming the line that is none.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err(Failure::bad_request(format!("{line:?} is no line of the kind name=value."))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_a_form_sends_them() {
        let fields = Fields::parse(b"name=+a+b%20&id=1&id=2&id=&pass=+x&count=7&bad=7x");
        assert_eq!((fields.get("name"), fields.raw("pass"), fields.get("nothing")), ("a b", " x", ""));
        assert_eq!(fields.all("id"), ["1", "2"]);
        assert!(fields.has("id", "2") && !fields.has("id", ""));
        assert_eq!(fields.number("count").unwrap(), Some(7));
        assert_eq!(fields.number("nothing").unwrap(), None);
        assert!(fields.number("bad").unwrap_err().message.contains("7x"));
        assert!(!format!("{fields:?}").contains(" x"), "values are not for logs");
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let fields = Fields::parse(b"name=a%26b&status=&marker=old");
        assert_eq!(fields.after("n/1"), "name=a%26b&marker=n%2F1");
    }

    #[test]
    fn lists_and_pairs_are_what_people_type() {
        assert_eq!(listed(" a, b ,,a "), ["a", "b"]);
        let found = pairs("a = 1\n\n b=x=y\n").unwrap();
        assert_eq!(found, [("a".into(), "1".into()), ("b".into(), "x=y".into())]);
        assert!(pairs("=1").is_err() && pairs("word").is_err());
    }
}
