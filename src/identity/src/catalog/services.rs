//! `/v3/services`

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, Dialect, Direction, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde::Serialize;
use serde_json::{Map, Value};

use super::policy as rules;
use crate::{
    App,
    errors::not_found,
    fields::{Fields, NAME_MAX, map_text, merge, text_map},
    listing::{self, SelfLink},
};

#[derive(Clone, Debug)]
struct Service {
    id: String,
    kind: String,
    name: String,
    enabled: bool,
    /// `description` among them, as upstream keeps it.
    extra: Map<String, Value>,
}

const COLUMNS: &str = "id, type, name, enabled, extra";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_service",
    key: "id",
    default_sort: &[("type", Direction::Ascending)],
    sortable: &[("type", "type"), ("name", "name"), ("id", "id")],
    filters: &[
        Filter::new("type", "type", FilterKind::Text),
        Filter::new("name", "name", FilterKind::Text),
        Filter::new("enabled", "enabled", FilterKind::Bool),
    ],
    limit_max: 0,
};

fn service(row: &db::Row<'_>) -> db::rusqlite::Result<Service> {
    Ok(Service {
        id: row.get(0)?,
        kind: row.get(1)?,
        name: row.get(2)?,
        enabled: row.get(3)?,
        extra: text_map(&row.get::<_, String>(4)?),
    })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Service> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_service WHERE id = ?"), [id], service)?
        .ok_or_else(|| not_found("service", id))
}

/// 404 for a service that is not there.
pub(crate) fn check(tx: &Tx<'_>, id: &str) -> Result<()> {
    find(tx, id).map(|_| ())
}

pub(super) fn exists(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM identity_service WHERE id = ?", [id])
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    enabled: bool,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

fn view<'a>(ctx: &Ctx, service: &'a Service) -> View<'a> {
    View {
        id: &service.id,
        name: &service.name,
        kind: &service.kind,
        enabled: service.enabled,
        extra: &service.extra,
        links: SelfLink::new(ctx, "/services", &service.id),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_SERVICES, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, service)?;
            Ok(listing::page(&ctx, &asked, "services", &listing, |service| view(&ctx, service), |service| &service.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_SERVICE, &target(&[]))?;
    let service = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&listing::wrap("service", &view(&ctx, &service))))
}

fn check_description(fields: &Fields) -> Result<()> {
    match fields.peek("description") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => Err(crate::errors::invalid("description", "it must be a string or null")),
    }
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE_SERVICE, &target(&[]))?;
    let mut fields = Fields::open(body, "service")?;
    check_description(&fields)?;
    let service = Service {
        id: rest::new_hex_id(),
        kind: fields.required_name("type", NAME_MAX, "service")?,
        name: fields.text("name", NAME_MAX)?.unwrap_or_default(),
        enabled: fields.boolean("enabled")?.unwrap_or(true),
        extra: fields.into_extra(),
    };
    app.db
        .write(move |tx| {
            tx.execute(
                "INSERT INTO identity_service (id, type, name, enabled, extra) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![service.id, service.kind, service.name, service.enabled, map_text(&service.extra)],
            )?;
            Ok(Reply::created(&listing::wrap("service", &view(&ctx, &service))))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_SERVICE, &target(&[]))?;
    let mut fields = Fields::open(body, "service")?.some("service")?;
    fields.same_id(&id)?;
    check_description(&fields)?;
    app.db
        .write(move |tx| {
            let mut service = find(tx, &id)?;
            if let Some(kind) = fields.name("type", NAME_MAX)? {
                service.kind = kind;
            }
            if let Some(name) = fields.text("name", NAME_MAX)? {
                service.name = name;
            }
            if let Some(enabled) = fields.boolean("enabled")? {
                service.enabled = enabled;
            }
            merge(&mut service.extra, fields.into_extra(), false);
            tx.execute(
                "UPDATE identity_service SET type = ?2, name = ?3, enabled = ?4, extra = ?5 WHERE id = ?1",
                params![service.id, service.kind, service.name, service.enabled, map_text(&service.extra)],
            )?;
            Ok(Reply::ok(&listing::wrap("service", &view(&ctx, &service))))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_SERVICE, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            // Limits of a service that is gone mean nothing.
            tx.execute(
                "DELETE FROM identity_limit WHERE registered_limit_id IN \
                 (SELECT id FROM identity_registered_limit WHERE service_id = ?)",
                [&id],
            )?;
            tx.execute("DELETE FROM identity_registered_limit WHERE service_id = ?", [&id])?;
            tx.execute("DELETE FROM identity_service WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}

/// For bootstrap: the service of this type, made when there is none. Tells its id and whether it is new.
pub(crate) fn ensure(tx: &Tx<'_>, kind: &str, name: &str) -> db::Result<(String, bool)> {
    if let Some(id) = tx.find("SELECT id FROM identity_service WHERE type = ? ORDER BY id", [kind], |row| row.get(0))? {
        return Ok((id, false));
    }
    let id = rest::new_hex_id();
    tx.execute("INSERT INTO identity_service (id, type, name) VALUES (?1, ?2, ?3)", params![id, kind, name])?;
    Ok((id, true))
}
