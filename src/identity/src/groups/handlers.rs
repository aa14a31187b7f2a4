//! `/v3/groups`

use axum::extract::{Path, State};
use db::{Tx, Value as Bound};
use policy::Target;
use rest::{Ctx, Error, Kind, Params, RawJson, Reply, Result, Rule, target};

use super::{
    policy as rules,
    store::{self, Group},
    views,
};
use crate::{
    App,
    directory::{What, read_only},
    errors::not_found,
    fields::{Fields, ID_MAX, NAME_MAX, TEXT_MAX, merge},
    listing,
    projects::{handlers::default_domain, store::find_domain},
    users,
};

fn policy_target(group: Option<&Group>) -> Target {
    match group {
        Some(group) => target(&[("target.group.id", &group.id), ("target.group.domain_id", &group.domain_id)]),
        None => target(&[]),
    }
}

pub(crate) fn views_page(ctx: &Ctx, asked: &Params, listing: &rest::Listing<Group>) -> Reply {
    let views: Vec<_> = listing.rows.iter().map(|group| views::group(ctx, group)).collect();
    listing::page_of(ctx, asked, "groups", &views, listing.next_link(ctx, asked, |group| &group.id))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    let domain_id = ctx.creds()?.domain_id().map(str::to_owned);
    ctx.allow(
        rules::LIST,
        &match &domain_id {
            Some(id) => target(&[("target.group.domain_id", id)]),
            None => target(&[]),
        },
    )?;
    if let Some(domain_id) = domain_id.as_deref().or(params.get("domain_id")) {
        app.refresh_list(What::Groups, domain_id, params.get("name")).await?;
    }
    let mut page = store::LIST.page(&mut params)?;
    page.and("g.gone = 0", []);
    if let Some(id) = domain_id {
        page.and("g.domain_id = ?", [Bound::Text(id)]);
    }
    app.db.read(move |tx| Ok(views_page(&ctx, &asked, &page.fetch(tx, store::group)?))).await
}

fn find(tx: &Tx<'_>, ctx: &Ctx, rule: Rule, id: &str) -> Result<Group> {
    let found = store::find(tx, id)?;
    ctx.allow(rule, &policy_target(found.as_ref()))?;
    found.ok_or_else(|| not_found("group", id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.refresh_group(&id).await?;
    app.db
        .read(move |tx| {
            let group = find(tx, &ctx, rules::GET, &id)?;
            Ok(Reply::ok(&listing::wrap("group", &views::group(&ctx, &group))))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let mut fields = Fields::open(body, "group")?;
    let name = fields.required_name("name", NAME_MAX, "group")?;
    let domain_id = match fields.text("domain_id", ID_MAX)? {
        Some(id) => id,
        None => default_domain(ctx.creds()?),
    };
    let description = fields.nullable("description", TEXT_MAX)?.flatten().unwrap_or_default();
    let group = Group {
        id: rest::new_hex_id(),
        name,
        domain_id,
        description,
        from_directory: false,
        extra: fields.into_extra(),
    };
    ctx.allow(rules::CREATE, &policy_target(Some(&group)))?;
    if app.directory_of(&group.domain_id)?.is_some() {
        return Err(read_only(&group.domain_id));
    }
    app.db
        .write(move |tx| {
            if find_domain(tx, &group.domain_id)?.is_none() {
                return Err(not_found("domain", &group.domain_id));
            }
            store::insert(tx, &group)?;
            Ok(Reply::created(&listing::wrap("group", &views::group(&ctx, &group))))
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
            let mut group = find(tx, &ctx, rules::UPDATE, &id)?;
            if group.from_directory {
                return Err(read_only(&group.domain_id));
            }
            let mut fields = Fields::open(body, "group")?.some("group")?;
            fields.same_id(&id)?;
            fields.unchanged("domain_id", Some(&group.domain_id))?;
            if let Some(name) = fields.name("name", NAME_MAX)? {
                group.name = name;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                group.description = description.unwrap_or_default();
            }
            merge(&mut group.extra, fields.into_extra(), false);
            store::update(tx, &group)?;
            Ok(Reply::ok(&listing::wrap("group", &views::group(&ctx, &group))))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            // As upstream has it: here, and only here, a group that does not exist is 404 for everyone with a token.
            let Some(group) = store::find(tx, &id)? else {
                ctx.decide();
                return Err(not_found("group", &id));
            };
            ctx.allow(rules::DELETE, &policy_target(Some(&group)))?;
            if group.from_directory {
                return Err(read_only(&group.domain_id));
            }
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

pub(crate) async fn users(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    let asked = params.clone();
    app.refresh_members(&id).await?;
    let db = app.db.clone();
    db.read(move |tx| {
        find(tx, &ctx, rules::LIST_USERS, &id)?;
        let mut page = users::handlers::page(&users::store::MEMBERS, &mut params)?;
        page.and("m.group_id = ?", [Bound::Text(id)]);
        if let Some(domain_id) = ctx.creds()?.domain_id() {
            page.and("u.domain_id = ?", [Bound::Text(domain_id.to_owned())]);
        }
        let listing = page.fetch(tx, users::store::user)?;
        let links = users::handlers::links_of(tx, &listing)?;
        Ok(users::handlers::views_page(&app, &ctx, &asked, &listing, &links))
    })
    .await
}

/// Both ends of a membership, after policy has seen them. Only this cloud's own can be joined and parted.
fn ends(tx: &Tx<'_>, ctx: &Ctx, rule: Rule, group_id: &str, user_id: &str) -> Result<()> {
    let (group, user) = (store::find(tx, group_id)?, users::store::find(tx, user_id)?);
    let mut target = policy_target(group.as_ref());
    target.extend(users::handlers::policy_target(user.as_ref()));
    ctx.allow(rule, &target)?;
    let group = group.ok_or_else(|| not_found("group", group_id))?;
    let user = user.ok_or_else(|| not_found("user", user_id))?;
    if rule.name == rules::CHECK_USER.name {
        return Ok(());
    }
    match (group.from_directory, user.from_directory) {
        (true, _) => Err(read_only(&group.domain_id)),
        (_, true) => Err(read_only(&user.domain_id)),
        _ => Ok(()),
    }
}

fn no_member(group_id: &str, user_id: &str) -> Error {
    Error::new(Kind::NotFound, format!("User '{user_id}' not found in group '{group_id}'."))
}

pub(crate) async fn check_user(
    State(app): State<App>,
    ctx: Ctx,
    Path((group_id, user_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.refresh_user(&user_id).await?;
    app.db
        .read(move |tx| {
            ends(tx, &ctx, rules::CHECK_USER, &group_id, &user_id)?;
            let member = store::is_member(tx, &group_id, &user_id)?;
            if member { Ok(Reply::no_content()) } else { Err(no_member(&group_id, &user_id)) }
        })
        .await
}

pub(crate) async fn add_user(
    State(app): State<App>,
    ctx: Ctx,
    Path((group_id, user_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            ends(tx, &ctx, rules::ADD_USER, &group_id, &user_id)?;
            store::add_member(tx, &group_id, &user_id)?;
            Ok(Reply::no_content())
        })
        .await
}

pub(crate) async fn remove_user(
    State(app): State<App>,
    ctx: Ctx,
    Path((group_id, user_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            ends(tx, &ctx, rules::REMOVE_USER, &group_id, &user_id)?;
            let was = store::remove_member(tx, &group_id, &user_id)?;
            if was { Ok(Reply::no_content()) } else { Err(no_member(&group_id, &user_id)) }
        })
        .await
}
