//! Sign-in with a browser: `/v3/auth/OS-FEDERATION/.../websso?origin=`. API reference: Identity v3 extensions, "Web Single Sign
//! On authentication"; OpenID Connect Core 1.0 section 3.1 with PKCE (RFC 7636).
//!
//! The browser is sent to the issuer and comes back to `.../websso/callback`. What belongs to one sign-in (state, nonce, PKCE
//! verifier, origin) is sealed into a cookie of that browser and kept nowhere else: who lacks the cookie cannot finish it,
//! and nobody can make another browser finish a sign-in that is not its own. The token is posted to the origin, which must
//! be one of those that the operator trusts.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rest::{Ctx, Error, Params, Result};
use serde::{Deserialize, Serialize};

use super::login::{admit, because, logged, not_configured, refuse, usable};
use crate::{App, errors::expecting, fernet};

const COOKIE: &str = "solostack_websso";
/// How long somebody may take to sign in at the issuer.
const SIGN_IN_S: i64 = 600;
/// Unlike the first byte of a token's or a receipt's payload: the same keys seal all of them.
const VERSION: u8 = 0x57;

/// One sign-in under way.
#[derive(Serialize, Deserialize)]
struct SignIn {
    provider_id: String,
    protocol_id: String,
    origin: String,
    state: String,
    nonce: String,
    verifier: String,
    until_s: i64,
}

/// `.../websso/<protocol>`: by the one provider that has this protocol.
pub(crate) async fn start_anywhere(
    State(app): State<App>,
    ctx: Ctx,
    Path(protocol_id): Path<String>,
    params: Params,
) -> Result<Response> {
    let wanted = protocol_id.clone();
    let mut found: Vec<String> = app
        .db
        .read(move |tx| -> Result<_> {
            Ok(tx.list(
                "SELECT p.provider_id FROM identity_protocol p JOIN identity_provider i ON i.id = p.provider_id \
                 WHERE p.id = ? AND i.enabled = 1 ORDER BY p.provider_id",
                [wanted],
                |row| row.get(0),
            )?)
        })
        .await?;
    found.retain(|id| app.issuers.get(id).is_some());
    match (found.pop(), found.is_empty()) {
        (Some(provider_id), true) => begin(&app, &ctx, &provider_id, &protocol_id, &params).await,
        (Some(_), false) => Err(Error::bad_request(
            "More than one identity provider has this protocol: name one, as in \
             /v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso.",
        )),
        (None, _) => {
            ctx.audit();
            asked_origin(&app, &params).map_err(|error| logged(&ctx, "", &protocol_id, error))?;
            Err(logged(&ctx, "", &protocol_id, refuse("no identity provider that is configured has this protocol")))
        }
    }
}

pub(crate) async fn start(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, protocol_id)): Path<(String, String)>,
    params: Params,
) -> Result<Response> {
    begin(&app, &ctx, &provider_id, &protocol_id, &params).await
}

async fn begin(app: &App, ctx: &Ctx, provider_id: &str, protocol_id: &str, params: &Params) -> Result<Response> {
    ctx.audit();
    let sent = async {
        let origin = asked_origin(app, params)?;
        usable(app, provider_id, protocol_id).await?;
        let issuer = app.issuers.get(provider_id).ok_or_else(|| not_configured(provider_id))?;
        let client_id = issuer.client_id.as_deref().ok_or_else(|| refuse("no client_id is configured"))?;
        let published = issuer.published(app.now_s()).await.map_err(because)?;
        let place = published.authorization_url.as_deref();
        let place = place.ok_or_else(|| refuse("the issuer has no authorization endpoint"))?;
        let secret = || fernet::random_secret().ok_or_else(|| Error::internal("no random numbers"));
        let sign_in = SignIn {
            provider_id: provider_id.to_owned(),
            protocol_id: protocol_id.to_owned(),
            origin,
            state: secret()?,
            nonce: secret()?,
            verifier: secret()?,
            until_s: app.now_s() + SIGN_IN_S,
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, sign_in.verifier.as_bytes());
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", client_id)
            .append_pair("redirect_uri", &callback_url(ctx, provider_id, protocol_id))
            .append_pair("scope", &issuer.scopes())
            .append_pair("state", &sign_in.state)
            .append_pair("nonce", &sign_in.nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(digest))
            .append_pair("code_challenge_method", "S256")
            .finish();
        let separator = if place.contains('?') { '&' } else { '?' };
        Ok((format!("{place}{separator}{query}"), seal(app, &sign_in)?))
    };
    let (location, sealed) = sent.await.map_err(|error| logged(ctx, provider_id, protocol_id, error))?;
    let mut response = StatusCode::FOUND.into_response();
    put(&mut response, header::LOCATION, &location)?;
    put(&mut response, header::SET_COOKIE, &cookie(&sealed, SIGN_IN_S))?;
    private(&mut response);
    Ok(response)
}

/// 400 without one, 401 for one that nobody trusts.
fn asked_origin(app: &App, params: &Params) -> Result<String> {
    let origin = params.get("origin").ok_or_else(|| expecting("origin", "the query"))?;
    if app.options.trusted_dashboards.iter().any(|trusted| trusted == origin) {
        return Ok(origin.to_owned());
    }
    let why = format!("{origin:?} is not among identity.trusted_dashboards of the configuration");
    Err(Error::new(rest::Kind::Unauthenticated, "The origin is not a trusted dashboard.").caused_by(why))
}

/// Where the issuer sends the browser back to; must be registered there.
fn callback_url(ctx: &Ctx, provider_id: &str, protocol_id: &str) -> String {
    let segment = |text: &str| {
        // form_urlencoded writes blanks as `+`, which is no blank in a path.
        form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
    };
    let (provider, protocol) = (segment(provider_id), segment(protocol_id));
    ctx.url(&format!("/v3/auth/OS-FEDERATION/identity_providers/{provider}/protocols/{protocol}/websso/callback"))
}

fn cookie(value: &str, seconds: i64) -> String {
    // Lax: the issuer's redirect is a navigation from another site.
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}

fn seal(app: &App, sign_in: &SignIn) -> Result<String> {
    let mut payload = vec![VERSION];
    serde_json::to_writer(&mut payload, sign_in).map_err(Error::internal)?;
    app.keys.seal(app.now_s().unsigned_abs(), &payload)
}

fn unseal(app: &App, headers: &HeaderMap) -> Option<SignIn> {
    let mut pairs =
        headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let sealed = pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
    let payload = app.keys.unseal(sealed)?;
    let (version, json) = payload.split_first()?;
    if *version != VERSION {
        return None;
    }
    serde_json::from_slice(json).ok()
}

pub(crate) async fn callback(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, protocol_id)): Path<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    ctx.audit();
    let (token, origin) = match finish(&app, &ctx, &provider_id, &protocol_id, &params, &headers).await {
        Ok(done) => done,
        Err(error) => return Err(logged(&ctx, &provider_id, &protocol_id, error)),
    };
    let nonce = fernet::random_secret().ok_or_else(|| Error::internal("no random numbers"))?;
    let mut response = page(&token, &origin, &nonce).into_response();
    put(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8")?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; form-action {}; frame-ancestors 'none'; base-uri 'none'",
        place_of(&origin)
    );
    put(&mut response, header::CONTENT_SECURITY_POLICY, &policy)?;
    put(&mut response, header::SET_COOKIE, &cookie("", 0))?;
    private(&mut response);
    Ok(response)
}

async fn finish(
    app: &App,
    ctx: &Ctx,
    provider_id: &str,
    protocol_id: &str,
    params: &Params,
    headers: &HeaderMap,
) -> Result<(String, String)> {
    usable(app, provider_id, protocol_id).await?;
    let sign_in = unseal(app, headers).ok_or_else(|| refuse("this browser has begun no sign-in"))?;
    if app.now_s() >= sign_in.until_s {
        return Err(refuse("the sign-in took too long"));
    }
    if sign_in.provider_id != provider_id || sign_in.protocol_id != protocol_id {
        return Err(refuse("the sign-in was begun with another identity provider"));
    }
    // The state is as secret as the cookie that holds it: what matters is that both are of one browser.
    if params.get("state") != Some(&sign_in.state) {
        return Err(refuse("the state is not that of this browser's sign-in"));
    }
    if !app.options.trusted_dashboards.contains(&sign_in.origin) {
        return Err(refuse("the origin is no longer trusted"));
    }
    let Some(code) = params.get("code") else {
        let error = params.get("error").unwrap_or("no error code");
        return Err(refuse(format!("the issuer sent the browser back without a code: {error:?}")));
    };
    let issuer = app.issuers.get(provider_id).ok_or_else(|| not_configured(provider_id))?;
    // RFC 9207: the answer of another issuer is no answer.
    if params.get("iss").is_some_and(|iss| iss != issuer.issuer) {
        return Err(refuse("another issuer sent the browser back"));
    }
    let redirect_uri = callback_url(ctx, provider_id, protocol_id);
    let claims = issuer.redeem(code, &redirect_uri, &sign_in.verifier, &sign_in.nonce, app.now_s()).await;
    let issued = admit(app, provider_id, protocol_id, &issuer.issuer, claims.map_err(because)?).await?;
    ctx.asked_by(&issued.known.payload.user_id);
    Ok((issued.id, sign_in.origin))
}

/// Scheme, host and port of a URL, as a content security policy names it.
fn place_of(origin: &str) -> String {
    match origin.parse::<http::Uri>() {
        Ok(uri) => match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
            _ => "'none'".into(),
        },
        Err(_) => "'none'".into(),
    }
}

/// Posts the token to the dashboard, as Keystone's own page does.
fn page(token: &str, origin: &str, nonce: &str) -> String {
    let (token, origin) = (escaped(token), escaped(origin));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Signing in</title></head><body>\n\
         <form id=\"sso\" method=\"post\" action=\"{origin}\">\n\
         <input type=\"hidden\" name=\"token\" value=\"{token}\">\n\
         <noscript><button type=\"submit\">Continue</button></noscript>\n</form>\n\
         <script nonce=\"{nonce}\">document.getElementById('sso').submit();</script>\n</body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn put(response: &mut Response, name: http::HeaderName, value: &str) -> Result<()> {
    response.headers_mut().append(name, HeaderValue::from_str(value).map_err(Error::internal)?);
    Ok(())
}

/// Nothing of a sign-in is kept by caches, framed, or told to the next site.
fn private(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}
