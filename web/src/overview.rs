//! The first page: how much of the quota is used, what could still be started, and what happened last.

use askama::Template;
use axum::{Router, response::Response, routing::get};
use serde::Deserialize;

use crate::{
    Dashboard,
    api::Service,
    failure::Result,
    frame::Frame,
    servers::model::{Server, Servers},
    show,
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/", get(index))
}

#[derive(Deserialize)]
struct Limits {
    limits: Inner,
}

#[derive(Deserialize)]
struct Inner {
    absolute: Absolute,
}

/// `GET /limits`, as far as it is shown. -1 is no limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Absolute {
    max_total_instances: i64,
    total_instances_used: i64,
    max_total_cores: i64,
    total_cores_used: i64,
    #[serde(rename = "maxTotalRAMSize")]
    max_total_ram: i64,
    #[serde(rename = "totalRAMUsed")]
    total_ram_used: i64,
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

/// One quota, as a bar and as words.
struct Gauge {
    label: String,
    used: String,
    limit: String,
    /// 0 to 100; nothing where there is no limit.
    percent: Option<i64>,
}

/// How many more servers of a flavor the quota allows.
struct Room {
    flavor: String,
    count: i64,
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
    let limits: Limits = visit.api.get(Service::Compute, "/limits").await?;
    let limits = limits.limits.absolute;
    let flavors: Flavors = visit.api.get(Service::Compute, "/flavors/detail?sort_key=memory_mb&limit=4").await?;
    let servers: Servers =
        visit.api.get(Service::Compute, "/servers/detail?sort_key=updated_at&sort_dir=desc&limit=6").await?;
    let room = flavors.flavors.into_iter().map(|flavor| Room { count: fitting(&limits, &flavor), flavor: flavor.name });
    let page = Page { gauges: gauges(&frame, &limits), room: room.collect(), servers: servers.servers, frame };
    visit.page(&page)
}

fn gauges(frame: &Frame, limits: &Absolute) -> Vec<Gauge> {
    let plain = |number: i64| number.to_string();
    let gauge = |label: &str, used: i64, limit: i64, text: &dyn Fn(i64) -> String| Gauge {
        label: label.to_owned(),
        used: text(used),
        limit: if limit < 0 { frame.t("no limit").to_owned() } else { text(limit) },
        percent: (limit >= 0).then(|| if limit == 0 { 100 } else { (used * 100 / limit).clamp(0, 100) }),
    };
    vec![
        gauge(frame.t("Servers"), limits.total_instances_used, limits.max_total_instances, &plain),
        gauge(frame.t("VCPUs"), limits.total_cores_used, limits.max_total_cores, &plain),
        gauge(frame.t("Memory"), limits.total_ram_used, limits.max_total_ram, &show::mib),
    ]
}

fn fitting(limits: &Absolute, flavor: &Flavor) -> i64 {
    let of = |limit: i64, used: i64, each: i64| {
        if limit < 0 || each == 0 { i64::MAX } else { (limit - used).max(0) / each }
    };
    of(limits.max_total_instances, limits.total_instances_used, 1)
        .min(of(limits.max_total_cores, limits.total_cores_used, flavor.vcpus))
        .min(of(limits.max_total_ram, limits.total_ram_used, flavor.ram))
}
