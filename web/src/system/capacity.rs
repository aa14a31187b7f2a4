//! What there is to give out and who has it: Placement, and the host as Compute knows it.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::maybe;
use crate::{
    api::{Service, encoded},
    failure::Result,
    frame::Frame,
    visit::Visit,
};

#[derive(Deserialize)]
struct Providers {
    resource_providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    uuid: String,
    name: String,
    generation: i64,
}

#[derive(Default, Deserialize)]
struct Inventories {
    inventories: BTreeMap<String, Inventory>,
}

#[derive(Clone, Deserialize)]
struct Inventory {
    total: i64,
    reserved: i64,
    allocation_ratio: f64,
    min_unit: i64,
    max_unit: i64,
    step_size: i64,
}

#[derive(Default, Deserialize)]
struct Usages {
    usages: BTreeMap<String, i64>,
}

#[derive(Default, Deserialize)]
struct Traits {
    traits: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Allocations {
    allocations: BTreeMap<String, Allocation>,
}

#[derive(Deserialize)]
struct Allocation {
    resources: BTreeMap<String, i64>,
}

/// A resource class of a provider.
struct Bar {
    class: String,
    used: i64,
    /// What can be given out, ratio and reserve counted in.
    most: i64,
    percent: i64,
    inventory: Inventory,
}

/// A consumer, and what it has.
struct Consumer {
    id: String,
    /// The server's name, where it is one.
    name: Option<String>,
    has: String,
}

struct Shown {
    provider: Provider,
    bars: Vec<Bar>,
    traits: Vec<String>,
    consumers: Vec<Consumer>,
    more: usize,
}

/// Consumers that one page shows.
const CONSUMERS: usize = 100;

#[derive(Template)]
#[template(path = "system/placement.html")]
struct PlacementPage {
    frame: Frame,
    providers: Vec<Shown>,
}

fn bars(inventories: Inventories, usages: &Usages) -> Vec<Bar> {
    let bar = |(class, inventory): (String, Inventory)| {
        let used = usages.usages.get(&class).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "whole units, far below 2^52")]
        let most = ((inventory.total - inventory.reserved) as f64 * inventory.allocation_ratio) as i64;
        let percent = if most > 0 { (used.saturating_mul(100) / most).clamp(0, 100) } else { 100 };
        Bar { class, used, most, percent, inventory }
    };
    inventories.inventories.into_iter().map(bar).collect()
}

/// `GET /placement`.
pub(super) async fn placement(visit: Visit) -> Result<Response> {
    let found: Providers = visit.api.get(Service::Placement, "/resource_providers").await?;
    let names = servers(&visit).await?;
    let mut providers = Vec::new();
    for provider in found.resource_providers {
        let at = format!("/resource_providers/{}", encoded(&provider.uuid));
        let inventories: Inventories = visit.api.get(Service::Placement, &format!("{at}/inventories")).await?;
        let usages: Usages = visit.api.get(Service::Placement, &format!("{at}/usages")).await?;
        let traits: Traits = visit.api.get(Service::Placement, &format!("{at}/traits")).await?;
        let allocations: Allocations = visit.api.get(Service::Placement, &format!("{at}/allocations")).await?;
        let more = allocations.allocations.len().saturating_sub(CONSUMERS);
        let consumer = |(id, allocation): (String, Allocation)| {
            let has: Vec<String> =
                allocation.resources.iter().map(|(class, amount)| format!("{class} {amount}")).collect();
            Consumer { name: names.get(&id).cloned(), id, has: has.join(", ") }
        };
        let consumers = allocations.allocations.into_iter().take(CONSUMERS).map(consumer).collect();
        providers.push(Shown { provider, bars: bars(inventories, &usages), traits: traits.traits, consumers, more });
    }
    let frame = visit.frame("/resource-providers", visit.words().t("Placement")).live();
    visit.page(&PlacementPage { frame, providers })
}

/// Names of servers by id, of all projects.
async fn servers(visit: &Visit) -> Result<BTreeMap<String, String>> {
    #[derive(Default, Deserialize)]
    struct Servers {
        servers: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: String,
        name: String,
    }
    let found: Servers = maybe(visit, Service::Compute, "/servers?all_tenants=1&limit=1000").await?;
    Ok(found.servers.into_iter().map(|server| (server.id, server.name)).collect())
}

#[derive(Deserialize)]
struct Hypervisors {
    hypervisors: Vec<Hypervisor>,
}

#[derive(Deserialize)]
struct Hypervisor {
    id: String,
    hypervisor_hostname: String,
    state: String,
    status: String,
    hypervisor_type: String,
    hypervisor_version: i64,
    host_ip: String,
    uptime: Option<String>,
    #[serde(default)]
    servers: Vec<Running>,
}

impl Hypervisor {
    /// `1002003` is `1.2.3`.
    fn version(&self) -> String {
        let number = self.hypervisor_version;
        format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
    }
}

#[derive(Deserialize)]
struct Running {
    uuid: String,
    name: String,
}

struct Host {
    hypervisor: Hypervisor,
    bars: Vec<Bar>,
}

#[derive(Template)]
#[template(path = "system/hypervisors.html")]
struct HypervisorsPage {
    frame: Frame,
    hosts: Vec<Host>,
    /// What the health report says of the host's own parts.
    parts: Vec<(String, String)>,
}

/// `GET /hypervisors`.
pub(super) async fn hypervisors(visit: Visit) -> Result<Response> {
    let found: Hypervisors = visit.api.get(Service::Compute, "/os-hypervisors/detail?with_servers=true").await?;
    let mut hosts = Vec::new();
    for hypervisor in found.hypervisors {
        // A hypervisor is the provider of the same id.
        let at = format!("/resource_providers/{}", encoded(&hypervisor.id));
        let inventories: Inventories = maybe(&visit, Service::Placement, &format!("{at}/inventories")).await?;
        let usages: Usages = maybe(&visit, Service::Placement, &format!("{at}/usages")).await?;
        hosts.push(Host { hypervisor, bars: bars(inventories, &usages) });
    }
    let health: Value = maybe(&visit, Service::System, "/health").await?;
    let text = |part: &Value, key: &str| part[key].as_str().unwrap_or_default().to_owned();
    let parts = health["parts"].as_array().into_iter().flatten();
    let parts =
        parts.filter(|part| ["processor", "memory", "disk", "hypervisor"].contains(&text(part, "name").as_str()));
    let parts = parts.map(|part| (text(part, "name"), text(part, "reason"))).collect();
    let frame = visit.frame("/system", visit.words().t("Host")).live();
    visit.page(&HypervisorsPage { frame, hosts, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_given_out_counts_ratio_and_reserve_in() {
        let inventory =
            Inventory { total: 10, reserved: 2, allocation_ratio: 1.5, min_unit: 1, max_unit: 10, step_size: 1 };
        let inventories = Inventories { inventories: BTreeMap::from([("VCPU".to_owned(), inventory)]) };
        let usages = Usages { usages: BTreeMap::from([("VCPU".to_owned(), 6)]) };
        let bars = bars(inventories, &usages);
        assert_eq!((bars[0].used, bars[0].most, bars[0].percent), (6, 12, 50));
    }
}
