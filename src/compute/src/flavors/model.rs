//! A size: what a server made with it gets.

use std::collections::BTreeMap;

use rest::{Error, Result};
use serde::{Deserialize, Serialize};

/// The largest number of anything, upstream's bound.
pub(crate) const NUMBER_MAX: i64 = 0x7FFF_FFFF;

/// A flavor. Also kept with each server as it was when the server was made, so a deleted flavor changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flavor {
    pub id: String,
    pub name: String,
    pub vcpus: i64,
    pub ram_mib: i64,
    pub disk_gib: i64,
    pub ephemeral_gib: i64,
    pub swap_mib: i64,
    pub rxtx_factor: f64,
    pub is_public: bool,
    pub disabled: bool,
    pub description: Option<String>,
    pub extra_specs: BTreeMap<String, String>,
}

impl Flavor {
    /// What a server of this size occupies on the disk that holds servers, in GiB, given its root disk.
    pub fn disk_total_gib(&self, root_gib: i64) -> i64 {
        root_gib + self.ephemeral_gib + (self.swap_mib + 1023) / 1024
    }
}

/// Upstream's name of extra specs: letters, digits, `-_ :.`.
pub(crate) fn check_extra_spec_key(key: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_ :.".contains(c);
    if key.is_empty() || key.len() > 255 || !key.chars().all(plain) {
        return Err(Error::bad_request(format!(
            "Invalid input for field/attribute extra_specs: {key:?} is no valid key."
        )));
    }
    Ok(())
}

/// Names of flavors and servers: printable, not only spaces, no more than 255 characters.
pub(crate) fn check_name(field: &str, name: &str) -> Result<String> {
    let trimmed = name.trim();
    if trimmed.is_empty() || name.chars().count() > 255 || name.chars().any(char::is_control) {
        return Err(Error::bad_request(format!(
            "Invalid input for field/attribute {field}: it must have 1 to 255 printable characters."
        )));
    }
    Ok(trimmed.to_owned())
}
