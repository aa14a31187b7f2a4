//! Where the services are: `/v3/regions`, `/v3/services`, `/v3/endpoints`, and the catalog in every scoped token.
//!
//! A URL may hold `$(base_url)s`: the scheme, host and port that the client itself used, so that the same catalog works
//! under every name and address of the machine; and `$(project_id)s`, `$(tenant_id)s`, `$(user_id)s` (also with `%`).

pub(crate) mod endpoints;
pub(crate) mod filters;
pub(crate) mod policy;
pub(crate) mod regions;
pub(crate) mod services;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use db::{Generation, Tx};
use rest::{Credentials, Ctx, Result};
use serde_json::{json, value::RawValue};

use crate::{App, Options};

pub(crate) const BASE_URL: &str = "$(base_url)s";
/// Catalogs kept as text: one for each project and name of the machine in use.
const WRITTEN_MAX: usize = 256;

#[derive(Debug)]
struct Entry {
    id: String,
    kind: String,
    name: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug)]
struct Endpoint {
    id: String,
    interface: String,
    region_id: Option<String>,
    url: String,
}

/// All that a catalog depends on besides the tables: the address that the client used, the project (empty for none), and the
/// user where some URL asks for it.
type Viewer = (String, String, String);

#[derive(Debug)]
struct Known {
    entries: Vec<Entry>,
    chosen: filters::Chosen,
    names_user: bool,
    /// As JSON. They go with the generation, like everything here.
    written: RwLock<HashMap<Viewer, Arc<RawValue>>>,
}

/// The enabled services and endpoints, read again when Identity's tables have changed.
#[derive(Debug)]
pub(crate) struct Cache {
    generation: Generation,
    known: RwLock<Option<(u64, Arc<Known>)>>,
}

impl Cache {
    pub(crate) fn new(generation: Generation) -> Self {
        Self { generation, known: RwLock::new(None) }
    }

    fn get(&self, app: &App) -> Result<Arc<Known>> {
        // Before the data, so that a write in between makes this entry stale at once.
        let now = self.generation.get();
        if let Some((generation, known)) = &*self.known.read().unwrap_or_else(PoisonError::into_inner)
            && *generation == now
        {
            return Ok(Arc::clone(known));
        }
        let known = app.db.read_blocking(|tx| -> db::Result<Known> {
            let entries = load(tx)?;
            let names_user =
                entries.iter().flat_map(|entry| &entry.endpoints).any(|endpoint| endpoint.url.contains("(user_id)s"));
            Ok(Known { entries, chosen: filters::Chosen::load(tx)?, names_user, written: RwLock::default() })
        })?;
        let known = Arc::new(known);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&known)));
        Ok(known)
    }
}

fn load(tx: &Tx<'_>) -> db::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> =
        tx.list("SELECT id, type, name FROM identity_service WHERE enabled = 1 ORDER BY type, name, id", [], |row| {
            Ok(Entry { id: row.get(0)?, kind: row.get(1)?, name: row.get(2)?, endpoints: Vec::new() })
        })?;
    let rows = tx.list(
        "SELECT service_id, id, interface, region_id, url FROM identity_endpoint WHERE enabled = 1 ORDER BY interface DESC, id",
        [],
        |row| {
            let endpoint =
                Endpoint { id: row.get(1)?, interface: row.get(2)?, region_id: row.get(3)?, url: row.get(4)? };
            Ok((row.get::<_, String>(0)?, endpoint))
        },
    )?;
    for (service_id, endpoint) in rows {
        if let Some(entry) = entries.iter_mut().find(|entry| entry.id == service_id) {
            entry.endpoints.push(endpoint);
        }
    }
    Ok(entries)
}

/// The catalog as this caller sees it, as JSON. Endpoints that need a project are left out for scopes without one.
pub(crate) fn for_token(app: &App, ctx: &Ctx, creds: &Credentials) -> Result<Arc<RawValue>> {
    let base = base_url(ctx, &app.options);
    let known = app.catalog.get(app)?;
    let user = if known.names_user { creds.user.id.clone() } else { String::new() };
    let viewer = (base, creds.project_id().unwrap_or_default().to_owned(), user);
    if let Some(written) = known.written.read().unwrap_or_else(PoisonError::into_inner).get(&viewer) {
        return Ok(Arc::clone(written));
    }
    let written = Arc::from(write(&known, &viewer.0, creds)?);
    let mut all = known.written.write().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= WRITTEN_MAX {
        all.clear();
    }
    all.insert(viewer, Arc::clone(&written));
    Ok(written)
}

fn write(known: &Known, base: &str, creds: &Credentials) -> Result<Box<RawValue>> {
    let mut catalog = Vec::with_capacity(known.entries.len());
    for entry in &known.entries {
        let mut endpoints = Vec::with_capacity(entry.endpoints.len());
        for endpoint in &entry.endpoints {
            let seen = filters::Seen {
                service_id: &entry.id,
                interface: &endpoint.interface,
                region_id: endpoint.region_id.as_deref(),
            };
            if !known.chosen.shows(creds.project_id(), &endpoint.id, seen) {
                continue;
            }
            let Some(url) = fill(&endpoint.url, base, creds) else { continue };
            endpoints.push(json!({
                "id": endpoint.id,
                "interface": endpoint.interface,
                "region_id": endpoint.region_id,
                "region": endpoint.region_id,
                "url": url,
            }));
        }
        if !endpoints.is_empty() {
            catalog.push(json!({"id": entry.id, "type": entry.kind, "name": entry.name, "endpoints": endpoints}));
        }
    }
    serde_json::value::to_raw_value(&catalog).map_err(rest::Error::internal)
}

/// Scheme, host and port of the shared listener as this client reaches it.
pub(crate) fn base_url(ctx: &Ctx, options: &Options) -> String {
    let own = ctx.base_url();
    let (scheme, rest) = own.split_once("://").unwrap_or(("https", own));
    let authority = rest.split('/').next().unwrap_or_default();
    let port = if options.https_port == 443 { String::new() } else { format!(":{}", options.https_port) };
    if let Some(host) = &options.public_host {
        return format!("{scheme}://{host}{port}");
    }
    if ctx.arrival().service.is_none() {
        // Through the shared listener: its port as the client sees it, which a port forward may have changed.
        return format!("{scheme}://{authority}");
    }
    let host = match authority.rfind(':') {
        // The last colon of `[::1]` is part of the address.
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    };
    format!("{scheme}://{host}{port}")
}

/// `None` when the URL asks for something that the scope does not have.
fn fill(url: &str, base: &str, creds: &Credentials) -> Option<String> {
    if !url.contains(['$', '%']) {
        return Some(url.to_owned());
    }
    let mut url = url.replace(BASE_URL, base);
    for (name, value) in [
        ("project_id", creds.project_id()),
        ("tenant_id", creds.project_id()),
        ("user_id", Some(creds.user.id.as_str())),
    ] {
        for mark in ['$', '%'] {
            let key = format!("{mark}({name})s");
            if url.contains(&key) {
                url = url.replace(&key, value?);
            }
        }
    }
    // Anything else between such marks is unknown: an endpoint that cannot be right is not shown.
    (!url.contains("$(") && !url.contains("%(")).then_some(url)
}
