//! Pages that follow the cloud: a stream of server-sent events with the inside of a page, whenever it has changed.
//!
//! A commit to any service's tables wakes the stream, which asks for its page again as the same visitor and sends it if it
//! is another than before. So a stream shows nothing that its visitor could not see by reloading.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use db::Changes;
use futures::{Stream, StreamExt, future::select_all, stream};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::{
    Dashboard,
    failure::{Failure, Result},
    visit::{Visit, local},
};

/// Whose tables pages are made of.
const SERVICES: [&str; 6] = ["compute", "identity", "images", "network", "placement", "tasks"];
/// Changes come in swarms.
const PAUSE: Duration = Duration::from_millis(300);
/// Browsers come again; what they hold must not be held for ever.
const LIFE: Duration = Duration::from_secs(600);
const PAGE_MAX: usize = 8 << 20;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/live", get(follow))
}

#[derive(Deserialize)]
struct Asked {
    page: String,
}

struct Follower {
    visit: Visit,
    page: String,
    headers: HeaderMap,
    changes: Vec<Changes>,
    last: Option<u64>,
    ends: tokio::time::Instant,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// `GET /live?page=<path and query>`.
async fn follow(
    visit: Visit,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let permit = Arc::clone(&dashboard.followers).try_acquire_owned();
    let permit = permit.map_err(|_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Too many pages are followed."))?;
    let follower = Follower {
        visit,
        page: local(&asked.page).to_owned(),
        headers: headers
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)))
            .filter(|(name, _)| kept(name))
            .collect(),
        changes: SERVICES.iter().map(|service| dashboard.sessions.db.changes(service)).collect(),
        last: None,
        ends: tokio::time::Instant::now() + LIFE,
        stop: dashboard.stop.clone(),
        _permit: permit,
    };
    let events = stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        let stop = follower.stop.clone();
        let event = stop.run_until_cancelled(tokio::time::timeout_at(follower.ends, follower.next())).await?.ok()?;
        match event {
            Some(inside) => Some((Event::default().event("page").data(inside), Some(follower))),
            // The session has ended, or the page is gone: a reload says which.
            None => Some((Event::default().event("over").data("-"), None)),
        }
    });
    Ok(Sse::new(events.map(Ok).fuse()).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// What makes the page the visitor's.
fn kept(name: &header::HeaderName) -> bool {
    [header::COOKIE, header::ACCEPT_LANGUAGE].contains(name)
}

impl Follower {
    /// The page, once it is another than it was.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.last.is_some() {
                let waiting = self.changes.iter_mut().map(|changes| Box::pin(changes.changed()));
                let _ = select_all(waiting).await;
                tokio::time::sleep(PAUSE).await;
            }
            let inside = self.inside().await?;
            let mut hasher = DefaultHasher::new();
            inside.hash(&mut hasher);
            let hash = hasher.finish();
            if self.last.replace(hash) != Some(hash) {
                return Some(inside);
            }
        }
    }

    async fn inside(&self) -> Option<String> {
        let mut request = Request::builder().uri(&self.page).body(Body::empty()).ok()?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert("x-part", HeaderValue::from_static("1"));
        // As an anonymous caller: the cookie is what says who it is.
        let response = self.visit.seen().api.raw(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = Limited::new(response.into_body(), PAGE_MAX).collect().await.ok()?;
        String::from_utf8(body.to_bytes().into()).ok()
    }
}
