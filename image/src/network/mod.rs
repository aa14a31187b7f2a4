//! The machine's own network: what `[network_settings]` says, checked, written for systemd-networkd, and put into force so
//! that a mistake undoes itself.
//!
//! What must stay true:
//! - Without a word every wired NIC has DHCP, and a link-local address where nobody answers.
//! - A change that nobody confirms is gone after a minute, whatever dies meanwhile: `change` keeps it on disk.
//! - Settings that are wrong never leave a machine without network: the last good ones stay, or DHCP.
//! - Only NICs of hardware and the bonds and VLANs named here are touched; what the cloud makes is not.
//! - Nothing reaches a file of systemd-networkd that was not checked: [`Checked`] is the only way to [`render`].

mod change;
mod check;
mod command;
mod document;
mod networkd;
mod nics;
mod places;
mod render;
#[cfg(test)]
mod tests;

pub use change::{Applied, CONFIRM_WITHIN_S, Changes, Now, Pending, Stage, Status, System};
pub(crate) use check::asks_for_ipv4;
pub use check::{Checked, NicId, check, check_here};
pub use command::{apply, check_file, confirm, give_back, settle, show, watch};
pub use document::{replaced, section, to_toml};
pub use networkd::ThisSystem;
pub use nics::{Nic, is_link_local, nics};
pub use places::Places;
pub(crate) use places::read_bounded;
pub use render::{File, render};
