//! A server as Compute shows it, in words.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    show,
    words::{Words, t},
};

#[derive(Clone, Debug, Deserialize)]
pub struct Address {
    pub addr: String,
    #[serde(default)]
    pub version: u8,
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

impl Flavor {
    #[must_use]
    pub fn size(&self) -> String {
        format!("{} VCPU · {} · {} GiB", self.vcpus, show::mib(self.ram), self.disk)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    pub message: String,
    #[serde(default)]
    pub created: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct GroupName {
    pub name: String,
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
    pub updated: String,
    #[serde(default)]
    pub locked: bool,
    pub locked_reason: Option<String>,
    pub fault: Option<Fault>,
    pub key_name: Option<String>,
    #[serde(default)]
    pub tenant_id: String,
    #[serde(default)]
    pub user_id: String,
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub tags: Vec<String>,
    /// An empty text where there is none.
    #[serde(default)]
    pub image: Value,
    #[serde(default)]
    pub security_groups: Vec<GroupName>,
    #[serde(default)]
    pub config_drive: String,
    #[serde(rename = "OS-EXT-AZ:availability_zone")]
    pub zone: Option<String>,
    #[serde(rename = "OS-SRV-USG:launched_at")]
    pub launched_at: Option<String>,
    #[serde(rename = "OS-EXT-SRV-ATTR:hostname")]
    pub hostname: Option<String>,
    /// For administrators.
    #[serde(rename = "OS-EXT-SRV-ATTR:host")]
    pub host: Option<String>,
    #[serde(rename = "OS-EXT-SRV-ATTR:instance_name")]
    pub instance_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Servers {
    pub servers: Vec<Server>,
    #[serde(default)]
    pub servers_links: Vec<Link>,
}

#[derive(Debug, Deserialize)]
pub struct One {
    pub server: Server,
}

#[derive(Debug, Deserialize)]
pub struct Link {
    pub rel: String,
}

impl Server {
    /// Every address, fixed ones first.
    #[must_use]
    pub fn all_addresses(&self) -> Vec<&str> {
        let mut all: Vec<&Address> = self.addresses.values().flatten().collect();
        all.sort_by_key(|address| address.kind == "floating");
        all.into_iter().map(|address| address.addr.as_str()).collect()
    }

    /// The address to connect to, and whether it can be reached from outside: a floating one, or else the first.
    #[must_use]
    pub fn best_address(&self) -> Option<(&str, bool)> {
        let all = || self.addresses.values().flatten();
        let floating = all().find(|address| address.kind == "floating").map(|address| (address.addr.as_str(), true));
        let fixed = || all().find(|address| address.version != 6).or_else(|| all().next());
        floating.or_else(|| fixed().map(|address| (address.addr.as_str(), false)))
    }

    #[must_use]
    pub fn image_id(&self) -> Option<&str> {
        self.image["id"].as_str()
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

    /// What its state means, in a sentence.
    #[must_use]
    pub fn in_words(&self, words: Words) -> String {
        let status = words.t(match self.status.as_str() {
            "ACTIVE" => t("It runs."),
            "BUILD" => t("It is being made."),
            "SHUTOFF" => t("It is switched off. Its disk, ports and quota stay."),
            "PAUSED" => t("It stands still; its memory is kept, and is lost if the host restarts."),
            "SUSPENDED" => t("It sleeps: its memory is on disk."),
            "RESCUE" => t("It runs from a rescue image, with its own disk beside it. Unrescue leads back."),
            "VERIFY_RESIZE" => t("It runs with its new flavor. Confirm the resize to keep it, or revert it."),
            "SHELVED" => t("It is off, and its disk is kept as an image."),
            "SHELVED_OFFLOADED" => t("It is kept as an image only, and takes nothing of the host."),
            "ERROR" => t("Something failed; the reason is below."),
            "DELETED" => t("It is deleted."),
            _ => t("Something is being done to it."),
        });
        match &self.task_state {
            Some(task) => format!("{status} {}", words.fill("Under way: {}.", &[task])),
            None => status.to_owned(),
        }
    }
}
