//! An error in the shape that each service's clients parse.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{Error, Kind, Microversion};

/// Whose habits apply: error bodies, policy refusals, quota statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Identity,
    Images,
    Placement,
    Compute,
    Network,
    Volume,
}

impl Style {
    #[must_use]
    pub fn status(self, kind: Kind) -> StatusCode {
        match (kind, self) {
            (Kind::OverQuota, Self::Network) => StatusCode::CONFLICT,
            (Kind::OverQuota, Self::Volume | Self::Images) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => kind.status(),
        }
    }

    /// Whether the service's rules are about projects (`scope_types: project`): a token of the system or of a domain is
    /// refused whatever roles it has, as upstream enforces it.
    #[must_use]
    pub fn is_of_projects(self) -> bool {
        matches!(self, Self::Placement | Self::Images)
    }

    /// What a refused rule says to the user.
    #[must_use]
    pub fn refusal(self, rule: &str) -> Error {
        let error = match self {
            Self::Identity => {
                Error::forbidden(format!("You are not authorized to perform the requested action: {rule}."))
            }
            Self::Images => Error::forbidden(format!("You are not authorized to complete {rule} action.")),
            Self::Network => {
                Error::forbidden(format!("rule:{rule} is disallowed by policy")).with_code("PolicyNotAuthorized")
            }
            Self::Placement => Error::forbidden(format!("{rule} is not permitted by policy.")),
            Self::Compute | Self::Volume => Error::forbidden(format!("Policy doesn't allow {rule} to be performed.")),
        };
        error.refused_by(rule)
    }

    pub(crate) fn body(self, error: &Error, request_id: &str, version: Option<Microversion>) -> Value {
        let status = self.status(error.kind());
        let code = status.as_u16();
        let title = status.canonical_reason().unwrap_or("Error");
        let message = error.public();
        // The token filter in front of every real service answers 401 in Identity's shape.
        let style = if error.kind() == Kind::Unauthenticated { Self::Identity } else { self };
        match style {
            Self::Identity => json!({"error": {"code": code, "message": message, "title": title}}),
            Self::Images => json!({"message": message, "code": format!("{code} {title}"), "title": title}),
            Self::Placement => {
                let mut item = json!({"status": code, "request_id": request_id, "detail": message, "title": title});
                if version.is_some_and(|version| version >= Microversion(1, 23)) {
                    item["code"] = json!(error.code().unwrap_or("placement.undefined_code"));
                }
                json!({ "errors": [item] })
            }
            Self::Network => {
                let kind = error.code().unwrap_or(match error.kind() {
                    Kind::NotFound => "HTTPNotFound",
                    Kind::Conflict => "Conflict",
                    Kind::OverQuota => "OverQuota",
                    Kind::Forbidden => "NotAuthorized",
                    Kind::BadRequest => "HTTPBadRequest",
                    Kind::Internal => "HTTPInternalServerError",
                    _ => title,
                });
                json!({"NeutronError": {"type": kind, "message": message, "detail": ""}})
            }
            Self::Compute | Self::Volume => {
                let fault = match code {
                    400 => "badRequest",
                    401 => "unauthorized",
                    403 => "forbidden",
                    404 => "itemNotFound",
                    405 => "badMethod",
                    409 => "conflictingRequest",
                    413 | 429 => "overLimit",
                    415 => "badMediaType",
                    501 => "notImplemented",
                    503 => "serviceUnavailable",
                    _ if self == Self::Volume => "cinderFault",
                    _ => "computeFault",
                };
                json!({fault: {"code": code, "message": message}})
            }
        }
    }
}
