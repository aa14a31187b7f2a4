//! A server as Compute shows it, and what can be done with it in its state.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Address {
    pub addr: String,
    #[serde(rename = "OS-EXT-IPS:type")]
    pub kind: String,
}

/// The flavor as it was at creation (since 2.47).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Flavor {
    #[serde(default)]
    pub original_name: String,
    #[serde(default)]
    pub vcpus: i64,
    /// MiB.
    #[serde(default)]
    pub ram: i64,
    /// GiB.
    #[serde(default)]
    pub disk: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    pub message: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    pub id: String,
    pub name: String,
    pub status: String,
    #[serde(rename = "OS-EXT-STS:task_state")]
    pub task_state: Option<String>,
    #[serde(default)]
    pub addresses: BTreeMap<String, Vec<Address>>,
    #[serde(default)]
    pub flavor: Flavor,
    pub created: String,
    #[serde(default)]
    pub locked: bool,
    pub fault: Option<Fault>,
    pub key_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Servers {
    pub servers: Vec<Server>,
    #[serde(default)]
    pub servers_links: Vec<Link>,
}

#[derive(Debug, Deserialize)]
pub struct Link {
    pub rel: String,
    pub href: String,
}

/// What the menu of a row offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// As the form sends it.
    pub name: &'static str,
    pub label: &'static str,
    /// What Compute is sent (`null` as argument); `None` is DELETE.
    pub action: Option<&'static str>,
    /// Statuses in which Compute takes it; empty is any.
    pub from: &'static [&'static str],
}

const fn t(text: &'static str) -> &'static str {
    text
}

const fn verb(
    name: &'static str,
    label: &'static str,
    action: Option<&'static str>,
    from: &'static [&'static str],
) -> Verb {
    Verb { name, label, action, from }
}

/// Verbs that need nothing but a server, in the order of the menu.
pub const VERBS: &[Verb] = &[
    verb("start", t("Start"), Some("os-start"), &["SHUTOFF"]),
    verb("stop", t("Stop"), Some("os-stop"), &["ACTIVE", "ERROR", "RESCUE"]),
    verb("reboot", t("Reboot"), Some("reboot"), &["ACTIVE"]),
    verb(
        "hard-reboot",
        t("Hard reboot"),
        Some("reboot"),
        &["ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "ERROR", "RESCUE"],
    ),
    verb("pause", t("Pause"), Some("pause"), &["ACTIVE", "RESCUE"]),
    verb("unpause", t("Unpause"), Some("unpause"), &["PAUSED"]),
    verb("suspend", t("Suspend"), Some("suspend"), &["ACTIVE", "SHUTOFF"]),
    verb("resume", t("Resume"), Some("resume"), &["SUSPENDED"]),
    verb("shelve", t("Shelve"), Some("shelve"), &["ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED"]),
    verb("unshelve", t("Unshelve"), Some("unshelve"), &["SHELVED", "SHELVED_OFFLOADED"]),
    verb("lock", t("Lock"), Some("lock"), &[]),
    verb("unlock", t("Unlock"), Some("unlock"), &[]),
    verb("delete", t("Delete"), None, &[]),
];

impl Verb {
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        VERBS.iter().find(|verb| verb.name == name).copied()
    }

    /// Why it cannot be done now, if it cannot: the status that is in the way, or the work under way.
    #[must_use]
    pub fn allowed(&self, server: &Server) -> bool {
        match self.name {
            "lock" => !server.locked,
            "unlock" => server.locked,
            "delete" => true,
            _ => server.task_state.is_none() && self.from.contains(&server.status.as_str()),
        }
    }
}

impl Server {
    /// Every address, fixed ones first.
    #[must_use]
    pub fn all_addresses(&self) -> Vec<&str> {
        let mut all: Vec<&Address> = self.addresses.values().flatten().collect();
        all.sort_by_key(|address| address.kind == "floating");
        all.into_iter().map(|address| address.addr.as_str()).collect()
    }

    /// The class of the status: what colour it has.
    #[must_use]
    pub fn mood(&self) -> &'static str {
        if self.task_state.is_some() {
            return "busy";
        }
        match self.status.as_str() {
            "ACTIVE" => "good",
            "ERROR" => "bad",
            "BUILD" | "REBOOT" | "HARD_REBOOT" | "REBUILD" | "RESIZE" | "PASSWORD" | "REVERT_RESIZE" => "busy",
            "VERIFY_RESIZE" | "RESCUE" => "warn",
            _ => "idle",
        }
    }

    #[must_use]
    pub fn verbs(&self) -> Vec<Verb> {
        VERBS.iter().filter(|verb| !matches!(verb.name, "lock" | "unlock") || verb.allowed(self)).copied().collect()
    }
}
