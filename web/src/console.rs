//! Consoles: the screen and the serial line of a server, on a tab of its own, and on the page to which the addresses that the
//! API hands out lead, which needs nobody signed in: the token in its address is all that it has.
//!
//! The connection itself is Compute's (`/console/ws`); a page asks for a token of its own for each.

use askama::Template;
use axum::{
    Json, Router,
    extract::{Path, Query},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    frame::Frame,
    servers::detail::Head,
    session,
    visit::{Anyone, POLICY, Seen, Visit},
    words::Words,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/servers/{id}/console", get(tab))
        .route("/servers/{id}/console/token", post(token))
        .route("/console/vnc.html", get(alone))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    kind: String,
}

#[derive(Template)]
#[template(path = "console/tab.html")]
struct Tab {
    frame: Frame,
    head: Head,
    kind: &'static str,
    /// Where tokens come from.
    token: String,
    nonce: String,
    words_json: String,
}

#[derive(Template)]
#[template(path = "console/closed.html")]
struct Closed {
    frame: Frame,
    head: Head,
    why: String,
}

#[derive(Template)]
#[template(path = "console/alone.html")]
struct Alone {
    frame: Frame,
    kind: &'static str,
    token: &'static str,
    nonce: String,
    words_json: String,
}

/// What the script says, as JSON that no script element ends in.
fn words_json(words: Words) -> String {
    let said = json!({
        "connecting": words.t("connecting"),
        "connected": words.t("connected"),
        "over": words.t("disconnected"),
        "noToken": words.t("This address has no token. Ask for a new one."),
        "signedOut": words.t("You are signed out."),
    });
    said.to_string().replace('<', "\\u003c")
}

/// The page's own policy: what it is for every page, with a nonce for the style elements of xterm.js, and this host's
/// WebSockets by name for browsers to which `'self'` is not those.
fn guarded(seen: &Seen, mut response: Response, nonce: &str) -> Result<Response> {
    let styles = format!("style-src 'self' 'nonce-{nonce}'");
    let sockets = format!("connect-src 'self' wss://{}", seen.api.authority);
    let policy = POLICY.replace("style-src 'self'", &styles).replace("connect-src 'self'", &sockets);
    let policy = HeaderValue::from_str(&policy).map_err(Failure::internal)?;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// `GET /servers/{id}/console?kind=serial`.
async fn tab(visit: Visit, Path(id): Path<String>, Query(asked): Query<Asked>) -> Result<Response> {
    let head = Head::of(&visit, &id, "/console").await?;
    let (frame, words) = (head.frame(&visit), visit.words());
    let right = ["ACTIVE", "PAUSED", "RESCUE"];
    let why = if !head.may.change() {
        Some(words.t("needs the role member").to_owned())
    } else if head.server.task_state.as_deref() != Some("deleting") && right.contains(&head.server.status.as_str()) {
        None
    } else {
        Some(words.fill("needs {}, is {}", &[&right.join(words.t(" or ")), &head.server.status]))
    };
    if let Some(why) = why {
        let why = format!("{} {why}", words.t("There is no console now:"));
        return visit.page(&Closed { frame: frame.live(), head, why });
    }
    let nonce = session::random()?;
    let page = Tab {
        frame,
        kind: if asked.kind == "serial" { "serial" } else { "screen" },
        token: format!("/servers/{}/console/token?kind={}", encoded(&id), encoded(&asked.kind)),
        head,
        nonce: nonce.clone(),
        words_json: words_json(words),
    };
    guarded(visit.seen(), visit.page(&page)?, &nonce)
}

/// `POST /servers/{id}/console/token?kind=serial`: where the next connection goes.
async fn token(visit: Visit, Path(id): Path<String>, Query(asked): Query<Asked>) -> Result<Response> {
    let (protocol, kind) = if asked.kind == "serial" { ("serial", "serial") } else { ("vnc", "novnc") };
    let path = format!("/servers/{}/remote-consoles", encoded(&id));
    let body = json!({"remote_console": {"protocol": protocol, "type": kind}});
    match visit.api.post(Service::Compute, &path, &body).await {
        Ok(answer) => {
            let path = address(&answer).ok_or_else(|| Failure::broken("a console without a token"))?;
            Ok(Json(json!({ "path": path })).into_response())
        }
        Err(failure) if failure.is_users() => {
            Ok((failure.status, Json(json!({"message": failure.line()}))).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// The WebSocket of this site that a console's address leads to.
fn address(answer: &Value) -> Option<String> {
    let url = answer["remote_console"]["url"].as_str()?;
    let (_, token) = url.rsplit_once("token=").or_else(|| url.rsplit_once("token%3D"))?;
    let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (plain && !token.is_empty()).then(|| format!("/console/ws?token={token}"))
}

/// `GET /console/vnc.html?path=console/ws?token=...`: where the API's addresses of screens lead, whoever opens them.
async fn alone(Anyone(seen): Anyone) -> Result<Response> {
    let nonce = session::random()?;
    let page = Alone {
        frame: seen.frame("", seen.words.t("Console")),
        kind: "screen",
        token: "",
        nonce: nonce.clone(),
        words_json: words_json(seen.words),
    };
    let response = seen.page(http::StatusCode::OK, &page)?;
    guarded(&seen, response, &nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_api_becomes_a_path_of_this_site() {
        for (url, path) in [
            ("https://h/console/vnc.html?path=console%2Fws%3Ftoken%3Dab-1", Some("/console/ws?token=ab-1")),
            ("wss://h/console/ws?token=ab-1", Some("/console/ws?token=ab-1")),
            ("wss://h/console/ws?token=", None),
            ("wss://h/console/ws?token=a&b", None),
            ("wss://h/", None),
        ] {
            assert_eq!(address(&json!({"remote_console": {"url": url}})).as_deref(), path, "{url}");
        }
    }
}
