//! Grants: `/v3/{projects,domains}/<id>/{users,groups}/<id>/roles[/<id>]`, `/v3/system/...`, `/v3/OS-INHERIT/...`.
//!
//! One set of handlers serves all paths: which ids the path names tells what the grant is about.

use std::collections::HashMap;

use axum::extract::{Path, State};
use db::Tx;
use rest::{Ctx, Kind, Params, Reply, Result, Rule};
use serde_json::{Value, json};

use super::{
    policy,
    store::{self, Assignment, Target},
};
use crate::{
    App,
    errors::{not_found, refused},
    groups, listing, projects, roles, users,
};

type Ids = HashMap<String, String>;

/// The grant that a path names; `role_id` is empty where the path has none.
fn named(ids: &Ids, path: &str) -> Assignment {
    let id = |name: &str| ids.get(name).cloned();
    let (target, target_id) = match (id("project_id"), id("domain_id")) {
        (Some(id), _) => (Target::Project, id),
        (None, Some(id)) => (Target::Domain, id),
        (None, None) => (Target::System, String::new()),
    };
    Assignment {
        role_id: id("role_id").unwrap_or_default(),
        user_id: id("user_id"),
        group_id: id("group_id"),
        target,
        target_id,
        inherited: path.starts_with("/v3/OS-INHERIT/"),
    }
}

/// Which of three rules guards this grant.
fn pick(grant: &Assignment, plain: Rule, user: Rule, group: Rule) -> Rule {
    match (grant.target, &grant.user_id) {
        (Target::System, Some(_)) => user,
        (Target::System, None) => group,
        _ => plain,
    }
}

/// Asks policy with what exists of the grant's parts, then insists on all of them.
fn allow(tx: &Tx<'_>, ctx: &Ctx, grant: &Assignment, rule: Rule) -> Result<Option<roles::store::Role>> {
    let mut target = rest::target(&[]);
    let mut missing = None;
    let mut put = |key: &str, value: Value| {
        target.insert(key.to_owned(), value);
    };
    if let Some(id) = &grant.user_id {
        match users::store::find_even_gone(tx, id)? {
            Some(user) => {
                put("target.user.id", json!(id));
                put("target.user.domain_id", json!(user.domain_id));
            }
            None => missing = missing.or(Some(("user", id))),
        }
    }
    if let Some(id) = &grant.group_id {
        match groups::store::find_even_gone(tx, id)? {
            Some(group) => {
                put("target.group.id", json!(id));
                put("target.group.domain_id", json!(group.domain_id));
            }
            None => missing = missing.or(Some(("group", id))),
        }
    }
    match grant.target {
        Target::Project => match projects::store::find(tx, &grant.target_id)? {
            Some(project) => {
                put("target.project.id", json!(project.id));
                put("target.project.domain_id", json!(project.domain_id));
            }
            None => missing = missing.or(Some(("project", &grant.target_id))),
        },
        Target::Domain => match projects::store::find_domain(tx, &grant.target_id)? {
            Some(domain) => put("target.domain.id", json!(domain.id)),
            None => missing = missing.or(Some(("domain", &grant.target_id))),
        },
        Target::System => {}
    }
    let mut role = None;
    if !grant.role_id.is_empty() {
        match roles::store::find(tx, &grant.role_id)? {
            Some(found) => {
                put("target.role.id", json!(found.id));
                put("target.role.name", json!(found.name));
                put("target.role.domain_id", json!(found.domain_id));
                role = Some(found);
            }
            None => missing = missing.or(Some(("role", &grant.role_id))),
        }
    }
    ctx.allow(rule, &target)?;
    match missing {
        Some((noun, id)) => Err(not_found(noun, id)),
        None => Ok(role),
    }
}

fn no_assignment(grant: &Assignment) -> rest::Error {
    let actor = grant.user_id.as_deref().or(grant.group_id.as_deref()).unwrap_or_default();
    let target = if grant.target == Target::System { "system" } else { &grant.target_id };
    rest::Error::new(
        Kind::NotFound,
        format!(
            "Could not find role assignment with role: {}, user or group: {actor}, project, domain, or system: {target}.",
            grant.role_id
        ),
    )
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(ids): Path<Ids>, params: Params) -> Result<Reply> {
    let grant = named(&ids, ctx.path());
    let rule = pick(&grant, policy::LIST, policy::SYSTEM_USER_LIST, policy::SYSTEM_GROUP_LIST);
    let asking = ctx.clone();
    let roles = app
        .db
        .read(move |tx| -> Result<Vec<_>> {
            allow(tx, &asking, &grant, rule)?;
            let mut found = Vec::new();
            for id in store::role_ids(tx, &grant)? {
                found.extend(roles::store::find(tx, &id)?);
            }
            Ok(found)
        })
        .await?;
    let views: Vec<_> = roles.iter().map(|role| roles::views::role(&ctx, role)).collect();
    Ok(listing::all(&ctx, &params, "roles", &views))
}

pub(crate) async fn check(State(app): State<App>, ctx: Ctx, Path(ids): Path<Ids>) -> Result<Reply> {
    let grant = named(&ids, ctx.path());
    let rule = pick(&grant, policy::CHECK, policy::SYSTEM_USER_CHECK, policy::SYSTEM_GROUP_CHECK);
    app.db
        .read(move |tx| {
            allow(tx, &ctx, &grant, rule)?;
            if store::exists(tx, &grant)? { Ok(Reply::no_content()) } else { Err(no_assignment(&grant)) }
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, Path(ids): Path<Ids>) -> Result<Reply> {
    let grant = named(&ids, ctx.path());
    let rule = pick(&grant, policy::CREATE, policy::SYSTEM_USER_CREATE, policy::SYSTEM_GROUP_CREATE);
    app.db
        .write(move |tx| {
            let role = allow(tx, &ctx, &grant, rule)?;
            if let Some(domain_id) = role.and_then(|role| role.domain_id) {
                in_role_s_domain(tx, &grant, &domain_id)?;
            }
            store::insert(tx, &grant)?;
            Ok(Reply::no_content())
        })
        .await
}

/// A role of a domain means something only on the projects of that domain.
fn in_role_s_domain(tx: &Tx<'_>, grant: &Assignment, domain_id: &str) -> Result<()> {
    if grant.target != Target::Project {
        return Ok(());
    }
    let there = projects::store::find(tx, &grant.target_id)?.and_then(|project| project.domain_id);
    if there.as_deref() == Some(domain_id) {
        return Ok(());
    }
    Err(refused(format_args!(
        "project {} must be in the same domain as the role {} being assigned",
        grant.target_id, grant.role_id
    )))
}

pub(crate) async fn revoke(State(app): State<App>, ctx: Ctx, Path(ids): Path<Ids>) -> Result<Reply> {
    let grant = named(&ids, ctx.path());
    let rule = pick(&grant, policy::REVOKE, policy::SYSTEM_USER_REVOKE, policy::SYSTEM_GROUP_REVOKE);
    app.db
        .write(move |tx| {
            allow(tx, &ctx, &grant, rule)?;
            if store::delete(tx, &grant)? { Ok(Reply::no_content()) } else { Err(no_assignment(&grant)) }
        })
        .await
}
