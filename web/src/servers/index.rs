//! The table of servers: filtered by the address, followed live.

use askama::Template;
use axum::{extract::Query, response::Response};
use serde::Deserialize;

use super::{
    model::{Server, Servers},
    verbs::{How, May, Offer, VERBS, Verb, offers},
};
use crate::{
    api::{Service, encoded},
    failure::Result,
    frame::Frame,
    visit::Visit,
};

const ROWS: u32 = 100;

/// What stands in the address.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Filters {
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
    /// Of every project: for administrators.
    #[serde(default)]
    all: String,
    #[serde(default)]
    marker: String,
}

#[derive(Template)]
#[template(path = "servers/index.html")]
struct Page {
    frame: Frame,
    filters: Filters,
    rows: Vec<Row>,
    verbs: Vec<&'static Verb>,
    statuses: &'static [&'static str],
    /// The address of the next page.
    next: Option<String>,
}

struct Row {
    server: Server,
    /// What takes one click, and the delete, which asks once more.
    offers: Vec<Offer>,
}

const STATUSES: &[&str] =
    &["ACTIVE", "BUILD", "ERROR", "PAUSED", "SHUTOFF", "SUSPENDED", "SHELVED_OFFLOADED", "RESCUE", "VERIFY_RESIZE"];

impl Filters {
    /// The query for Compute. Its name filter is a regular expression; what a person types is text.
    fn query(&self) -> String {
        let mut query = format!("?limit={ROWS}");
        if !self.name.is_empty() {
            query.push_str(&format!("&name={}", encoded(&escaped(&self.name))));
        }
        if !self.status.is_empty() {
            query.push_str(&format!("&status={}", encoded(&self.status)));
        }
        if !self.all.is_empty() {
            query.push_str("&all_tenants=1");
        }
        if !self.marker.is_empty() {
            query.push_str(&format!("&marker={}", encoded(&self.marker)));
        }
        query
    }

    fn any(&self) -> bool {
        !(self.name.is_empty() && self.status.is_empty())
    }

    fn after(&self, marker: &str) -> String {
        let (name, status, all) = (encoded(&self.name), encoded(&self.status), encoded(&self.all));
        format!("/servers?name={name}&status={status}&all={all}&marker={}", encoded(marker))
    }
}

/// Text as a regular expression that matches it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// `GET /servers`.
pub(super) async fn show(visit: Visit, Query(filters): Query<Filters>) -> Result<Response> {
    let found: Servers = visit.api.get(Service::Compute, &format!("/servers/detail{}", filters.query())).await?;
    let more = found.servers_links.iter().any(|link| link.rel == "next");
    let next = found.servers.last().filter(|_| more).map(|last| filters.after(&last.id));
    let (words, may) = (visit.words(), May::of(&visit));
    let short = |verb: &Verb| matches!(verb.how, How::Click(_)) || verb.name == "delete";
    let row = |server: Server| {
        let offers = offers(words, &server, may).into_iter().filter(|offer| short(&offer.verb)).collect();
        Row { server, offers }
    };
    visit.page(&Page {
        frame: visit.frame("/servers", visit.words().t("Servers")).live(),
        filters,
        rows: found.servers.into_iter().map(row).collect(),
        verbs: VERBS.iter().filter(|verb| short(verb) || verb.name == "lock").collect(),
        statuses: STATUSES,
        next,
    })
}
