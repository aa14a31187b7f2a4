//! Errors as a page, for the one service that answers so: Placement, asked for HTML by a client that takes no JSON.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, header};

use crate::Error;

/// Whether the client takes HTML and nothing that JSON would be.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds: Vec<String> = accepted
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    kinds.iter().any(|kind| kind == "text/html")
        && !kinds.iter().any(|kind| matches!(kind.as_str(), "*/*" | "application/*" | "application/json"))
}

/// The same answer with a page for a body.
pub(crate) fn instead_of(mut response: Response, error: &Error) -> Response {
    let title = response.status().to_string();
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{}</p></body></html>\n",
        escaped(error.public())
    );
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    *response.body_mut() = Body::from(page);
    response
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        wanted(&headers)
    }

    #[test]
    fn a_page_is_for_clients_that_take_no_json() {
        assert!(accept("text/html") && accept("text/html;q=0.9, application/xhtml+xml"));
        assert!(!accept("text/html, */*;q=0.1") && !accept("application/json") && !accept("text/plain"));
        assert!(!wanted(&HeaderMap::new()));
    }

    #[test]
    fn what_the_client_sent_is_no_markup_in_the_page() {
        assert_eq!(escaped("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
    }
}
