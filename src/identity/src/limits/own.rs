//! `/v3/limits`

use axum::extract::{Path, State};
use db::{Constraint, Tx, Value as Bound, params};
use rest::{
    Ctx, Dialect, Direction, Error, Filter, FilterKind, Kind, ListSpec, Params, RawJson, Reply, Result, target,
};
use serde_json::{Value, json};

use super::{
    policy as rules,
    registered::{amount, bulk, finish},
};
use crate::{
    App,
    errors::{duplicate_entry, expecting, invalid},
    fields::{Fields, NAME_MAX, TEXT_MAX},
    listing::{self, SelfLink},
    projects::store as projects,
};

#[derive(Clone, Debug)]
struct Limit {
    id: String,
    project_id: Option<String>,
    domain_id: Option<String>,
    resource_limit: i64,
    description: Option<String>,
    /// Of the default limit that this one replaces.
    service_id: String,
    region_id: Option<String>,
    resource_name: String,
}

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: "l.id, l.project_id, l.domain_id, l.resource_limit, l.description, r.service_id, r.region_id, r.resource_name",
    from: "identity_limit l JOIN identity_registered_limit r ON r.id = l.registered_limit_id",
    key: "l.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "l.id")],
    filters: &[
        Filter::new("service_id", "r.service_id", FilterKind::Text),
        Filter::new("region_id", "r.region_id", FilterKind::Text),
        Filter::new("resource_name", "r.resource_name", FilterKind::Text),
        Filter::new("project_id", "l.project_id", FilterKind::Text),
        Filter::new("domain_id", "l.domain_id", FilterKind::Text),
    ],
    limit_max: 0,
};

fn limit(row: &db::Row<'_>) -> db::rusqlite::Result<Limit> {
    Ok(Limit {
        id: row.get(0)?,
        project_id: row.get(1)?,
        domain_id: row.get(2)?,
        resource_limit: row.get(3)?,
        description: row.get(4)?,
        service_id: row.get(5)?,
        region_id: row.get(6)?,
        resource_name: row.get(7)?,
    })
}

fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Limit>> {
    tx.find(
        "SELECT l.id, l.project_id, l.domain_id, l.resource_limit, l.description, r.service_id, r.region_id, \
         r.resource_name FROM identity_limit l JOIN identity_registered_limit r ON r.id = l.registered_limit_id \
         WHERE l.id = ?",
        [id],
        limit,
    )
}

fn missing(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("Could not find limit for {id}."))
}

fn view(ctx: &Ctx, l: &Limit) -> Value {
    json!({
        "id": l.id,
        "project_id": l.project_id,
        "domain_id": l.domain_id,
        "service_id": l.service_id,
        "region_id": l.region_id,
        "resource_name": l.resource_name,
        "resource_limit": l.resource_limit,
        "description": l.description,
        "links": SelfLink::new(ctx, "/limits", &l.id),
    })
}

pub(crate) async fn model(ctx: Ctx) -> Result<Reply> {
    ctx.allow(rules::MODEL, &target(&[]))?;
    Ok(Reply::ok(&json!({"model": {
        "name": "flat",
        "description": "A limit counts for its own project or domain only, whatever is above or below it.",
    }})))
}

/// Administrators, services and system users see all; others what concerns their own scope.
pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST, &target(&[]))?;
    let mut page = LIST.page(&mut params)?;
    let creds = ctx.creds()?;
    if !(creds.is_system() || creds.has_role("admin") || creds.has_role("service")) {
        match (creds.project_id(), creds.domain_id()) {
            (Some(id), _) => page.and("l.project_id = ?", [Bound::Text(id.to_owned())]),
            (None, Some(id)) => {
                let id = || Bound::Text(id.to_owned());
                page.and(
                    "(l.domain_id = ? OR l.project_id IN (SELECT id FROM identity_project WHERE domain_id = ?))",
                    [id(), id()],
                )
            }
            (None, None) => page.and("0", []),
        };
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, limit)?;
            Ok(listing::page(&ctx, &asked, "limits", &listing, |row| view(&ctx, row), |row| &row.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let found = find(tx, &id)?;
            let mut about = target(&[]);
            if let Some(limit) = &found {
                if let Some(id) = &limit.domain_id {
                    about.insert("target.limit.domain.id".into(), json!(id));
                }
                about.insert("target.limit.project_id".into(), json!(limit.project_id));
                if let Some(id) = &limit.project_id
                    && let Some(project) = projects::find(tx, id)?
                {
                    about.insert("target.limit.project.domain_id".into(), json!(project.domain_id));
                }
            }
            ctx.allow(rules::GET, &about)?;
            let limit = found.ok_or_else(|| missing(&id))?;
            Ok(Reply::ok(&json!({"limit": view(&ctx, &limit)})))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE, &target(&[]))?;
    let mut wanted = Vec::new();
    for map in bulk(body, "limits")? {
        let mut fields = Fields::of(map);
        let limit = Limit {
            id: rest::new_hex_id(),
            project_id: fields.nullable("project_id", NAME_MAX)?.flatten(),
            domain_id: fields.nullable("domain_id", NAME_MAX)?.flatten(),
            resource_limit: amount(&mut fields, "resource_limit")?
                .ok_or_else(|| expecting("resource_limit", "limits"))?,
            description: fields.nullable("description", TEXT_MAX)?.flatten(),
            service_id: fields.required_text("service_id", NAME_MAX, "limits")?,
            region_id: fields.nullable("region_id", NAME_MAX)?.flatten(),
            resource_name: fields.required_name("resource_name", NAME_MAX, "limits")?,
        };
        finish(fields)?;
        if limit.project_id.is_some() == limit.domain_id.is_some() {
            return Err(invalid("limits", "a limit is for either a project or a domain"));
        }
        wanted.push(limit);
    }
    app.db
        .write(move |tx| {
            for l in &wanted {
                if let Some(id) = &l.project_id
                    && projects::find(tx, id)?.is_none()
                {
                    return Err(Error::bad_request(format!("Could not find project: {id}.")));
                }
                if let Some(id) = &l.domain_id
                    && projects::find_domain(tx, id)?.is_none()
                {
                    return Err(Error::bad_request(format!("Could not find domain: {id}.")));
                }
                let registered: Option<String> = tx.find(
                    "SELECT id FROM identity_registered_limit WHERE service_id = ?1 AND region_id IS ?2 \
                     AND resource_name = ?3",
                    params![l.service_id, l.region_id, l.resource_name],
                    |row| row.get(0),
                )?;
                let registered = registered.ok_or_else(|| {
                    Error::forbidden(format!("No registered limit for resource {} of this service.", l.resource_name))
                })?;
                tx.execute(
                    "INSERT INTO identity_limit (id, registered_limit_id, project_id, domain_id, resource_limit, \
                     description) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![l.id, registered, l.project_id, l.domain_id, l.resource_limit, l.description],
                )
                .on_unique("index 'identity_limit_once'", || duplicate_entry("limit"))?;
            }
            let views: Vec<_> = wanted.iter().map(|l| view(&ctx, l)).collect();
            Ok(Reply::created(&json!({ "limits": views })))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE, &target(&[]))?;
    let mut fields = Fields::open(body, "limit")?.some("limit")?;
    fields.same_id(&id)?;
    app.db
        .write(move |tx| {
            let mut limit = find(tx, &id)?.ok_or_else(|| missing(&id))?;
            if let Some(amount) = amount(&mut fields, "resource_limit")? {
                limit.resource_limit = amount;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                limit.description = description;
            }
            finish(fields)?;
            tx.execute(
                "UPDATE identity_limit SET resource_limit = ?2, description = ?3 WHERE id = ?1",
                params![limit.id, limit.resource_limit, limit.description],
            )?;
            Ok(Reply::ok(&json!({"limit": view(&ctx, &limit)})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?.ok_or_else(|| missing(&id))?;
            tx.execute("DELETE FROM identity_limit WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}
