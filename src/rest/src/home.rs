//! JSON home documents (draft-nottingham-json-home): a service's resources by what they mean instead of where they are.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use crate::Reply;

pub(crate) const JSON_HOME: &str = "application/json-home";

/// Whether the client would rather have a home document than a version document: only who names the type does, and a tie
/// goes to the version document.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let (mut home, mut json, mut any) = (0, None, None);
    for value in headers.get_all(header::ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut words = part.split(';').map(str::trim);
            let kind = words.next().unwrap_or_default();
            let quality = words.find_map(|word| word.strip_prefix("q=")).map_or(1000, thousandths);
            if kind.eq_ignore_ascii_case(JSON_HOME) {
                home = quality;
            } else if kind.eq_ignore_ascii_case("application/json") {
                json = Some(quality);
            } else if matches!(kind, "*/*" | "application/*") {
                any = any.max(Some(quality));
            }
        }
    }
    home > json.or(any).unwrap_or(0)
}

/// `0.25` is 250; what is no quality counts as the full one, as no quality does.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return 1000;
    }
    let fraction = format!("{fraction:0<3}").parse().unwrap_or(0);
    if whole == "1" { 1000 } else { fraction }
}

pub(crate) fn response(document: &Value) -> Response {
    let mut response = Reply::ok(document).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_HOME));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, X-Auth-Token"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_prefers_a_home_document_gets_one() {
        for (accept, want) in [
            ("application/json-home", true),
            ("application/json-home, application/json", false),
            ("application/json;q=0.8, application/json-home", true),
            ("application/json, application/json-home;q=0.8", false),
            ("application/json-home;q=0.5, */*;q=0.1", true),
            ("application/json-home;q=0, */*;q=0", false),
            ("*/*", false),
            ("text/html", false),
            ("application/json-home;q=nonsense", true),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(wanted(&headers), want, "{accept}");
        }
        assert!(!wanted(&HeaderMap::new()));
    }
}
