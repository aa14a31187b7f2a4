//! The first page: what needs somebody, how much of the quota is used, what could still be started, how the host is (for
//! administrators), and what happened last.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Router, response::Response, routing::get};
use serde::Deserialize;

use crate::{
    Dashboard,
    api::{Api, Service, encoded},
    failure::Result,
    frame::Frame,
    servers::{
        events,
        model::{Server, Servers},
        quota::{self, Gauge, Size},
    },
    show,
    visit::Visit,
    words::{Words, t},
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/", get(index))
}

/// Servers whose last deeds are looked at, and deeds that are shown.
const LATEST: usize = 6;
const DEEDS: usize = 8;
/// From here on a quota is called nearly full.
const NEARLY_PERCENT: i64 = 90;

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
    count: i64,
}

/// Something that needs somebody.
struct Alert {
    /// Where to go about it.
    path: String,
    what: String,
    why: String,
}

/// Something that was done.
struct Deed {
    server_id: String,
    server: String,
    action: events::Action,
}

#[derive(Deserialize)]
struct Hypervisors {
    hypervisors: Vec<Hypervisor>,
}

#[derive(Clone, Debug, Deserialize)]
struct Hypervisor {
    hypervisor_hostname: String,
    hypervisor_type: String,
    state: String,
    status: String,
    uptime: Option<String>,
    service: OfService,
}

#[derive(Clone, Debug, Deserialize)]
struct OfService {
    disabled_reason: Option<String>,
}

#[derive(Deserialize)]
struct Providers {
    resource_providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    uuid: String,
}

#[derive(Deserialize)]
struct Inventories {
    inventories: BTreeMap<String, Inventory>,
}

#[derive(Deserialize)]
struct Inventory {
    total: i64,
    #[serde(default)]
    reserved: i64,
    #[serde(default)]
    allocation_ratio: Option<f64>,
}

#[derive(Deserialize)]
struct Usages {
    usages: BTreeMap<String, i64>,
}

/// The machine, for administrators.
struct Host {
    hypervisor: Hypervisor,
    gauges: Vec<Gauge>,
}

#[derive(Template)]
#[template(path = "overview/index.html")]
struct Page {
    frame: Frame,
    alerts: Vec<Alert>,
    gauges: Vec<Gauge>,
    room: Vec<Room>,
    host: Option<Host>,
    servers: Vec<Server>,
    deeds: Vec<Deed>,
}

/// `GET /`.
async fn index(visit: Visit) -> Result<Response> {
    let (frame, words) = (visit.frame("/", visit.words().t("Overview")).live(), visit.words());
    let host = if frame.admin { host(&visit.api, words).await? } else { None };
    let mut page = Page {
        frame,
        alerts: Vec::new(),
        gauges: Vec::new(),
        room: Vec::new(),
        host,
        servers: Vec::new(),
        deeds: Vec::new(),
    };
    page.alerts.extend(page.host.as_ref().and_then(|host| host_alert(words, host)));
    if visit.session()?.project_id().is_none() {
        return visit.page(&page);
    }
    let latest = format!("/servers/detail?sort_key=updated_at&sort_dir=desc&limit={LATEST}");
    let (limits, flavors, servers, failed) = futures::try_join!(
        quota::limits(&visit.api),
        visit.api.get::<Flavors>(Service::Compute, "/flavors/detail?sort_key=memory_mb&limit=4"),
        visit.api.get::<Servers>(Service::Compute, &latest),
        visit.api.get::<Servers>(Service::Compute, "/servers/detail?status=ERROR&limit=5"),
    )?;
    // Where nothing limits them there is nothing to say.
    let room = |flavor: Flavor| {
        let count = quota::fitting(&limits, Size { vcpus: flavor.vcpus, ram_mib: flavor.ram })?;
        Some(Room { count, flavor: flavor.name })
    };
    page.room = flavors.flavors.into_iter().filter_map(room).collect();
    page.gauges = quota::gauges(words, &limits, Size::default(), 0);
    page.alerts.extend(failed.servers.into_iter().map(|server| server_alert(words, server)));
    page.alerts.extend(page.gauges.iter().filter_map(|gauge| quota_alert(words, gauge)));
    page.deeds = deeds(&visit.api, &servers.servers).await?;
    page.servers = servers.servers;
    visit.page(&page)
}

fn server_alert(words: Words, server: Server) -> Alert {
    let why = server.fault.map(|fault| fault.message);
    Alert {
        path: format!("/servers/{}", encoded(&server.id)),
        what: words.fill("{} is in error", &[&server.name]),
        why: why.unwrap_or_else(|| words.t("Its events say more.").to_owned()),
    }
}

fn quota_alert(words: Words, gauge: &Gauge) -> Option<Alert> {
    let percent = gauge.percent.filter(|percent| *percent >= NEARLY_PERCENT)?;
    let what = if percent >= 100 { t("The quota is full: {}") } else { t("The quota is nearly full: {}") };
    Some(Alert {
        path: "/servers".to_owned(),
        what: words.fill(what, &[&gauge.label]),
        why: words.fill(t("{} of {} are used."), &[&gauge.used, &gauge.limit]),
    })
}

fn host_alert(words: Words, host: &Host) -> Option<Alert> {
    let Hypervisor { hypervisor_hostname, state, status, service, .. } = &host.hypervisor;
    if state == "up" && status == "enabled" {
        return None;
    }
    let word = if state == "up" { status } else { state };
    let why = service.disabled_reason.clone();
    Some(Alert {
        path: "/system".to_owned(),
        what: words.fill("The host {} is {}", &[hypervisor_hostname, word]),
        why: why.unwrap_or_else(|| words.t("No server starts there.").to_owned()),
    })
}

/// What was done last to the servers that changed last.
async fn deeds(api: &Api, servers: &[Server]) -> Result<Vec<Deed>> {
    let mut deeds = Vec::new();
    for server in servers {
        // One may be gone since it was listed.
        let actions = match events::actions(api, &server.id, 3).await {
            Ok(actions) => actions,
            Err(failure) if failure.is_users() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let deed = |action| Deed { server_id: server.id.clone(), server: server.name.clone(), action };
        deeds.extend(actions.into_iter().map(deed));
    }
    deeds.sort_by(|a, b| b.action.start_time.cmp(&a.action.start_time));
    deeds.truncate(DEEDS);
    Ok(deeds)
}

/// A number as people read it.
type Written<'a> = &'a dyn Fn(i64) -> String;

/// The hypervisor, and what Placement has of it. Nothing for those whose role does not reach so far.
async fn host(api: &Api, words: Words) -> Result<Option<Host>> {
    let found: Option<Hypervisors> = api.find(Service::Compute, "/os-hypervisors/detail").await?;
    let Some(hypervisor) = found.and_then(|found| found.hypervisors.into_iter().next()) else { return Ok(None) };
    let path = format!("/resource_providers?name={}", encoded(&hypervisor.hypervisor_hostname));
    let found: Option<Providers> = api.find(Service::Placement, &path).await?;
    let Some(provider) = found.and_then(|found| found.resource_providers.into_iter().next()) else {
        return Ok(Some(Host { hypervisor, gauges: Vec::new() }));
    };
    let path = format!("/resource_providers/{}", encoded(&provider.uuid));
    let (inventories, usages) = (format!("{path}/inventories"), format!("{path}/usages"));
    let (all, used) = futures::try_join!(
        api.get::<Inventories>(Service::Placement, &inventories),
        api.get::<Usages>(Service::Placement, &usages),
    )?;
    let plain = |number: i64| number.to_string();
    let gib = |number: i64| show::mib(number.saturating_mul(1024));
    let classes: [(&str, &str, Written<'_>); 3] = [
        ("VCPU", words.t("VCPUs"), &plain),
        ("MEMORY_MB", words.t("Memory"), &show::mib),
        ("DISK_GB", words.t("Disk"), &gib),
    ];
    let gauges = classes.into_iter().filter_map(|(class, label, text)| {
        let inventory = all.inventories.get(class)?;
        let used = used.usages.get(class).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "Placement's own sum")]
        let most = ((inventory.total - inventory.reserved) as f64 * inventory.allocation_ratio.unwrap_or(1.0)) as i64;
        let percent = Some(if most <= 0 { 100 } else { (used.saturating_mul(100) / most).clamp(0, 100) });
        Some(Gauge {
            label: label.to_owned(),
            used: text(used),
            adds: String::new(),
            after: text(used),
            limit: text(most),
            percent,
            percent_after: percent,
            over: false,
        })
    });
    Ok(Some(Host { gauges: gauges.collect(), hypervisor }))
}
