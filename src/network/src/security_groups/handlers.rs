use axum::extract::{Path, State};
use db::{Tx, Value as Bound, clock::seconds, params};
use rest::{Ctx, Params, RawJson, Reply, Result};
use serde::Serialize;

use super::{
    policy as rules_of_policy, rules,
    store::{self, Group},
};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors::{self, conflict},
    policy::{Owner, Sights, guard, is_admin},
    query::{self, Query, id_list},
    tags,
};

const READ_ONLY: &[&str] = &["id", "created_at", "updated_at", "revision_number", "security_group_rules", "shared"];

#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: String,
    name: String,
    stateful: bool,
    tenant_id: String,
    project_id: String,
    description: String,
    shared: bool,
    security_group_rules: Vec<rules::View>,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

fn render(tx: &Tx<'_>, ctx: &Ctx, groups: &[Group]) -> Result<Vec<View>> {
    let ids = id_list(groups.iter().map(|group| group.id.as_str()));
    let mut all_rules = store::rules_of(tx, &ids)?;
    let mut tags = tags::of(tx, &ids)?;
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(groups.len());
    for group in groups {
        if !sights.of(Owner::of(&group.project_id), |target| ctx.may(rules_of_policy::GET_ONE, target))? {
            continue;
        }
        let rules = all_rules.remove(&group.id).unwrap_or_default();
        views.push(View {
            id: group.id.clone(),
            name: group.name.clone(),
            stateful: group.stateful,
            tenant_id: group.project_id.clone(),
            project_id: group.project_id.clone(),
            description: group.description.clone(),
            shared: false,
            security_group_rules: rules.iter().map(rules::View::of).collect(),
            tags: tags.remove(&group.id).unwrap_or_default(),
            created_at: seconds(&group.created_at),
            updated_at: seconds(&group.updated_at),
            revision_number: group.revision,
        });
    }
    Ok(views)
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let asked_project = query.params.get("project_id").or_else(|| query.params.get("tenant_id")).map(str::to_owned);
    let mut page = store::LIST.page(&mut query.params)?;
    query.tags(&mut page);
    let own = ctx.creds()?.project_id().map(str::to_owned);
    if !is_admin(&ctx)? {
        page.and("r.project_id = ?", [Bound::Text(own.clone().unwrap_or_default())]);
    }
    // Whoever lists groups sees a default one, also before the first port. Only for the token's own project: a filter
    // that names any other must not create rows.
    if let Some(project) = own.filter(|own| asked_project.is_none_or(|asked| asked == *own)) {
        ensure_default(&app, project).await?;
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::map)?;
            let views = render(tx, &ctx, &listing.rows)?;
            Ok(query.listing(&ctx, "security_groups", &listing, |row| &row.id, &views))
        })
        .await
}

async fn ensure_default(app: &App, project: String) -> Result<()> {
    let known = project.clone();
    if app.db.read(move |tx| store::default_of(tx, &known)).await?.is_none() {
        let app = app.clone();
        app.db.clone().write(move |tx| store::ensure_default(tx, &app, &project)).await?;
    }
    Ok(())
}

fn one<'v>(views: &'v [View], id: &str) -> Result<&'v View> {
    views.first().ok_or_else(|| errors::group_not_found(id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let group = store::get(tx, &id)?;
            ctx.allow_or(rules_of_policy::GET_ONE, &Owner::of(&group.project_id).target(), || {
                errors::group_not_found(&id)
            })?;
            let views = render(tx, &ctx, std::slice::from_ref(&group))?;
            Ok(query.one("security_group", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "security_group", "security_groups")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut groups = Vec::with_capacity(bulk.items.len());
            for mut item in bulk.items {
                item.read_only(READ_ONLY, false)?;
                let project_id = item.project(&ctx)?;
                ctx.allow(rules_of_policy::CREATE, &Owner::of(&project_id).target())?;
                let name = item.label("name")?.unwrap_or_default();
                let description = item.label("description")?.unwrap_or_default();
                let stateful = item.flag("stateful")?.unwrap_or(true);
                let tags = tags::read(&mut item)?;
                item.finish()?;
                refuse_stateless(stateful)?;
                if name.eq_ignore_ascii_case("default") {
                    return Err(conflict(
                        "SecurityGroupDefaultAlreadyExists",
                        "Default security group already exists.",
                    ));
                }
                store::ensure_default(tx, &app, &project_id)?;
                store::check_quota(tx, &app, &project_id, 1, 2)?;
                let group = store::insert(tx, &app, &project_id, &name, &description, stateful, false)?;
                if let Some(tags) = tags {
                    tags::set(tx, &group.id, &tags)?;
                }
                groups.push(group);
            }
            let views = render(tx, &ctx, &groups)?;
            Ok(query::created(bulk.is_list, "security_group", "security_groups", &views))
        })
        .await
}

/// The firewall follows connections; a group that asks it not to would be a promise not kept.
fn refuse_stateless(stateful: bool) -> Result<()> {
    if stateful { Ok(()) } else { Err(errors::invalid("stateful", "this cloud has stateful security groups only")) }
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let mut attributes = Attributes::update(body, "security_group")?;
    let now = app.now();
    app.db
        .write(move |tx| {
            let mut group = store::get(tx, &id)?;
            let target = Owner::of(&group.project_id).target();
            guard(&ctx, rules_of_policy::UPDATE, rules_of_policy::GET_ONE, &target, || errors::group_not_found(&id))?;
            attributes.read_only(READ_ONLY, true)?;
            attributes.read_only(&["project_id", "tenant_id"], true)?;
            if let Some(name) = attributes.label("name")? {
                if group.is_default && name != group.name {
                    return Err(conflict(
                        "SecurityGroupCannotUpdateDefault",
                        "Updating default security group not allowed.",
                    ));
                }
                if !group.is_default && name.eq_ignore_ascii_case("default") {
                    return Err(conflict(
                        "SecurityGroupDefaultAlreadyExists",
                        "Default security group already exists.",
                    ));
                }
                group.name = name;
            }
            if let Some(description) = attributes.label("description")? {
                group.description = description;
            }
            if let Some(stateful) = attributes.flag("stateful")? {
                refuse_stateless(stateful)?;
            }
            attributes.finish()?;
            store::update(tx, &mut group, &now)?;
            let views = render(tx, &ctx, std::slice::from_ref(&group))?;
            Ok(query::updated("security_group", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let group = store::get(tx, &id)?;
            let target = Owner::of(&group.project_id).target();
            guard(&ctx, rules_of_policy::DELETE, rules_of_policy::GET_ONE, &target, || errors::group_not_found(&id))?;
            if group.is_default && !is_admin(&ctx)? {
                return Err(conflict(
                    "SecurityGroupCannotRemoveDefault",
                    "Insufficient rights for removing default security group.",
                ));
            }
            let is_used =
                tx.exists("SELECT 1 FROM network_port_security_group WHERE security_group_id = ?1", params![id])?;
            if is_used {
                return Err(conflict("SecurityGroupInUse", format!("Security Group {id} in use.")));
            }
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}
