//! Reading the network: lists whole and page by page, names of what rows speak of, and what is left of a quota.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::model::{Network, Port, Resource};
use crate::{
    api::{Api, Service, encoded},
    failure::{Result, seen},
    visit::Visit,
    words::Words,
};

/// Rows of one page.
pub(super) const ROWS: usize = 100;
/// What one request asks for when a page looks through many to find the few it shows.
const STEP: usize = 500;
/// A filter gives up there and offers to go on.
const STEPS_MAX: usize = 20;
/// Servers that are asked for one by one; beyond it a list is cheaper.
const SINGLY_MAX: usize = 16;
/// What Compute lists at once.
const LIST_MAX: usize = 1000;
/// What a server's status is if it is not `ACTIVE`, as Compute's API reference names them ("Servers").
const BUT_ACTIVE: [&str; 16] = [
    "BUILD",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SUSPENDED",
    "VERIFY_RESIZE",
];

/// One page of a list, and the marker of the next.
pub(super) struct Rows<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
}

async fn fetch<T: Resource>(api: &Api, query: &str) -> Result<Vec<T>> {
    api.member(Service::Network, &format!("{}{query}", T::PATH), T::MANY).await
}

/// All that there are. `query` begins with `?` or is empty.
pub(super) async fn all<T: Resource>(api: &Api, query: &str) -> Result<Vec<T>> {
    fetch(api, query).await
}

/// One thing.
pub(super) async fn one<T: Resource>(api: &Api, id: &str) -> Result<T> {
    api.member(Service::Network, &format!("{}/{}", T::PATH, encoded(id)), T::ONE).await
}

/// A thing that need not be there, or need not be the user's to see.
pub(super) async fn find<T: Resource>(api: &Api, id: &str) -> Result<Option<T>> {
    seen(one(api, id).await)
}

/// The next rows that a page keeps, after `marker`. `query` is more of the API's own filters (`&network_id=..`).
/// `sifted`: some rows may be left out, so more are looked at.
pub(super) async fn page<T: Resource>(
    api: &Api,
    query: &str,
    marker: &str,
    sifted: bool,
    keep: impl Fn(&T) -> bool,
) -> Result<Rows<T>> {
    let step = if sifted { STEP } else { ROWS + 1 };
    let mut rows: Vec<T> = Vec::new();
    let mut marker = marker.to_owned();
    for _ in 0..STEPS_MAX {
        let after = if marker.is_empty() { String::new() } else { format!("&marker={}", encoded(&marker)) };
        let found: Vec<T> =
            fetch(api, &format!("?limit={step}&sort_key={}&sort_key=id{query}{after}", T::SORT)).await?;
        let is_end = found.len() < step;
        for row in found {
            row.id().clone_into(&mut marker);
            if !keep(&row) {
                continue;
            }
            if rows.len() == ROWS {
                let next = rows.last().map(|row| row.id().to_owned());
                return Ok(Rows { rows, next });
            }
            rows.push(row);
        }
        if is_end {
            return Ok(Rows { rows, next: None });
        }
    }
    Ok(Rows { rows, next: Some(marker) })
}

/// Whether a text that somebody types is in one of these, whatever the case.
pub(super) fn matches(wanted: &str, texts: &[&str]) -> bool {
    let wanted = wanted.to_lowercase();
    wanted.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&wanted))
}

/// The project that a list is narrowed to: the API shows administrators everything, and most of it is not what they work on.
pub(super) fn only_project(visit: &Visit, everywhere: bool) -> Result<Option<String>> {
    let session = visit.session()?;
    let narrow = session.has_role("admin") && !everywhere;
    Ok(session.project_id().filter(|_| narrow).map(str::to_owned))
}

/// The same as a filter of the API.
pub(super) fn only_project_filter(visit: &Visit, everywhere: bool) -> Result<String> {
    let project = only_project(visit, everywhere)?;
    Ok(project.map(|project| format!("&project_id={}", encoded(&project))).unwrap_or_default())
}

/// Networks by id.
pub(super) async fn networks(api: &Api) -> Result<HashMap<String, Network>> {
    let networks: Vec<Network> = all(api, "").await?;
    Ok(networks.into_iter().map(|network| (network.id.clone(), network)).collect())
}

/// A server, as far as the network speaks of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Machine {
    pub id: String,
    pub name: String,
    /// Empty where nobody asked.
    #[serde(default)]
    pub status: String,
}

/// Servers by id.
pub(super) type Machines = HashMap<String, Machine>;

/// Every server that the user may see, without its status; for administrators those of all projects.
pub(super) async fn machines(visit: &Visit) -> Result<Machines> {
    let machines = listed(visit, "").await?;
    Ok(machines.into_iter().map(|machine| (machine.id.clone(), machine)).collect())
}

/// Sets the status of every server: a list with the details of a thousand takes longer than one of names for each status.
pub(super) async fn set_statuses(visit: &Visit, machines: &mut Machines) -> Result<()> {
    for machine in machines.values_mut() {
        "ACTIVE".clone_into(&mut machine.status);
    }
    for status in BUT_ACTIVE {
        for found in listed(visit, &format!("&status={status}")).await? {
            if let Some(machine) = machines.get_mut(&found.id) {
                status.clone_into(&mut machine.status);
            }
        }
    }
    Ok(())
}

async fn listed(visit: &Visit, filter: &str) -> Result<Vec<Machine>> {
    let everywhere = if visit.session()?.has_role("admin") { "&all_tenants=1" } else { "" };
    let mut machines: Vec<Machine> = Vec::new();
    let mut marker = String::new();
    for _ in 0..STEPS_MAX {
        let path = format!("/servers?limit={LIST_MAX}{everywhere}{filter}{marker}");
        let found: Option<Vec<Machine>> = seen(visit.api.member(Service::Compute, &path, "servers").await)?;
        let mut found = found.unwrap_or_default();
        let is_end = found.len() < LIST_MAX;
        machines.append(&mut found);
        match machines.last() {
            Some(last) if !is_end => marker = format!("&marker={}", encoded(&last.id)),
            _ => break,
        }
    }
    Ok(machines)
}

/// The servers of these ports, and the status of those whose port is down: few are asked for one by one, many by their list.
pub(super) async fn machines_of(visit: &Visit, ports: &[Port]) -> Result<Machines> {
    let ids = |is_wanted: fn(&Port) -> bool| -> BTreeSet<&str> {
        let wanted = ports.iter().filter(|port| port.is_of_server() && is_wanted(port));
        wanted.map(|port| port.device_id.as_str()).collect()
    };
    let (all, down) = (ids(|_| true), ids(|port| port.status == "DOWN"));
    let is_many = all.len() > SINGLY_MAX;
    let mut machines = if is_many { machines(visit).await? } else { Machines::new() };
    if down.len() > SINGLY_MAX {
        set_statuses(visit, &mut machines).await?;
        return Ok(machines);
    }
    for id in if is_many { down } else { all } {
        let path = format!("/servers/{}", encoded(id));
        let found: Option<Machine> = seen(visit.api.member(Service::Compute, &path, "server").await)?;
        machines.extend(found.map(|found| (id.to_owned(), found)));
    }
    Ok(machines)
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Usage {
    limit: i64,
    used: i64,
}

#[derive(Deserialize)]
struct Details {
    quota: HashMap<String, Usage>,
}

/// What is left of a quota, in words; and whether nothing is.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub text: String,
    pub full: bool,
}

impl Left {
    fn of(words: Words, usage: Usage) -> Self {
        let left = usage.limit - usage.used;
        if usage.limit < 0 {
            return Self { text: words.fill("Quota: {} used, no limit", &[&usage.used]), full: false };
        }
        let text = words.fill("Quota: {} of {} used, {} left", &[&usage.used, &usage.limit, &left.max(0)]);
        Self { text, full: left <= 0 }
    }
}

/// Whether nothing more can be made, as far as is known.
pub(crate) fn is_full(left: &Option<Left>) -> bool {
    left.as_ref().is_some_and(|left| left.full)
}

/// The quota of the project for some resources (`network`, `security_group_rule` ..), in this order. None where the user
/// works in no project, or may not know.
pub(super) async fn quota<const N: usize>(visit: &Visit, resources: [&str; N]) -> Result<[Option<Left>; N]> {
    let Some(project) = visit.session()?.project_id() else { return Ok([const { None }; N]) };
    let path = format!("/quotas/{}/details", encoded(project));
    let details: Option<Details> = visit.api.find(Service::Network, &path).await?;
    let words = visit.words();
    Ok(resources.map(|name| {
        let usage = details.as_ref().and_then(|details| details.quota.get(name)).copied();
        usage.map(|usage| Left::of(words, usage))
    }))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_quota_says_what_is_left() {
        let words = Words::of(&HeaderMap::new());
        let left = Left::of(words, Usage { limit: 10, used: 7 });
        assert_eq!((left.text.as_str(), left.full), ("Quota: 7 of 10 used, 3 left", false));
        assert!(Left::of(words, Usage { limit: 0, used: 0 }).full);
        assert!(Left::of(words, Usage { limit: 2, used: 5 }).full);
        assert!(!Left::of(words, Usage { limit: -1, used: 5 }).full);
    }

    #[test]
    fn what_is_typed_is_looked_for_in_any_case() {
        assert!(matches("WEB", &["my-web-net", "x"]));
        assert!(matches("", &[]));
        assert!(!matches("db", &["my-web-net"]));
    }
}
