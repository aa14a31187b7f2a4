//! The table of images.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use serde::Deserialize;

use super::{
    model::{Image, Images},
    uploads::Progress,
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::Result,
    form::Fields,
    frame::Frame,
    session::Scope,
    visit::Visit,
};

const ROWS: usize = 100;
/// A name is looked for in this many; the service itself only knows whole names.
const SEARCHED: usize = 1000;

/// A row, and how far its upload is.
struct Row {
    image: Image,
    progress: Option<Arc<Progress>>,
}

#[derive(Template)]
#[template(path = "images/index.html")]
struct Page {
    frame: Frame,
    filters: Fields,
    rows: Vec<Row>,
    /// Images that other projects offer, and that nobody here has accepted yet.
    offered: Vec<Image>,
    views: Vec<(&'static str, &'static str)>,
    formats: &'static [&'static str],
    statuses: &'static [&'static str],
    next: Option<String>,
    usage: Option<String>,
}

pub(super) const FORMATS: &[&str] =
    &["qcow2", "raw", "iso", "vmdk", "vhd", "vhdx", "vdi", "ploop", "ami", "aki", "ari"];
const STATUSES: &[&str] = &["active", "queued", "saving", "importing", "uploading", "deactivated"];

fn query(filters: &Fields, project: &str, limit: usize) -> String {
    let mut query = format!("?limit={limit}");
    match filters.get("show") {
        "own" => query.push_str(&format!("&owner={}", encoded(project))),
        "hidden" => query.push_str("&os_hidden=true"),
        view @ ("public" | "community" | "private") => query.push_str(&format!("&visibility={view}")),
        "shared" => query.push_str("&visibility=shared&member_status=accepted"),
        "all" => query.push_str("&visibility=all"),
        _ => {}
    }
    for name in ["status", "disk_format", "tag", "marker"] {
        if filters.on(name) {
            query.push_str(&format!("&{name}={}", encoded(filters.get(name))));
        }
    }
    query
}

/// `GET /images`.
pub(super) async fn show(visit: Visit, State(dashboard): State<Dashboard>, filters: Fields) -> Result<Response> {
    let project = match &visit.session()?.scope {
        Scope::Project { project, .. } => project.id.clone(),
        _ => String::new(),
    };
    let wanted = filters.get("name").to_lowercase();
    let limit = if wanted.is_empty() { ROWS } else { SEARCHED };
    let found: Images = visit.api.get(Service::Images, &format!("/images{}", query(&filters, &project, limit))).await?;
    let last = found.images.last().map(|image| image.id.clone());
    let next = found.next.and(last).map(|marker| format!("/images?{}", filters.after(&marker)));
    let pending = "/images?visibility=shared&member_status=pending&limit=20";
    let offered: Option<Images> = visit.api.find(Service::Images, pending).await?;
    let offered = offered.map(|found| found.images).unwrap_or_default();
    let offered = offered.into_iter().filter(|image| image.owner.as_deref() != Some(&project)).collect();
    let images = found.images.into_iter().filter(|image| image.title().to_lowercase().contains(&wanted));
    let rows = images.map(|image| Row { progress: dashboard.uploads.find(&image.id), image }).collect();
    let words = visit.words();
    visit.page(&Page {
        frame: visit.frame("/images", words.t("Images")).live(),
        rows,
        offered,
        views: vec![
            ("", words.t("Usable here")),
            ("own", words.t("Of this project")),
            ("private", words.t("Private")),
            ("shared", words.t("Shared")),
            ("community", words.t("Community")),
            ("public", words.t("Public")),
            ("hidden", words.t("Hidden")),
            ("all", words.t("All that may be seen")),
        ],
        formats: FORMATS,
        statuses: STATUSES,
        next,
        usage: usage(&visit).await?,
        filters,
    })
}

#[derive(Deserialize)]
struct Usage {
    usage: Measures,
}

#[derive(Deserialize)]
struct Measures {
    image_size_total: Measure,
}

#[derive(Deserialize)]
struct Measure {
    limit: i64,
    usage: i64,
}

/// What the project's images take, where there is a project.
async fn usage(visit: &Visit) -> Result<Option<String>> {
    if !matches!(visit.session()?.scope, Scope::Project { .. }) {
        return Ok(None);
    }
    let Some(found) = visit.api.find::<Usage>(Service::Images, "/info/usage").await? else { return Ok(None) };
    let Measure { limit, usage } = found.usage.image_size_total;
    let (words, used) = (visit.words(), crate::show::mib(usage));
    Ok(Some(match limit {
        ..0 => words.fill("Images of this project take {}.", &[&used]),
        _ => words.fill("Images of this project take {} of {}.", &[&used, &crate::show::mib(limit)]),
    }))
}
