//! `/v3/users`

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use db::{Tx, Value as Bound};
use policy::Target;
use rest::{Ctx, Error, Params, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, User},
    views,
};
use crate::{
    App, assignments,
    directory::{What, read_only},
    errors::{duplicate_entry, expecting, invalid, not_found},
    federation::shadow::{self, Link},
    fields::{Fields, ID_MAX, NAME_MAX, OptionKind, TEXT_MAX, check_options, merge},
    groups, listing,
    projects::{self, handlers::default_domain, store::find_domain},
};

const OPTIONS: &[(&str, OptionKind)] = &[
    ("ignore_change_password_upon_first_use", OptionKind::Bool),
    ("ignore_password_expiry", OptionKind::Bool),
    ("ignore_lockout_failure_attempts", OptionKind::Bool),
    ("ignore_user_inactivity", OptionKind::Bool),
    ("lock_password", OptionKind::Bool),
    ("multi_factor_auth_enabled", OptionKind::Bool),
    ("multi_factor_auth_rules", OptionKind::Rules),
];

const LINKS_MAX: usize = 50;

/// What policy sees of a user; nothing when there is none.
pub(crate) fn policy_target(user: Option<&User>) -> Target {
    match user {
        Some(user) => target(&[("target.user.id", &user.id), ("target.user.domain_id", &user.domain_id)]),
        None => target(&[]),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    let domain_id = ctx.creds()?.domain_id().map(str::to_owned);
    ctx.allow(
        rules::LIST,
        &match &domain_id {
            Some(id) => target(&[("target.domain_id", id)]),
            None => target(&[]),
        },
    )?;
    if let Some(domain_id) = domain_id.as_deref().or(params.get("domain_id")) {
        app.refresh_list(What::Users, domain_id, params.get("name")).await?;
    }
    let mut page = page(&store::LIST, &mut params)?;
    page.and("u.gone = 0", []);
    if let Some(id) = domain_id {
        page.and("u.domain_id = ?", [Bound::Text(id)]);
    }
    let db = app.db.clone();
    db.read(move |tx| {
        let listing = page.fetch(tx, store::user)?;
        // Written as text here, off the async threads: a thousand users are half a megabyte.
        let links = links_of(tx, &listing)?;
        Ok(views_page(&app, &ctx, &asked, &listing, &links))
    })
    .await
}

/// What identity providers call these users.
pub(crate) fn links_of(tx: &Tx<'_>, listing: &rest::Listing<User>) -> Result<BTreeMap<String, Vec<Link>>> {
    let ids: Vec<&str> = listing.rows.iter().map(|user| user.id.as_str()).collect();
    Ok(shadow::links(tx, &ids)?)
}

/// A list of users, also by `password_expires_at=<operator>:<time>`.
pub(crate) fn page(list: &'static rest::ListSpec, params: &mut Params) -> Result<rest::Page> {
    let expires = params.take("password_expires_at");
    let names = ["idp_id", "protocol_id", "unique_id"].map(|name| params.take(name));
    let mut page = list.page(params)?;
    if names.iter().any(Option::is_some) {
        let [provider_id, protocol_id, unique_id] = names.map(|name| name.map_or(Bound::Null, Bound::Text));
        page.and(
            "u.id IN (SELECT user_id FROM identity_federated WHERE provider_id = ifnull(?, provider_id) \
             AND protocol_id = ifnull(?, protocol_id) AND unique_id = ifnull(?, unique_id))",
            [provider_id, protocol_id, unique_id],
        );
    }
    if let Some(asked) = expires {
        let (operator, at) = asked.split_once(':').unwrap_or(("", &asked));
        let sql = match operator {
            "lt" => "u.password_expires_at < ?",
            "lte" => "u.password_expires_at <= ?",
            "gt" => "u.password_expires_at > ?",
            "gte" => "u.password_expires_at >= ?",
            "eq" => "u.password_expires_at = ?",
            "neq" => "u.password_expires_at <> ?",
            _ => {
                return Err(invalid(
                    "password_expires_at",
                    "it must begin with lt, lte, gt, gte, eq or neq, and a colon",
                ));
            }
        };
        let at = db::clock::parse(at).ok_or_else(|| invalid("password_expires_at", "it must be a time"))?;
        page.and(sql, [Bound::Text(db::clock::text(at))]);
    }
    Ok(page)
}

pub(crate) fn views_page(
    app: &App,
    ctx: &Ctx,
    asked: &Params,
    listing: &rest::Listing<User>,
    links: &BTreeMap<String, Vec<Link>>,
) -> Reply {
    let views: Vec<_> = listing
        .rows
        .iter()
        .map(|user| {
            let view = views::user(app, ctx, user);
            match links.get(&user.id) {
                Some(links) => view.vouched_by(links),
                None => view,
            }
        })
        .collect();
    listing::page_of(ctx, asked, "users", &views, listing.next_link(ctx, asked, |user| &user.id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.refresh_user(&id).await?;
    let db = app.db.clone();
    db.read(move |tx| {
        let found = store::find(tx, &id)?;
        ctx.allow(rules::GET, &policy_target(found.as_ref()))?;
        let user = found.ok_or_else(|| not_found("user", &id))?;
        let links = shadow::links(tx, &[&id])?.remove(&id).unwrap_or_default();
        Ok(Reply::ok(&listing::wrap("user", &views::user(&app, &ctx, &user).vouched_by(&links))))
    })
    .await
}

/// `None`: the body does not speak of it; `Some(None)`: no password.
fn password(app: &App, fields: &mut Fields) -> Result<Option<Option<String>>> {
    let password = fields.nullable("password", usize::MAX)?;
    if let Some(Some(text)) = &password {
        app.rules.check(text)?;
    }
    Ok(password)
}

/// Attributes that are free in form but not in type.
fn check_extra(fields: &Fields) -> Result<()> {
    for name in ["description", "email"] {
        match fields.peek(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.chars().count() <= TEXT_MAX => {}
            Some(_) => return Err(invalid(name, "it must be a string or null")),
        }
    }
    Ok(())
}

/// What identity providers call the user, if the body speaks of it: `[{"idp_id": .., "protocols": [{"protocol_id": ..,
/// "unique_id": ..}]}]`.
fn federated(fields: &mut Fields) -> Result<Option<Vec<Link>>> {
    let wrong = || {
        let why = "it is a list of {\"idp_id\", \"protocols\": [{\"protocol_id\", \"unique_id\"}]} with texts of 1 to 255 characters";
        invalid("federated", why)
    };
    let text = |of: &Value, name: &str| {
        let found = of.get(name).and_then(Value::as_str).filter(|text| (1..=NAME_MAX).contains(&text.chars().count()));
        found.map(str::to_owned).ok_or_else(wrong)
    };
    let Some(items) = fields.array("federated")? else { return Ok(None) };
    let mut links: Vec<Link> = Vec::new();
    for item in &items {
        let protocols = item.get("protocols").and_then(Value::as_array).ok_or_else(wrong)?;
        for protocol in protocols {
            let link = Link {
                provider_id: text(item, "idp_id")?,
                protocol_id: text(protocol, "protocol_id")?,
                unique_id: text(protocol, "unique_id")?,
            };
            if !links.contains(&link) {
                links.push(link);
            }
        }
    }
    if links.len() > LINKS_MAX {
        return Err(invalid("federated", format_args!("there are more than {LINKS_MAX} names")));
    }
    Ok(Some(links))
}

/// 400 for a provider or protocol that is not there, 409 for a name that somebody else has.
fn tie(tx: &Tx<'_>, user_id: &str, links: &[Link]) -> Result<()> {
    for link in links {
        if !tx.exists(
            "SELECT 1 FROM identity_protocol WHERE provider_id = ?1 AND id = ?2",
            [&link.provider_id, &link.protocol_id],
        )? {
            let (provider, protocol) = (&link.provider_id, &link.protocol_id);
            let why = format_args!("Could not find the protocol {protocol} of the identity provider {provider}");
            return Err(invalid("federated", why));
        }
        if shadow::holder(tx, link)?.is_some() {
            return Err(duplicate_entry("federated user"));
        }
        shadow::link(tx, user_id, link)?;
    }
    Ok(())
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let mut fields = Fields::open(body, "user")?;
    check_extra(&fields)?;
    let links = federated(&mut fields)?.unwrap_or_default();
    let name = fields.required_name("name", NAME_MAX, "user")?;
    // Policy sees the domain only if the body names it, as upstream does: a domain's manager must say where.
    let named_domain = fields.text("domain_id", ID_MAX)?;
    ctx.allow(
        rules::CREATE,
        &match &named_domain {
            Some(id) => target(&[("target.user.domain_id", id)]),
            None => target(&[]),
        },
    )?;
    let domain_id = match named_domain {
        Some(id) => id,
        None => default_domain(ctx.creds()?),
    };
    let enabled = fields.boolean("enabled")?.unwrap_or(true);
    let default_project_id = fields.nullable("default_project_id", ID_MAX)?.flatten();
    let password = password(&app, &mut fields)?.flatten();
    let mut options = fields.object("options")?.unwrap_or_default();
    check_options(&options, OPTIONS)?;
    options.retain(|_, value| !value.is_null());
    let now = app.clock.now();
    let mut user = User {
        id: rest::new_hex_id(),
        name,
        domain_id,
        enabled,
        default_project_id,
        password_expires_at: None,
        last_active_on: app.rules.active_on(now),
        from_directory: false,
        options,
        extra: fields.into_extra(),
    };
    if app.directory_of(&user.domain_id)?.is_some() {
        return Err(read_only(&user.domain_id));
    }
    let password = match password {
        Some(password) => {
            let hash = app.hasher.hash(password).await?;
            Some(app.rules.new_password(hash, now, false, &user.options))
        }
        None => None,
    };
    user.password_expires_at = password.as_ref().and_then(|password| password.expires_at.clone());
    let db = app.db.clone();
    db.write(move |tx| {
        if find_domain(tx, &user.domain_id)?.is_none() {
            return Err(not_found("domain", &user.domain_id));
        }
        check_default_project(tx, &user)?;
        store::insert(tx, &user, password.as_ref(), &db::clock::text(now))?;
        tie(tx, &user.id, &links)?;
        Ok(Reply::created(&listing::wrap("user", &views::user(&app, &ctx, &user).vouched_by(&links))))
    })
    .await
}

/// A domain is no default project; a project that does not exist is kept, as upstream does.
fn check_default_project(tx: &Tx<'_>, user: &User) -> Result<()> {
    if let Some(id) = &user.default_project_id
        && find_domain(tx, id)?.is_some()
    {
        return Err(Error::bad_request("A user's default project must not be a domain."));
    }
    Ok(())
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let found = app.db.read_blocking(|tx| store::find(tx, &id))?;
    ctx.allow(rules::UPDATE, &policy_target(found.as_ref()))?;
    let user = found.ok_or_else(|| not_found("user", &id))?;
    if user.from_directory {
        return Err(read_only(&user.domain_id));
    }
    let mut fields = Fields::open(body, "user")?.some("user")?;
    fields.same_id(&id)?;
    check_extra(&fields)?;
    let links = federated(&mut fields)?;
    let password = password(&app, &mut fields)?;
    let hash = match &password {
        Some(Some(password)) => Some(app.hasher.hash(password.clone()).await?),
        _ => None,
    };
    let (db, now) = (app.db.clone(), app.clock.now());
    db.write(move |tx| {
        let mut user = store::find(tx, &id)?.ok_or_else(|| not_found("user", &id))?;
        ctx.allow(rules::UPDATE, &policy_target(Some(&user)))?;
        fields.unchanged("domain_id", Some(&user.domain_id))?;
        if let Some(name) = fields.name("name", NAME_MAX)? {
            user.name = name;
        }
        let was_enabled = user.enabled;
        if let Some(enabled) = fields.boolean("enabled")? {
            user.enabled = enabled;
            if enabled {
                // An account that was left alone or guessed at begins anew.
                user.last_active_on = app.rules.active_on(now);
                app.rules.lockout.forgive(&id);
            }
        }
        if let Some(id) = fields.nullable("default_project_id", ID_MAX)? {
            user.default_project_id = id;
            check_default_project(tx, &user)?;
        }
        if let Some(options) = fields.object("options")? {
            check_options(&options, OPTIONS)?;
            merge(&mut user.options, options, true);
        }
        merge(&mut user.extra, fields.into_extra(), false);
        store::update(tx, &user, was_enabled && !user.enabled)?;
        if password.is_some() {
            let password = hash.map(|hash| app.rules.new_password(hash, now, false, &user.options));
            store::set_password(tx, &id, password.as_ref(), app.rules.unique_last_count())?;
            app.rules.lockout.forgive(&id);
            user.password_expires_at = password.and_then(|password| password.expires_at);
        }
        let before = shadow::links(tx, &[&id])?.remove(&id).unwrap_or_default();
        if let Some(links) = links.filter(|links| *links != before) {
            shadow::unlink_all(tx, &id)?;
            tie(tx, &id, &links)?;
            store::void_tokens(tx, &id)?;
        }
        let links = shadow::links(tx, &[&id])?.remove(&id).unwrap_or_default();
        Ok(Reply::ok(&listing::wrap("user", &views::user(&app, &ctx, &user).vouched_by(&links))))
    })
    .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let found = store::find(tx, &id)?;
            ctx.allow(rules::DELETE, &policy_target(found.as_ref()))?;
            let user = found.ok_or_else(|| not_found("user", &id))?;
            if user.from_directory {
                return Err(read_only(&user.domain_id));
            }
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

/// `POST /v3/users/<id>/password`: the old password is the authentication. An unknown user, a disabled one and a wrong
/// password are the same 401.
pub(crate) async fn change_password(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let mut fields = Fields::open(body, "user")?;
    let original = fields.required_text("original_password", usize::MAX, "user")?;
    let new = fields.text("password", usize::MAX)?.ok_or_else(|| expecting("password", "user"))?;
    app.rules.check(&new)?;
    let (user_id, most) = (id.clone(), app.rules.unique_last_count());
    let (account, replaced) = app
        .db
        .read(move |tx| -> Result<_> {
            let account = crate::tokens::store::find_account(tx, &user_id)?;
            Ok((account, store::replaced_passwords(tx, &user_id, most.saturating_sub(1))?))
        })
        .await?;
    if let Some(account) = &account {
        ctx.asked_by(&id);
        if account.from_directory {
            return Err(read_only(&account.domain.id));
        }
    }
    let account = app.verify(account, original).await?;
    if account.options.get("lock_password") == Some(&json!(true)) {
        return Err(Error::bad_request(
            "Password validation error: this user's password can only be reset by an administrator.",
        ));
    }
    let now = app.clock.now();
    app.rules.check_age(account.password_created_at.as_deref(), account.password_self_service, now)?;
    let present = account.password_hash.clone().filter(|_| most > 0);
    for hash in present.into_iter().chain(replaced) {
        if app.hasher.verify(new.clone(), Some(hash)).await? {
            return Err(app.rules.reused());
        }
    }
    let password = app.rules.new_password(app.hasher.hash(new).await?, now, true, &account.options);
    app.db
        .write(move |tx| {
            // What was verified must still be so: two changes at once cannot both win.
            let now = crate::tokens::store::find_account(tx, &id)?;
            if now.is_none_or(|now| now.epoch != account.epoch || !now.enabled) {
                return Err(Error::unauthenticated());
            }
            store::set_password(tx, &id, Some(&password), most)?;
            Ok(Reply::no_content())
        })
        .await
}

pub(crate) async fn projects(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    let asked = params.clone();
    let enabled = params.take_bool("enabled")?;
    let (name, domain_id) = (params.take("name"), params.take("domain_id"));
    app.refresh_user(&id).await?;
    app.db
        .read(move |tx| {
            let found = store::find(tx, &id)?;
            ctx.allow(projects::policy::LIST_OF_USER, &policy_target(found.as_ref()))?;
            found.ok_or_else(|| not_found("user", &id))?;
            let mut projects = assignments::store::projects_of(tx, &id, false)?;
            projects.retain(|project| {
                enabled.is_none_or(|enabled| project.enabled == enabled)
                    && name.as_ref().is_none_or(|name| project.name == *name)
                    && domain_id.as_ref().is_none_or(|id| project.domain_id.as_ref() == Some(id))
            });
            let views: Vec<_> = projects.iter().map(|project| projects::views::project(&ctx, project)).collect();
            Ok(listing::all(&ctx, &asked, "projects", &views))
        })
        .await
}

pub(crate) async fn groups(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    let asked = params.clone();
    app.refresh_user(&id).await?;
    app.db
        .read(move |tx| {
            let found = store::find(tx, &id)?;
            let mut target = policy_target(found.as_ref());
            target.insert("user_id".into(), json!(id));
            ctx.allow(groups::policy::LIST_OF_USER, &target)?;
            found.ok_or_else(|| not_found("user", &id))?;
            let mut page = groups::store::OF_USER.page(&mut params)?;
            page.and("m.user_id = ?", [Bound::Text(id.clone())]);
            // A domain's token sees that domain only, except of oneself.
            if let Some(domain_id) = ctx.creds()?.domain_id()
                && ctx.user_id() != Some(id.as_str())
            {
                page.and("g.domain_id = ?", [Bound::Text(domain_id.to_owned())]);
            }
            let listing = page.fetch(tx, groups::store::group)?;
            Ok(groups::handlers::views_page(&ctx, &asked, &listing))
        })
        .await
}
