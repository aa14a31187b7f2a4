//! Bytes on their way out, whole or one range of them.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use rest::{Error, Kind, Result};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::app::Images;
use crate::image::model::Image;

/// One read of the file, one frame of the body.
const PIECE_BYTES: usize = 512 << 10;

pub async fn respond(app: &Images, image: &Image, range: Option<&str>) -> Result<Response> {
    let path = app.files().data(&image.id);
    let mut file = tokio::fs::File::open(&path).await.map_err(|error| match error.kind() {
        // Deleted since its record was read.
        std::io::ErrorKind::NotFound => crate::image::store::not_found(&image.id),
        _ => Error::internal(error),
    })?;
    let size = file.metadata().await.map_err(Error::internal)?.len();
    let (status, start, end) = match range.map(|text| parse_range(text, size)) {
        None => (StatusCode::OK, 0, size),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            let error = Error::new(Kind::RangeNotSatisfiable, format!("The image has {size} bytes."));
            return Err(match HeaderValue::from_str(&format!("bytes */{size}")) {
                Ok(value) => error.with_header(header::CONTENT_RANGE, value),
                Err(_) => error,
            });
        }
    };
    if start > 0 {
        file.seek(std::io::SeekFrom::Start(start)).await.map_err(Error::internal)?;
    }
    file.set_max_buf_size(PIECE_BYTES);
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(end - start), PIECE_BYTES));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {start}-{}/{size}", end.saturating_sub(1))) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    } else if let Some(value) = image.checksum.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        // The sum of the whole: a client would compare it with that of its part.
        headers.insert(HeaderName::from_static("content-md5"), value);
    }
    Ok(response)
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n` as a half-open range; none when it is none or lies outside.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (start, end) = match (first.trim(), last.trim()) {
        ("", "") => return None,
        ("", suffix) => (size.saturating_sub(number(suffix)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => (number(first)?, number(last)?.checked_add(1)?.min(size)),
    };
    (start < end && start < size).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_writes_them() {
        for (text, expected) in [
            ("bytes=0-9", Some((0, 10))),
            ("bytes=5-", Some((5, 100))),
            ("bytes=-10", Some((90, 100))),
            ("bytes=-1000", Some((0, 100))),
            ("bytes=90-1000", Some((90, 100))),
            ("bytes=100-", None),
            ("bytes=9-3", None),
            ("bytes=-0", None),
            ("bytes=0-1,5-6", None),
            ("bytes=0-18446744073709551615", None),
            ("lines=0-9", None),
            ("bytes=-", None),
            ("?", None),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), None);
    }
}
