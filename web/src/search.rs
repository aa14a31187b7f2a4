//! One search over things and actions: a plain page, and what the palette of the script shows.

use askama::Template;
use axum::{Router, extract::Query, response::Response, routing::get};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::Result,
    frame::Frame,
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/search", get(show))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    q: String,
}

/// Something that was found.
struct Hit {
    path: String,
    label: String,
    /// What tells it from others of the name.
    note: String,
}

/// Hits of one kind.
struct Group {
    label: &'static str,
    hits: Vec<Hit>,
}

#[derive(Template)]
#[template(path = "search/index.html")]
struct Page {
    frame: Frame,
    q: String,
    groups: Vec<Group>,
}

/// Of one kind.
const HITS: usize = 8;
/// Rows of a list that are looked through where its API cannot search.
const LOOKED_THROUGH: u32 = 1000;
/// Nobody types more.
const QUERY_MAX: usize = 200;

/// Marks a text for translation where it is only data.
const fn t(text: &'static str) -> &'static str {
    text
}

/// Things that can be done from anywhere.
const ACTIONS: &[(&str, &str)] = &[
    (t("Launch a server"), "/servers/new"),
    (t("Upload an image"), "/images/new"),
    (t("Create a network"), "/networks/new"),
    (t("Where to work"), "/scope"),
    (t("API access"), "/access"),
    (t("Account"), "/account"),
];
const ADMIN_ACTIONS: &[(&str, &str)] = &[
    (t("Host"), "/hypervisors"),
    (t("Default quotas"), "/quota-defaults"),
    (t("Support bundle"), "/system/support-bundle"),
];

/// Where `g` and a letter go.
pub(crate) const JUMPS: &[(&str, &str, &str)] = &[
    ("o", "Overview", "/"),
    ("s", "Servers", "/servers"),
    ("i", "Images", "/images"),
    ("k", "Key pairs", "/keypairs"),
    ("f", "Flavors", "/flavors"),
    ("t", "Topology", "/topology"),
    ("n", "Networks", "/networks"),
    ("r", "Routers", "/routers"),
    ("p", "Ports", "/ports"),
    ("a", "API access", "/access"),
];

/// A kind of thing: where it is listed, and how one of it is shown.
struct Kind {
    label: &'static str,
    service: Service,
    list: String,
    /// The member of the answer that holds the rows, and the one inside each, if any.
    rows: (&'static str, Option<&'static str>),
    page: &'static str,
    /// What stands in the page's address.
    key: &'static str,
    /// Other fields that may be what was typed.
    also: &'static [&'static str],
}

fn kinds(q: &str, admin: bool) -> Vec<Kind> {
    let all = LOOKED_THROUGH;
    let kind =
        |label, service, list: String, rows, page, key, also| Kind { label, service, list, rows, page, key, also };
    let mut kinds = vec![
        kind(
            "Servers",
            Service::Compute,
            format!("/servers?limit={all}"),
            ("servers", None),
            "/servers",
            "id",
            &["id"][..],
        ),
        kind("Images", Service::Images, format!("/images?limit={all}"), ("images", None), "/images", "id", &["id"]),
        kind(
            "Networks",
            Service::Network,
            format!("/networks?limit={all}&fields=id&fields=name"),
            ("networks", None),
            "/networks",
            "id",
            &["id"],
        ),
        kind(
            "Ports",
            Service::Network,
            format!("/ports?limit={all}&fields=id&fields=name&fields=fixed_ips&fields=mac_address"),
            ("ports", None),
            "/ports",
            "id",
            &["id", "mac_address", "fixed_ips"],
        ),
        kind(
            "Routers",
            Service::Network,
            format!("/routers?limit={all}&fields=id&fields=name"),
            ("routers", None),
            "/routers",
            "id",
            &["id"],
        ),
        kind(
            "Security groups",
            Service::Network,
            format!("/security-groups?limit={all}&fields=id&fields=name"),
            ("security_groups", None),
            "/security-groups",
            "id",
            &["id"],
        ),
        kind(
            "Floating IPs",
            Service::Network,
            format!("/floatingips?limit={all}&fields=id&fields=floating_ip_address&fields=description"),
            ("floatingips", None),
            "/floating-ips",
            "id",
            &["id", "floating_ip_address", "description"],
        ),
        kind(
            "Key pairs",
            Service::Compute,
            format!("/os-keypairs?limit={all}"),
            ("keypairs", Some("keypair")),
            "/keypairs",
            "name",
            &["fingerprint"],
        ),
        kind(
            "Flavors",
            Service::Compute,
            format!("/flavors?limit={all}"),
            ("flavors", None),
            "/flavors",
            "id",
            &["id"],
        ),
    ];
    if admin {
        let part = encoded(q);
        kinds.push(kind(
            "Projects",
            Service::Identity,
            format!("/projects?name__icontains={part}"),
            ("projects", None),
            "/projects",
            "id",
            &["id"],
        ));
        kinds.push(kind(
            "Users",
            Service::Identity,
            format!("/users?name__icontains={part}"),
            ("users", None),
            "/users",
            "id",
            &["id"],
        ));
    }
    kinds
}

/// Every text inside.
fn texts(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(texts).collect::<Vec<_>>().join(" "),
        Value::Object(map) => map.get("ip_address").map(texts).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Hits among the rows, those whose name begins so first.
fn hits(kind: &Kind, rows: &[Value], wanted: &str) -> Vec<Hit> {
    let mut found: Vec<(bool, Hit)> = Vec::new();
    for row in rows {
        let row = kind.rows.1.map_or(row, |inner| &row[inner]);
        let name = row["name"].as_str().unwrap_or_default();
        let lower = name.to_lowercase();
        let other = kind.also.iter().map(|field| texts(&row[*field])).find(|text| text.to_lowercase().contains(wanted));
        if !lower.contains(wanted) && other.is_none() {
            continue;
        }
        let id = row[kind.key].as_str().unwrap_or_default();
        let path = format!("{}/{}", kind.page, encoded(id));
        let note = other.unwrap_or_else(|| texts(&row["id"]));
        let label = if name.is_empty() { note.clone() } else { name.to_owned() };
        found.push((!lower.starts_with(wanted), Hit { path, label, note }));
    }
    found.sort_by_key(|(later, _)| *later);
    found.into_iter().map(|(_, hit)| hit).take(HITS).collect()
}

/// `GET /search?q=`.
async fn show(visit: Visit, Query(asked): Query<Asked>) -> Result<Response> {
    let words = visit.words();
    let frame = visit.frame("", words.t("Search"));
    let q: String = asked.q.trim().chars().take(QUERY_MAX).collect();
    let wanted = q.to_lowercase();
    let mut groups = Vec::new();
    let menu = frame.menu().flat_map(|group| group.entries).map(|entry| (entry.label, entry.path));
    let admins = ADMIN_ACTIONS.iter().filter(|_| frame.admin).copied();
    let actions: Vec<Hit> = ACTIONS
        .iter()
        .copied()
        .chain(menu)
        .chain(admins)
        .map(|(label, path)| Hit { path: path.to_owned(), label: words.t(label).to_owned(), note: String::new() })
        .filter(|hit| hit.label.to_lowercase().contains(&wanted))
        .collect();
    if !actions.is_empty() {
        groups.push(Group { label: words.t("Go to"), hits: actions });
    }
    if !q.is_empty() {
        let kinds = kinds(&q, frame.admin);
        let asked = kinds.iter().map(|kind| visit.api.find::<Value>(kind.service, &kind.list));
        let found = futures::future::join_all(asked).await;
        for (kind, found) in kinds.iter().zip(found) {
            // What one service refuses (no project, say) is no reason to hide what the others have.
            let rows = match found {
                Ok(Some(found)) => found[kind.rows.0].as_array().cloned().unwrap_or_default(),
                Err(failure) if failure.sign_in || !failure.is_users() => return Err(failure),
                _ => continue,
            };
            let hits = hits(kind, &rows, &wanted);
            if !hits.is_empty() {
                groups.push(Group { label: words.t(kind.label), hits });
            }
        }
    }
    visit.page(&Page { frame, q, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_that_begin_so_come_first_and_addresses_are_found() {
        let kinds = kinds("x", false);
        let of = |label: &str| kinds.iter().find(|kind| kind.label == label).unwrap();
        let rows = [json!({"id": "1", "name": "not web"}), json!({"id": "2", "name": "Web"}), json!({"id": "3"})];
        let found = hits(of("Servers"), &rows, "web");
        assert_eq!(found.iter().map(|hit| hit.path.as_str()).collect::<Vec<_>>(), ["/servers/2", "/servers/1"]);
        let rows = [json!({"id": "p", "name": "", "fixed_ips": [{"ip_address": "192.0.2.9"}], "mac_address": "fa:16"})];
        let found = hits(of("Ports"), &rows, "192.0.2.");
        assert_eq!((found[0].path.as_str(), found[0].label.as_str()), ("/ports/p", "192.0.2.9"));
        let rows = [json!({"keypair": {"name": "../a?b", "fingerprint": "aa:bb"}})];
        assert_eq!(hits(of("Key pairs"), &rows, "../a")[0].path, "/keypairs/..%2Fa%3Fb");
    }
}
