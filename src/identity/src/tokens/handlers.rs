//! `/v3/auth/...`

use axum::extract::{Extension, State};
use http::{HeaderMap, HeaderName};
use rest::{ClientCertificate, Ctx, Error, Params, RawJson, Reply, Result, Scope, target};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    authenticate::{Issued, Outcome},
    model::{Known, TokenScope},
    policy,
    request::Request,
    store, views,
};
use crate::{
    App, assignments, catalog,
    errors::invalid,
    listing::{self, flag},
    projects,
};

pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");
const RECEIPT: HeaderName = HeaderName::from_static("openstack-auth-receipt");

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    params: Params,
    certificate: Option<Extension<ClientCertificate>>,
    headers: HeaderMap,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let request = Request::parse(body)?;
    let claimed = request.claimed_user();
    // A header that is no text is a receipt that is not ours.
    let before = headers.get(&RECEIPT).map(|value| value.to_str().unwrap_or_default());
    let Issued { id, known } = match app.issue(request, before, certificate.as_deref()).await {
        Ok(Outcome::Token(issued)) => {
            ctx.asked_by(&issued.known.payload.user_id);
            issued
        }
        Ok(Outcome::Receipt(receipt)) => {
            ctx.asked_by(&receipt.user.id);
            return Ok(Reply::json(http::StatusCode::UNAUTHORIZED, &receipt.view()).with_header(RECEIPT, &receipt.id));
        }
        Err(error) => {
            // Only users that exist: people type passwords where names belong.
            if let Some(user) = claimed
                && let Ok(Some(account)) = app.find_user(user).await
            {
                ctx.asked_by(&account.id);
            }
            return Err(error);
        }
    };
    let document = document(&app, &ctx, &params, &known)?;
    Ok(Reply::written(http::StatusCode::CREATED, document).with_header(SUBJECT, &id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, params: Params, headers: HeaderMap) -> Result<Reply> {
    let (subject, known) = subject(&app, &ctx, &headers, flag(&params, "allow_expired"), policy::VALIDATE).await?;
    let document = document(&app, &ctx, &params, &known)?;
    Ok(Reply::written(http::StatusCode::OK, document).with_header(SUBJECT, &subject))
}

pub(crate) async fn check(State(app): State<App>, ctx: Ctx, params: Params, headers: HeaderMap) -> Result<Reply> {
    let (subject, _) = subject(&app, &ctx, &headers, flag(&params, "allow_expired"), policy::CHECK).await?;
    Ok(Reply::empty(http::StatusCode::OK).with_header(SUBJECT, &subject))
}

pub(crate) async fn revoke(State(app): State<App>, ctx: Ctx, headers: HeaderMap) -> Result<Reply> {
    let (_, known) = subject(&app, &ctx, &headers, false, policy::REVOKE).await?;
    let (now, now_s) = (app.clock.now_text(), app.now_s());
    let window = i64::try_from(app.options.allow_expired_window_s).unwrap_or(i64::MAX / 2);
    app.db
        .write(move |tx| -> Result<()> {
            // The first token of a chain takes along all that came from it; a rescoped one goes alone, so that a client
            // may drop one scope and keep its login.
            let chain = known.payload.chain_id.is_none();
            let keep_until_s = i64::from(known.payload.expires_s) + window;
            Ok(store::revoke(tx, &known.payload.audit_id, chain, &now, now_s, keep_until_s)?)
        })
        .await?;
    Ok(Reply::no_content())
}

/// The token that the request is about. One that is not good is not found, whoever asks.
async fn subject(
    app: &App,
    ctx: &Ctx,
    headers: &HeaderMap,
    allow_expired: bool,
    rule: rest::Rule,
) -> Result<(String, std::sync::Arc<Known>)> {
    let subject = headers.get(&SUBJECT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let window = if allow_expired { app.options.allow_expired_window_s } else { 0 };
    let at = app.now_s() - i64::try_from(window).unwrap_or(0);
    let known = app.known(&subject).await?.filter(|known| !known.expired(at));
    let Some(known) = known else {
        ctx.decide();
        return Err(crate::errors::no_token());
    };
    ctx.allow(rule, &target(&[("target.token.user_id", &known.payload.user_id)]))?;
    Ok((subject, known))
}

pub(crate) fn document(app: &App, ctx: &Ctx, params: &Params, known: &Known) -> Result<Vec<u8>> {
    let scoped = known.creds.scope != Scope::Unscoped;
    let catalog =
        if scoped && !flag(params, "nocatalog") { Some(catalog::for_token(app, ctx, &known.creds)?) } else { None };
    Ok(views::document(known, catalog.as_deref()))
}

#[derive(Serialize)]
struct OwnCatalog {
    catalog: std::sync::Arc<RawValue>,
    links: Value,
}

pub(crate) async fn own_catalog(State(app): State<App>, ctx: Ctx, _: Params) -> Result<Reply> {
    ctx.allow(policy::AUTH_CATALOG, &target(&[]))?;
    let creds = ctx.creds()?;
    if creds.scope == Scope::Unscoped {
        return Err(Error::forbidden("An unscoped token has no catalog."));
    }
    let catalog = catalog::for_token(&app, &ctx, creds)?;
    let links = json!({"next": null, "previous": null, "self": ctx.url(ctx.path())});
    Ok(Reply::ok(&OwnCatalog { catalog, links }))
}

/// Who asks, and its groups beyond lasting memberships.
async fn asking(app: &App, ctx: &Ctx) -> Result<(String, std::sync::Arc<Known>, time::OffsetDateTime)> {
    let token = ctx.token().ok_or_else(Error::unauthenticated)?;
    let known = app.known(token).await?.ok_or_else(Error::unauthenticated)?;
    Ok((ctx.creds()?.user.id.clone(), known, app.clock.now()))
}

pub(crate) async fn own_projects(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::AUTH_PROJECTS, &target(&[]))?;
    let (user_id, known, now) = asking(&app, &ctx).await?;
    let projects = app
        .db
        .read(move |tx| -> Result<_> {
            let (groups, _) = store::passing_groups(tx, &user_id, &known.payload, now)?;
            Ok(assignments::store::projects_with(tx, &user_id, &groups, true)?)
        })
        .await?;
    let views: Vec<_> = projects.iter().map(|project| projects::views::project(&ctx, project)).collect();
    Ok(listing::all(&ctx, &params, "projects", &views))
}

pub(crate) async fn own_domains(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::AUTH_DOMAINS, &target(&[]))?;
    let (user_id, known, now) = asking(&app, &ctx).await?;
    let domains = app
        .db
        .read(move |tx| -> Result<_> {
            let (groups, _) = store::passing_groups(tx, &user_id, &known.payload, now)?;
            Ok(assignments::store::domains_with(tx, &user_id, &groups)?)
        })
        .await?;
    let views: Vec<_> = domains.iter().map(|domain| projects::views::domain(&ctx, domain)).collect();
    Ok(listing::all(&ctx, &params, "domains", &views))
}

pub(crate) async fn own_system(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::AUTH_SYSTEM, &target(&[]))?;
    let (user_id, known, now) = asking(&app, &ctx).await?;
    let roles = app
        .db
        .read(move |tx| -> Result<_> {
            let (groups, _) = store::passing_groups(tx, &user_id, &known.payload, now)?;
            Ok(assignments::store::effective_roles(tx, &user_id, &groups, &TokenScope::System)?)
        })
        .await?;
    let system: Vec<Value> = if roles.is_empty() { Vec::new() } else { vec![json!({"all": true})] };
    Ok(listing::all(&ctx, &params, "system", &system))
}

/// `GET /v3/OS-REVOKE/events`: tokens that somebody voided. What ends with its user, project or role is no event: such
/// tokens are refused by what they depend on.
pub(crate) async fn revoked(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST_REVOKED, &target(&[]))?;
    let since = match params.get("since") {
        None => String::new(),
        Some(text) => {
            let at = db::clock::parse(text).ok_or_else(|| invalid("since", "it must be a time"))?;
            db::clock::text(at)
        }
    };
    app.db
        .read(move |tx| {
            let events = store::revoked_since(tx, &since)?;
            let events: Vec<Value> = events
                .iter()
                .map(|(audit_id, chain, revoked_at)| {
                    let key = if *chain { "audit_chain_id" } else { "audit_id" };
                    json!({key: audit_id, "issued_before": revoked_at, "revoked_at": revoked_at})
                })
                .collect();
            Ok(listing::all(&ctx, &params, "events", &events))
        })
        .await
}
