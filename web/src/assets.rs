//! Style, script and pictures, carried in the program. Their address holds a hash of them all, so browsers keep them for ever.

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};

pub(super) struct File {
    name: &'static str,
    plain: &'static [u8],
    packed: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The address of `name`, which is a path below `static/`, or below `vendor/` for what comes from npm.
pub(super) fn address(name: &str) -> String {
    format!("/static/{VERSION}/{name}")
}

/// `GET /static/{version}/{name}`. Another version's address gets what there is now, and is not to be kept.
pub(super) async fn show(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Ok(index) = FILES.binary_search_by(|file| file.name.cmp(name.as_str())) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(file) = FILES.get(index) else { return StatusCode::NOT_FOUND.into_response() };
    let kept = if version == VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common =
        [(header::CONTENT_TYPE, kind(&name)), (header::CACHE_CONTROL, kept), (header::VARY, "accept-encoding")];
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.split(',').any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip")) {
        return (common, [(header::CONTENT_ENCODING, "gzip")], file.packed).into_response();
    }
    (common, file.plain).into_response()
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "text/plain; charset=utf-8",
    }
}
