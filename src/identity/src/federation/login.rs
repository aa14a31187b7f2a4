//! `/v3/OS-FEDERATION/identity_providers/<idp>/protocols/<protocol>/auth`: an identity provider's bearer token becomes one of
//! ours. API reference: Identity v3 extensions, "Request an unscoped OS-FEDERATION token".
//!
//! The caller of a refused login learns that it is refused; why is logged with the request's id.

use axum::extract::{Extension, Path, State};
use db::Tx;
use http::{HeaderMap, header};
use rest::{ClientCertificate, Ctx, Error, Kind, Params, Reply, Result};
use serde_json::{Value, json};

use super::{
    mapping::{self, Mapped, UserKind},
    mappings,
    oidc::{Claims, Why},
    protocols::{self, Protocol},
    providers::{self, Provider},
    shadow::{self, Arrived},
    x509,
};
use crate::{
    App,
    tokens::{
        authenticate::{Issued, find_domain},
        handlers::{SUBJECT, document},
        model::Federated,
        store,
    },
};

/// 401, with the reason for the log.
pub(crate) fn refuse(why: impl Into<String>) -> Error {
    Error::unauthenticated().caused_by(why.into())
}

pub(crate) async fn auth(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, protocol_id)): Path<(String, String)>,
    params: Params,
    certificate: Option<Extension<ClientCertificate>>,
    headers: HeaderMap,
) -> Result<Reply> {
    ctx.audit();
    let issued = match certificate {
        // Whatever bearer token is beside it: so the client's plugins for bearer tokens serve certificates too.
        Some(Extension(certificate)) if protocol_id == x509::PROTOCOL => {
            x509::login(&app, &provider_id, &certificate).await
        }
        _ => by_bearer(&app, &provider_id, &protocol_id, &headers).await,
    };
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => return Err(logged(&ctx, &provider_id, &protocol_id, error)),
    };
    ctx.asked_by(&issued.known.payload.user_id);
    let document = document(&app, &ctx, &params, &issued.known)?;
    Ok(Reply::written(http::StatusCode::CREATED, document).with_header(SUBJECT, &issued.id))
}

pub(crate) fn logged(ctx: &Ctx, provider_id: &str, protocol_id: &str, error: Error) -> Error {
    if error.source().is_some() && matches!(error.kind(), Kind::Unauthenticated | Kind::Unavailable) {
        let why = error.causes();
        tracing::warn!(
            request.id = ctx.request_id(),
            peer = %ctx.arrival().peer.ip(),
            identity_provider.id = provider_id,
            protocol.id = protocol_id,
            why,
            "a federated login is refused"
        );
    }
    error
}

async fn by_bearer(app: &App, provider_id: &str, protocol_id: &str, headers: &HeaderMap) -> Result<Issued> {
    usable(app, provider_id, protocol_id).await?;
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| refuse("the request has no bearer token"))?;
    let issuer = app.issuers.get(provider_id).ok_or_else(|| not_configured(provider_id))?;
    let claims = issuer.claims(bearer, app.now_s()).await.map_err(because)?;
    admit(app, provider_id, protocol_id, &issuer.issuer, claims).await
}

pub(crate) fn not_configured(provider_id: &str) -> Error {
    refuse(format!("the configuration has no section [identity.oidc.{provider_id}]"))
}

pub(crate) fn because(why: Why) -> Error {
    match why {
        Why::Refused(why) => refuse(why),
        // Neither the caller's fault nor ours.
        Why::Unreachable(why) => Error::unavailable("The identity provider cannot be asked now.").caused_by(why),
    }
}

/// 401 for what is not there or disabled: who has no token learns of no provider.
pub(crate) async fn usable(app: &App, provider_id: &str, protocol_id: &str) -> Result<()> {
    let (provider_id, protocol_id) = (provider_id.to_owned(), protocol_id.to_owned());
    app.db.read(move |tx| found(tx, &provider_id, &protocol_id).map(|_| ())).await
}

fn found(tx: &Tx<'_>, provider_id: &str, protocol_id: &str) -> Result<(Provider, Protocol)> {
    let hidden = |error: Error| match error.kind() {
        Kind::NotFound => refuse(error.public().to_owned()),
        _ => error,
    };
    let provider = providers::find(tx, provider_id).map_err(hidden)?;
    let protocol = protocols::find(tx, provider_id, protocol_id).map_err(hidden)?;
    if !provider.enabled {
        return Err(refuse(format!("the identity provider {provider_id} is disabled")));
    }
    Ok((provider, protocol))
}

/// What a decision was made of.
struct Decided {
    user_id: String,
    federated: Option<Federated>,
}

/// Whom an identity provider vouched for.
pub(crate) struct Vouched {
    pub account: store::Account,
    pub federated: Option<Federated>,
}

/// Lets in whoever these claims of `issuer`, which were verified, are mapped to.
pub(crate) async fn admit(
    app: &App,
    provider_id: &str,
    protocol_id: &str,
    issuer: &str,
    claims: Claims,
) -> Result<Issued> {
    let mut assertion = mapping::of_claims(&claims);
    assertion.remove(mapping::REMOTE_USER);
    if let Some(subject) = claims.get("sub").and_then(Value::as_str) {
        assertion.insert(mapping::REMOTE_USER.into(), vec![format!("{subject}@{issuer}")]);
    }
    let Vouched { account, federated } = vouch(app, provider_id, protocol_id, issuer, assertion).await?;
    app.issue_mapped(account, federated).await
}

/// Whoever this assertion of `issuer`, which was verified, is mapped to.
pub(crate) async fn vouch(
    app: &App,
    provider_id: &str,
    protocol_id: &str,
    issuer: &str,
    assertion: mapping::Assertion,
) -> Result<Vouched> {
    let (provider_id, protocol_id, issuer) = (provider_id.to_owned(), protocol_id.to_owned(), issuer.to_owned());
    let now = app.clock.now();
    let assertion = std::sync::Arc::new(assertion);
    let decide = move |tx: &Tx<'_>, write: bool| -> Result<Option<Decided>> {
        let (provider, protocol) = found(tx, &provider_id, &protocol_id)?;
        if !providers::remote_ids(tx, &provider_id)?.contains(&issuer) {
            return Err(refuse(format!("{issuer} is not among the remote ids of {provider_id}")));
        }
        let rules = mappings::find(tx, &protocol.mapping_id)?;
        let mapped = mapping::apply(&rules.rules, &rules.schema_version, &assertion).map_err(refuse)?;
        if mapped.user.kind == UserKind::Local {
            return local(tx, &mapped).map(Some);
        }
        let arrived = Arrived { provider: &provider, protocol_id: &protocol_id, mapped: &mapped, now };
        let Some((user_id, group_ids)) = shadow::settle(tx, &arrived, write)? else { return Ok(None) };
        let federated = Federated { provider_id: provider_id.clone(), protocol_id: protocol_id.clone(), group_ids };
        Ok(Some(Decided { user_id, federated: Some(federated) }))
    };
    let decide = std::sync::Arc::new(decide);
    // Whoever comes again and has not changed makes nobody write.
    let look = std::sync::Arc::clone(&decide);
    let decided = match app.db.read(move |tx| look(tx, false)).await? {
        Some(decided) => decided,
        None => {
            let decided = app.db.write(move |tx| decide(tx, true)).await?;
            decided.ok_or_else(|| Error::internal("a login that may write still wants to"))?
        }
    };
    let user_id = decided.user_id.clone();
    let account = app.db.read(move |tx| -> Result<_> { Ok(store::find_account(tx, &user_id)?) }).await?;
    let account = account.filter(|account| account.enabled);
    let account = account.ok_or_else(|| refuse(format!("the user {} is disabled", decided.user_id)))?;
    Ok(Vouched { account, federated: decided.federated })
}

/// A user of this cloud by id, or by name and domain. Groups and projects of the mapping are not for such a user.
fn local(tx: &Tx<'_>, mapped: &Mapped) -> Result<Decided> {
    let user = &mapped.user;
    let account = match (&user.id, &user.name, &user.domain) {
        (Some(id), _, _) => store::find_account(tx, id)?,
        (None, Some(name), Some(domain)) => match find_domain(tx, domain)? {
            Some(domain_id) => store::find_account_by_name(tx, name, &domain_id)?,
            None => None,
        },
        _ => return Err(refuse("a local user needs an id, or a name and a domain")),
    };
    let account = account.ok_or_else(|| refuse("the mapping names a local user that does not exist"))?;
    Ok(Decided { user_id: account.id, federated: None })
}

/// `{"idp_id": .., "protocols": [{"protocol_id": .., "unique_id": ..}]}` for every provider that vouches for a user.
pub(crate) fn views(links: &[shadow::Link]) -> Vec<Value> {
    let mut views: Vec<Value> = Vec::new();
    for link in links {
        let protocol = json!({"protocol_id": link.protocol_id, "unique_id": link.unique_id});
        let last = views.last_mut().filter(|view| view["idp_id"] == link.provider_id.as_str());
        match last.and_then(|view| view["protocols"].as_array_mut()) {
            Some(protocols) => protocols.push(protocol),
            None => views.push(json!({"idp_id": link.provider_id, "protocols": [protocol]})),
        }
    }
    views
}
