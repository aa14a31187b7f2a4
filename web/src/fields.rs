//! The fields of a form, whichever way the browser sends them: of forms with files, and of those with as many fields of one
//! name as somebody likes.

use axum::{
    RequestExt,
    body::Body,
    extract::{FromRequest, Multipart, Request},
};
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};

use crate::{
    failure::{Failure, Result},
    visit::Visit,
};

/// Of all fields and files together: user data and keys, no images.
const BYTES_MAX: usize = 1 << 20;

/// Names and values in the order of the form. Extracting it checks the form's token.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of a field; nothing where there is none. Spaces around it are nobody's wish.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// The same with the spaces: of texts in which they matter.
    #[must_use]
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// Every value of that name that is not empty.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty()).collect()
    }

    /// A box that is ticked.
    #[must_use]
    pub fn on(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Two columns of a table that is filled in: rows without a name are left out.
    #[must_use]
    pub fn pairs(&self, names: &str, values: &str) -> Vec<(String, String)> {
        let column = |wanted: &str| {
            let named = self.0.iter().filter(|(known, _)| known == wanted);
            named.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
        };
        let rows = column(names).into_iter().zip(column(values));
        rows.filter(|(name, _)| !name.is_empty()).collect()
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
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
            return Ok(Self(form_urlencoded::parse(&bytes).into_owned().collect()));
        }
        let broken = |_| Failure::bad_request("The form broke off.");
        let request = Request::from_parts(parts, Body::from(bytes));
        let mut form = Multipart::from_request(request, state).await.map_err(|_| broken(()))?;
        let mut fields = Vec::new();
        while let Some(field) = form.next_field().await.map_err(|_| broken(()))? {
            let name = field.name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(|_| broken(()))?;
            let value = String::from_utf8(bytes.into());
            let value = value.map_err(|_| Failure::bad_request("The file is no text: UTF-8 is needed."))?;
            fields.push((name, value));
        }
        let fields = Self(fields);
        if !checked {
            visit.check_csrf(Some(fields.get("_csrf")))?;
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_a_form_are_read_row_by_row() {
        let fields = [("key", "a"), ("value", " 1 "), ("key", ""), ("value", "lost"), ("key", "b"), ("value", "")];
        let fields = Fields(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        assert_eq!(fields.pairs("key", "value"), [("a".into(), "1".into()), ("b".into(), String::new())]);
        assert_eq!(fields.all("value"), ["1", "lost"]);
    }
}
