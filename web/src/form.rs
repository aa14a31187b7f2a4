//! What a form or an address holds: names and values as they were sent, so that a form that failed shows them again.

use axum::{
    RequestExt,
    body::Body,
    extract::{FromRequest, Multipart, RawForm, Request},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};

use crate::{
    failure::{Failure, Result},
    visit::Visit,
};

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

    /// A marked box, or none.
    #[must_use]
    pub fn with_box(self, name: &str, marked: bool) -> Self {
        if marked { self.with(name, "1") } else { self }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Two columns of a table that is filled in: rows without a name are left out.
    #[must_use]
    pub fn table(&self, names: &str, values: &str) -> Vec<(String, String)> {
        let column = |wanted: &str| {
            let named = self.0.iter().filter(|(known, _)| known == wanted);
            named.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
        };
        let rows = column(names).into_iter().zip(column(values));
        rows.filter(|(name, _)| !name.is_empty()).collect()
    }

    /// Whether these, of a list, are filters that leave rows out.
    #[must_use]
    pub fn narrow(&self) -> bool {
        self.0.iter().any(|(name, value)| !["all", "marker"].contains(&name.as_str()) && !value.trim().is_empty())
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

/// Of forms with files, and of forms without; of the first kind extracting checks the form's token, which the guard of all
/// pages could not read.
#[derive(Debug)]
pub struct WithFiles(pub Fields);

/// Of all fields and files together: user data and keys, no images.
const BYTES_MAX: usize = 1 << 20;

impl<S: Send + Sync> FromRequest<S> for WithFiles {
    type Rejection = Failure;

    async fn from_request(mut request: Request, state: &S) -> Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let with_files = kind.starts_with("multipart/form-data");
        let checked = request.headers().contains_key("x-csrf-token");
        let too_large = |_| Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is larger than 1 MiB.");
        let visit: Visit = request.extract_parts().await?;
        let (parts, body) = request.into_parts();
        let bytes = Limited::new(body, BYTES_MAX).collect().await.map_err(too_large)?.to_bytes();
        if !with_files {
            return Ok(Self(Fields::parse(&bytes)));
        }
        let broken = |_| Failure::bad_request("The form broke off.");
        let request = Request::from_parts(parts, Body::from(bytes));
        let mut form = Multipart::from_request(request, state).await.map_err(|_| broken(()))?;
        let mut fields = Fields::default();
        while let Some(field) = form.next_field().await.map_err(|_| broken(()))? {
            let name = field.name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(|_| broken(()))?;
            let value = String::from_utf8(bytes.into());
            fields.push(name, value.map_err(|_| Failure::bad_request("The file is no text: UTF-8 is needed."))?);
        }
        if !checked {
            visit.check_csrf(Some(fields.get("_csrf")))?;
        }
        Ok(Self(fields))
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
    fn tables_of_a_form_are_read_row_by_row() {
        let fields = Fields::parse(b"key=a&value=+1+&key=&value=lost&key=b&value=");
        assert_eq!(fields.table("key", "value"), [("a".into(), "1".into()), ("b".into(), String::new())]);
        assert_eq!(fields.all("value"), ["1", "lost"]);
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let fields = Fields::parse(b"name=a%26b&status=&marker=old");
        assert_eq!(fields.after("n/1"), "name=a%26b&marker=n%2F1");
        assert!(fields.narrow() && !Fields::parse(b"all=1&name=+&marker=old").narrow());
    }

    #[test]
    fn lists_and_pairs_are_what_people_type() {
        assert_eq!(listed(" a, b ,,a "), ["a", "b"]);
        let found = pairs("a = 1\n\n b=x=y\n").unwrap();
        assert_eq!(found, [("a".into(), "1".into()), ("b".into(), "x=y".into())]);
        assert!(pairs("=1").is_err() && pairs("word").is_err());
    }
}
