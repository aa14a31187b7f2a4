//! One project, and one domain: what it is, and who may what there.

use askama::Template;
use axum::{extract::Path, response::Response};

use super::{Thing, assignments::Card, find_things, get_thing};
use crate::{api::encoded, failure::Result, frame::Frame, visit::Visit};

#[derive(Template)]
#[template(path = "identity/project.html")]
struct Page {
    frame: Frame,
    thing: Thing,
    is_project: bool,
    path: String,
    /// Projects right below it.
    below: Vec<Thing>,
    members: Card,
}

/// `GET /projects/{id}`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let path = format!("/projects/{}", encoded(&id));
    let thing = get_thing(&visit, &path, "project").await?;
    let below =
        find_things(&visit, &format!("/projects?parent_id={}&limit=100", encoded(&thing.id)), "projects").await?;
    let query = format!("scope.project.id={}", encoded(&thing.id));
    let members = Card::of(&visit, &query, Some(format!("project:{}", thing.id)), None, &path).await?;
    let frame = visit.frame("/projects", thing.name.clone());
    visit.page(&Page { frame, thing, is_project: true, path, below, members })
}

/// `GET /domains/{id}`.
pub(super) async fn show_domain(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let path = format!("/domains/{}", encoded(&id));
    let thing = get_thing(&visit, &path, "domain").await?;
    let below =
        find_things(&visit, &format!("/projects?domain_id={}&limit=100", encoded(&thing.id)), "projects").await?;
    let query = format!("scope.domain.id={}", encoded(&thing.id));
    let members = Card::of(&visit, &query, Some(format!("domain:{}", thing.id)), None, &path).await?;
    let frame = visit.frame("/domains", thing.name.clone());
    visit.page(&Page { frame, thing, is_project: false, path, below, members })
}
