//! The first page: how much of the quota is used, what could still be started, and what happened last.

use askama::Template;
use axum::{Router, response::Response, routing::get};
use serde::Deserialize;

use crate::{
    Dashboard,
    api::Service,
    failure::Result,
    frame::Frame,
    servers::{
        model::{Server, Servers},
        quota::{self, Gauge, Size},
    },
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/", get(index))
}

#[derive(Clone, Debug, Deserialize)]
struct Flavor {
    name: String,
    vcpus: i64,
    ram: i64,
}

#[derive(Deserialize)]
struct Flavors {
    flavors: Vec<Flavor>,
}

/// How many more servers of a flavor the quota allows.
struct Room {
    flavor: String,
    /// Nothing where nothing limits them.
    count: Option<i64>,
}

#[derive(Template)]
#[template(path = "overview/index.html")]
struct Page {
    frame: Frame,
    gauges: Vec<Gauge>,
    room: Vec<Room>,
    servers: Vec<Server>,
}

/// `GET /`.
async fn index(visit: Visit) -> Result<Response> {
    let frame = visit.frame("/", visit.words().t("Overview")).live();
    if visit.session()?.project_id().is_none() {
        return visit.page(&Page { frame, gauges: Vec::new(), room: Vec::new(), servers: Vec::new() });
    }
    let limits = quota::limits(&visit.api).await?;
    let flavors: Flavors = visit.api.get(Service::Compute, "/flavors/detail?sort_key=memory_mb&limit=4").await?;
    let servers: Servers =
        visit.api.get(Service::Compute, "/servers/detail?sort_key=updated_at&sort_dir=desc&limit=6").await?;
    let room = flavors.flavors.into_iter().map(|flavor| Room {
        count: quota::fitting(&limits, Size { vcpus: flavor.vcpus, ram_mib: flavor.ram }),
        flavor: flavor.name,
    });
    let page = Page {
        gauges: quota::gauges(visit.words(), &limits, Size::default(), 0),
        room: room.collect(),
        servers: servers.servers,
        frame,
    };
    visit.page(&page)
}
