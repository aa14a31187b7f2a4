//! Kinds of consoles.

use std::time::Duration;

use rest::{Ctx, Error, Result};
use sha2::{Digest as _, Sha256};

/// How long a token may wait for its connection.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// What a console shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    Screen,
    Serial,
}

impl Console {
    /// The word that the API has for its type.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Screen => "novnc",
            Self::Serial => "serial",
        }
    }

    pub fn parse(kind: &str) -> Option<Self> {
        [Self::Screen, Self::Serial].into_iter().find(|console| console.kind() == kind)
    }

    /// The console that a protocol and a type of the API mean. Every one that the microversion knows is known; those that
    /// are not to be had here are refused as such.
    pub fn wanted(ctx: &Ctx, protocol: &str, kind: &str) -> Result<Self> {
        let types: &[&str] = match protocol {
            "vnc" => &["novnc", "xvpvnc"],
            "serial" => &["serial"],
            "spice" if ctx.since(2, 99) => &["spice-html5", "spice-direct"],
            "spice" => &["spice-html5"],
            "rdp" => &["rdp-html5"],
            "mks" if ctx.since(2, 8) => &["webmks"],
            _ => return Err(invalid("protocol", protocol)),
        };
        if !types.contains(&kind) {
            return Err(invalid("type", kind));
        }
        Self::parse(kind).ok_or_else(|| unavailable(kind))
    }
}

fn invalid(field: &str, word: &str) -> Error {
    let word: String = word.chars().take(80).collect();
    Error::bad_request(format!("Invalid input for field/attribute {field}: {word:?} is no such console."))
}

/// Upstream's words.
pub(crate) fn unavailable(kind: &str) -> Error {
    Error::bad_request(format!("Unavailable console type {kind}."))
}

/// What is kept of a token.
pub(super) fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
