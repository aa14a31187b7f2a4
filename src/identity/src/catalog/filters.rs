//! `/v3/OS-EP-FILTER`: which endpoints a project sees in its catalog. A project that nothing was said about sees all.

use std::collections::{HashMap, HashSet};

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use rest::{
    Ctx, Dialect, Direction, Error, Filter, FilterKind, Kind, ListSpec, Params, RawJson, Reply, Result, Rule, target,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{base_url, endpoints, policy as rules};
use crate::{
    App,
    errors::{expecting, invalid, not_found},
    fields::{Fields, NAME_MAX, TEXT_MAX, map_text, text_map},
    listing::{self, SelfLink},
    projects,
};

#[derive(Clone, Debug)]
pub(crate) struct Group {
    id: String,
    name: String,
    description: Option<String>,
    filters: Map<String, Value>,
}

const COLUMNS: &str = "id, name, description, filters";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_endpoint_group",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id"), ("name", "name")],
    filters: &[Filter::new("name", "name", FilterKind::Text)],
    limit_max: 0,
};

fn group(row: &db::Row<'_>) -> db::rusqlite::Result<Group> {
    Ok(Group {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        filters: text_map(&row.get::<_, String>(3)?),
    })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Group> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_endpoint_group WHERE id = ?"), [id], group)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("Could not find Endpoint Group: {id}.")))
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    name: &'a str,
    description: Option<&'a str>,
    filters: &'a Map<String, Value>,
    links: SelfLink,
}

fn view<'a>(ctx: &Ctx, group: &'a Group) -> View<'a> {
    View {
        id: &group.id,
        name: &group.name,
        description: group.description.as_deref(),
        filters: &group.filters,
        links: SelfLink::new(ctx, "/OS-EP-FILTER/endpoint_groups", &group.id),
    }
}

/// What a filter compares an endpoint with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub service_id: &'a str,
    pub interface: &'a str,
    pub region_id: Option<&'a str>,
}

fn matches(filters: &Map<String, Value>, endpoint: Seen<'_>, enabled: bool) -> bool {
    filters.iter().all(|(name, wanted)| match name.as_str() {
        "service_id" => wanted.as_str() == Some(endpoint.service_id),
        "interface" => wanted.as_str() == Some(endpoint.interface),
        "region_id" => wanted.as_str() == endpoint.region_id,
        "enabled" => wanted.as_bool() == Some(enabled),
        _ => false,
    })
}

/// Projects that see less than everything.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    endpoints: HashMap<String, HashSet<String>>,
    groups: HashMap<String, Vec<Map<String, Value>>>,
}

impl Chosen {
    pub(super) fn load(tx: &Tx<'_>) -> db::Result<Self> {
        let mut chosen = Self::default();
        let pairs = |row: &db::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        for (project, endpoint) in
            tx.list("SELECT project_id, endpoint_id FROM identity_project_endpoint", [], pairs)?
        {
            chosen.endpoints.entry(project).or_default().insert(endpoint);
        }
        for (project, filters) in tx.list(
            "SELECT p.project_id, g.filters FROM identity_project_endpoint_group p \
             JOIN identity_endpoint_group g ON g.id = p.endpoint_group_id",
            [],
            pairs,
        )? {
            chosen.groups.entry(project).or_default().push(text_map(&filters));
        }
        Ok(chosen)
    }

    pub(super) fn shows(&self, project_id: Option<&str>, id: &str, endpoint: Seen<'_>) -> bool {
        let Some(project_id) = project_id else { return true };
        let (own, groups) = (self.endpoints.get(project_id), self.groups.get(project_id));
        if own.is_none() && groups.is_none() {
            return true;
        }
        own.is_some_and(|own| own.contains(id))
            || groups.is_some_and(|groups| groups.iter().any(|filters| matches(filters, endpoint, true)))
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_GROUPS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, group)?;
            Ok(listing::page(&ctx, &asked, "endpoint_groups", &listing, |group| view(&ctx, group), |group| &group.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_GROUP, &target(&[]))?;
    let group = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&listing::wrap("endpoint_group", &view(&ctx, &group))))
}

fn filters(fields: &mut Fields) -> Result<Option<Map<String, Value>>> {
    let Some(filters) = fields.object("filters")? else { return Ok(None) };
    for (name, value) in &filters {
        let fits = match name.as_str() {
            "interface" => value.as_str().is_some_and(|text| ["public", "internal", "admin"].contains(&text)),
            "service_id" => value.is_string(),
            "region_id" => value.is_string() || value.is_null(),
            "enabled" => value.is_boolean(),
            _ => false,
        };
        if !fits {
            return Err(invalid("filters", "it may hold interface, service_id, region_id and enabled"));
        }
    }
    Ok(Some(filters))
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE_GROUP, &target(&[]))?;
    let mut fields = Fields::open(body, "endpoint_group")?;
    let group = Group {
        id: rest::new_hex_id(),
        name: fields.required_name("name", NAME_MAX, "endpoint_group")?,
        description: fields.nullable("description", TEXT_MAX)?.flatten(),
        filters: filters(&mut fields)?
            .filter(|filters| !filters.is_empty())
            .ok_or_else(|| expecting("filters", "endpoint_group"))?,
    };
    app.db
        .write(move |tx| {
            tx.execute(
                "INSERT INTO identity_endpoint_group (id, name, description, filters) VALUES (?1, ?2, ?3, ?4)",
                params![group.id, group.name, group.description, map_text(&group.filters)],
            )?;
            Ok(Reply::created(&listing::wrap("endpoint_group", &view(&ctx, &group))))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_GROUP, &target(&[]))?;
    let mut fields = Fields::open(body, "endpoint_group")?.some("endpoint_group")?;
    fields.same_id(&id)?;
    app.db
        .write(move |tx| {
            let mut group = find(tx, &id)?;
            if let Some(name) = fields.name("name", NAME_MAX)? {
                group.name = name;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                group.description = description;
            }
            if let Some(filters) = filters(&mut fields)? {
                group.filters = filters;
            }
            tx.execute(
                "UPDATE identity_endpoint_group SET name = ?2, description = ?3, filters = ?4 WHERE id = ?1",
                params![group.id, group.name, group.description, map_text(&group.filters)],
            )?;
            Ok(Reply::ok(&listing::wrap("endpoint_group", &view(&ctx, &group))))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_GROUP, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_endpoint_group WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}

/// The endpoints that a group picks.
pub(crate) async fn endpoints_of_group(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_ENDPOINTS_OF_GROUP, &target(&[]))?;
    let base = base_url(&ctx, &app.options);
    app.db
        .read(move |tx| {
            let group = find(tx, &id)?;
            let picked = endpoints::all(tx, |endpoint, enabled| matches(&group.filters, endpoint, enabled))?;
            Ok(endpoints::views(&ctx, &params, &base, &picked))
        })
        .await
}

pub(crate) async fn projects_of_group(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_PROJECTS_OF_GROUP, &target(&[]))?;
    app.db
        .read(move |tx| {
            find(tx, &id)?;
            let sql = "SELECT project_id FROM identity_project_endpoint_group WHERE endpoint_group_id = ?";
            projects_by(tx, &ctx, &params, sql, &id)
        })
        .await
}

fn projects_by(tx: &Tx<'_>, ctx: &Ctx, params: &Params, sql: &'static str, id: &str) -> Result<Reply> {
    let ids: Vec<String> = tx.list(sql, [id], |row| row.get(0))?;
    let mut found = Vec::new();
    for id in ids {
        found.extend(projects::store::find(tx, &id)?);
    }
    let views: Vec<_> = found.iter().map(|project| projects::views::project(ctx, project)).collect();
    Ok(listing::all(ctx, params, "projects", &views))
}

fn project_exists(tx: &Tx<'_>, id: &str) -> Result<()> {
    projects::store::find(tx, id)?.map(|_| ()).ok_or_else(|| not_found("project", id))
}

pub(crate) async fn groups_of_project(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_GROUPS_OF_PROJECT, &target(&[]))?;
    app.db
        .read(move |tx| {
            project_exists(tx, &project_id)?;
            let groups = tx.list(
                "SELECT g.id, g.name, g.description, g.filters FROM identity_endpoint_group g JOIN \
                 identity_project_endpoint_group p ON p.endpoint_group_id = g.id WHERE p.project_id = ? ORDER BY g.id",
                [&project_id],
                group,
            )?;
            let views: Vec<_> = groups.iter().map(|group| view(&ctx, group)).collect();
            Ok(listing::all(&ctx, &params, "endpoint_groups", &views))
        })
        .await
}

pub(crate) async fn endpoints_of_project(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_ENDPOINTS_OF_PROJECT, &target(&[]))?;
    let base = base_url(&ctx, &app.options);
    app.db
        .read(move |tx| {
            project_exists(tx, &project_id)?;
            let chosen = Chosen::load(tx)?;
            let own = chosen.endpoints.get(&project_id);
            let groups = chosen.groups.get(&project_id);
            let picked = endpoints::all_by_id(tx, |id, endpoint, enabled| {
                own.is_some_and(|own| own.contains(id))
                    || groups.is_some_and(|groups| groups.iter().any(|filters| matches(filters, endpoint, enabled)))
            })?;
            Ok(endpoints::views(&ctx, &params, &base, &picked))
        })
        .await
}

pub(crate) async fn projects_of_endpoint(
    State(app): State<App>,
    ctx: Ctx,
    Path(endpoint_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_PROJECTS_OF_ENDPOINT, &target(&[]))?;
    app.db
        .read(move |tx| {
            endpoints::exists(tx, &endpoint_id)?;
            let sql = "SELECT project_id FROM identity_project_endpoint WHERE endpoint_id = ?";
            projects_by(tx, &ctx, &params, sql, &endpoint_id)
        })
        .await
}

/// One of the two kinds of association; all SQL is ours.
#[derive(Clone, Copy)]
enum Link {
    Endpoint,
    Group,
}

impl Link {
    fn check(self, tx: &Tx<'_>, project_id: &str, id: &str) -> Result<()> {
        match self {
            Self::Endpoint => endpoints::exists(tx, id)?,
            Self::Group => find(tx, id).map(|_| ())?,
        }
        project_exists(tx, project_id)
    }

    fn exists(self, tx: &Tx<'_>, project_id: &str, id: &str) -> db::Result<bool> {
        let sql = match self {
            Self::Endpoint => "SELECT 1 FROM identity_project_endpoint WHERE project_id = ? AND endpoint_id = ?",
            Self::Group => {
                "SELECT 1 FROM identity_project_endpoint_group WHERE project_id = ? AND endpoint_group_id = ?"
            }
        };
        tx.exists(sql, [project_id, id])
    }

    fn insert(self, tx: &Tx<'_>, project_id: &str, id: &str) -> Result<()> {
        let (sql, columns) = match self {
            Self::Endpoint => (
                "INSERT INTO identity_project_endpoint (project_id, endpoint_id) VALUES (?, ?)",
                "identity_project_endpoint.project_id, identity_project_endpoint.endpoint_id",
            ),
            Self::Group => (
                "INSERT INTO identity_project_endpoint_group (project_id, endpoint_group_id) VALUES (?, ?)",
                "identity_project_endpoint_group.project_id, identity_project_endpoint_group.endpoint_group_id",
            ),
        };
        tx.execute(sql, [project_id, id]).on_unique(columns, || crate::errors::duplicate_entry("project_endpoint"))?;
        Ok(())
    }

    fn delete(self, tx: &Tx<'_>, project_id: &str, id: &str) -> db::Result<bool> {
        let sql = match self {
            Self::Endpoint => "DELETE FROM identity_project_endpoint WHERE project_id = ? AND endpoint_id = ?",
            Self::Group => "DELETE FROM identity_project_endpoint_group WHERE project_id = ? AND endpoint_group_id = ?",
        };
        Ok(tx.execute(sql, [project_id, id])? > 0)
    }
}

fn no_link(project_id: &str, id: &str) -> Error {
    Error::new(Kind::NotFound, format!("Endpoint {id} not found in project {project_id}."))
}

async fn check_link(app: App, ctx: Ctx, rule: Rule, link: Link, project_id: String, id: String) -> Result<Reply> {
    ctx.allow(rule, &target(&[]))?;
    app.db
        .read(move |tx| {
            link.check(tx, &project_id, &id)?;
            if link.exists(tx, &project_id, &id)? { Ok(Reply::no_content()) } else { Err(no_link(&project_id, &id)) }
        })
        .await
}

async fn add_link(app: App, ctx: Ctx, rule: Rule, link: Link, project_id: String, id: String) -> Result<Reply> {
    ctx.allow(rule, &target(&[]))?;
    app.db
        .write(move |tx| {
            link.check(tx, &project_id, &id)?;
            link.insert(tx, &project_id, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

async fn remove_link(app: App, ctx: Ctx, rule: Rule, link: Link, project_id: String, id: String) -> Result<Reply> {
    ctx.allow(rule, &target(&[]))?;
    app.db
        .write(move |tx| {
            let was = link.delete(tx, &project_id, &id)?;
            if was { Ok(Reply::no_content()) } else { Err(no_link(&project_id, &id)) }
        })
        .await
}

type Pair = Path<(String, String)>;

pub(crate) async fn check_endpoint(State(app): State<App>, ctx: Ctx, Path((project_id, id)): Pair) -> Result<Reply> {
    check_link(app, ctx, rules::CHECK_ENDPOINT_IN_PROJECT, Link::Endpoint, project_id, id).await
}

pub(crate) async fn add_endpoint(State(app): State<App>, ctx: Ctx, Path((project_id, id)): Pair) -> Result<Reply> {
    add_link(app, ctx, rules::ADD_ENDPOINT_TO_PROJECT, Link::Endpoint, project_id, id).await
}

pub(crate) async fn remove_endpoint(State(app): State<App>, ctx: Ctx, Path((project_id, id)): Pair) -> Result<Reply> {
    remove_link(app, ctx, rules::REMOVE_ENDPOINT_FROM_PROJECT, Link::Endpoint, project_id, id).await
}

/// Upstream answers the association itself here, not 204.
pub(crate) async fn show_group(State(app): State<App>, ctx: Ctx, Path((id, project_id)): Pair) -> Result<Reply> {
    ctx.allow(rules::GET_GROUP_IN_PROJECT, &target(&[]))?;
    app.db
        .read(move |tx| {
            Link::Group.check(tx, &project_id, &id)?;
            if !Link::Group.exists(tx, &project_id, &id)? {
                return Err(no_link(&project_id, &id));
            }
            Ok(Reply::ok(&listing::wrap("endpoint_group", &view(&ctx, &find(tx, &id)?))))
        })
        .await
}

pub(crate) async fn add_group(State(app): State<App>, ctx: Ctx, Path((id, project_id)): Pair) -> Result<Reply> {
    add_link(app, ctx, rules::ADD_GROUP_TO_PROJECT, Link::Group, project_id, id).await
}

pub(crate) async fn remove_group(State(app): State<App>, ctx: Ctx, Path((id, project_id)): Pair) -> Result<Reply> {
    remove_link(app, ctx, rules::REMOVE_GROUP_FROM_PROJECT, Link::Group, project_id, id).await
}
