//! `/servers/{id}/log`: what the guest has said on its first serial line.

use askama::Template;
use axum::{
    extract::{Path, Query},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::json;

use super::detail::Head;
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    frame::Frame,
    visit::Visit,
};

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    lines: String,
}

/// Lengths that are offered; the last is everything.
const LENGTHS: &[&str] = &["50", "200", "1000", "all"];

#[derive(Template)]
#[template(path = "servers/log.html")]
struct Page {
    frame: Frame,
    head: Head,
    text: String,
    lines: String,
    lengths: &'static [&'static str],
    refused: Option<Failure>,
}

async fn output(visit: &Visit, id: &str, lines: Option<u32>) -> Result<String> {
    let path = format!("/servers/{}/action", encoded(id));
    let body = json!({"os-getConsoleOutput": {"length": lines}});
    let answer = visit.api.post(Service::Compute, &path, &body).await?;
    Ok(answer["output"].as_str().unwrap_or_default().to_owned())
}

/// Text without what a terminal takes for orders: colours, places of the cursor, titles.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => match letters.next() {
                // CSI: parameters, and a letter that ends it.
                Some('[') => while letters.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // OSC: a string, ended by BEL or by ESC and a backslash.
                Some(']') => {
                    while let Some(c) = letters.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && letters.next_if_eq(&'\\').is_some()) || c == '\n' {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\r' => {}
            letter => plain.push(letter),
        }
    }
    plain
}

/// `GET /servers/{id}/log?lines=200`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>, Query(asked): Query<Asked>) -> Result<Response> {
    let head = Head::of(&visit, &id, "/log").await?;
    let lines = if asked.lines.is_empty() { "200".to_owned() } else { asked.lines };
    let count = if lines == "all" {
        None
    } else {
        let wrong = || Failure::bad_request(visit.words().t("The number of lines is a number, or all."));
        Some(lines.parse().map_err(|_| wrong())?)
    };
    let (text, refused) = match output(&visit, &id, count).await {
        Ok(text) => (plain(&text), None),
        Err(failure) if failure.is_users() => (String::new(), Some(failure)),
        Err(failure) => return Err(failure),
    };
    visit.page(&Page { frame: head.frame(&visit), head, text, lines, lengths: LENGTHS, refused })
}

/// `GET /servers/{id}/log/download`: everything, as the guest said it.
pub(super) async fn download(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let text = output(&visit, &id, None).await?;
    // Compute has found the server, so its id is one.
    let name = format!("attachment; filename=\"{}.log\"", encoded(&id));
    let name = HeaderValue::from_str(&name).map_err(Failure::internal)?;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_a_terminal_are_not_shown() {
        for (said, shown) in [
            ("\u{1b}[1;31mred\u{1b}[0m\r\n", "red\n"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]0;title\u{1b}\\text", "text"),
            ("<script>\u{1b}", "<script>"),
            ("\u{1b}[", ""),
            ("\u{1b}]never ended\nnext", "next"),
        ] {
            assert_eq!(plain(said), shown, "{said:?}");
        }
    }
}
