//! What went wrong, for a person: what the API said, and what would help.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

pub type Result<T> = std::result::Result<T, Failure>;

/// What need not be there, or need not be the user's to see: nothing then.
///
/// # Errors
/// Every failure but 403 and 404.
pub fn seen<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_not_found() || failure.is_forbidden() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A failed call, or a page that cannot be shown. The middleware makes a page of it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub status: StatusCode,
    /// The service's own words.
    pub message: String,
    pub request_id: Option<String>,
    /// The rule that refused, and what would satisfy it.
    pub refusal: Option<rest::Refusal>,
    /// Where to go to sign in, when that is what is missing.
    pub(crate) sign_in: bool,
}

impl Failure {
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), request_id: None, refusal: None, sign_in: false }
    }

    /// What the user sent makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Nobody is signed in, or no longer.
    #[must_use]
    pub(crate) fn sign_in() -> Self {
        Self { sign_in: true, ..Self::new(StatusCode::UNAUTHORIZED, "Sign in first.") }
    }

    /// Ours, with a word for the log.
    #[must_use]
    pub(crate) fn broken(what: &'static str) -> Self {
        tracing::error!(what, "a page could not be made");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be made. The log of the cloud says why.")
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a page could not be made");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be made. The log of the cloud says why.")
    }

    /// Whether it is of the user's making: a form is then shown again with the reason.
    #[must_use]
    pub fn is_users(&self) -> bool {
        self.status.is_client_error() && !self.sign_in
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// In one line, with the roles that would do where a rule refused.
    #[must_use]
    pub fn line(&self) -> String {
        let mut text = self.message.clone();
        if let Some(refusal) = &self.refusal {
            let roles = roles_of(refusal.check.as_deref().unwrap_or_default());
            text = format!("The rule {} refuses this.", refusal.rule);
            if !roles.is_empty() {
                text.push_str(&format!(" It asks for the role {}.", roles.join(" or ")));
            }
        }
        text
    }
}

/// The roles that a check string names, each once.
#[must_use]
pub fn roles_of(check: &str) -> Vec<String> {
    let mut roles: Vec<String> = Vec::new();
    for word in check.split(|c: char| c.is_whitespace() || c == '(' || c == ')') {
        if let Some(role) = word.strip_prefix("role:")
            && !roles.iter().any(|known| known == role)
        {
            roles.push(role.to_owned());
        }
    }
    roles
}

/// The middleware takes the failure out of the extensions and makes a page of it.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_rule_and_the_roles_that_would_do() {
        let mut failure = Failure::new(StatusCode::FORBIDDEN, "no");
        failure.refusal = Some(rest::Refusal {
            rule: "a:b".into(),
            check: Some("(role:admin and system_scope:all) or role:reader or role:admin".into()),
        });
        assert_eq!(failure.line(), "The rule a:b refuses this. It asks for the role admin or reader.");
    }
}
