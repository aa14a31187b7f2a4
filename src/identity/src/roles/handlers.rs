//! `/v3/roles`

use axum::extract::{Path, State};
use db::{Tx, Value as Bound};
use rest::{Ctx, Error, Params, RawJson, Reply, Result, Rule, target};
use serde_json::json;

use super::{
    policy as rules,
    store::{self, Role},
    views,
};
use crate::{
    App,
    errors::{not_found, refused},
    fields::{Fields, ID_MAX, NAME_MAX, OptionKind, TEXT_MAX, check_options, immutable, merge},
    listing,
    projects::store::find_domain,
};

const OPTIONS: &[(&str, OptionKind)] = &[("immutable", OptionKind::Bool)];

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    let domain_id = params.take("domain_id").filter(|id| !id.is_empty());
    let rule = if domain_id.is_some() { rules::LIST_OF_DOMAIN } else { rules::LIST };
    ctx.allow(rule, &target(&[]))?;
    let mut page = store::LIST.page(&mut params)?;
    match domain_id {
        Some(id) => page.and("r.domain_id = ?", [Bound::Text(id)]),
        None => page.and("r.domain_id IS NULL", []),
    };
    // The manager of a domain sees the roles that it may hand out.
    let creds = ctx.creds()?;
    let all = creds.has_role("admin") || (creds.is_system() && creds.has_role("reader"));
    if !all {
        page.and("r.name IN ('manager', 'member', 'reader')", []);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::role)?;
            Ok(listing::page(&ctx, &asked, "roles", &listing, |role| views::role(&ctx, role), |role| &role.id))
        })
        .await
}

/// Asks the rule for roles of the cloud or that for roles of a domain, whichever the role is. A role that does not exist
/// is 404 for everyone with a token, as upstream has it.
fn find(tx: &Tx<'_>, ctx: &Ctx, plain: Rule, of_domain: Rule, id: &str) -> Result<Role> {
    let Some(role) = store::find(tx, id)? else {
        ctx.decide();
        return Err(not_found("role", id));
    };
    let mut target = target(&[("target.role.id", &role.id), ("target.role.name", &role.name)]);
    target.insert("target.role.domain_id".into(), json!(role.domain_id));
    ctx.allow(if role.domain_id.is_some() { of_domain } else { plain }, &target)?;
    Ok(role)
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let role = find(tx, &ctx, rules::GET, rules::GET_OF_DOMAIN, &id)?;
            Ok(Reply::ok(&listing::wrap("role", &views::role(&ctx, &role))))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let mut fields = Fields::open(body, "role")?;
    let domain_id = fields.nullable("domain_id", ID_MAX)?.flatten();
    ctx.allow(if domain_id.is_some() { rules::CREATE_OF_DOMAIN } else { rules::CREATE }, &target(&[]))?;
    let name = fields.required_name("name", NAME_MAX, "role")?;
    let description = fields.nullable("description", TEXT_MAX)?.flatten();
    let mut options = fields.object("options")?.unwrap_or_default();
    check_options(&options, OPTIONS)?;
    options.retain(|_, value| !value.is_null());
    let role = Role { id: rest::new_hex_id(), name, domain_id, description, options, extra: fields.into_extra() };
    app.db
        .write(move |tx| {
            if let Some(id) = &role.domain_id
                && find_domain(tx, id)?.is_none()
            {
                return Err(not_found("domain", id));
            }
            store::insert(tx, &role)?;
            Ok(Reply::created(&listing::wrap("role", &views::role(&ctx, &role))))
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
            let mut role = find(tx, &ctx, rules::UPDATE, rules::UPDATE_OF_DOMAIN, &id)?;
            let mut fields = Fields::open(body, "role")?.some("role")?;
            fields.same_id(&id)?;
            fields.unchanged("domain_id", role.domain_id.as_deref())?;
            let before = role.clone();
            if let Some(options) = fields.object("options")? {
                check_options(&options, OPTIONS)?;
                merge(&mut role.options, options, true);
            }
            if let Some(name) = fields.name("name", NAME_MAX)? {
                role.name = name;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                role.description = description;
            }
            merge(&mut role.extra, fields.into_extra(), false);
            let changed =
                (&before.name, &before.description, &before.extra) != (&role.name, &role.description, &role.extra);
            if immutable(&before.options) && immutable(&role.options) && changed {
                return Err(frozen(&role));
            }
            store::update(tx, &role)?;
            Ok(Reply::ok(&listing::wrap("role", &views::role(&ctx, &role))))
        })
        .await
}

fn frozen(role: &Role) -> Error {
    refused(format_args!("role {} is immutable", role.id))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let role = find(tx, &ctx, rules::DELETE, rules::DELETE_OF_DOMAIN, &id)?;
            if immutable(&role.options) {
                return Err(frozen(&role));
            }
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}
