//! Logins by client certificates: an authority stands for an identity provider, whose remote id is the authority's name, and
//! the rules of protocol `x509` say who the certificate's holder is here.
//!
//! A certificate proves somebody only on a connection of the port that asks for them: see `rest::ClientCertificate`.

use std::sync::Arc;

use http::HeaderMap;
use rest::{ClientCertificate, Credentials, Result};

use super::login::{self, Vouched, refuse};
use crate::{
    App,
    tokens::{
        authenticate::Issued,
        certificate::{self, Shown},
        request::{DomainRef, Ref, ScopeRequest},
    },
};

/// As upstream's `tokenless_auth.protocol` is by default.
pub(super) const PROTOCOL: &str = "x509";

impl App {
    /// Whose certificate this is, by the provider that has its issuer among its remote ids.
    ///
    /// # Errors
    /// 401 if it is nobody's.
    pub(crate) async fn vouched_by_certificate(&self, certificate: &ClientCertificate) -> Result<Vouched> {
        let Shown { issuer, assertion } = certificate::read(certificate, self.clock.now())?;
        let asked = issuer.clone();
        let provider = self.db.read(move |tx| -> Result<Option<String>> {
            let sql = "SELECT r.provider_id FROM identity_provider_remote_id r \
                 JOIN identity_protocol p ON p.provider_id = r.provider_id AND p.id = ?2 WHERE r.remote_id = ?1";
            Ok(tx.find(sql, [asked.as_str(), PROTOCOL], |row| row.get(0))?)
        });
        let provider = provider.await?;
        let provider = provider
            .ok_or_else(|| refuse(format!("no identity provider with protocol x509 has the remote id {issuer}")))?;
        login::vouch(self, &provider, PROTOCOL, &issuer, assertion).await
    }

    /// The credentials of a request without a token: `X-Project-Id` and its like name the scope, as upstream's tokenless
    /// authorisation has it.
    ///
    /// # Errors
    /// 401 without a scope, or if the certificate is nobody's or its holder has no role there.
    pub(crate) async fn by_certificate_alone(
        &self,
        certificate: &ClientCertificate,
        headers: &HeaderMap,
    ) -> Result<Arc<Credentials>> {
        let scope = scope(headers).ok_or_else(|| refuse("no header names a scope"))?;
        let Vouched { account, federated } = self.vouched_by_certificate(certificate).await?;
        let issued = self.issue_mapped_in(account, federated, scope).await?;
        Ok(Arc::clone(&issued.known.creds))
    }
}

/// An unscoped token by this provider.
pub(super) async fn login(app: &App, provider_id: &str, certificate: &ClientCertificate) -> Result<Issued> {
    login::usable(app, provider_id, PROTOCOL).await?;
    let Shown { issuer, assertion } = certificate::read(certificate, app.clock.now())?;
    let Vouched { account, federated } = login::vouch(app, provider_id, PROTOCOL, &issuer, assertion).await?;
    app.issue_mapped(account, federated).await
}

fn scope(headers: &HeaderMap) -> Option<ScopeRequest> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let domain = |id: &str, name: &str| text(id).map(DomainRef::Id).or_else(|| text(name).map(DomainRef::Name));
    if let Some(id) = text("x-project-id") {
        return Some(ScopeRequest::Project(Ref::Id(id)));
    }
    if let Some(name) = text("x-project-name") {
        let domain = domain("x-project-domain-id", "x-project-domain-name")?;
        return Some(ScopeRequest::Project(Ref::Name(name, domain)));
    }
    domain("x-domain-id", "x-domain-name").map(ScopeRequest::Domain)
}
