//! An event, checked.

use rest::{Ctx, Error, Result, is_uuid};
use serde::Deserialize;

/// Names, and the microversion that brought each.
const NAMES: &[(&str, (u16, u16))] = &[
    ("network-changed", (2, 1)),
    ("network-vif-plugged", (2, 1)),
    ("network-vif-unplugged", (2, 1)),
    ("network-vif-deleted", (2, 1)),
    ("volume-extended", (2, 51)),
    ("power-update", (2, 76)),
    ("accelerator-request-bound", (2, 82)),
    ("volume-reimaged", (2, 93)),
];
/// Those that say nothing without what they are about.
const TAGGED: &[&str] = &["volume-extended", "volume-reimaged", "accelerator-request-bound"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    pub name: String,
    pub server_uuid: String,
    pub status: Option<String>,
    pub tag: Option<String>,
}

impl Event {
    pub fn check(&self, ctx: &Ctx) -> Result<()> {
        let bad = |field: &str, why: &str| {
            Err(Error::bad_request(format!("Invalid input for field/attribute {field}: {why}.")))
        };
        if !NAMES.iter().any(|(name, since)| *name == self.name && ctx.since(since.0, since.1)) {
            return bad("name", &format!("{:?} is no event of this microversion", self.name));
        }
        if !is_uuid(&self.server_uuid) {
            return bad("server_uuid", "it is no UUID");
        }
        if !matches!(self.status.as_deref(), None | Some("failed" | "completed" | "in-progress")) {
            return bad("status", "it must be failed, completed or in-progress");
        }
        if self.tag.as_ref().is_some_and(|tag| tag.chars().count() > 255) {
            return bad("tag", "longer than 255 characters");
        }
        Ok(())
    }

    /// Whether the event says what it is about, where that is needed.
    pub fn is_whole(&self) -> bool {
        match self.name.as_str() {
            "power-update" => matches!(self.tag.as_deref(), Some("POWER_ON" | "POWER_OFF")),
            name => !TAGGED.contains(&name) || self.tag.is_some(),
        }
    }
}
