//! What every handler takes from a request: JSON bodies in Placement's words, and whether the client takes JSON back.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderMap, header, request::Parts};
use rest::{Error, Kind, RawJson, Result};
use serde_json::Value;

/// A JSON body. Unlike other services, Placement insists on a content type.
#[derive(Debug)]
pub struct Json(pub Value);

impl<S: Sync> FromRequest<S> for Json {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let headers = request.headers();
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
        match RawJson::from_request(request, state).await {
            Ok(RawJson(value)) => Ok(Self(value)),
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
