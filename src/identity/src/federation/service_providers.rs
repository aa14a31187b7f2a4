//! `/v3/OS-FEDERATION/service_providers`: clouds that trust this one.

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use rest::{Ctx, Dialect, Direction, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::policy as rules;
use crate::{
    App,
    errors::{duplicate_entry, expecting, invalid, not_found},
    fields::{Fields, TEXT_MAX},
    listing::{self, SelfLink},
};

/// As upstream's configuration has it by default.
const RELAY_STATE_PREFIX: &str = "ss:mem:";
const URL_MAX: usize = 256;

#[derive(Clone, Debug)]
struct ServiceProvider {
    id: String,
    auth_url: String,
    sp_url: String,
    description: Option<String>,
    enabled: bool,
    relay_state_prefix: String,
}

const COLUMNS: &str = "id, auth_url, sp_url, description, enabled, relay_state_prefix";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_service_provider",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id")],
    filters: &[Filter::new("id", "id", FilterKind::Text), Filter::new("enabled", "enabled", FilterKind::Bool)],
    limit_max: 0,
};

fn provider(row: &db::Row<'_>) -> db::rusqlite::Result<ServiceProvider> {
    Ok(ServiceProvider {
        id: row.get(0)?,
        auth_url: row.get(1)?,
        sp_url: row.get(2)?,
        description: row.get(3)?,
        enabled: row.get(4)?,
        relay_state_prefix: row.get(5)?,
    })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<ServiceProvider> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_service_provider WHERE id = ?"), [id], provider)?
        .ok_or_else(|| not_found("service provider", id))
}

/// Those that are enabled, as tokens show them.
pub(crate) fn enabled(tx: &Tx<'_>) -> db::Result<Vec<Value>> {
    tx.list("SELECT id, auth_url, sp_url FROM identity_service_provider WHERE enabled = 1 ORDER BY id", [], |row| {
        let (id, auth_url, sp_url): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(json!({"id": id, "auth_url": auth_url, "sp_url": sp_url}))
    })
}

fn view(ctx: &Ctx, provider: &ServiceProvider) -> Value {
    json!({
        "id": provider.id,
        "auth_url": provider.auth_url,
        "sp_url": provider.sp_url,
        "description": provider.description,
        "enabled": provider.enabled,
        "relay_state_prefix": provider.relay_state_prefix,
        "links": SelfLink::new(ctx, "/OS-FEDERATION/service_providers", &provider.id),
    })
}

fn url(fields: &mut Fields, name: &str) -> Result<Option<String>> {
    let Some(text) = fields.text(name, URL_MAX)? else { return Ok(None) };
    let good = text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if good { Ok(Some(text)) } else { Err(invalid(name, "it must be an absolute http or https URL")) }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_SERVICE_PROVIDERS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, provider)?;
            Ok(listing::page(
                &ctx,
                &asked,
                "service_providers",
                &listing,
                |provider| view(&ctx, provider),
                |provider| &provider.id,
            ))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_SERVICE_PROVIDER, &target(&[]))?;
    let provider = app.db.read(move |tx| find(tx, &id)).await?;
    Ok(Reply::ok(&json!({"service_provider": view(&ctx, &provider)})))
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::CREATE_SERVICE_PROVIDER, &target(&[]))?;
    let mut fields = Fields::open(body, "service_provider")?;
    fields.take_id(&id)?;
    let provider = ServiceProvider {
        id: super::path_id(id)?,
        auth_url: url(&mut fields, "auth_url")?.ok_or_else(|| expecting("auth_url", "service_provider"))?,
        sp_url: url(&mut fields, "sp_url")?.ok_or_else(|| expecting("sp_url", "service_provider"))?,
        description: fields.nullable("description", TEXT_MAX)?.flatten(),
        enabled: fields.boolean("enabled")?.unwrap_or(false),
        relay_state_prefix: fields
            .nullable("relay_state_prefix", URL_MAX)?
            .flatten()
            .unwrap_or_else(|| RELAY_STATE_PREFIX.into()),
    };
    fields.nothing_else("service_provider")?;
    app.db
        .write(move |tx| {
            tx.execute(
                "INSERT INTO identity_service_provider (id, auth_url, sp_url, description, enabled, relay_state_prefix) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    provider.id,
                    provider.auth_url,
                    provider.sp_url,
                    provider.description,
                    provider.enabled,
                    provider.relay_state_prefix
                ],
            )
            .on_unique("identity_service_provider.id", || duplicate_entry("service_provider"))?;
            Ok(Reply::created(&json!({"service_provider": view(&ctx, &provider)})))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_SERVICE_PROVIDER, &target(&[]))?;
    app.db
        .write(move |tx| {
            let mut provider = find(tx, &id)?;
            let mut fields = Fields::open(body, "service_provider")?.some("service_provider")?;
            fields.take_id(&id)?;
            if let Some(url) = url(&mut fields, "auth_url")? {
                provider.auth_url = url;
            }
            if let Some(url) = url(&mut fields, "sp_url")? {
                provider.sp_url = url;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                provider.description = description;
            }
            if let Some(enabled) = fields.boolean("enabled")? {
                provider.enabled = enabled;
            }
            if let Some(prefix) = fields.nullable("relay_state_prefix", URL_MAX)? {
                provider.relay_state_prefix = prefix.unwrap_or_else(|| RELAY_STATE_PREFIX.into());
            }
            fields.nothing_else("service_provider")?;
            tx.execute(
                "UPDATE identity_service_provider SET auth_url = ?2, sp_url = ?3, description = ?4, enabled = ?5, \
                 relay_state_prefix = ?6 WHERE id = ?1",
                params![
                    provider.id,
                    provider.auth_url,
                    provider.sp_url,
                    provider.description,
                    provider.enabled,
                    provider.relay_state_prefix
                ],
            )?;
            Ok(Reply::ok(&json!({"service_provider": view(&ctx, &provider)})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_SERVICE_PROVIDER, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_service_provider WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}
