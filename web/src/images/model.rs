//! An image as the Image service shows it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::show;

#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    pub id: String,
    pub name: Option<String>,
    pub status: String,
    pub visibility: String,
    pub owner: Option<String>,
    pub size: Option<u64>,
    pub virtual_size: Option<u64>,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    /// GiB.
    #[serde(default)]
    pub min_disk: i64,
    /// MiB.
    #[serde(default)]
    pub min_ram: i64,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub os_hidden: bool,
    pub os_hash_algo: Option<String>,
    pub os_hash_value: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: String,
    pub updated_at: String,
    /// Free properties, and what is no business of a page.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct Images {
    pub images: Vec<Image>,
    pub next: Option<String>,
}

/// A project that an image is shared with.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    pub member_id: String,
    pub status: String,
}

#[derive(Debug, Default, Deserialize)]
pub struct Members {
    pub members: Vec<Member>,
}

/// An import, as `GET /v2/images/{id}/tasks` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Task {
    pub status: String,
    pub message: Option<String>,
    pub created_at: String,
}

#[derive(Debug, Default, Deserialize)]
pub struct Tasks {
    pub tasks: Vec<Task>,
}

/// What the service adds to every image and no person wrote.
const OURS: [&str; 8] = ["self", "file", "schema", "stores", "checksum", "locations", "direct_url", "owner_specified"];

impl Image {
    /// Its name, or what of its id tells it from others.
    #[must_use]
    pub fn title(&self) -> &str {
        match self.name.as_deref() {
            Some(name) if !name.trim().is_empty() => name,
            _ => show::short(&self.id),
        }
    }

    /// Free properties.
    #[must_use]
    pub fn properties(&self) -> Vec<(&str, &str)> {
        let all = self.rest.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
        all.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }

    /// Whether it has bytes.
    #[must_use]
    pub fn has_data(&self) -> bool {
        matches!(self.status.as_str(), "active" | "deactivated")
    }

    /// Whether bytes are on their way.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        matches!(self.status.as_str(), "saving" | "uploading" | "importing")
    }

    /// The class of the status: what colour it has.
    #[must_use]
    pub fn mood(&self) -> &'static str {
        match self.status.as_str() {
            "active" => "good",
            "killed" => "bad",
            "saving" | "uploading" | "importing" => "busy",
            "queued" | "deactivated" => "warn",
            _ => "idle",
        }
    }

    #[must_use]
    pub fn size_text(&self) -> String {
        text(self.size)
    }

    #[must_use]
    pub fn virtual_text(&self) -> String {
        text(self.virtual_size)
    }
}

fn text(bytes: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    bytes.map_or_else(|| "–".to_owned(), |bytes| show::bytes(bytes as f64))
}
