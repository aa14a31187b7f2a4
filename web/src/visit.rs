//! One request of a browser: who it is, in which language, and every answer that a page can give.
//!
//! The guard stands before every page. It finds the session, refuses forms that are not ours, makes pages of failures, and
//! puts the headers on that keep a browser from doing what we did not ask for.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Multipart, Request, State},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use rest::Arrival;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    Dashboard,
    api::Api,
    failure::{Failure, Result},
    frame::{Frame, Theme},
    session::{self, Flash, Key, Session},
    words::Words,
};

/// Scripts, styles and connections of our own origin alone. Nothing inline.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Of forms; images come another way.
const FORM_MAX: usize = 1 << 20;
/// Pages that take files too large to be read here: they check the first field themselves, by [`Visit::check_csrf`].
const STREAMED: [&str; 1] = ["/images/new"];
/// A request for the inside of a page alone: the page's own script sends it.
const PART: &str = "x-part";

/// Whoever is signed in.
pub(crate) struct Signed {
    pub session: Session,
    pub key: Key,
    pub flash: Option<Flash>,
}

/// What is known of a request, whoever sent it.
pub struct Seen {
    pub words: Words,
    pub theme: Theme,
    /// Path and query.
    pub path: String,
    /// Only the inside of the page is wanted.
    pub part: bool,
    pub api: Api,
    pub(crate) signed: Option<Signed>,
    pub(crate) dashboard: Dashboard,
}

/// A visit of somebody who is signed in. Who is not is asked to.
#[derive(Clone)]
pub struct Visit {
    seen: Arc<Seen>,
    /// With the session's token.
    pub api: Api,
}

/// A visit of anybody.
#[derive(Clone)]
pub struct Anyone(pub Arc<Seen>);

impl Seen {
    async fn of(dashboard: &Dashboard, request: &Parts) -> Result<Self> {
        let headers = &request.headers;
        let arrival = request.extensions.get::<Arrival>().copied();
        let arrival = arrival.ok_or_else(|| Failure::broken("a page without a socket"))?;
        let named = request.uri.authority().map(http::uri::Authority::as_str);
        let named = named.or_else(|| headers.get(header::HOST)?.to_str().ok());
        let plain = |text: &&str| !text.is_empty() && text.len() <= 261 && text.bytes().all(is_of_authority);
        let authority = named.filter(plain).ok_or_else(|| Failure::bad_request("The host is no name."))?;
        let api =
            Api { door: dashboard.door.clone(), peer: arrival.peer, authority: authority.to_owned(), token: None };
        let signed = match Key::from_headers(headers) {
            Some(key) => {
                let found = dashboard.sessions.find(&key).await?;
                found.map(|found| Signed { session: found.session, flash: found.flash, key })
            }
            None => None,
        };
        Ok(Self {
            words: Words::of(headers),
            theme: Theme::of(headers),
            path: request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            part: headers.contains_key(PART),
            api,
            signed,
            dashboard: dashboard.clone(),
        })
    }

    /// What stands around every page.
    #[must_use]
    pub fn frame(&self, section: &'static str, title: impl Into<String>) -> Frame {
        Frame::new(self, section, title.into())
    }

    /// The form's token, written differently in each page, so that its compressed size says nothing about it. The inside of a
    /// page alone is always the same, so that a change of it is a change.
    pub(crate) fn csrf(&self) -> String {
        let Some(signed) = &self.signed else { return String::new() };
        let mut pad = [7; 32];
        if !self.part && SystemRandom::new().fill(&mut pad).is_err() {
            return String::new();
        }
        let raw = signed.session.csrf.as_bytes();
        let mixed: Vec<u8> = raw.iter().zip(pad.iter().cycle()).map(|(a, b)| a ^ b).collect();
        URL_SAFE_NO_PAD.encode([pad.as_slice(), &mixed].concat())
    }

    /// Whether a form carries the session's token.
    ///
    /// # Errors
    /// 403 if not.
    pub(crate) fn check_csrf(&self, sent: Option<&str>) -> Result<()> {
        let Some(signed) = &self.signed else { return Err(Failure::sign_in()) };
        let bytes = sent.and_then(|sent| URL_SAFE_NO_PAD.decode(sent).ok()).unwrap_or_default();
        let right = bytes.split_at_checked(32).is_some_and(|(pad, mixed)| {
            let raw: Vec<u8> = mixed.iter().zip(pad.iter().cycle()).map(|(a, b)| a ^ b).collect();
            same(&raw, signed.session.csrf.as_bytes())
        });
        if right {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::FORBIDDEN,
            "This form is from another session. Go back, reload the page, and try again.",
        ))
    }

    /// A page.
    ///
    /// # Errors
    /// When the template fails.
    pub fn page(&self, status: StatusCode, template: &impl Template) -> Result<Response> {
        let text = template.render().map_err(Failure::internal)?;
        if !self.part {
            return Ok((status, Html(text)).into_response());
        }
        // The frame puts nothing of a user between these two.
        let inside = text.split_once("<main").and_then(|(_, rest)| rest.split_once('>'));
        let inside = inside.and_then(|(_, rest)| rest.rsplit_once("</main>"));
        let inside = inside.map_or_else(String::new, |(inside, _)| inside.to_owned());
        Ok((status, Html(inside)).into_response())
    }
}

impl Visit {
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    #[must_use]
    pub fn words(&self) -> Words {
        self.seen.words
    }

    /// The time of the cloud.
    #[must_use]
    pub fn now(&self) -> time::OffsetDateTime {
        self.seen.dashboard.sessions.clock.now()
    }

    fn signed(&self) -> Result<&Signed> {
        self.seen.signed.as_ref().ok_or_else(Failure::sign_in)
    }

    /// # Errors
    /// Never for a visit that an extractor made.
    pub fn session(&self) -> Result<&Session> {
        Ok(&self.signed()?.session)
    }

    /// What stands around the page. `section` is the path of its line in the menu.
    #[must_use]
    pub fn frame(&self, section: &'static str, title: impl Into<String>) -> Frame {
        self.seen.frame(section, title)
    }

    /// A page.
    ///
    /// # Errors
    /// When the template fails.
    pub fn page(&self, template: &impl Template) -> Result<Response> {
        self.seen.page(StatusCode::OK, template)
    }

    /// A form once more, with what was wrong with it (its frame's `problem`).
    ///
    /// # Errors
    /// When the template fails.
    pub fn again(&self, failure: &Failure, template: &impl Template) -> Result<Response> {
        self.seen.page(failure.status, template)
    }

    /// To another page, which says what was done.
    ///
    /// # Errors
    /// When the word for the next page cannot be kept.
    pub async fn done(&self, to: &str, text: impl Into<String>) -> Result<Response> {
        self.leave(to, Flash { good: true, text: text.into(), rows: Vec::new() }).await
    }

    /// To another page, which says what was done, or what kept it from being done.
    ///
    /// # Errors
    /// Failures that are not the user's.
    pub async fn outcome<T>(&self, result: Result<T>, to: &str, text: impl Into<String>) -> Result<Response> {
        match result {
            Ok(_) => self.done(to, text).await,
            Err(failure) if failure.is_users() => {
                self.leave(to, Flash { good: false, text: failure.line(), rows: Vec::new() }).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// To another page, with this word.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn leave(&self, to: &str, flash: Flash) -> Result<Response> {
        self.seen.dashboard.sessions.flash(&self.signed()?.key, Some(&flash)).await?;
        Ok(Redirect::to(local(to)).into_response())
    }

    /// Puts another session into the place of this one: another scope.
    pub(crate) async fn replace(&self, session: &Session) -> Result<()> {
        self.seen.dashboard.sessions.keep(&self.signed()?.key, session).await
    }

    /// Signs out.
    pub(crate) async fn end(&self) -> Result<()> {
        self.seen.dashboard.sessions.end(&self.signed()?.key).await
    }

    /// For forms that the guard cannot read: those with files.
    ///
    /// # Errors
    /// 403 if the token is not the session's.
    pub fn check_csrf(&self, sent: Option<&str>) -> Result<()> {
        self.seen.check_csrf(sent)
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let Anyone(seen) = Anyone::from_request_parts(parts, &()).await?;
        let signed = seen.signed.as_ref().ok_or_else(Failure::sign_in)?;
        let api = Api { token: Some(signed.session.token.clone()), ..seen.api.clone() };
        // Shown once: by a whole page that a person asked for.
        if signed.flash.is_some() && !seen.part && parts.method == Method::GET {
            seen.dashboard.sessions.flash(&signed.key, None).await?;
        }
        Ok(Self { api, seen })
    }
}

impl<S: Sync> FromRequestParts<S> for Anyone {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let seen = parts.extensions.get::<Arc<Seen>>();
        seen.map(|seen| Self(Arc::clone(seen))).ok_or_else(|| Failure::broken("a page without its guard"))
    }
}

/// Stands before every page.
pub(crate) async fn guard(State(dashboard): State<Dashboard>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let seen = match Seen::of(&dashboard, &parts).await {
        Ok(seen) => Arc::new(seen),
        Err(failure) => return (failure.status, failure.message).into_response(),
    };
    let mut request = Request::from_parts(parts, body);
    request.extensions_mut().insert(Arc::clone(&seen));
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let admitted = if reading { Ok(request) } else { admit(&seen, request).await };
    let mut response = match admitted {
        Ok(request) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    if let Some(failure) = response.extensions_mut().remove::<Arc<Failure>>() {
        response = explain(&seen, &failure, reading).await;
    } else if response.status() == StatusCode::NOT_FOUND && response.headers().get(header::CONTENT_TYPE).is_none() {
        let failure = Failure::not_found("There is no such page.");
        response = explain(&seen, &failure, reading).await;
    }
    harden(response.headers_mut());
    response
}

/// Lets a form in if it is of our own pages, and of this session.
async fn admit(seen: &Seen, request: Request) -> Result<Request> {
    let headers = request.headers();
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign = match (word("sec-fetch-site"), word("origin")) {
        (Some(site), _) => site != "same-origin",
        (None, Some(origin)) => origin != format!("https://{}", seen.api.authority),
        (None, None) => false,
    };
    if foreign {
        return Err(Failure::new(StatusCode::FORBIDDEN, "This form was sent from another site."));
    }
    if seen.signed.is_none() {
        // Only signing in is of any use then, and other pages ask for it.
        return Ok(request);
    }
    if let Some(token) = word("x-csrf-token") {
        seen.check_csrf(Some(token))?;
        return Ok(request);
    }
    let kind = word("content-type").unwrap_or_default();
    if kind.starts_with("multipart/form-data") {
        return admit_files(seen, request).await;
    }
    let (parts, body) = request.into_parts();
    let too_large = |_| Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is larger than 1 MiB.");
    let bytes = Limited::new(body, FORM_MAX).collect().await.map_err(too_large)?.to_bytes();
    let sent = form_urlencoded::parse(&bytes).find(|(name, _)| name == "_csrf").map(|(_, value)| value);
    seen.check_csrf(sent.as_deref())?;
    Ok(Request::from_parts(parts, bytes.into()))
}

/// [`admit`] for a form with files, whose first field is the token.
async fn admit_files(seen: &Seen, request: Request) -> Result<Request> {
    if STREAMED.contains(&request.uri().path()) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let too_large = |_| Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is larger than 1 MiB.");
    let bytes = Limited::new(body, FORM_MAX).collect().await.map_err(too_large)?.to_bytes();
    let mut copy = Request::new(Body::from(bytes.clone()));
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        copy.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    let broken = || Failure::bad_request("The form broke off.");
    let mut form = Multipart::from_request(copy, &()).await.map_err(|_| broken())?;
    let sent = match form.next_field().await.map_err(|_| broken())? {
        Some(field) if field.name() == Some("_csrf") => Some(field.text().await.map_err(|_| broken())?),
        _ => None,
    };
    seen.check_csrf(sent.as_deref())?;
    Ok(Request::from_parts(parts, bytes.into()))
}

/// A failure as a page; or the way to sign in.
async fn explain(seen: &Seen, failure: &Failure, reading: bool) -> Response {
    if failure.sign_in {
        if seen.part {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if let Some(signed) = &seen.signed
            && let Err(failure) = seen.dashboard.sessions.end(&signed.key).await
        {
            return (failure.status, failure.message).into_response();
        }
        let next = if reading && seen.path != "/" {
            format!("/signin?next={}", crate::api::encoded(&seen.path))
        } else {
            "/signin".to_owned()
        };
        let mut response = Redirect::to(&next).into_response();
        if seen.signed.is_some() {
            response.headers_mut().insert(header::SET_COOKIE, session::no_cookie());
        }
        return response;
    }
    let page = Trouble { frame: seen.frame("", seen.words.t("That did not work")), failure };
    seen.page(failure.status, &page).unwrap_or_else(|failure| (failure.status, failure.message).into_response())
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct Trouble<'a> {
    frame: Frame,
    failure: &'a Failure,
}

fn harden(headers: &mut HeaderMap) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers
        .entry(http::HeaderName::from_static("cross-origin-opener-policy"))
        .or_insert(HeaderValue::from_static("same-origin"));
}

/// A path of this site, and nothing else: `//host` and `https:` go home.
#[must_use]
pub(crate) fn local(to: &str) -> &str {
    let ours = to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\");
    if ours && to.bytes().all(|byte| byte > b' ' && byte != b'\\' && byte < 127) { to } else { "/" }
}

fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)
}

/// In a time that does not depend on where they differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site_are_gone_to() {
        for (to, goes) in [
            ("/servers?x=1", "/servers?x=1"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("/a\r\nSet-Cookie: x", "/"),
            ("", "/"),
        ] {
            assert_eq!(local(to), goes, "{to}");
        }
    }
}
