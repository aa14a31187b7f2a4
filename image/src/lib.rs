//! The machine around the cloud, where Solostack is all that is installed: `README.md` beside this crate draws it.

pub mod backup;
mod files;
pub mod network;
pub mod points;
pub mod reset;
pub mod restore;
mod run;
pub mod screen;
pub mod start;
mod swap;
mod text;
pub mod update;

pub use files::{Error, Result};
pub use swap::ASIDE;
pub use text::plain;

/// What says that this machine is the appliance, and of which version: one line, written when the image is built.
pub const MARK: &str = "/usr/lib/solostack/appliance";

/// The image's version, if this machine is the appliance.
#[must_use]
pub fn version() -> Option<String> {
    std::fs::read_to_string(MARK).ok().map(|text| text.trim().to_owned())
}
