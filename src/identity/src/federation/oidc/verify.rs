//! Signed tokens: RFC 7519, RFC 8725 (best practices), RFC 9068 (access tokens), OpenID Connect Core 1.0 section 3.1.3.7.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation};
use serde_json::Value;

use super::{Claims, Why, keys::Key, refused};

/// How far two clocks may be apart.
const SKEW_S: i64 = 60;
/// Keys tried for a token that names none.
const KEYS_TRIED_MAX: usize = 4;
const SUBJECT_MAX: usize = 255;

#[derive(Debug)]
pub(crate) struct Expected {
    pub issuer: String,
    /// For whom the ID tokens of sign-ins are.
    pub client_id: Option<String>,
    /// For whom bearer tokens are.
    pub audience: Vec<String>,
    pub algorithms: Vec<Algorithm>,
}

pub(crate) struct Head {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
}

/// Three parts, the first of them a JSON object.
pub(crate) fn looks_like_jwt(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    parts.len() == 3 && part(parts[0]).is_some()
}

fn part(text: &str) -> Option<Claims> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// What the header says, if that is acceptable at all. Keys and addresses in it (`jwk`, `jku`, `x5u`) are never looked at.
pub(crate) fn head(token: &str, expected: &Expected) -> Result<Head, Why> {
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| refused("it is no signed JWT with an algorithm that is known here"))?;
    if !expected.algorithms.contains(&header.alg) {
        return Err(refused(format!("it is signed by {:?}, which is not allowed", header.alg)));
    }
    if header.crit.is_some() {
        return Err(refused("its header demands an extension"));
    }
    // A logout token or a security event of the same issuer is no proof of identity.
    let kind = header.typ.unwrap_or_default().to_ascii_lowercase();
    if !matches!(kind.strip_prefix("application/").unwrap_or(&kind), "" | "jwt" | "at+jwt" | "id_token+jwt") {
        return Err(refused(format!("a token of type {kind:?} is neither an access token nor an ID token")));
    }
    Ok(Head { algorithm: header.alg, key_id: header.kid })
}

/// What the token says, believed by nobody yet.
pub(crate) fn unverified(token: &str) -> Result<Claims, Why> {
    token.split('.').nth(1).and_then(part).ok_or_else(|| refused("its claims are no JSON object"))
}

/// The claims, signed by one of these keys.
pub(crate) fn signature(token: &str, algorithm: Algorithm, keys: &[&Key]) -> Result<Claims, Why> {
    // Claims are checked by `check_claims`, against the service's own clock.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    for key in keys.iter().take(KEYS_TRIED_MAX) {
        if let Ok(data) = jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
            return Ok(data.claims);
        }
    }
    Err(refused("its signature is not by the issuer's key"))
}

fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// Seconds; a time that is no number is no time.
fn seconds(claims: &Claims, name: &str) -> Result<Option<i64>, Why> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_i64().or_else(|| value.as_f64().filter(|s| s.abs() < 1e15).map(|s| s as i64));
            number.map(Some).ok_or_else(|| refused(format!("its {name} is no time")))
        }
    }
}

fn check_times(claims: &Claims, now_s: i64, needs_end: bool) -> Result<(), Why> {
    match seconds(claims, "exp")? {
        Some(end) if end.saturating_add(SKEW_S) <= now_s => return Err(refused("it has expired")),
        None if needs_end => return Err(refused("it never expires")),
        _ => {}
    }
    for name in ["nbf", "iat"] {
        if seconds(claims, name)?.is_some_and(|start| start > now_s.saturating_add(SKEW_S)) {
            return Err(refused(format!("its {name} is in the future")));
        }
    }
    Ok(())
}

fn audience(claims: &Claims) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn check_subject(claims: &Claims) -> Result<(), Why> {
    match text(claims, "sub") {
        Some(subject) if !subject.is_empty() && subject.chars().count() <= SUBJECT_MAX => Ok(()),
        _ => Err(refused("it names no subject")),
    }
}

/// `nonce`: what an ID token must repeat.
pub(crate) fn check_claims(claims: &Claims, expected: &Expected, now_s: i64, nonce: Option<&str>) -> Result<(), Why> {
    if text(claims, "iss") != Some(&expected.issuer) {
        return Err(refused("it is of another issuer"));
    }
    let wanted: Vec<&String> = match nonce {
        Some(_) => expected.client_id.iter().collect(),
        None => expected.audience.iter().collect(),
    };
    if !audience(claims).iter().any(|own| wanted.iter().any(|wanted| wanted == own)) {
        return Err(refused("it is for another audience"));
    }
    check_times(claims, now_s, true)?;
    check_subject(claims)?;
    match nonce {
        Some(nonce) if text(claims, "nonce") != Some(nonce) => Err(refused("it belongs to another sign-in")),
        _ => Ok(()),
    }
}

/// What introspection says. Without an audience the client that the token was given to must be one of those expected: a token
/// for another service proves nothing here.
pub(crate) fn check_introspected(claims: &Claims, expected: &Expected, now_s: i64) -> Result<(), Why> {
    if claims.get("active") != Some(&Value::Bool(true)) {
        return Err(refused("the issuer says that it is not active"));
    }
    if claims.get("iss").is_some_and(|issuer| issuer.as_str() != Some(&expected.issuer)) {
        return Err(refused("it is of another issuer"));
    }
    let mut named = audience(claims);
    if named.is_empty() {
        named.extend(text(claims, "client_id"));
    }
    if !named.iter().any(|own| expected.audience.iter().any(|wanted| wanted == own)) {
        return Err(refused("it is for another audience"));
    }
    check_times(claims, now_s, false)?;
    // A program's own token has a client but no subject; a mapping that wants one then fits nobody.
    match claims.get("sub") {
        None if text(claims, "client_id").is_some() => Ok(()),
        _ => check_subject(claims),
    }
}
