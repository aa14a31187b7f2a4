//! How the last update went: `<state>/update.json`, which the screen and the dashboard show too.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{self, About as _, Result};

const FILE: &str = "update.json";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The version that runs has proved itself.
    Good,
    /// It is installed, and has to prove itself at the next start, or does so now.
    Trying,
    /// The machine went back to the version before.
    Returned,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub state: State,
    /// That it is about.
    pub version: String,
    /// That was there before.
    pub from: String,
    /// Why the machine went back, or will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339, UTC.
    pub at: String,
    /// The start of the machine in which it was installed, as the kernel names it: until the next one nothing is tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Servers that ran when the update was installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
}

impl Record {
    /// The last one, if there ever was an update.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(state: &Path) -> Result<Option<Self>> {
        let path = state.join(FILE);
        if !files::is_there(&path)? {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).about(&path, "cannot be read")?;
        // What nobody understands must not keep the cloud from starting.
        Ok(serde_json::from_str(&text).ok())
    }

    pub(super) fn write(&self, state: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::other).about(state, "has no record")?;
        files::write_whole(&state.join(FILE), &bytes)
    }

    pub(super) fn with(self, state: State, reason: Option<String>) -> Self {
        Self { state, reason, at: db::Clock::default().now_text(), ..self }
    }
}
