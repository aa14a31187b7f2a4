//! `/v3/OS-OAUTH1/consumers`

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, Dialect, Direction, ListSpec, Params, RawJson, Reply, Result, target};
use serde_json::{Map, Value, json};

use super::policy as rules;
use crate::{
    App,
    credentials::handlers::new_key,
    errors::{invalid, not_found},
    fields::{Fields, TEXT_MAX, map_text, merge, text_map},
    listing::{self, SelfLink},
};

/// Without the secret: who reads a consumer never needs it.
struct Consumer {
    id: String,
    description: Option<String>,
    extra: Map<String, Value>,
}

const COLUMNS: &str = "id, description, extra";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_oauth1_consumer",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id")],
    filters: &[],
    limit_max: 0,
};

fn consumer(row: &db::Row<'_>) -> db::rusqlite::Result<Consumer> {
    Ok(Consumer { id: row.get(0)?, description: row.get(1)?, extra: text_map(&row.get::<_, String>(2)?) })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Consumer> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_oauth1_consumer WHERE id = ?"), [id], consumer)?
        .ok_or_else(|| not_found("consumer", id))
}

fn view(ctx: &Ctx, consumer: &Consumer) -> Value {
    let mut view = json!({
        "id": consumer.id,
        "description": consumer.description,
        "links": SelfLink::new(ctx, "/OS-OAUTH1/consumers", &consumer.id),
    });
    for (name, value) in &consumer.extra {
        if view.get(name).is_none() {
            view[name.as_str()] = value.clone();
        }
    }
    view
}

/// The service makes the secret, once; 400 rather than a value that is silently another.
fn no_secret(fields: &Fields) -> Result<()> {
    if fields.has("secret") { Err(invalid("secret", "the service makes it, and it never changes")) } else { Ok(()) }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_CONSUMERS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, consumer)?;
            Ok(listing::page(
                &ctx,
                &asked,
                "consumers",
                &listing,
                |consumer| view(&ctx, consumer),
                |consumer| &consumer.id,
            ))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_CONSUMER, &target(&[]))?;
    let consumer = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&json!({"consumer": view(&ctx, &consumer)})))
}

/// The only answer that has the secret.
pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE_CONSUMER, &target(&[]))?;
    let mut fields = Fields::open(body, "consumer")?;
    no_secret(&fields)?;
    let consumer = Consumer {
        id: rest::new_hex_id(),
        description: fields.nullable("description", TEXT_MAX)?.flatten(),
        extra: fields.into_extra(),
    };
    let secret = new_key()?;
    let sealed = app.seal_blob(&secret)?;
    app.db
        .write(move |tx| {
            tx.execute(
                "INSERT INTO identity_oauth1_consumer (id, description, secret, extra) VALUES (?1, ?2, ?3, ?4)",
                params![consumer.id, consumer.description, sealed, map_text(&consumer.extra)],
            )?;
            let mut view = view(&ctx, &consumer);
            view["secret"] = json!(secret);
            Ok(Reply::created(&json!({ "consumer": view })))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_CONSUMER, &target(&[]))?;
    let mut fields = Fields::open(body, "consumer")?.some("consumer")?;
    no_secret(&fields)?;
    fields.same_id(&id)?;
    app.db
        .write(move |tx| {
            let mut consumer = find(tx, &id)?;
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                consumer.description = description;
            }
            merge(&mut consumer.extra, fields.into_extra(), false);
            tx.execute(
                "UPDATE identity_oauth1_consumer SET description = ?2, extra = ?3 WHERE id = ?1",
                params![consumer.id, consumer.description, map_text(&consumer.extra)],
            )?;
            Ok(Reply::ok(&json!({"consumer": view(&ctx, &consumer)})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_CONSUMER, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_oauth1_consumer WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}
