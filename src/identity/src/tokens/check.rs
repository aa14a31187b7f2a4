//! What the gateway asks of every request that carries a token.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::HeaderMap;
use rest::{ClientCertificate, Credentials, Error, RequestLine, Result, TokenCheck};

use super::{
    cache::Cache,
    model::{Known, Payload},
    store,
};
use crate::App;

pub(crate) struct Checker {
    app: App,
}

impl Checker {
    pub(crate) fn new(app: App) -> Self {
        Self { app }
    }
}

impl TokenCheck for Checker {
    fn check<'a>(&'a self, token: &'a str, request: RequestLine<'a>) -> BoxFuture<'a, Result<Arc<Credentials>>> {
        Box::pin(async move {
            let known = self.app.known(token).await?.ok_or_else(Error::unauthenticated)?;
            if known.expired(self.app.now_s()) {
                return Err(Error::unauthenticated());
            }
            // A token may always be looked at and given back.
            let own = request.service == "identity" && request.path.starts_with("/v3/auth/");
            if !own && !known.lets_through(request.service, request.method.as_str(), request.path) {
                return Err(Error::forbidden(
                    "The access rules of this application credential do not cover this request.",
                ));
            }
            Ok(Arc::clone(&known.creds))
        })
    }

    fn check_certificate<'a>(
        &'a self,
        certificate: &'a ClientCertificate,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Result<Arc<Credentials>>> {
        Box::pin(self.app.by_certificate_alone(certificate, headers))
    }
}

impl App {
    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now().unix_timestamp()
    }

    /// Looks a token up. `None` when it is not ours or not good; whether it has expired is for the caller to ask.
    ///
    /// # Errors
    /// 503 when it is of a user whose directory has to be asked and does not answer.
    pub(crate) async fn known(&self, token: &str) -> Result<Option<Arc<Known>>> {
        let known = self.known_by_rows(token).await?;
        let mut changed = false;
        for id in known.iter().flat_map(|known| &known.from_directory) {
            changed |= self.refresh_user(id).await?;
        }
        if changed { self.known_by_rows(token).await } else { Ok(known) }
    }

    async fn known_by_rows(&self, token: &str) -> Result<Option<Arc<Known>>> {
        let hash = Cache::hash(token);
        let now = self.clock.now();
        let lasting = |known: &Known| known.until_s.is_none_or(|until_s| now.unix_timestamp() < until_s);
        if let Some(known) = self.cache.get(&hash).filter(|known| lasting(known)) {
            return Ok(Some(known));
        }
        let Some(payload) = self.keys.unseal(token).and_then(|bytes| Payload::decode(&bytes)) else { return Ok(None) };
        let generation = self.cache.generation();
        let known = self.db.read(move |tx| store::resolve(tx, payload, now)).await?;
        Ok(known.map(|known| {
            let known = Arc::new(known);
            self.cache.put(hash, generation, Arc::clone(&known));
            known
        }))
    }
}
