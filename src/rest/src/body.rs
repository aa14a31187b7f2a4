//! Request bodies: bounded, JSON, and refused with the place of the mistake.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::{Error, Kind, Result, route::BodyLimit};

/// What upstream's size limit middleware allows by default.
pub const JSON_BODY_MAX_BYTES: usize = 114_688;

/// A client that sends nothing for this long is cut off.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A JSON body read as `T`. Give `T` `#[serde(deny_unknown_fields)]` where upstream's schema does.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body as it came, for bodies whose shape only the handler knows.
#[derive(Debug)]
pub struct RawJson(pub serde_json::Value);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let bytes = read(request).await?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(mistake)?;
        reader.end().map_err(|_| malformed())?;
        Ok(Self(value))
    }
}

impl<S: Sync> FromRequest<S> for RawJson {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let bytes = read(request).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|_| malformed())
    }
}

/// Reads a part of a [`RawJson`] body, refused in the same words as a body of its own.
///
/// # Errors
/// 400 with the place of the mistake.
pub fn from_json<T: DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(mistake)
}

fn mistake(error: serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = error.path().to_string();
    let inner = error.into_inner();
    match inner.classify() {
        serde_json::error::Category::Data if path != "." => {
            Error::bad_request(format!("Invalid input for field/attribute {path}: {}.", trimmed(&inner)))
        }
        serde_json::error::Category::Data => Error::bad_request(format!("Invalid input: {}.", trimmed(&inner))),
        _ => malformed(),
    }
}

/// serde's own text, without the line and column of a body that the user never wrote by hand.
fn trimmed(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn malformed() -> Error {
    Error::bad_request("Malformed request body: it is not valid JSON.")
}

async fn read(request: Request) -> Result<Bytes> {
    if let Some(kind) = request.headers().get(http::header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") && !essence.to_ascii_lowercase().ends_with("+json") {
            return Err(Error::new(Kind::WrongMediaType, format!("Unsupported Content-Type: {essence}.")));
        }
    }
    let limit = request.extensions().get::<BodyLimit>().map_or(JSON_BODY_MAX_BYTES, |limit| limit.0);
    let too_large = || Error::too_large(format!("Request is too large: a body here may hold {limit} bytes."));
    let announced = request.headers().get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(request.into_body(), limit).collect())
        .await
        .map_err(|_| Error::bad_request("The request body did not arrive in time."))?;
    body.map(|collected| collected.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() { too_large() } else { Error::bad_request("The request body was cut off.") }
    })
}

/// For `Option<Option<T>>` fields: absent is `None`, `null` is `Some(None)`. Use with `#[serde(default,
/// deserialize_with = "rest::nullable")]`.
///
/// # Errors
/// When the value is neither null nor a `T`.
pub fn nullable<'de, D, T>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
