//! Signing in and out. A session exists only after Identity has said who it is.

use askama::Template;
use axum::{
    Form, Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::{Answer, Api, Service, answer},
    failure::{Failure, Result},
    frame::Frame,
    session::{Key, Named, Scope, Session, no_cookie, random},
    visit::{Anyone, Visit, local},
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/signin", get(show).post(sign_in))
        .route("/signin/code", post(code))
        .route("/signin/password", post(new_password))
        .route("/signout", post(sign_out))
}

/// What anybody may know of this cloud (`GET /solostack/v1/about`).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct About {
    #[serde(default)]
    pub ca_fingerprint: Option<String>,
    /// Whether users must say which domain they are of.
    #[serde(default)]
    pub several_domains: bool,
    /// Whether there is somebody who can sign in.
    pub claimed: bool,
}

impl Default for About {
    fn default() -> Self {
        Self { ca_fingerprint: None, several_domains: false, claimed: true }
    }
}

#[derive(Template)]
#[template(path = "signin/index.html")]
struct Page {
    frame: Frame,
    about: About,
    next: String,
    name: String,
    domain: String,
    /// Of a password that was right, where a code is to come.
    receipt: Option<String>,
    /// The id of a user whose password was right, and must be changed.
    expired: Option<String>,
}

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

pub(crate) async fn about(api: &Api) -> About {
    api.find(Service::System, "/about").await.ok().flatten().unwrap_or_default()
}

/// `GET /signin`.
async fn show(Anyone(seen): Anyone, Query(Next { next }): Query<Next>) -> Result<Response> {
    if seen.signed.is_some() {
        return Ok(Redirect::to(local(&next)).into_response());
    }
    let about = about(&seen.api).await;
    if !about.claimed {
        return Ok(Redirect::to("/claim").into_response());
    }
    let page = Page {
        frame: seen.frame("", seen.words.t("Sign in")),
        about,
        next,
        name: String::new(),
        domain: String::new(),
        receipt: None,
        expired: None,
    };
    seen.page(StatusCode::OK, &page)
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    next: String,
}

/// `POST /signin`.
async fn sign_in(
    Anyone(seen): Anyone,
    State(dashboard): State<Dashboard>,
    Form(form): Form<Credentials>,
) -> Result<Response> {
    let domain = if form.domain.trim().is_empty() { "Default" } else { form.domain.trim() };
    let user = json!({"name": form.name, "domain": {"name": domain}, "password": form.password});
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
    let again = |failure: &Failure, about, receipt, expired| {
        let frame = seen.frame("", seen.words.t("Sign in")).with_problem(failure);
        let page = Page {
            frame,
            about,
            next: form.next.clone(),
            name: form.name.clone(),
            domain: form.domain.clone(),
            receipt,
            expired,
        };
        seen.page(StatusCode::UNAUTHORIZED, &page)
    };
    match authenticate(&seen.api, &body, None).await? {
        Authenticated::Yes(given) => enter(&seen.api, &dashboard, *given, &form.next).await,
        Authenticated::More(receipt) => {
            let failure = Failure::new(StatusCode::UNAUTHORIZED, seen.words.t("Enter the code of your authenticator."));
            again(&failure, about(&seen.api).await, Some(receipt), None)
        }
        Authenticated::No(mut failure) => {
            // Identity tells an expired password from a wrong one, and only to who knows it.
            let expired = expired(&failure.message).map(str::to_owned);
            failure.message = match expired {
                Some(_) => seen.words.t("The password has expired: choose another."),
                None => seen.words.t("Name, password or domain is wrong."),
            }
            .to_owned();
            again(&failure, about(&seen.api).await, None, expired)
        }
    }
}

#[derive(Deserialize)]
struct Code {
    name: String,
    #[serde(default)]
    domain: String,
    code: String,
    receipt: String,
    #[serde(default)]
    next: String,
}

/// `POST /signin/code`: the second factor.
async fn code(Anyone(seen): Anyone, State(dashboard): State<Dashboard>, Form(form): Form<Code>) -> Result<Response> {
    let domain = if form.domain.trim().is_empty() { "Default" } else { form.domain.trim() };
    let user = json!({"name": form.name, "domain": {"name": domain}, "passcode": form.code.trim()});
    let body = json!({"auth": {"identity": {"methods": ["totp"], "totp": {"user": user}}}});
    match authenticate(&seen.api, &body, Some(&form.receipt)).await? {
        Authenticated::Yes(given) => enter(&seen.api, &dashboard, *given, &form.next).await,
        Authenticated::More(_) | Authenticated::No(_) => {
            let failure = Failure::new(StatusCode::UNAUTHORIZED, seen.words.t("The code is wrong, or too late."));
            let page = Page {
                frame: seen.frame("", seen.words.t("Sign in")).with_problem(&failure),
                about: about(&seen.api).await,
                next: form.next,
                name: form.name,
                domain: form.domain,
                receipt: Some(form.receipt),
                expired: None,
            };
            seen.page(StatusCode::UNAUTHORIZED, &page)
        }
    }
}

/// The user whom Identity asks for another password.
fn expired(message: &str) -> Option<&str> {
    let (_, id) = message.split_once("The password is expired and needs to be changed for user: ")?;
    Some(id.trim_end_matches('.'))
}

/// `POST /signin/password`: `user`, `name`, `domain`, `old`, `password`, `again`, `next`. Anybody may send it; who knows the
/// old password signs in with the new one.
async fn new_password(
    Anyone(seen): Anyone,
    State(dashboard): State<Dashboard>,
    form: crate::form::Fields,
) -> Result<Response> {
    let (user, name) = (form.get("user"), form.raw("name"));
    let domain = if form.on("domain") { form.get("domain") } else { "Default" };
    let words = seen.words;
    let changed = if form.raw("password") == form.raw("again") {
        let body = json!({"user": {"original_password": form.raw("old"), "password": form.raw("password")}});
        let path = format!("/users/{}/password", crate::api::encoded(user));
        seen.api.send(Method::POST, Service::Identity, &path, Some(&body)).await.map(|_| ())
    } else {
        Err(Failure::bad_request(words.t("The two passwords differ.")))
    };
    let mut failure = match changed {
        Ok(()) => {
            let user = json!({"name": name, "domain": {"name": domain}, "password": form.raw("password")});
            let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
            match authenticate(&seen.api, &body, None).await? {
                Authenticated::Yes(given) => return enter(&seen.api, &dashboard, *given, form.get("next")).await,
                // The way that is left: with the new password, and the code.
                Authenticated::More(_) | Authenticated::No(_) => return Ok(Redirect::to("/signin").into_response()),
            }
        }
        Err(failure) if failure.status.is_client_error() => failure,
        Err(failure) => return Err(failure),
    };
    if failure.sign_in {
        words.t("The present password is wrong.").clone_into(&mut failure.message);
    }
    let page = Page {
        frame: seen.frame("", words.t("Sign in")).with_problem(&failure),
        about: about(&seen.api).await,
        next: form.get("next").to_owned(),
        name: name.to_owned(),
        domain: form.get("domain").to_owned(),
        receipt: None,
        expired: Some(user.to_owned()),
    };
    seen.page(failure.status, &page)
}

enum Authenticated {
    Yes(Box<Given>),
    /// Another factor is asked for; the receipt stands for the first.
    More(String),
    No(Failure),
}

/// A token and what it says.
pub(crate) struct Given {
    pub token: String,
    pub body: Value,
}

async fn authenticate(api: &Api, body: &Value, receipt: Option<&str>) -> Result<Authenticated> {
    let bytes = serde_json::to_vec(body).map_err(Failure::internal)?;
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri("/identity/v3/auth/tokens")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(receipt) = receipt {
        request = request.header("openstack-auth-receipt", receipt);
    }
    let request = request.body(bytes.into()).map_err(|_| Failure::bad_request("The receipt is not one of ours."))?;
    let response = api.raw(request).await?;
    let receipt = response.headers().get("openstack-auth-receipt").and_then(|value| value.to_str().ok());
    if let Some(receipt) = receipt {
        return Ok(Authenticated::More(receipt.to_owned()));
    }
    match answer(response).await {
        Ok(answer) => Ok(Authenticated::Yes(Box::new(given(answer)?))),
        Err(failure) if failure.status.is_server_error() => Err(failure),
        Err(failure) => Ok(Authenticated::No(failure)),
    }
}

pub(crate) fn given(answer: Answer) -> Result<Given> {
    let token = answer.headers.get("x-subject-token").and_then(|value| value.to_str().ok());
    let token = token.ok_or_else(|| Failure::broken("Identity gave no token"))?.to_owned();
    Ok(Given { token, body: answer.body })
}

/// A session for a user of the first domain. `None` where a password alone does not do.
pub(crate) async fn signed_in(
    api: &Api,
    dashboard: &Dashboard,
    name: &str,
    password: &str,
) -> Result<Option<Response>> {
    let user = json!({"name": name, "domain": {"name": "Default"}, "password": password});
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
    match authenticate(api, &body, None).await? {
        Authenticated::Yes(given) => Ok(Some(enter(api, dashboard, *given, "/").await?)),
        Authenticated::More(_) | Authenticated::No(_) => Ok(None),
    }
}

/// A session for who has a token. Without a scope of its own it takes the user's first project.
async fn enter(api: &Api, dashboard: &Dashboard, mut given: Given, next: &str) -> Result<Response> {
    if given.body.pointer("/token/project").is_none() {
        let api = Api { token: Some(given.token.clone()), ..api.clone() };
        if let Some(scope) = crate::scope::first(&api).await? {
            given = crate::scope::scoped(&api, &given.token, &scope).await?;
        }
    }
    let session = session(given, random()?)?;
    let key = Key::new()?;
    dashboard.sessions.keep(&key, &session).await?;
    let mut response = Redirect::to(local(next)).into_response();
    response.headers_mut().insert(header::SET_COOKIE, key.cookie()?);
    Ok(response)
}

/// What a session keeps of a token.
pub(crate) fn session(given: Given, csrf: String) -> Result<Session> {
    let Given { token, body } = given;
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let named = |at: &str| Named { id: text(&format!("{at}/id")), name: text(&format!("{at}/name")) };
    let scope = if body.pointer("/token/project").is_some() {
        Scope::Project { project: named("/token/project"), domain: named("/token/project/domain") }
    } else if body.pointer("/token/domain").is_some() {
        Scope::Domain(named("/token/domain"))
    } else if body.pointer("/token/system").is_some() {
        Scope::System
    } else {
        Scope::Unscoped
    };
    let roles = body.pointer("/token/roles").and_then(Value::as_array).into_iter().flatten();
    let roles = roles.filter_map(|role| role.get("name")?.as_str().map(str::to_owned)).collect();
    let expires_at = text("/token/expires_at");
    if expires_at.is_empty() {
        return Err(Failure::broken("a token without an end"));
    }
    Ok(Session {
        csrf,
        user: named("/token/user"),
        user_domain: named("/token/user/domain"),
        scope,
        roles,
        expires_at,
        token,
    })
}

/// `POST /signout`: the token is of no more use to anybody.
async fn sign_out(visit: Visit) -> Result<Response> {
    let token = visit.session()?.token.clone();
    let subject = [("x-subject-token", token.as_str())];
    let revoked = visit.api.send_with(Method::DELETE, Service::Identity, "/auth/tokens", &subject, None).await;
    visit.end().await?;
    if let Err(failure) = revoked
        && !failure.sign_in
        && !failure.is_not_found()
    {
        return Err(failure);
    }
    let mut response = Redirect::to("/signin").into_response();
    response.headers_mut().insert(header::SET_COOKIE, no_cookie());
    Ok(response)
}
