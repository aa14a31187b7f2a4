//! What the issuer publishes, kept for a while: its discovery document (OpenID Connect Discovery 1.0) and its keys (RFC 7517).
//!
//! Kept for [`FRESH_S`]; when the issuer cannot be reached then, for [`STALE_S`] in all. A key that is not among them makes the
//! issuer be asked again, but only every [`PAUSE_S`]: that is all that a token with an invented key id can cause.

use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Why, address::Address, client::Client};

pub(crate) const FRESH_S: i64 = 300;
pub(crate) const STALE_S: i64 = 3600;
pub(crate) const PAUSE_S: i64 = 10;
const KEYS_MAX: usize = 64;

/// The members of a discovery document that are used here.
#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub id: Option<String>,
    /// `None`: any that its type allows.
    pub algorithm: Option<Algorithm>,
    pub key: DecodingKey,
}

/// What the issuer said last.
#[derive(Debug)]
pub(crate) struct Published {
    at_s: i64,
    /// The browser is sent there.
    pub authorization_url: Option<String>,
    pub token: Option<Address>,
    pub introspection: Option<Address>,
    keys: Vec<Key>,
}

impl Published {
    /// The keys that may have signed: those of this id, or without one all that fit.
    pub(crate) fn keys(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&Key> {
        let fits = |key: &&Key| {
            key.key.family() == algorithm.family()
                && key.algorithm.is_none_or(|own| own == algorithm)
                && id.is_none_or(|id| key.id.as_deref() == Some(id))
        };
        self.keys.iter().filter(fits).collect()
    }
}

#[derive(Debug, Default)]
struct Kept {
    published: Option<Arc<Published>>,
    /// When the issuer was asked last, and why it did not answer then.
    asked_s: Option<i64>,
    failed: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: Mutex<Kept>,
    /// One asks, the others wait for its answer.
    asking: tokio::sync::Mutex<()>,
}

impl Cache {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was published and is not older than `max_age_s`.
    fn young(&self, now_s: i64, max_age_s: i64) -> Option<Arc<Published>> {
        let kept = self.kept();
        let published = kept.published.as_ref()?;
        (0..max_age_s).contains(&(now_s - published.at_s)).then(|| Arc::clone(published))
    }

    pub(crate) async fn get(&self, client: &Client, issuer: &str, now_s: i64) -> Result<Arc<Published>, Why> {
        if let Some(published) = self.young(now_s, FRESH_S) {
            return Ok(published);
        }
        self.ask(client, issuer, now_s, FRESH_S).await
    }

    /// Because a key is not known. `None`: the issuer was asked a moment ago.
    pub(crate) async fn again(
        &self,
        client: &Client,
        issuer: &str,
        now_s: i64,
        seen: &Arc<Published>,
    ) -> Result<Option<Arc<Published>>, Why> {
        if self.paused(now_s) {
            return Ok(None);
        }
        let published = self.ask(client, issuer, now_s, 0).await?;
        Ok((!Arc::ptr_eq(&published, seen)).then_some(published))
    }

    fn paused(&self, now_s: i64) -> bool {
        self.kept().asked_s.is_some_and(|asked_s| (0..PAUSE_S).contains(&(now_s - asked_s)))
    }

    async fn ask(&self, client: &Client, issuer: &str, now_s: i64, fresh_s: i64) -> Result<Arc<Published>, Why> {
        let _one_at_a_time = self.asking.lock().await;
        // Whoever waited here has the answer now, or the reason why there is none.
        if let Some(published) = self.young(now_s, fresh_s) {
            return Ok(published);
        }
        if self.paused(now_s) {
            let failed = self.kept().failed.clone();
            return match (self.young(now_s, STALE_S), failed) {
                (Some(published), _) => Ok(published),
                (None, Some(why)) => Err(Why::Unreachable(why)),
                (None, None) => Err(Why::Unreachable("the issuer was asked a moment ago".into())),
            };
        }
        self.kept().asked_s = Some(now_s);
        match fetch(client, issuer, now_s).await {
            Ok(published) => {
                let published = Arc::new(published);
                let mut kept = self.kept();
                kept.published = Some(Arc::clone(&published));
                kept.failed = None;
                Ok(published)
            }
            Err(why) => {
                let why = why.to_string();
                self.kept().failed = Some(why.clone());
                match self.young(now_s, STALE_S) {
                    Some(published) => {
                        tracing::warn!(issuer, why, "the issuer cannot be asked; what it published before goes on");
                        Ok(published)
                    }
                    None => Err(Why::Unreachable(why)),
                }
            }
        }
    }
}

async fn fetch(client: &Client, issuer: &str, now_s: i64) -> Result<Published, Why> {
    let broken = |why: String| Why::Unreachable(why);
    let place = |name: &str, url: &str| {
        Address::parse(url).map_err(|why| broken(format!("the discovery document's {name} {url:?} {why}")))
    };
    let home = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let body = client.get(&place("address", &home)?).await?;
    let document: Document = serde_json::from_slice(&body)
        .map_err(|error| broken(format!("the discovery document of {issuer} cannot be read: {error}")))?;
    if document.issuer != issuer {
        return Err(broken(format!("the discovery document of {issuer} is that of {:?}", document.issuer)));
    }
    let optional = |name: &str, url: &Option<String>| url.as_ref().map(|url| place(name, url)).transpose();
    optional("authorization_endpoint", &document.authorization_endpoint)?;
    let body = client.get(&place("jwks_uri", &document.jwks_uri)?).await?;
    let set: Value = serde_json::from_slice(&body)
        .map_err(|error| broken(format!("the keys of {issuer} cannot be read: {error}")))?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or_else(|| broken(format!("the keys of {issuer} are no key set")))?;
    Ok(Published {
        at_s: now_s,
        token: optional("token_endpoint", &document.token_endpoint)?,
        introspection: optional("introspection_endpoint", &document.introspection_endpoint)?,
        authorization_url: document.authorization_endpoint,
        keys: keys.iter().take(KEYS_MAX).filter_map(key).collect(),
    })
}

/// A key that can verify something here. Others are passed over: issuers publish keys for many purposes.
fn key(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))) {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm {
        None => None,
        Some(own) => Some(Algorithm::try_from(own).ok()?),
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    // A symmetric key in public is no key.
    (key.family() != jsonwebtoken::AlgorithmFamily::Hmac).then_some(Key { id: jwk.common.key_id, algorithm, key })
}
