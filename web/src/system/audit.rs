//! Who did what.

use std::collections::HashMap;

use askama::Template;
use axum::{extract::Query, response::Response};
use serde::Deserialize;

use super::{Links, names};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    frame::Frame,
    visit::Visit,
};

const ROWS: u32 = 100;

/// What stands in the address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filters {
    since: String,
    until: String,
    user: String,
    project: String,
    service: String,
    method: String,
    path: String,
    status: String,
    marker: String,
}

impl Filters {
    fn fields(&self) -> [(&'static str, &str); 8] {
        [
            ("since", &self.since),
            ("until", &self.until),
            ("user", &self.user),
            ("project", &self.project),
            ("service", &self.service),
            ("method", &self.method),
            ("path", &self.path),
            ("status", &self.status),
        ]
    }

    fn address(&self, root: &str, more: &[(&str, &str)]) -> String {
        let fields = self.fields();
        let all = fields.iter().chain(more).filter(|(_, value)| !value.is_empty());
        let pairs: Vec<String> = all.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        format!("{root}?{}", pairs.join("&"))
    }
}

#[derive(Default, Deserialize)]
struct Events {
    events: Vec<Event>,
    #[serde(default)]
    links: Links,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    at: String,
    service: String,
    request_id: String,
    method: String,
    path: String,
    status: u16,
    address: String,
    user_id: Option<String>,
    project_id: Option<String>,
    domain_id: Option<String>,
    system: bool,
}

impl Event {
    fn mood(&self) -> &'static str {
        match self.status {
            0..=399 => "good",
            400..=499 => "warn",
            _ => "bad",
        }
    }

    /// The page of the thing that the call was about, where there is one.
    fn page(&self) -> Option<String> {
        let segments: Vec<&str> = self.path.split('/').filter(|segment| !segment.is_empty()).collect();
        let known = match self.service.as_str() {
            "compute" => &["servers", "flavors"][..],
            "network" => &["networks", "routers", "ports", "security-groups"],
            "image" => &["images"],
            "identity" => &["projects", "users", "groups"],
            _ => &[],
        };
        let at = segments.iter().position(|segment| known.contains(segment))?;
        // What was deleted has none any more.
        if self.method == "DELETE" && self.status < 400 {
            return None;
        }
        // A route is kept as its pattern where the id is nobody's.
        let id = segments.get(at + 1).filter(|id| !id.starts_with('{'))?;
        Some(format!("/{}/{}", segments.get(at)?, encoded(id)))
    }
}

#[derive(Template)]
#[template(path = "system/audit.html")]
struct Page {
    frame: Frame,
    filters: Filters,
    events: Vec<Event>,
    users: HashMap<String, String>,
    projects: HashMap<String, String>,
    next: Option<String>,
    any: bool,
}

impl Page {
    fn user<'a>(&'a self, id: &'a str) -> &'a str {
        self.users.get(id).map_or(id, String::as_str)
    }

    fn project<'a>(&'a self, id: &'a str) -> &'a str {
        self.projects.get(id).map_or(id, String::as_str)
    }
}

/// `GET /audit`.
pub(super) async fn show(visit: Visit, Query(filters): Query<Filters>) -> Result<Response> {
    let frame = visit.frame("/audit", visit.words().t("Audit"));
    let (users, projects) = (names(&visit, "users").await, names(&visit, "projects").await);
    // People know names; the API knows ids.
    let id_of = |known: &HashMap<String, String>, typed: &str| {
        let found = known.iter().find(|(_, name)| name.as_str() == typed);
        found.map_or_else(|| typed.to_owned(), |(id, _)| id.clone())
    };
    let asked = Filters {
        user: id_of(&users, filters.user.trim()),
        project: id_of(&projects, filters.project.trim()),
        ..filters.clone()
    };
    let rows = ROWS.to_string();
    let path = asked.address("/audit", &[("limit", &rows), ("marker", &filters.marker)]);
    let any = filters.fields().iter().any(|(_, value)| !value.is_empty());
    let found: Result<Events> = visit.api.get(Service::System, &path).await;
    let (found, problem): (Events, Option<Failure>) = match found {
        Ok(found) => (found, None),
        Err(failure) if failure.status == http::StatusCode::BAD_REQUEST => (Events::default(), Some(failure)),
        Err(failure) => return Err(failure),
    };
    let last = found.events.last().filter(|_| found.links.next.is_some());
    let next = last.map(|last| filters.address("/audit", &[("marker", &last.id)]));
    let mut page = Page { frame, filters, events: found.events, users, projects, next, any };
    match problem {
        None => visit.page(&page),
        Some(failure) => {
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
    }
}
