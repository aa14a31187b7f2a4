//! What a form sent: names with as many values as there were boxes marked. A form that failed is shown again with these.

use axum::extract::{FromRequest, RawForm, Request};

use crate::failure::Failure;

/// The fields of a form, or of an address, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first value without the space around it, or nothing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// Every value that is not empty.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(known, value)| known == name && !value.trim().is_empty());
        values.map(|(_, value)| value.trim()).collect()
    }

    /// Whether there is a value: a box is marked, a line is filled.
    pub(super) fn is(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Whether one of the values is this one.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(known, sent)| known == name && sent.trim() == value)
    }

    /// Adds a value: what a form begins with.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// A marked box, or none.
    #[must_use]
    pub(super) fn with_box(self, name: &str, marked: bool) -> Self {
        if marked { self.with(name, "1") } else { self }
    }

    /// As an address has it, without these names and without what is empty.
    pub(super) fn query_without(&self, names: &[&str]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.0.iter().filter(|(name, value)| !names.contains(&name.as_str()) && !value.is_empty())
        {
            query.append_pair(name, value);
        }
        query.finish()
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let RawForm(bytes) = RawForm::from_request(request, state)
            .await
            .map_err(|_| Failure::bad_request("The form cannot be read."))?;
        Ok(Self(form_urlencoded::parse(&bytes).into_owned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_and_boxes_have_many_values() {
        let fields = Fields::default().with("a", " 1 ").with("a", "2").with("b", "").with("marker", "x&y");
        assert_eq!((fields.get("a"), fields.get("none")), ("1", ""));
        assert_eq!(fields.all("a"), ["1", "2"]);
        assert!(fields.is("a") && !fields.is("b") && fields.has("a", "2") && !fields.has("a", "3"));
        assert_eq!(fields.query_without(&["a"]), "marker=x%26y");
    }
}
