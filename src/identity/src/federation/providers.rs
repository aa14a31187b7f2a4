//! `/v3/OS-FEDERATION/identity_providers`

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use rest::{Ctx, Dialect, Direction, Error, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde_json::{Map, Value, json};

use super::{policy as rules, shadow};
use crate::{
    App,
    errors::{duplicate_entry, invalid, not_found},
    fields::{Fields, ID_MAX, TEXT_MAX},
    listing,
    projects::store::{self as projects, Project},
};

const BASE: &str = "/v3/OS-FEDERATION/identity_providers";
const REMOTE_IDS_MAX: usize = 100;
const REMOTE_ID_MAX: usize = 255;

#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub id: String,
    /// Its users' domain.
    pub domain_id: String,
    pub enabled: bool,
    description: Option<String>,
    /// Minutes.
    pub authorization_ttl: Option<u32>,
}

const COLUMNS: &str = "id, domain_id, enabled, description, authorization_ttl";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_provider",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id")],
    filters: &[Filter::new("id", "id", FilterKind::Text), Filter::new("enabled", "enabled", FilterKind::Bool)],
    limit_max: 0,
};

fn provider(row: &db::Row<'_>) -> db::rusqlite::Result<Provider> {
    Ok(Provider {
        id: row.get(0)?,
        domain_id: row.get(1)?,
        enabled: row.get(2)?,
        description: row.get(3)?,
        authorization_ttl: row.get(4)?,
    })
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Provider> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_provider WHERE id = ?"), [id], provider)?
        .ok_or_else(|| not_found("identity provider", id))
}

pub(crate) fn remote_ids(tx: &Tx<'_>, id: &str) -> db::Result<Vec<String>> {
    tx.list("SELECT remote_id FROM identity_provider_remote_id WHERE provider_id = ? ORDER BY rowid", [id], |row| {
        row.get(0)
    })
}

fn view(tx: &Tx<'_>, ctx: &Ctx, provider: &Provider) -> Result<Value> {
    let own = format!("{}{BASE}/{}", ctx.base_url(), provider.id);
    Ok(json!({
        "id": provider.id,
        "domain_id": provider.domain_id,
        "enabled": provider.enabled,
        "description": provider.description,
        "authorization_ttl": provider.authorization_ttl,
        "remote_ids": remote_ids(tx, &provider.id)?,
        "links": {"self": own, "protocols": format!("{own}/protocols")},
    }))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_IDENTITY_PROVIDERS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, provider)?;
            let views: Vec<_> = listing.rows.iter().map(|provider| view(tx, &ctx, provider)).collect::<Result<_>>()?;
            let next = listing.next_link(&ctx, &asked, |provider| &provider.id);
            Ok(listing::page_of(&ctx, &asked, "identity_providers", &views, next))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_IDENTITY_PROVIDER, &target(&[]))?;
    app.db.read(move |tx| Ok(Reply::ok(&json!({"identity_provider": view(tx, &ctx, &find(tx, &id)?)?})))).await
}

fn asked_remote_ids(fields: &mut Fields) -> Result<Option<Vec<String>>> {
    if fields.peek("remote_ids").is_some_and(Value::is_null) {
        fields.take("remote_ids");
        return Ok(Some(Vec::new()));
    }
    let Some(items) = fields.array("remote_ids")? else { return Ok(None) };
    let mut found: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(text) if text.is_empty() || text.chars().count() > REMOTE_ID_MAX => {
                return Err(invalid("remote_ids", format_args!("each has 1 to {REMOTE_ID_MAX} characters")));
            }
            Value::String(text) if !found.contains(&text) => found.push(text),
            Value::String(_) => return Err(invalid("remote_ids", "they are not unique")),
            _ => return Err(invalid("remote_ids", "every remote id must be a string")),
        }
    }
    if found.len() > REMOTE_IDS_MAX {
        return Err(invalid("remote_ids", format_args!("there are more than {REMOTE_IDS_MAX}")));
    }
    Ok(Some(found))
}

fn asked_ttl(fields: &mut Fields) -> Result<Option<Option<u32>>> {
    match fields.take("authorization_ttl") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => match value.as_u64().and_then(|minutes| u32::try_from(minutes).ok()) {
            Some(minutes) => Ok(Some(Some(minutes))),
            None => Err(invalid("authorization_ttl", "it must be a whole number of minutes")),
        },
    }
}

fn set_remote_ids(tx: &Tx<'_>, id: &str, remote_ids: &[String]) -> Result<()> {
    tx.execute("DELETE FROM identity_provider_remote_id WHERE provider_id = ?", [id])?;
    for remote_id in remote_ids {
        tx.execute(
            "INSERT INTO identity_provider_remote_id (remote_id, provider_id) VALUES (?1, ?2)",
            params![remote_id, id],
        )
        .on_unique("identity_provider_remote_id.remote_id", || {
            Error::conflict(format!("Remote ID(s) already exist: {remote_id}."))
        })?;
    }
    Ok(())
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::CREATE_IDENTITY_PROVIDER, &target(&[]))?;
    let mut fields = Fields::open(body, "identity_provider")?;
    fields.take_id(&id)?;
    let id = super::path_id(id)?;
    let domain_id = fields.nullable("domain_id", ID_MAX)?.flatten();
    let enabled = fields.boolean("enabled")?.unwrap_or(false);
    let description = fields.nullable("description", TEXT_MAX)?.flatten();
    let authorization_ttl = asked_ttl(&mut fields)?.flatten();
    let remote_ids = asked_remote_ids(&mut fields)?.unwrap_or_default();
    fields.nothing_else("identity_provider")?;
    app.db
        .write(move |tx| {
            let domain_id = match domain_id {
                Some(id) => {
                    projects::find_domain(tx, &id)?.map(|domain| domain.id).ok_or_else(|| not_found("domain", &id))?
                }
                None => own_domain(tx, &id)?,
            };
            let provider = Provider { id, domain_id, enabled, description, authorization_ttl };
            tx.execute(
                "INSERT INTO identity_provider (id, domain_id, enabled, description, authorization_ttl) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    provider.id,
                    provider.domain_id,
                    provider.enabled,
                    provider.description,
                    provider.authorization_ttl
                ],
            )
            .on_unique("identity_provider.id", || duplicate_entry("identity_provider"))?;
            set_remote_ids(tx, &provider.id, &remote_ids)?;
            Ok(Reply::created(&json!({"identity_provider": view(tx, &ctx, &provider)?})))
        })
        .await
}

/// A domain of its own for the users of a provider that names none.
fn own_domain(tx: &Tx<'_>, provider_id: &str) -> Result<String> {
    let id = rest::new_hex_id();
    projects::insert(
        tx,
        &Project {
            id: id.clone(),
            name: id.clone(),
            domain_id: None,
            parent_id: None,
            is_domain: true,
            description: format!("Auto generated federated domain for Identity Provider: {provider_id}"),
            enabled: true,
            options: Map::new(),
            extra: Map::new(),
            tags: Vec::new(),
        },
    )?;
    Ok(id)
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_IDENTITY_PROVIDER, &target(&[]))?;
    app.db
        .write(move |tx| {
            let mut provider = find(tx, &id)?;
            let mut fields = Fields::open(body, "identity_provider")?.some("identity_provider")?;
            fields.take_id(&id)?;
            fields.unchanged("domain_id", Some(&provider.domain_id))?;
            let was_enabled = provider.enabled;
            if let Some(enabled) = fields.boolean("enabled")? {
                provider.enabled = enabled;
            }
            if let Some(description) = fields.nullable("description", TEXT_MAX)? {
                provider.description = description;
            }
            if let Some(minutes) = asked_ttl(&mut fields)? {
                provider.authorization_ttl = minutes;
            }
            let remote_ids = asked_remote_ids(&mut fields)?;
            fields.nothing_else("identity_provider")?;
            tx.execute(
                "UPDATE identity_provider SET enabled = ?2, description = ?3, authorization_ttl = ?4 WHERE id = ?1",
                params![provider.id, provider.enabled, provider.description, provider.authorization_ttl],
            )?;
            if was_enabled && !provider.enabled {
                shadow::void_tokens(tx, &id, None)?;
            }
            if let Some(remote_ids) = remote_ids {
                set_remote_ids(tx, &id, &remote_ids)?;
            }
            Ok(Reply::ok(&json!({"identity_provider": view(tx, &ctx, &provider)?})))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_IDENTITY_PROVIDER, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            shadow::void_tokens(tx, &id, None)?;
            tx.execute("DELETE FROM identity_provider WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}
