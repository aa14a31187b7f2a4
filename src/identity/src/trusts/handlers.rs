//! `/v3/OS-TRUST/trusts`. API reference: Identity v3 extensions, "OS-TRUST API".

use axum::extract::{Path, State};
use db::Tx;
use policy::Target;
use rest::{Ctx, Error, Params, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, Trust},
};
use crate::{
    App, assignments,
    errors::{expecting, invalid, not_found, refused},
    federation::shadow,
    fields::{Fields, ID_MAX, NAME_MAX},
    listing, projects, roles,
    tokens::model::TokenScope,
    users,
};

/// How often a trust can be handed on, at most.
const REDELEGATION_MAX: i64 = 3;
const ROLES_MAX: usize = 256;

/// A restricted application credential must not widen itself by a trust.
fn not_restricted(ctx: &Ctx) -> Result<()> {
    if ctx.creds()?.delegation.restricted {
        return Err(refused("using method 'application_credential' is not allowed for managing trusts"));
    }
    Ok(())
}

fn policy_target(trust: &Trust) -> Target {
    target(&[
        ("target.trust.trustor_user_id", &trust.trustor_user_id),
        ("target.trust.trustee_user_id", &trust.trustee_user_id),
    ])
}

fn path(ctx: &Ctx, id: &str, rest: &str) -> String {
    format!("{}/v3/OS-TRUST/trusts/{id}{rest}", ctx.base_url())
}

/// `roles`: lists leave them out.
fn view(tx: &Tx<'_>, ctx: &Ctx, trust: &Trust, with_roles: bool) -> Result<Value> {
    let mut view = json!({
        "id": trust.id,
        "trustor_user_id": trust.trustor_user_id,
        "trustee_user_id": trust.trustee_user_id,
        "project_id": trust.project_id,
        "impersonation": trust.impersonation,
        "expires_at": trust.expires_at,
        "remaining_uses": trust.remaining_uses,
        "redelegation_count": trust.redelegation_count,
        "deleted_at": null,
        "links": {"self": path(ctx, &trust.id, "")},
    });
    if let Some(id) = &trust.redelegated_trust_id {
        view["redelegated_trust_id"] = json!(id);
    }
    for (name, value) in &trust.extra {
        if view.get(name).is_none() {
            view[name.as_str()] = value.clone();
        }
    }
    if with_roles {
        view["roles"] = role_views(tx, ctx, &trust.id)?.into();
        view["roles_links"] = json!({"self": path(ctx, &trust.id, "/roles"), "next": null, "previous": null});
    }
    Ok(view)
}

fn role_views(tx: &Tx<'_>, ctx: &Ctx, trust_id: &str) -> Result<Vec<Value>> {
    let mut views = Vec::new();
    for id in store::role_ids(tx, trust_id)? {
        if let Some(role) = roles::store::find(tx, &id)? {
            views.push(serde_json::to_value(roles::views::role(ctx, &role)).unwrap_or_default());
        }
    }
    Ok(views)
}

/// A trust that can still be used. One that does not exist is 404 for everyone, as upstream has it.
fn find(tx: &Tx<'_>, app: &App, ctx: &Ctx, rule: rest::Rule, id: &str) -> Result<Trust> {
    let found = store::find(tx, id)?.filter(|trust| !trust.over(app.clock.now()));
    let Some(trust) = found else {
        ctx.decide();
        return Err(not_found("trust", id));
    };
    ctx.allow(rule, &policy_target(&trust))?;
    Ok(trust)
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let (trustor, trustee) = (params.get("trustor_user_id"), params.get("trustee_user_id"));
    match (trustor, trustee) {
        (Some(id), _) => ctx.allow(rules::LIST_OF_TRUSTOR, &target(&[("target.trust.trustor_user_id", id)]))?,
        (None, Some(id)) => ctx.allow(rules::LIST_OF_TRUSTEE, &target(&[("target.trust.trustee_user_id", id)]))?,
        (None, None) => ctx.allow(rules::LIST, &target(&[]))?,
    }
    not_restricted(&ctx)?;
    let now = app.clock.now();
    app.db
        .read(move |tx| {
            let mut trusts = store::list(tx, params.get("trustor_user_id"), params.get("trustee_user_id"))?;
            trusts.retain(|trust| !trust.over(now));
            let views = trusts.iter().map(|trust| view(tx, &ctx, trust, false)).collect::<Result<Vec<_>>>()?;
            Ok(listing::all(&ctx, &params, "trusts", &views))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let again = app.clone();
    app.db
        .read(move |tx| {
            let trust = find(tx, &again, &ctx, rules::GET, &id)?;
            not_restricted(&ctx)?;
            Ok(Reply::ok(&json!({"trust": view(tx, &ctx, &trust, true)?})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let again = app.clone();
    app.db
        .write(move |tx| {
            find(tx, &again, &ctx, rules::DELETE, &id)?;
            not_restricted(&ctx)?;
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

pub(crate) async fn roles(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let again = app.clone();
    app.db
        .read(move |tx| {
            find(tx, &again, &ctx, rules::LIST_ROLES, &id)?;
            not_restricted(&ctx)?;
            Ok(listing::all(&ctx, &params, "roles", &role_views(tx, &ctx, &id)?))
        })
        .await
}

pub(crate) async fn role(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, role_id)): Path<(String, String)>,
) -> Result<Reply> {
    let again = app.clone();
    app.db
        .read(move |tx| {
            find(tx, &again, &ctx, rules::GET_ROLE, &id)?;
            not_restricted(&ctx)?;
            let held = store::role_ids(tx, &id)?.contains(&role_id);
            let role = if held { roles::store::find(tx, &role_id)? } else { None };
            let role = role.ok_or_else(|| not_found("role", &role_id))?;
            Ok(Reply::ok(&listing::wrap("role", &roles::views::role(&ctx, &role))))
        })
        .await
}

struct Wanted {
    trust: Trust,
    roles: Vec<Value>,
    allow_redelegation: bool,
    redelegation_count: Option<i64>,
}

fn read(body: Value, app: &App) -> Result<Wanted> {
    let mut fields = Fields::open(body, "trust")?;
    let trustor_user_id = fields.required_text("trustor_user_id", ID_MAX, "trust")?;
    let trustee_user_id = fields.required_text("trustee_user_id", ID_MAX, "trust")?;
    let impersonation = fields.boolean("impersonation")?.ok_or_else(|| expecting("impersonation", "trust"))?;
    let project_id = fields.nullable("project_id", ID_MAX)?.flatten().filter(|id| !id.is_empty());
    let expires_at = match fields.nullable("expires_at", NAME_MAX)?.flatten() {
        None => None,
        Some(text) => {
            let at = db::clock::parse(&text).ok_or_else(|| invalid("expires_at", "it is no time in ISO 8601"))?;
            if at <= app.clock.now() {
                return Err(Error::bad_request("The 'expires_at' must not be before now."));
            }
            Some(db::clock::text(at))
        }
    };
    let number = |fields: &mut Fields, name: &str, least: i64| match fields.take(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64().filter(|number| (least..=i64::from(i32::MAX)).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(name, format_args!("it must be an integer of at least {least}"))),
        },
    };
    let remaining_uses = number(&mut fields, "remaining_uses", 1)?;
    let redelegation_count = number(&mut fields, "redelegation_count", 0)?;
    let allow_redelegation = match fields.take("allow_redelegation") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(allow)) => allow,
        Some(_) => return Err(invalid("allow_redelegation", "it must be a boolean")),
    };
    if allow_redelegation && remaining_uses.is_some() {
        return Err(Error::bad_request("remaining_uses must not be set if redelegation is allowed"));
    }
    let roles = fields.array("roles")?.unwrap_or_default();
    if roles.len() > ROLES_MAX {
        return Err(invalid("roles", format_args!("there are more than {ROLES_MAX}")));
    }
    let trust = Trust {
        id: rest::new_hex_id(),
        trustor_user_id,
        trustee_user_id,
        project_id,
        impersonation,
        expires_at,
        remaining_uses,
        redelegation_count: 0,
        redelegated_trust_id: None,
        extra: fields.into_extra(),
    };
    Ok(Wanted { trust, roles, allow_redelegation, redelegation_count })
}

/// The ids of the roles that the body names.
fn named_roles(tx: &Tx<'_>, items: Vec<Value>) -> Result<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    for item in items {
        let Value::Object(map) = item else { return Err(invalid("roles", "every role must be an object")) };
        let mut fields = Fields::of(map);
        let role = match (fields.text("id", NAME_MAX)?, fields.text("name", NAME_MAX)?) {
            (Some(id), _) => roles::store::find(tx, &id)?.ok_or_else(|| not_found("role", &id))?,
            (None, Some(name)) => roles::store::find_by_name(tx, &name)?.ok_or_else(|| not_found("role", &name))?,
            (None, None) => return Err(invalid("roles", "every role needs an id or a name")),
        };
        if !ids.contains(&role.id) {
            ids.push(role.id);
        }
    }
    Ok(ids)
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let Wanted { mut trust, roles, allow_redelegation, redelegation_count } = read(body, &app)?;
    ctx.allow(rules::CREATE, &policy_target(&trust))?;
    not_restricted(&ctx)?;
    let delegation = ctx.creds()?.delegation.clone();
    if delegation.application_credential_id.is_some() {
        return Err(refused("redelegation allowed for delegated by trust only"));
    }
    if trust.project_id.is_some() && roles.is_empty() {
        return Err(refused("at least one role should be specified"));
    }
    if trust.project_id.is_none() && !roles.is_empty() {
        return Err(expecting("project_id", "trust"));
    }
    let now = app.clock.now_text();
    app.db
        .write(move |tx| {
            users::store::find(tx, &trust.trustee_user_id)?.ok_or_else(|| not_found("user", &trust.trustee_user_id))?;
            if let Some(id) = &trust.project_id {
                projects::store::find(tx, id)?.ok_or_else(|| not_found("project", id))?;
            }
            let role_ids = named_roles(tx, roles)?;
            // What can be handed on: the trustor's own roles, or those of the trust behind the token.
            let held: Vec<String> = match &delegation.trust_id {
                Some(source_id) => {
                    let source = store::find(tx, source_id)?.ok_or_else(|| not_found("trust", source_id))?;
                    check_redelegation(&source, &trust, redelegation_count)?;
                    trust.redelegation_count = if allow_redelegation {
                        redelegation_count.unwrap_or(source.redelegation_count - 1)
                    } else {
                        0
                    };
                    if trust.expires_at.is_none() {
                        trust.expires_at.clone_from(&source.expires_at);
                    }
                    trust.redelegated_trust_id = Some(source.id);
                    store::role_ids(tx, source_id)?
                }
                None => {
                    let count = redelegation_count.unwrap_or(REDELEGATION_MAX);
                    if count > REDELEGATION_MAX {
                        return Err(refused(format_args!(
                            "requested redelegation depth of {count} is greater than allowed {REDELEGATION_MAX}"
                        )));
                    }
                    trust.redelegation_count = if allow_redelegation { count } else { 0 };
                    match &trust.project_id {
                        Some(id) => {
                            let scope = TokenScope::Project(id.clone());
                            let groups = shadow::expiring(tx, &trust.trustor_user_id, &now)?;
                            let groups: Vec<String> = groups.into_iter().map(|(id, _)| id).collect();
                            let trustor = &trust.trustor_user_id;
                            let roles = assignments::store::effective_roles(tx, trustor, &groups, &scope)?;
                            roles.into_iter().map(|role| role.id).collect()
                        }
                        None => Vec::new(),
                    }
                }
            };
            let reach = assignments::store::with_implied(tx, &held)?;
            if let Some(id) = role_ids.iter().find(|id| !reach.contains(*id)) {
                return Err(not_found("role", id));
            }
            store::insert(tx, &trust, &role_ids)?;
            Ok(Reply::created(&json!({"trust": view(tx, &ctx, &trust, true)?})))
        })
        .await
}

/// A trust that is handed on is never wider or longer than the one it comes from.
fn check_redelegation(source: &Trust, trust: &Trust, count: Option<i64>) -> Result<()> {
    if source.redelegation_count <= 0 {
        return Err(refused(format_args!(
            "remaining redelegation depth of 0 out of allowed range for trust {}",
            source.id
        )));
    }
    if count.is_some_and(|count| count >= source.redelegation_count) {
        return Err(refused("the redelegation count must be below that of the trust behind this token"));
    }
    if source.project_id != trust.project_id {
        return Err(refused("a redelegated trust must be for the same project"));
    }
    if trust.impersonation && !source.impersonation {
        return Err(refused("impersonation is not allowed because the redelegated trust does not specify it"));
    }
    let later = match (&trust.expires_at, &source.expires_at) {
        // Both texts are of one form, which sorts by time.
        (Some(own), Some(source)) => own > source,
        _ => false,
    };
    if later {
        return Err(refused("requested expiration time is more than the redelegated trust can provide"));
    }
    Ok(())
}
