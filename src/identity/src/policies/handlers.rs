//! `/v3/policies`

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, Dialect, Direction, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde_json::{Map, Value, json};

use super::policy as rules;
use crate::{
    App,
    errors::{expecting, invalid, not_found},
    fields::{Fields, NAME_MAX, map_text, merge, text_map},
    listing::{self, SelfLink},
};

pub(super) struct Policy {
    id: String,
    kind: String,
    blob: Value,
    extra: Map<String, Value>,
}

const COLUMNS: &str = "id, type, blob, extra";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_policy",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id"), ("type", "type")],
    filters: &[Filter::new("type", "type", FilterKind::Text)],
    limit_max: 0,
};

fn policy(row: &db::Row<'_>) -> db::rusqlite::Result<Policy> {
    Ok(Policy {
        id: row.get(0)?,
        kind: row.get(1)?,
        blob: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
        extra: text_map(&row.get::<_, String>(3)?),
    })
}

pub(super) fn find(tx: &Tx<'_>, id: &str) -> Result<Policy> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_policy WHERE id = ?"), [id], policy)?
        .ok_or_else(|| not_found("policy", id))
}

pub(super) fn view(ctx: &Ctx, policy: &Policy) -> Value {
    let mut view = json!({
        "id": policy.id,
        "type": policy.kind,
        "blob": policy.blob,
        "links": SelfLink::new(ctx, "/policies", &policy.id),
    });
    for (name, value) in &policy.extra {
        if view.get(name).is_none() {
            view[name.as_str()] = value.clone();
        }
    }
    view
}

fn blob(fields: &mut Fields) -> Result<Option<Value>> {
    match fields.take("blob") {
        None => Ok(None),
        Some(value @ (Value::String(_) | Value::Object(_))) => Ok(Some(value)),
        Some(_) => Err(invalid("blob", "it must be a string or an object")),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, policy)?;
            Ok(listing::page(&ctx, &asked, "policies", &listing, |policy| view(&ctx, policy), |policy| &policy.id))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET, &target(&[]))?;
    let policy = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&json!({"policy": view(&ctx, &policy)})))
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE, &target(&[]))?;
    let mut fields = Fields::open(body, "policy")?;
    let policy = Policy {
        id: rest::new_hex_id(),
        kind: fields.required_name("type", NAME_MAX, "policy")?,
        blob: blob(&mut fields)?.ok_or_else(|| expecting("blob", "policy"))?,
        extra: fields.into_extra(),
    };
    app.db
        .write(move |tx| {
            tx.execute(
                "INSERT INTO identity_policy (id, type, blob, extra) VALUES (?1, ?2, ?3, ?4)",
                params![policy.id, policy.kind, policy.blob.to_string(), map_text(&policy.extra)],
            )?;
            Ok(Reply::created(&json!({"policy": view(&ctx, &policy)})))
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
    let mut fields = Fields::open(body, "policy")?.some("policy")?;
    fields.same_id(&id)?;
    app.db
        .write(move |tx| {
            let mut policy = find(tx, &id)?;
            if let Some(kind) = fields.name("type", NAME_MAX)? {
                policy.kind = kind;
            }
            if let Some(blob) = blob(&mut fields)? {
                policy.blob = blob;
            }
            merge(&mut policy.extra, fields.into_extra(), false);
            tx.execute(
                "UPDATE identity_policy SET type = ?2, blob = ?3, extra = ?4 WHERE id = ?1",
                params![policy.id, policy.kind, policy.blob.to_string(), map_text(&policy.extra)],
            )?;
            Ok(Reply::ok(&json!({"policy": view(&ctx, &policy)})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_policy WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}
