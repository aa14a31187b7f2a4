//! OpenID Connect: is this bearer token one of the identity provider's, and what does it say?
//!
//! What must stay true:
//! - only addresses that the operator configured (the issuer) or that the issuer's own discovery document names are ever
//!   asked; nothing in a token is an address;
//! - a token counts only for the issuer, the audience, the time and the algorithms that are configured;
//! - everything that the issuer answers is bounded in size and time, and nobody without a good token can make this service
//!   ask more often than [`keys`] allows.

mod address;
mod client;
mod issuer;
mod keys;
mod ring_provider;
mod verify;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde_json::{Map, Value};

pub(crate) use issuer::Issuer;

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Which tokens are asked about at the issuer (RFC 7662) instead of being verified here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Introspection {
    /// None: a token must be a signed JWT.
    #[default]
    Off,
    /// Those that are no JWT.
    Opaque,
    /// All: also a JWT that was voided at the issuer is refused.
    All,
}

/// One identity provider of the configuration: `[identity.oidc.<id>]`.
#[derive(Clone, Debug, Default)]
pub struct OidcProvider {
    /// `https://...`; plain HTTP only on this machine. Also the `iss` of its tokens.
    pub issuer: String,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// Read at start.
    pub client_secret_file: Option<PathBuf>,
    /// One of them must be in a token's `aud`; empty: the client id.
    pub audience: Vec<String>,
    pub introspection: Introspection,
    /// JOSE names; empty: all asymmetric ones that are known.
    pub algorithms: Vec<String>,
    /// PEM; instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// What WebSSO asks for; empty: openid, profile and email.
    pub scopes: Vec<String>,
}

/// Why a token was not accepted. The text is for the log.
#[derive(Debug)]
pub(crate) enum Why {
    /// The token's fault.
    Refused(String),
    /// The issuer's, or the way's to it.
    Unreachable(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) | Self::Unreachable(why) => f.write_str(why),
        }
    }
}

fn refused(why: impl Into<String>) -> Why {
    Why::Refused(why.into())
}

pub(crate) type Claims = Map<String, Value>;

/// The configured issuers by identity provider.
#[derive(Debug, Default)]
pub(crate) struct Issuers(BTreeMap<String, Arc<Issuer>>);

impl Issuers {
    /// Reads the files that the configuration names.
    pub(crate) fn new(providers: &BTreeMap<String, OidcProvider>) -> crate::Result<Self> {
        ring_provider::install();
        let mut issuers = BTreeMap::new();
        for (id, provider) in providers {
            let issuer = Issuer::new(provider).map_err(|why| crate::Error::Oidc { provider: id.clone(), why })?;
            issuers.insert(id.clone(), Arc::new(issuer));
        }
        Ok(Self(issuers))
    }

    pub(crate) fn get(&self, provider_id: &str) -> Option<Arc<Issuer>> {
        self.0.get(provider_id).map(Arc::clone)
    }
}
