//! From a WebSocket to the console of a VM process, and back: binary frames of whatever the console says.
//!
//! What must stay true: without a good token nothing of a server is touched, and an answer says nothing about which tokens
//! there are; a page of another site cannot use a token (browsers say where they come from); a client that neither reads
//! nor answers is gone after a bounded time, and there is a bound on how many there may be.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    time::timeout,
};

use super::{model::Console, store};
use crate::App;

/// Consoles that are open at once.
const MOST_CONSOLES: usize = 256;
/// The largest message of a client: a clipboard, not a film.
const MOST_BYTES: usize = 1 << 20;
const CHUNK_BYTES: usize = 32 << 10;
/// A client hears something at least this often, and has to say something in this time: browsers answer pings.
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Consoles {
    app: App,
    open: Arc<Semaphore>,
}

/// What is served beside the APIs. The page to which the address of a screen leads is the dashboard's.
pub(crate) fn router(app: &App) -> Router {
    Router::new()
        .route("/console/ws", get(connect))
        .route("/websockify", get(connect))
        .with_state(Consoles { app: app.clone(), open: Arc::new(Semaphore::new(MOST_CONSOLES)) })
}

/// No body, and the end of the connection: clients of a WebSocket take whatever comes for frames.
fn refused(status: StatusCode) -> Response {
    (status, [(header::CONNECTION, HeaderValue::from_static("close"))]).into_response()
}

async fn connect(
    State(consoles): State<Consoles>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return refused(StatusCode::BAD_REQUEST) };
    if !same_site(&headers) {
        return refused(StatusCode::FORBIDDEN);
    }
    let Some(token) = token(&uri, &headers) else { return refused(StatusCode::FORBIDDEN) };
    let Consoles { app, open } = consoles;
    let Ok(slot) = open.try_acquire_owned() else { return refused(StatusCode::SERVICE_UNAVAILABLE) };
    let now = app.clock.now_text();
    let opened = app.db.write(move |tx| store::take(tx, &token, &now)).await;
    let opened = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return refused(StatusCode::FORBIDDEN),
        Err(error) => {
            let error: db::Error = error;
            tracing::error!(%error, "a console token cannot be looked up");
            return refused(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let Ok(id) = uuid::Uuid::try_parse(&opened.server_id) else { return refused(StatusCode::NOT_FOUND) };
    let stream = match timeout(CONNECT, app.driver.console(id, opened.console == Console::Screen)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(server.id = opened.server_id, %error, "a console cannot be reached");
            return refused(StatusCode::BAD_GATEWAY);
        }
        Err(_) => return refused(StatusCode::GATEWAY_TIMEOUT),
    };
    tracing::info!(server.id = opened.server_id, console = opened.console.kind(), "a console is open");
    upgrade.protocols(["binary"]).max_message_size(MOST_BYTES).max_frame_size(MOST_BYTES).on_upgrade(
        move |socket| async move {
            carry(socket, stream).await;
            drop(slot);
            tracing::info!(server.id = opened.server_id, "a console is closed");
        },
    )
}

/// From the query, or from the cookie by which older clients send it.
fn token(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let of = |text: &str, separator: char| {
        text.split(separator).find_map(|pair| pair.trim().strip_prefix("token=")).map(str::to_owned)
    };
    let cookie = || of(headers.get(header::COOKIE)?.to_str().ok()?, ';');
    uri.query().and_then(|query| of(query, '&')).or_else(cookie).filter(|token| token.len() <= 64)
}

/// Whether the page that opens the connection, if one does, is of this very site.
fn same_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
    origin.is_some() && origin == host
}

async fn carry(socket: WebSocket, stream: UnixStream) {
    let (to_client, from_client) = socket.split();
    let (from_console, to_console) = stream.into_split();
    tokio::select! {
        () = down(from_console, to_client) => {}
        () = up(from_client, to_console) => {}
    }
}

/// From the console to the client.
async fn down(mut console: OwnedReadHalf, mut client: SplitSink<WebSocket, Message>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let message = match timeout(PING, console.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(read)) => Message::Binary(bytes::Bytes::copy_from_slice(chunk.get(..read).unwrap_or_default())),
            Err(_) => Message::Ping(bytes::Bytes::new()),
        };
        match timeout(SILENCE, client.send(message)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let _ = timeout(PING, client.close()).await;
}

/// From the client to the console.
async fn up(mut client: SplitStream<WebSocket>, mut console: OwnedWriteHalf) {
    while let Ok(Some(Ok(message))) = timeout(SILENCE, client.next()).await {
        let data = match &message {
            Message::Binary(data) => data.as_ref(),
            Message::Text(text) => text.as_bytes(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        match timeout(SILENCE, console.write_all(data)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_token_is_in_the_query_or_in_a_cookie() {
        let none = HeaderMap::new();
        for (uri, wanted) in [
            ("/console/ws?token=a", Some("a")),
            ("/websockify?x=y&token=b", Some("b")),
            ("/websockify?nottoken=b", None),
            ("/websockify", None),
        ] {
            assert_eq!(token(&Uri::from_static(uri), &none).as_deref(), wanted, "{uri}");
        }
        let cookie = headers(&[(header::COOKIE, "other=1; token=c")]);
        assert_eq!(token(&Uri::from_static("/websockify"), &cookie).as_deref(), Some("c"));
        let long = Uri::try_from(format!("/console/ws?token={}", "x".repeat(65))).unwrap();
        assert_eq!(token(&long, &none), None);
    }

    #[test]
    fn pages_of_other_sites_open_nothing() {
        for (origin, host, same) in [
            (None, "cloud.test", true),
            (Some("https://cloud.test"), "cloud.test", true),
            (Some("https://cloud.test:6080"), "cloud.test:6080", true),
            (Some("https://cloud.test"), "cloud.test:6080", false),
            (Some("http://cloud.test"), "cloud.test", false),
            (Some("https://evil.test"), "cloud.test", false),
            (Some("null"), "cloud.test", false),
        ] {
            let mut all = headers(&[(header::HOST, host)]);
            if let Some(origin) = origin {
                all.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(same_site(&all), same, "{origin:?} at {host}");
        }
    }
}
