//! `/v3/domains`

use axum::extract::{Path, State};
use db::{Tx, Value as Bound};
use rest::{Ctx, Params, RawJson, Reply, Result, Rule, target};

use super::policy as rules;
use crate::{
    App,
    errors::{duplicate_entry, invalid, not_found},
    fields::{Fields, PROJECT_NAME_MAX, TEXT_MAX, check_options},
    listing,
    projects::{
        handlers::{OPTIONS, change, remove},
        store::{self, Project},
        views,
    },
};

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    let domain_id = ctx.creds()?.domain_id().map(str::to_owned);
    ctx.allow(
        rules::LIST,
        &match &domain_id {
            Some(id) => target(&[("target.domain.id", id)]),
            None => target(&[]),
        },
    )?;
    let mut page = store::LIST.page(&mut params)?;
    page.and("p.is_domain = 1", []);
    if let Some(id) = domain_id {
        page.and("p.id = ?", [Bound::Text(id)]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::project)?;
            Ok(listing::page(
                &ctx,
                &asked,
                "domains",
                &listing,
                |domain| views::domain(&ctx, domain),
                |domain| &domain.id,
            ))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let found = store::find_domain(tx, &id)?;
            let known = found.as_ref().map_or("", |domain| domain.id.as_str());
            ctx.allow(rules::GET, &target(&[("target.domain.id", known)]))?;
            let domain = found.ok_or_else(|| not_found("domain", &id))?;
            Ok(Reply::ok(&listing::wrap("domain", &views::domain(&ctx, &domain))))
        })
        .await
}

/// A domain that does not exist is 404 for everyone with a token, as upstream has it for changes.
fn find(tx: &Tx<'_>, ctx: &Ctx, rule: Rule, id: &str) -> Result<Project> {
    let Some(domain) = store::find_domain(tx, id)? else {
        ctx.decide();
        return Err(not_found("domain", id));
    };
    ctx.allow(rule, &target(&[("target.domain.id", id)]))?;
    Ok(domain)
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE, &target(&[]))?;
    let mut fields = Fields::open(body, "domain")?;
    let name = fields.required_name("name", PROJECT_NAME_MAX, "domain")?;
    let description = fields.nullable("description", TEXT_MAX)?.flatten().unwrap_or_default();
    let enabled = fields.boolean("enabled")?.unwrap_or(true);
    let options = fields.object("options")?.unwrap_or_default();
    check_options(&options, OPTIONS)?;
    let tags = fields.tags()?.unwrap_or_default();
    let id = match fields.text("explicit_domain_id", 64)? {
        None => rest::new_hex_id(),
        Some(id) if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => id.to_ascii_lowercase(),
        Some(_) => return Err(invalid("explicit_domain_id", "it must be 32 hexadecimal digits")),
    };
    let mut domain = Project {
        id,
        name,
        domain_id: None,
        parent_id: None,
        is_domain: true,
        description,
        enabled,
        options,
        extra: fields.into_extra(),
        tags,
    };
    domain.options.retain(|_, value| !value.is_null());
    app.db
        .write(move |tx| {
            if store::find(tx, &domain.id)?.is_some() {
                return Err(duplicate_entry("domain"));
            }
            store::insert(tx, &domain)?;
            Ok(Reply::created(&listing::wrap("domain", &views::domain(&ctx, &domain))))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let mut domain = find(tx, &ctx, rules::UPDATE, &id)?;
            let fields = Fields::open(body, "domain")?.some("domain")?;
            fields.same_id(&id)?;
            change(tx, &mut domain, fields)?;
            Ok(Reply::ok(&listing::wrap("domain", &views::domain(&ctx, &domain))))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let domain = find(tx, &ctx, rules::DELETE, &id)?;
            remove(tx, &domain)?;
            Ok(Reply::no_content())
        })
        .await
}
