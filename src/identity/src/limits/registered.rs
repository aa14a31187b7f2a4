//! `/v3/registered_limits`

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use rest::{
    Ctx, Dialect, Direction, Error, Filter, FilterKind, Kind, ListSpec, Params, RawJson, Reply, Result, target,
};
use serde_json::{Map, Value, json};

use super::policy as rules;
use crate::{
    App,
    errors::{duplicate_entry, expecting, invalid},
    fields::{Fields, NAME_MAX, TEXT_MAX},
    listing::{self, SelfLink},
};

#[derive(Clone, Debug)]
struct Registered {
    id: String,
    service_id: String,
    region_id: Option<String>,
    resource_name: String,
    default_limit: i64,
    description: Option<String>,
}

const COLUMNS: &str = "id, service_id, region_id, resource_name, default_limit, description";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_registered_limit",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id")],
    filters: &[
        Filter::new("service_id", "service_id", FilterKind::Text),
        Filter::new("region_id", "region_id", FilterKind::Text),
        Filter::new("resource_name", "resource_name", FilterKind::Text),
    ],
    limit_max: 0,
};

fn registered(row: &db::Row<'_>) -> db::rusqlite::Result<Registered> {
    Ok(Registered {
        id: row.get(0)?,
        service_id: row.get(1)?,
        region_id: row.get(2)?,
        resource_name: row.get(3)?,
        default_limit: row.get(4)?,
        description: row.get(5)?,
    })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Registered> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_registered_limit WHERE id = ?"), [id], registered)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("Could not find registered limit for {id}.")))
}

fn view(ctx: &Ctx, r: &Registered) -> Value {
    json!({
        "id": r.id,
        "service_id": r.service_id,
        "region_id": r.region_id,
        "resource_name": r.resource_name,
        "default_limit": r.default_limit,
        "description": r.description,
        "links": SelfLink::new(ctx, "/registered_limits", &r.id),
    })
}

/// A number of things; -1: any number.
pub(super) fn amount(fields: &mut Fields, name: &str) -> Result<Option<i64>> {
    match fields.take(name) {
        None => Ok(None),
        Some(value) => match value.as_i64().filter(|number| (-1..=i64::from(i32::MAX)).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(name, "it must be an integer of at least -1")),
        },
    }
}

/// The objects of a bulk creation.
pub(super) fn bulk(body: Value, name: &'static str) -> Result<Vec<Map<String, Value>>> {
    let Value::Object(mut map) = body else {
        return Err(Error::bad_request("The request body must be a JSON object."));
    };
    let Some(Value::Array(items)) = map.remove(name) else { return Err(expecting(name, "request body")) };
    if items.is_empty() {
        return Err(invalid(name, "it must not be empty"));
    }
    items
        .into_iter()
        .map(|item| match item {
            Value::Object(map) => Ok(map),
            _ => Err(invalid(name, "every item must be an object")),
        })
        .collect()
}

/// Unknown fields are mistakes here, as upstream's schema has it.
pub(super) fn finish(fields: Fields) -> Result<()> {
    match fields.into_extra().keys().next() {
        None => Ok(()),
        Some(name) => Err(invalid(name, "additional properties are not allowed")),
    }
}

pub(super) fn check_place(tx: &Tx<'_>, service_id: &str, region_id: Option<&str>) -> Result<()> {
    if !tx.exists("SELECT 1 FROM identity_service WHERE id = ?", [service_id])? {
        return Err(Error::bad_request(format!("Could not find service: {service_id}.")));
    }
    if let Some(id) = region_id
        && !tx.exists("SELECT 1 FROM identity_region WHERE id = ?", [id])?
    {
        return Err(Error::bad_request(format!("Could not find region: {id}.")));
    }
    Ok(())
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_REGISTERED, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, registered)?;
            Ok(listing::page(&ctx, &asked, "registered_limits", &listing, |row| view(&ctx, row), |row| &row.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_REGISTERED, &target(&[]))?;
    let found = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&json!({"registered_limit": view(&ctx, &found)})))
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE_REGISTERED, &target(&[]))?;
    let mut wanted = Vec::new();
    for map in bulk(body, "registered_limits")? {
        let mut fields = Fields::of(map);
        wanted.push(Registered {
            id: rest::new_hex_id(),
            service_id: fields.required_text("service_id", NAME_MAX, "registered_limits")?,
            region_id: fields.nullable("region_id", NAME_MAX)?.flatten(),
            resource_name: fields.required_name("resource_name", NAME_MAX, "registered_limits")?,
            default_limit: amount(&mut fields, "default_limit")?
                .ok_or_else(|| expecting("default_limit", "registered_limits"))?,
            description: fields.nullable("description", TEXT_MAX)?.flatten(),
        });
        finish(fields)?;
    }
    app.db
        .write(move |tx| {
            for r in &wanted {
                check_place(tx, &r.service_id, r.region_id.as_deref())?;
                tx.execute(
                    &format!("INSERT INTO identity_registered_limit ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"),
                    params![r.id, r.service_id, r.region_id, r.resource_name, r.default_limit, r.description],
                )
                .on_unique("index 'identity_registered_limit_once'", || duplicate_entry("registered_limit"))?;
            }
            let views: Vec<_> = wanted.iter().map(|r| view(&ctx, r)).collect();
            Ok(Reply::created(&json!({ "registered_limits": views })))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_REGISTERED, &target(&[]))?;
    let mut fields = Fields::open(body, "registered_limit")?.some("registered_limit")?;
    fields.same_id(&id)?;
    app.db
        .write(move |tx| {
            let mut r = find(tx, &id)?;
            if let Some(service_id) = fields.text("service_id", NAME_MAX)? {
                r.service_id = service_id;
            }
            if let Some(region_id) = fields.nullable("region_id", NAME_MAX)? {
                r.region_id = region_id;
            }
            if let Some(name) = fields.name("resource_name", NAME_MAX)? {
                r.resource_name = name;
            }
            if let Some(limit) = amount(&mut fields, "default_limit")? {
                r.default_limit = limit;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                r.description = description;
            }
            finish(fields)?;
            check_place(tx, &r.service_id, r.region_id.as_deref())?;
            tx.execute(
                "UPDATE identity_registered_limit SET service_id = ?2, region_id = ?3, resource_name = ?4, \
                 default_limit = ?5, description = ?6 WHERE id = ?1",
                params![r.id, r.service_id, r.region_id, r.resource_name, r.default_limit, r.description],
            )
            .on_unique("index 'identity_registered_limit_once'", || duplicate_entry("registered_limit"))?;
            Ok(Reply::ok(&json!({"registered_limit": view(&ctx, &r)})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_REGISTERED, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_registered_limit WHERE id = ?", [&id]).on_foreign(|| {
                Error::forbidden(format!(
                    "Unable to update or delete registered limit {id} because there are project limits associated with it."
                ))
            })?;
            Ok(Reply::no_content())
        })
        .await
}
