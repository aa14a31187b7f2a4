//! What every handler takes from a request: JSON bodies in Placement's words, and whether the client takes JSON back.

use std::convert::Infallible;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderMap, header, request::Parts};
use rest::{Error, Kind, RawJson, Result};
use serde_json::Value;

/// A body that is read only when asked for: after policy, so that who may not call learns nothing of the call's form.
#[derive(Debug)]
pub struct Unread(Request);

impl<S: Sync> FromRequest<S> for Unread {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> std::result::Result<Self, Infallible> {
        Ok(Self(request))
    }
}

impl Unread {
    /// The body as JSON. Unlike other services, Placement insists on a content type.
    pub async fn json(self) -> Result<Value> {
        let headers = self.0.headers();
        match headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default()) {
            None if has_body(headers) => return Err(Error::bad_request("content-type header required")),
            None => return Err(wrong_media_type("None")),
            Some(kind) => {
                let essence = kind.split(';').next().unwrap_or_default().trim();
                if !essence.eq_ignore_ascii_case("application/json") {
                    return Err(wrong_media_type(essence));
                }
            }
        }
        match RawJson::from_request(self.0, &()).await {
            Ok(RawJson(value)) => Ok(value),
            Err(error) if error.kind() == Kind::BadRequest => {
                Err(Error::bad_request(format!("Malformed JSON: {}", error.public())))
            }
            Err(error) => Err(error),
        }
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

fn wrong_media_type(kind: &str) -> Error {
    Error::new(Kind::WrongMediaType, format!("The media type {kind} is not supported, use application/json"))
}

/// Refuses clients that do not take JSON, where JSON is what they would get.
#[derive(Debug)]
pub struct WantsJson;

impl<S: Sync> FromRequestParts<S> for WantsJson {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let Some(accept) = parts.headers.get(header::ACCEPT) else { return Ok(Self) };
        let fits = accept.to_str().unwrap_or_default().split(',').any(|range| {
            let mut pieces = range.split(';');
            let kind = pieces.next().unwrap_or_default().trim().to_ascii_lowercase();
            let refused = pieces.any(|piece| {
                piece.trim().strip_prefix("q=").is_some_and(|weight| weight.parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            !refused && matches!(kind.as_str(), "*/*" | "application/*" | "application/json")
        });
        if fits { Ok(Self) } else { Err(Error::new(Kind::NotAcceptable, "Only application/json is provided")) }
    }
}
