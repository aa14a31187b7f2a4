//! The tables of projects, users, groups, roles and domains.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::{Thing, find_things, kinds::Kind};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    session::Flash,
    visit::Visit,
};

#[derive(Template)]
#[template(path = "identity/list.html")]
struct Page {
    frame: Frame,
    kind: &'static Kind,
    filters: Fields,
    things: Vec<Thing>,
    /// Names of domains by id, where they may be known.
    domains: BTreeMap<String, String>,
    next: Option<String>,
    /// Why only the visitor's own are shown.
    hidden: Option<Failure>,
}

impl Page {
    fn domain(&self, thing: &Thing) -> String {
        let id = thing.domain_id.clone().unwrap_or_default();
        self.domains.get(&id).cloned().unwrap_or(id)
    }
}

/// `GET /projects`, `/users`, ...
pub(super) async fn show(kind: &'static Kind, visit: Visit, filters: Fields) -> Result<Response> {
    let mut path = format!("{}?limit=100", kind.path);
    for (name, key) in [("name", kind.contains), ("domain", "domain_id"), ("enabled", "enabled"), ("marker", "marker")]
    {
        let value = filters.get(name);
        // The service compares with the name in small letters.
        let small = key == "name__icontains";
        if !value.is_empty() {
            path.push_str(&format!("&{key}={}", if small { encoded(&value.to_lowercase()) } else { encoded(value) }));
        }
    }
    let (mut found, hidden) = match visit.api.get::<Value>(Service::Identity, &path).await {
        Ok(found) => (found, None),
        // Everybody may know where they work themselves.
        Err(failure) if failure.is_forbidden() && kind.is_project => {
            (visit.api.get(Service::Identity, "/auth/projects").await?, Some(failure))
        }
        Err(failure) => return Err(failure),
    };
    let more = found.pointer("/links/next").is_some_and(|next| !next.is_null());
    let things: Vec<Thing> = serde_json::from_value(found[kind.many].take()).map_err(Failure::internal)?;
    let next = things.last().filter(|_| more).map(|last| format!("{}?{}", kind.path, filters.after(&last.id)));
    let domains = if kind.has_domain { find_things(&visit, "/domains", "domains").await? } else { Vec::new() };
    visit.page(&Page {
        frame: visit.frame(kind.path, visit.words().t(kind.title)).live(),
        kind,
        filters,
        things,
        domains: domains.into_iter().map(|domain| (domain.id, domain.name)).collect(),
        next,
        hidden,
    })
}

/// `POST /projects/delete`, ...: each `id`.
pub(super) async fn delete(kind: &'static Kind, visit: Visit, form: Fields) -> Result<Response> {
    let words = visit.words();
    let ids = form.all("id");
    if ids.is_empty() {
        let text = words.t("Mark something first.").to_owned();
        return visit.leave(kind.path, Flash { good: false, text, rows: Vec::new() }).await;
    }
    let (mut done, mut refused) = (0, Vec::new());
    for id in ids {
        match visit.api.delete(Service::Identity, &format!("{}/{}", kind.path, encoded(id))).await {
            Ok(()) => done += 1,
            Err(failure) if failure.is_users() => refused.push(format!("{id}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    let text = words.fill("{} done, {} refused", &[&done, &refused.len()]);
    visit.leave(kind.path, Flash { good: refused.is_empty(), text, rows: refused }).await
}
