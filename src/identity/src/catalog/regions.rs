//! `/v3/regions`

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use http::StatusCode;
use rest::{Ctx, Dialect, Direction, Error, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde::Serialize;
use serde_json::{Map, Value};

use super::policy as rules;
use crate::{
    App,
    errors::{duplicate_entry, invalid, not_found},
    fields::{Fields, NAME_MAX, TEXT_MAX, map_text, merge, text_map},
    listing::{self, SelfLink},
};

#[derive(Clone, Debug)]
struct Region {
    id: String,
    parent_id: Option<String>,
    description: String,
    extra: Map<String, Value>,
}

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: "id, parent_id, description, extra",
    from: "identity_region",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id")],
    filters: &[Filter::new("parent_region_id", "parent_id", FilterKind::Text)],
    limit_max: 0,
};

fn region(row: &db::Row<'_>) -> db::rusqlite::Result<Region> {
    Ok(Region {
        id: row.get(0)?,
        parent_id: row.get(1)?,
        description: row.get(2)?,
        extra: text_map(&row.get::<_, String>(3)?),
    })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Region> {
    tx.find("SELECT id, parent_id, description, extra FROM identity_region WHERE id = ?", [id], region)?
        .ok_or_else(|| not_found("region", id))
}

fn insert(tx: &Tx<'_>, region: &Region) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_region (id, parent_id, description, extra) VALUES (?1, ?2, ?3, ?4)",
        params![region.id, region.parent_id, region.description, map_text(&region.extra)],
    )
    .on_unique("identity_region.id", || duplicate_entry("region"))?;
    Ok(())
}

/// 404 for a region that is not there.
pub(crate) fn check(tx: &Tx<'_>, id: &str) -> Result<()> {
    find(tx, id).map(|_| ())
}

/// For bootstrap and for endpoints that name a region in the old way.
pub(super) fn ensure(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    let added = tx.execute("INSERT INTO identity_region (id) VALUES (?) ON CONFLICT DO NOTHING", [id])?;
    Ok(added > 0)
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    description: &'a str,
    parent_region_id: Option<&'a str>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

fn view<'a>(ctx: &Ctx, region: &'a Region) -> View<'a> {
    View {
        id: &region.id,
        description: &region.description,
        parent_region_id: region.parent_id.as_deref(),
        extra: &region.extra,
        links: SelfLink::new(ctx, "/regions", &region.id),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_REGIONS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, region)?;
            Ok(listing::page(&ctx, &asked, "regions", &listing, |region| view(&ctx, region), |region| &region.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_REGION, &target(&[]))?;
    let region = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&listing::wrap("region", &view(&ctx, &region))))
}

async fn add(app: App, ctx: Ctx, id: Option<String>, body: Value) -> Result<Reply> {
    ctx.allow(rules::CREATE_REGION, &target(&[]))?;
    let mut fields = Fields::open(body, "region")?;
    if let Some(id) = &id {
        fields.same_id(id)?;
    }
    let named = fields.nullable("id", NAME_MAX)?.flatten().filter(|id| !id.is_empty());
    let id = id.or(named).unwrap_or_else(rest::new_hex_id);
    if id.chars().count() > NAME_MAX {
        return Err(invalid("id", "it is longer than 255 characters"));
    }
    let region = Region {
        id,
        parent_id: fields.nullable("parent_region_id", NAME_MAX)?.flatten().filter(|id| !id.is_empty()),
        description: fields.nullable("description", TEXT_MAX)?.flatten().unwrap_or_default(),
        extra: fields.into_extra(),
    };
    app.db
        .write(move |tx| {
            if let Some(parent_id) = &region.parent_id {
                find(tx, parent_id)?;
            }
            insert(tx, &region)?;
            Ok(Reply::json(StatusCode::CREATED, &listing::wrap("region", &view(&ctx, &region))))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    add(app, ctx, None, body).await
}

pub(crate) async fn put(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    add(app, ctx, Some(id), body).await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_REGION, &target(&[]))?;
    let mut fields = Fields::open(body, "region")?.some("region")?;
    fields.same_id(&id)?;
    app.db
        .write(move |tx| {
            let mut region = find(tx, &id)?;
            if let Some(parent_id) = fields.nullable("parent_region_id", NAME_MAX)? {
                region.parent_id = parent_id.filter(|id| !id.is_empty());
                let mut above = region.parent_id.clone();
                while let Some(at) = above {
                    if at == id {
                        return Err(Error::bad_request(format!(
                            "The specified parent region {} would create a circular region hierarchy.",
                            region.parent_id.unwrap_or_default()
                        )));
                    }
                    above = find(tx, &at)?.parent_id;
                }
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                region.description = description.unwrap_or_default();
            }
            merge(&mut region.extra, fields.into_extra(), false);
            tx.execute(
                "UPDATE identity_region SET parent_id = ?2, description = ?3, extra = ?4 WHERE id = ?1",
                params![region.id, region.parent_id, region.description, map_text(&region.extra)],
            )?;
            Ok(Reply::ok(&listing::wrap("region", &view(&ctx, &region))))
        })
        .await
}

/// Takes the regions below along, unless an endpoint is in any of them.
pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_REGION, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_region WHERE id = ?", [&id]).on_foreign(|| {
                Error::forbidden(format!(
                    "Unable to delete region {id} because it or its child regions have associated endpoints."
                ))
            })?;
            Ok(Reply::no_content())
        })
        .await
}
