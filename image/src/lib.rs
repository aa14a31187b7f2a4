//! The machine around the cloud, where Solostack is all that is installed: `README.md` beside this crate draws it.

pub mod backup;
mod files;
pub mod first_boot;
pub mod install;
pub mod network;
pub mod notify;
pub mod points;
pub mod reset;
pub mod restore;
mod run;
pub mod screen;
pub mod secret;
pub mod start;
mod swap;
pub mod syslog;
mod text;
pub mod trust;
pub mod update;

pub use files::{Error, Result};
pub use swap::ASIDE;
pub use text::plain;

/// What says that this machine is the appliance, and of which version: one line, written when the image is built.
pub const MARK: &str = "/usr/lib/solostack/appliance";

/// In the state directory: the hash of the administrator's password, from the first boot until `serve` has taken it.
pub const ADMIN_HASH: &str = "admin-password-hash";

/// The image's version, if this machine is the appliance.
#[must_use]
pub fn version() -> Option<String> {
    std::fs::read_to_string(MARK).ok().map(|text| text.trim().to_owned())
}
