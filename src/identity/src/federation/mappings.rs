//! `/v3/OS-FEDERATION/mappings`

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use rest::{Ctx, Dialect, Direction, Error, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::{policy as names, rules};
use crate::{
    App,
    errors::{duplicate_entry, expecting, invalid, not_found},
    fields::Fields,
    listing::{self, SelfLink},
};

pub(crate) struct Mapping {
    id: String,
    /// As the client wrote them; checked by [`rules::check`].
    pub rules: Value,
    pub schema_version: String,
}

const COLUMNS: &str = "id, rules, schema_version";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_mapping",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id")],
    filters: &[Filter::new("id", "id", FilterKind::Text)],
    limit_max: 0,
};

fn mapping(row: &db::Row<'_>) -> db::rusqlite::Result<Mapping> {
    Ok(Mapping {
        id: row.get(0)?,
        rules: serde_json::from_str(&row.get::<_, String>(1)?).unwrap_or_default(),
        schema_version: row.get(2)?,
    })
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Mapping> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_mapping WHERE id = ?"), [id], mapping)?
        .ok_or_else(|| not_found("mapping", id))
}

fn view(ctx: &Ctx, mapping: &Mapping) -> Value {
    json!({
        "id": mapping.id,
        "rules": mapping.rules,
        "schema_version": mapping.schema_version,
        "links": SelfLink::new(ctx, "/OS-FEDERATION/mappings", &mapping.id),
    })
}

/// The rules and the version of their language, if the body speaks of them and they make sense together.
fn asked(fields: &mut Fields, known: &Mapping) -> Result<(Value, String)> {
    let version = match fields.take("schema_version") {
        // The stock client sends null where nobody chose one.
        None | Some(Value::Null) => known.schema_version.clone(),
        Some(Value::String(version)) if matches!(version.as_str(), "1.0" | "2.0") => version,
        Some(_) => return Err(invalid("schema_version", "it must be \"1.0\" or \"2.0\"")),
    };
    let asked = fields.take("rules").unwrap_or_else(|| known.rules.clone());
    rules::check(&asked)?;
    Ok((asked, version))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(names::LIST_MAPPINGS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, mapping)?;
            Ok(listing::page(&ctx, &asked, "mappings", &listing, |mapping| view(&ctx, mapping), |mapping| &mapping.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(names::GET_MAPPING, &target(&[]))?;
    let mapping = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&json!({"mapping": view(&ctx, &mapping)})))
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(names::CREATE_MAPPING, &target(&[]))?;
    let mut fields = Fields::open(body, "mapping")?;
    fields.take_id(&id)?;
    if !fields.has("rules") {
        return Err(expecting("rules", "mapping"));
    }
    let mut mapping = Mapping { id: super::path_id(id)?, rules: Value::Null, schema_version: "1.0".into() };
    (mapping.rules, mapping.schema_version) = asked(&mut fields, &mapping)?;
    fields.nothing_else("mapping")?;
    app.db
        .write(move |tx| {
            tx.execute(
                "INSERT INTO identity_mapping (id, rules, schema_version) VALUES (?1, ?2, ?3)",
                params![mapping.id, mapping.rules.to_string(), mapping.schema_version],
            )
            .on_unique("identity_mapping.id", || duplicate_entry("mapping"))?;
            Ok(Reply::created(&json!({"mapping": view(&ctx, &mapping)})))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(names::UPDATE_MAPPING, &target(&[]))?;
    app.db
        .write(move |tx| {
            let mut mapping = find(tx, &id)?;
            let mut fields = Fields::open(body, "mapping")?.some("mapping")?;
            fields.take_id(&id)?;
            (mapping.rules, mapping.schema_version) = asked(&mut fields, &mapping)?;
            fields.nothing_else("mapping")?;
            tx.execute(
                "UPDATE identity_mapping SET rules = ?2, schema_version = ?3 WHERE id = ?1",
                params![mapping.id, mapping.rules.to_string(), mapping.schema_version],
            )?;
            Ok(Reply::ok(&json!({"mapping": view(&ctx, &mapping)})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(names::DELETE_MAPPING, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            if tx.exists("SELECT 1 FROM identity_protocol WHERE mapping_id = ?", [&id])? {
                return Err(Error::conflict(format!(
                    "The mapping {id} is used by a protocol of an identity provider."
                )));
            }
            tx.execute("DELETE FROM identity_mapping WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}
