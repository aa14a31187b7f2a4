//! `/v3/endpoints`

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, Dialect, Direction, Error, Filter, FilterKind, ListSpec, Params, RawJson, Reply, Result, target};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{BASE_URL, base_url, filters::Seen, policy as rules, regions, services};
use crate::{
    App,
    errors::{invalid, not_found},
    fields::{Fields, ID_MAX, NAME_MAX, map_text, merge, text_map},
    listing::{self, SelfLink},
};

const INTERFACES: [&str; 3] = ["public", "internal", "admin"];
/// Upstream says 225.
const URL_MAX: usize = 2048;

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    id: String,
    service_id: String,
    region_id: Option<String>,
    interface: String,
    url: String,
    enabled: bool,
    extra: Map<String, Value>,
}

const COLUMNS: &str = "id, service_id, region_id, interface, url, enabled, extra";

static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_endpoint",
    key: "id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "id"), ("interface", "interface")],
    filters: &[
        Filter::new("interface", "interface", FilterKind::Text),
        Filter::new("service_id", "service_id", FilterKind::Text),
        Filter::new("region_id", "region_id", FilterKind::Text),
        Filter::new("enabled", "enabled", FilterKind::Bool),
    ],
    limit_max: 0,
};

fn endpoint(row: &db::Row<'_>) -> db::rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        id: row.get(0)?,
        service_id: row.get(1)?,
        region_id: row.get(2)?,
        interface: row.get(3)?,
        url: row.get(4)?,
        enabled: row.get(5)?,
        extra: text_map(&row.get::<_, String>(6)?),
    })
}

fn find(tx: &Tx<'_>, id: &str) -> Result<Endpoint> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_endpoint WHERE id = ?"), [id], endpoint)?
        .ok_or_else(|| not_found("endpoint", id))
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    interface: &'a str,
    region_id: Option<&'a str>,
    region: Option<&'a str>,
    service_id: &'a str,
    url: String,
    enabled: bool,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

/// The URL is shown with the caller's own base: a bare `$(base_url)s` means nothing to people.
fn view<'a>(ctx: &Ctx, base: &str, endpoint: &'a Endpoint) -> View<'a> {
    View {
        id: &endpoint.id,
        interface: &endpoint.interface,
        region_id: endpoint.region_id.as_deref(),
        region: endpoint.region_id.as_deref(),
        service_id: &endpoint.service_id,
        url: endpoint.url.replace(BASE_URL, base),
        enabled: endpoint.enabled,
        extra: &endpoint.extra,
        links: SelfLink::new(ctx, "/endpoints", &endpoint.id),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    ctx.allow(rules::LIST_ENDPOINTS, &target(&[]))?;
    let page = LIST.page(&mut params)?;
    let base = base_url(&ctx, &app.options);
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, endpoint)?;
            Ok(listing::page(
                &ctx,
                &asked,
                "endpoints",
                &listing,
                |endpoint| view(&ctx, &base, endpoint),
                |endpoint| &endpoint.id,
            ))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::GET_ENDPOINT, &target(&[]))?;
    let endpoint = app.db.read(move |tx| find(tx, &id)).await?;
    let base = base_url(&ctx, &app.options);
    Ok(Reply::ok(&listing::wrap("endpoint", &view(&ctx, &base, &endpoint))))
}

fn interface(text: String) -> Result<String> {
    if INTERFACES.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(invalid("interface", "it must be one of public, internal and admin"))
    }
}

/// `scheme:rest`, where the placeholders of ours and upstream's may stand.
fn url(text: String) -> Result<String> {
    let bad = || Error::bad_request("Cannot create an endpoint with an invalid URL.");
    if text.chars().any(char::is_control) || text.contains(char::is_whitespace) {
        return Err(bad());
    }
    let known = ["base_url", "project_id", "tenant_id", "user_id", "public_bind_host", "admin_bind_host"];
    let mut rest = text.as_str();
    while let Some(at) = rest.find("$(").or_else(|| rest.find("%(")) {
        let inner = &rest[at + 2..];
        let end = inner.find(")s").ok_or_else(bad)?;
        if !known.contains(&&inner[..end]) {
            return Err(bad());
        }
        rest = &inner[end + 2..];
    }
    let scheme = text.split(':').next().unwrap_or_default();
    let plain = !scheme.is_empty()
        && scheme.len() + 1 < text.len()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    if plain || text.starts_with(BASE_URL) { Ok(text) } else { Err(bad()) }
}

/// Where an update or creation puts the endpoint: `region_id` must exist, the older `region` makes what is missing.
fn region(tx: &Tx<'_>, fields: &mut Fields) -> Result<Option<Option<String>>> {
    let old = fields.nullable("region", NAME_MAX)?;
    if let Some(id) = fields.nullable("region_id", NAME_MAX)? {
        if let Some(id) = &id
            && !tx.exists("SELECT 1 FROM identity_region WHERE id = ?", [id])?
        {
            return Err(Error::bad_request(format!("Could not find region: {id}.")));
        }
        return Ok(Some(id));
    }
    if let Some(Some(id)) = &old {
        regions::ensure(tx, id)?;
    }
    Ok(old)
}

fn check_texts(fields: &Fields) -> Result<()> {
    for name in ["description", "name"] {
        match fields.peek(name) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(_) => return Err(invalid(name, "it must be a string")),
        }
    }
    Ok(())
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    ctx.allow(rules::CREATE_ENDPOINT, &target(&[]))?;
    let mut fields = Fields::open(body, "endpoint")?;
    check_texts(&fields)?;
    let mut endpoint = Endpoint {
        id: rest::new_hex_id(),
        interface: interface(fields.required_text("interface", NAME_MAX, "endpoint")?)?,
        service_id: fields.required_text("service_id", ID_MAX, "endpoint")?,
        url: url(fields.required_text("url", URL_MAX, "endpoint")?)?,
        enabled: fields.boolean("enabled")?.unwrap_or(true),
        region_id: None,
        extra: Map::new(),
    };
    let base = base_url(&ctx, &app.options);
    app.db
        .write(move |tx| {
            if !services::exists(tx, &endpoint.service_id)? {
                return Err(Error::bad_request(format!("Could not find service: {}.", endpoint.service_id)));
            }
            endpoint.region_id = region(tx, &mut fields)?.flatten();
            endpoint.extra = fields.into_extra();
            insert(tx, &endpoint)?;
            Ok(Reply::created(&listing::wrap("endpoint", &view(&ctx, &base, &endpoint))))
        })
        .await
}

fn insert(tx: &Tx<'_>, e: &Endpoint) -> db::Result<()> {
    tx.execute(
        "INSERT INTO identity_endpoint (id, service_id, region_id, interface, url, enabled, extra) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![e.id, e.service_id, e.region_id, e.interface, e.url, e.enabled, map_text(&e.extra)],
    )?;
    Ok(())
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_ENDPOINT, &target(&[]))?;
    let mut fields = Fields::open(body, "endpoint")?.some("endpoint")?;
    fields.same_id(&id)?;
    check_texts(&fields)?;
    let base = base_url(&ctx, &app.options);
    app.db
        .write(move |tx| {
            let mut e = find(tx, &id)?;
            if let Some(text) = fields.text("interface", NAME_MAX)? {
                e.interface = interface(text)?;
            }
            if let Some(service_id) = fields.text("service_id", ID_MAX)? {
                if !services::exists(tx, &service_id)? {
                    return Err(Error::bad_request(format!("Could not find service: {service_id}.")));
                }
                e.service_id = service_id;
            }
            if let Some(text) = fields.text("url", URL_MAX)? {
                e.url = url(text)?;
            }
            if let Some(enabled) = fields.boolean("enabled")? {
                e.enabled = enabled;
            }
            if let Some(region_id) = region(tx, &mut fields)? {
                e.region_id = region_id;
            }
            merge(&mut e.extra, fields.into_extra(), false);
            tx.execute(
                "UPDATE identity_endpoint SET service_id = ?2, region_id = ?3, interface = ?4, url = ?5, enabled = ?6, \
                 extra = ?7 WHERE id = ?1",
                params![e.id, e.service_id, e.region_id, e.interface, e.url, e.enabled, map_text(&e.extra)],
            )?;
            Ok(Reply::ok(&listing::wrap("endpoint", &view(&ctx, &base, &e))))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(rules::DELETE_ENDPOINT, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &id)?;
            tx.execute("DELETE FROM identity_endpoint WHERE id = ?", [&id])?;
            Ok(Reply::no_content())
        })
        .await
}

/// For bootstrap: a new service's three endpoints.
pub(crate) fn insert_three(tx: &Tx<'_>, service_id: &str, region_id: &str, path: &str) -> db::Result<()> {
    regions::ensure(tx, region_id)?;
    for interface in INTERFACES {
        insert(
            tx,
            &Endpoint {
                id: rest::new_hex_id(),
                service_id: service_id.to_owned(),
                region_id: Some(region_id.to_owned()),
                interface: interface.to_owned(),
                url: format!("{BASE_URL}{path}"),
                enabled: true,
                extra: Map::new(),
            },
        )?;
    }
    Ok(())
}

/// The endpoints that `pick` wants, told id, place and whether enabled.
pub(crate) fn all_by_id(tx: &Tx<'_>, pick: impl Fn(&str, Seen<'_>, bool) -> bool) -> db::Result<Vec<Endpoint>> {
    let mut found = tx.list(&format!("SELECT {COLUMNS} FROM identity_endpoint ORDER BY id"), [], endpoint)?;
    found.retain(|e| {
        let seen = Seen { service_id: &e.service_id, interface: &e.interface, region_id: e.region_id.as_deref() };
        pick(&e.id, seen, e.enabled)
    });
    Ok(found)
}

pub(crate) fn all(tx: &Tx<'_>, pick: impl Fn(Seen<'_>, bool) -> bool) -> db::Result<Vec<Endpoint>> {
    all_by_id(tx, |_, seen, enabled| pick(seen, enabled))
}

pub(crate) fn views(ctx: &Ctx, params: &Params, base: &str, found: &[Endpoint]) -> Reply {
    let views: Vec<_> = found.iter().map(|endpoint| view(ctx, base, endpoint)).collect();
    listing::all(ctx, params, "endpoints", &views)
}

pub(crate) fn exists(tx: &Tx<'_>, id: &str) -> Result<()> {
    find(tx, id).map(|_| ())
}
