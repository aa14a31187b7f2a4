//! One configured issuer.

use std::{str::FromStr, sync::Arc};

use http::StatusCode;
use jsonwebtoken::Algorithm;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    Claims, Introspection, OidcProvider, Why,
    address::Address,
    client::{Basic, Client},
    keys::{Cache, Published},
    refused,
    verify::{self, Expected},
};

/// All that signs with a private key and that ring checks.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Longer tokens than this are not read.
const BEARER_MAX_BYTES: usize = 16 << 10;
/// Questions to one issuer at a time: who has no good token cannot make it many.
const QUESTIONS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Issuer {
    pub issuer: String,
    pub client_id: Option<String>,
    scopes: Vec<String>,
    secret: Option<String>,
    introspection: Introspection,
    expected: Expected,
    client: Client,
    cache: Cache,
    questions: Arc<Semaphore>,
}

impl Issuer {
    pub(crate) fn new(provider: &OidcProvider) -> Result<Self, String> {
        Address::parse(&provider.issuer).map_err(|why| format!("the issuer {:?} {why}", provider.issuer))?;
        let algorithms = provider
            .algorithms
            .iter()
            .map(|name| match Algorithm::from_str(name) {
                Ok(algorithm) if ALGORITHMS.contains(&algorithm) => Ok(algorithm),
                _ => Err(format!("{name:?} is not an algorithm with a public key that is known here")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let secret = match (&provider.client_secret, &provider.client_secret_file) {
            (Some(secret), _) => Some(secret.0.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("client_secret_file {}: {error}", path.display()))?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        };
        let audience = match (&provider.client_id, provider.audience.is_empty()) {
            (Some(id), true) => vec![id.clone()],
            (None, true) => return Err("neither client_id nor audience says whom its tokens are for".into()),
            (_, false) => provider.audience.clone(),
        };
        if provider.introspection != Introspection::Off && (provider.client_id.is_none() || secret.is_none()) {
            return Err("introspection needs client_id and a client secret".into());
        }
        Ok(Self {
            issuer: provider.issuer.clone(),
            client_id: provider.client_id.clone(),
            scopes: provider.scopes.clone(),
            secret,
            introspection: provider.introspection,
            expected: Expected {
                issuer: provider.issuer.clone(),
                client_id: provider.client_id.clone(),
                audience,
                algorithms: if algorithms.is_empty() { ALGORITHMS.to_vec() } else { algorithms },
            },
            client: Client::new(provider)?,
            cache: Cache::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        })
    }

    /// What a sign-in asks for, as the protocol writes it.
    pub(crate) fn scopes(&self) -> String {
        if self.scopes.is_empty() { "openid profile email".into() } else { self.scopes.join(" ") }
    }

    pub(crate) async fn published(&self, now_s: i64) -> Result<Arc<Published>, Why> {
        self.cache.get(&self.client, &self.issuer, now_s).await
    }

    /// What a bearer token says, if it is good now.
    pub(crate) async fn claims(&self, bearer: &str, now_s: i64) -> Result<Claims, Why> {
        if bearer.is_empty() || bearer.len() > BEARER_MAX_BYTES {
            return Err(refused("there is no bearer token, or it is too long"));
        }
        match self.introspection {
            Introspection::All => self.introspect(bearer, now_s).await,
            Introspection::Opaque if !verify::looks_like_jwt(bearer) => self.introspect(bearer, now_s).await,
            _ => self.verify(bearer, now_s, None).await,
        }
    }

    /// What a signed token says. `nonce`: of the sign-in that asked for it, for ID tokens.
    pub(crate) async fn verify(&self, token: &str, now_s: i64, nonce: Option<&str>) -> Result<Claims, Why> {
        let head = verify::head(token, &self.expected)?;
        // The issuer is not asked because of a token that cannot be good anyway.
        verify::check_claims(&verify::unverified(token)?, &self.expected, now_s, nonce)?;
        let mut published = self.published(now_s).await?;
        if published.keys(head.key_id.as_deref(), head.algorithm).is_empty() {
            match self.cache.again(&self.client, &self.issuer, now_s, &published).await? {
                Some(newer) => published = newer,
                None => return Err(refused("the issuer has no such key")),
            }
        }
        let keys = published.keys(head.key_id.as_deref(), head.algorithm);
        if keys.is_empty() {
            return Err(refused("the issuer has no such key"));
        }
        let claims = verify::signature(token, head.algorithm, &keys)?;
        verify::check_claims(&claims, &self.expected, now_s, nonce)?;
        Ok(claims)
    }

    fn basic(&self) -> Option<Basic<'_>> {
        Some(Basic { id: self.client_id.as_deref()?, secret: self.secret.as_deref()? })
    }

    /// RFC 7662.
    async fn introspect(&self, token: &str, now_s: i64) -> Result<Claims, Why> {
        let _question = self.question()?;
        let published = self.published(now_s).await?;
        let place = published.introspection.as_ref();
        let place = place.ok_or_else(|| Why::Unreachable("the issuer has no introspection endpoint".into()))?;
        let form = [("token", token), ("token_type_hint", "access_token")];
        let (status, body) = self.client.post(place, self.basic(), &form).await?;
        if status != StatusCode::OK {
            return Err(Why::Unreachable(format!("introspection was answered with status {}", status.as_u16())));
        }
        let Ok(Value::Object(claims)) = serde_json::from_slice(&body) else {
            return Err(Why::Unreachable("introspection was not answered with a JSON object".into()));
        };
        verify::check_introspected(&claims, &self.expected, now_s)?;
        Ok(claims)
    }

    /// The ID token for the code of a sign-in (OpenID Connect Core 1.0, 3.1.3; RFC 7636).
    pub(crate) async fn redeem(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        nonce: &str,
        now_s: i64,
    ) -> Result<Claims, Why> {
        let _question = self.question()?;
        let published = self.published(now_s).await?;
        let place = published.token.as_ref();
        let place = place.ok_or_else(|| Why::Unreachable("the issuer has no token endpoint".into()))?;
        let id = self.client_id.as_deref().ok_or_else(|| Why::Unreachable("no client_id is configured".into()))?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let basic = self.basic();
        if basic.is_none() {
            form.push(("client_id", id));
        }
        let (status, body) = self.client.post(place, basic, &form).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK {
            let error = answer.get("error").and_then(Value::as_str).unwrap_or("no error code");
            return Err(refused(format!("the issuer does not take the code: {} ({error})", status.as_u16())));
        }
        let token = answer.get("id_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| Why::Unreachable("the issuer answered without an ID token".into()))?;
        self.verify(token, now_s, Some(nonce)).await
    }

    fn question(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Why> {
        Arc::clone(&self.questions)
            .try_acquire_owned()
            .map_err(|_| Why::Unreachable("too many tokens are being asked about at once".into()))
    }
}
