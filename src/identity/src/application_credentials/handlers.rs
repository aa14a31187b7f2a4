//! `/v3/users/<id>/application_credentials`

use axum::extract::{Path, State};
use db::{Tx, Value as Bound};
use rest::{Ctx, Error, Params, RawJson, Reply, Result, Scope, target};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, ApplicationCredential},
};
use crate::{
    App,
    errors::{invalid, not_found, refused},
    fernet,
    fields::{Fields, NAME_MAX, TEXT_MAX},
    listing::{self, SelfLink},
    passwords::PASSWORD_MAX_BYTES,
    users,
};

const ROLES_MAX: usize = 256;
const RULES_MAX: usize = 256;

/// An application credential made to do one job must not make or unmake others.
/// Nor must a trust leave behind a credential that outlives it.
fn not_restricted(ctx: &Ctx) -> Result<()> {
    if ctx.creds()?.delegation.trust_id.is_some() {
        return Err(refused("application credentials cannot be managed with a token of a trust"));
    }
    if ctx.creds()?.delegation.restricted {
        return Err(refused(
            "using method 'application_credential' is not allowed for managing additional application credentials",
        ));
    }
    Ok(())
}

fn view(tx: &Tx<'_>, ctx: &Ctx, c: &ApplicationCredential) -> Result<Value> {
    let roles: Vec<Value> = store::roles(tx, &c.id)?
        .into_iter()
        .map(|(id, name, domain_id)| json!({"id": id, "name": name, "domain_id": domain_id}))
        .collect();
    let mut view = json!({
        "id": c.id,
        "name": c.name,
        "description": c.description,
        "project_id": c.project_id,
        "user_id": c.user_id,
        "roles": roles,
        "expires_at": c.expires_at.as_deref().map(db::clock::naive),
        "unrestricted": c.unrestricted,
        "system": null,
        "links": SelfLink::new(ctx, &format!("/users/{}/application_credentials", c.user_id), &c.id),
    });
    if c.restricted_to_rules {
        view["access_rules"] = store::rules(tx, &c.id)?
            .into_iter()
            .map(|rule| json!({"id": rule.id, "service": rule.service, "method": rule.method, "path": rule.path}))
            .collect();
    }
    Ok(view)
}

pub(crate) async fn index(
    State(app): State<App>,
    ctx: Ctx,
    Path(user_id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST, &target(&[("user_id", &user_id)]))?;
    let mut page = store::LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            users::store::find(tx, &user_id)?.ok_or_else(|| not_found("user", &user_id))?;
            page.and("c.user_id = ?", [Bound::Text(user_id)]);
            let listing = page.fetch(tx, store::credential)?;
            let views = listing.rows.iter().map(|row| view(tx, &ctx, row)).collect::<Result<Vec<_>>>()?;
            let next = listing.next_link(&ctx, &asked, |row| &row.id);
            Ok(listing::page_of(&ctx, &asked, "application_credentials", &views, next))
        })
        .await
}

/// Whose it is decides, not whom the path names.
fn find(tx: &Tx<'_>, ctx: &Ctx, rule: rest::Rule, user_id: &str, id: &str) -> Result<ApplicationCredential> {
    let found = store::find(tx, id)?;
    let owner = found.as_ref().map_or(user_id, |found| &found.user_id);
    ctx.allow(rule, &target(&[("user_id", owner)]))?;
    found.ok_or_else(|| not_found("application credential", id))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let found = find(tx, &ctx, rules::GET, &user_id, &id)?;
            Ok(Reply::ok(&json!({"application_credential": view(tx, &ctx, &found)?})))
        })
        .await
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            find(tx, &ctx, rules::DELETE, &user_id, &id)?;
            not_restricted(&ctx)?;
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

/// A role as the body names it.
enum RoleRef {
    Id(String),
    Name(String),
}

fn role_refs(items: Vec<Value>) -> Result<Vec<RoleRef>> {
    if items.is_empty() || items.len() > ROLES_MAX {
        return Err(invalid("roles", format_args!("it must hold 1 to {ROLES_MAX} roles")));
    }
    let mut refs = Vec::with_capacity(items.len());
    for item in items {
        let Value::Object(map) = item else { return Err(invalid("roles", "every role must be an object")) };
        let mut fields = Fields::of(map);
        match (fields.text("id", NAME_MAX)?, fields.text("name", NAME_MAX)?) {
            (Some(id), _) => refs.push(RoleRef::Id(id)),
            (None, Some(name)) => refs.push(RoleRef::Name(name)),
            (None, None) => return Err(invalid("roles", "every role needs an id or a name")),
        }
    }
    Ok(refs)
}

/// An access rule as the body names it.
enum RuleRef {
    Id(String),
    New { service: String, method: String, path: String },
}

fn rule_refs(items: Vec<Value>) -> Result<Vec<RuleRef>> {
    if items.len() > RULES_MAX {
        return Err(invalid("access_rules", format_args!("there are more than {RULES_MAX}")));
    }
    let mut refs = Vec::with_capacity(items.len());
    for item in items {
        let Value::Object(map) = item else { return Err(invalid("access_rules", "every rule must be an object")) };
        let mut fields = Fields::of(map);
        if let Some(id) = fields.text("id", NAME_MAX)? {
            refs.push(RuleRef::Id(id));
            continue;
        }
        let service = fields.required_text("service", NAME_MAX, "access_rules")?;
        let method = fields.required_text("method", 16, "access_rules")?;
        let path = fields.required_text("path", 225, "access_rules")?;
        if !matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") {
            return Err(invalid("access_rules", "the method must be GET, HEAD, POST, PUT, PATCH or DELETE"));
        }
        if !path.starts_with('/') || service.trim().is_empty() {
            return Err(invalid("access_rules", "a rule needs a service type and a path that begins with '/'"));
        }
        refs.push(RuleRef::New { service, method, path });
    }
    Ok(refs)
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(user_id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::CREATE, &target(&[("user_id", &user_id)]))?;
    not_restricted(&ctx)?;
    let creds = ctx.creds()?;
    let Scope::Project { project, .. } = &creds.scope else {
        return Err(invalid(
            "application_credential",
            "it is made for the project of the token, and this one has none",
        ));
    };
    let mut fields = Fields::open(body, "application_credential")?;
    let name = fields.required_name("name", NAME_MAX, "application_credential")?;
    let description = fields.nullable("description", TEXT_MAX)?.flatten();
    let unrestricted = fields.boolean("unrestricted")?.unwrap_or(false);
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
    let secret = match fields.nullable("secret", usize::MAX)?.flatten() {
        Some(secret) if secret.is_empty() || secret.len() > PASSWORD_MAX_BYTES => {
            return Err(invalid("secret", format_args!("it must have 1 to {PASSWORD_MAX_BYTES} bytes")));
        }
        Some(secret) => secret,
        None => fernet::random_secret().ok_or_else(|| Error::internal("no random numbers"))?,
    };
    let roles = match fields.take("roles") {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) => Some(role_refs(items)?),
        Some(_) => return Err(invalid("roles", "it must be an array")),
    };
    let access_rules = match fields.take("access_rules") {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) => Some(rule_refs(items)?),
        Some(_) => return Err(invalid("access_rules", "it must be an array")),
    };
    // What acts under access rules must not hand on more than it may do itself.
    if creds.delegation.application_credential_id.is_some() && access_rules.is_none() {
        let own = app.known(ctx.token().unwrap_or_default()).await?;
        if own.and_then(|known| known.credential.clone()).is_some_and(|credential| credential.rules.is_some()) {
            return Err(refused("an application credential with access rules cannot make one without"));
        }
    }
    // Exactly the token's roles, or some of them: never what the user holds elsewhere.
    let mut role_ids = Vec::new();
    match roles {
        None => role_ids.extend(creds.roles.iter().map(|role| role.id.clone())),
        Some(refs) => {
            for wanted in refs {
                let held = creds.roles.iter().find(|role| match &wanted {
                    RoleRef::Id(id) => role.id == *id,
                    RoleRef::Name(name) => role.name == *name,
                });
                let Some(held) = held else {
                    return Err(Error::bad_request(
                        "Invalid application credential: a role is asked for that the user does not have on this project.",
                    ));
                };
                if !role_ids.contains(&held.id) {
                    role_ids.push(held.id.clone());
                }
            }
        }
    }
    let credential = ApplicationCredential {
        id: rest::new_hex_id(),
        user_id,
        project_id: project.id.clone(),
        name,
        description,
        expires_at,
        unrestricted,
        restricted_to_rules: access_rules.is_some(),
    };
    let hash = app.hasher.hash(secret.clone()).await?;
    app.db
        .write(move |tx| {
            let mut rule_ids = Vec::new();
            for rule in access_rules.unwrap_or_default() {
                rule_ids.push(match rule {
                    RuleRef::Id(id) => {
                        store::find_rule(tx, &credential.user_id, &id)?
                            .ok_or_else(|| Error::bad_request(format!("Could not find access rule: {id}.")))?
                            .id
                    }
                    RuleRef::New { service, method, path } => {
                        store::ensure_rule(tx, &credential.user_id, &service, &method, &path)?
                    }
                });
            }
            store::insert(tx, &credential, &hash, &role_ids, &rule_ids)?;
            let mut view = view(tx, &ctx, &credential)?;
            view["secret"] = json!(secret);
            Ok(Reply::created(&json!({ "application_credential": view })))
        })
        .await
}
