//! An aggregate, and what may become of the host's zone.

use std::collections::BTreeMap;

use rest::{Error, Result};

/// The metadata key that makes an aggregate an availability zone.
pub(crate) const ZONE: &str = "availability_zone";

#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub id: i64,
    pub uuid: String,
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    /// Whether this machine, the only host there is, belongs to it.
    pub has_host: bool,
    pub created_at: String,
    pub updated_at: Option<String>,
}

impl Aggregate {
    pub fn zone(&self) -> Option<&str> {
        self.metadata.get(ZONE).map(String::as_str)
    }
}

/// A zone's name: Compute cuts `zone:host:node` at the colons when a server is asked for.
pub(crate) fn check_zone(name: &str) -> Result<()> {
    if name.trim().is_empty() || name.chars().count() > 255 || name.contains(':') || name.chars().any(char::is_control)
    {
        return Err(Error::bad_request(
            "Invalid input for field/attribute availability_zone: it must have 1 to 255 characters, none of them a ':'.",
        ));
    }
    Ok(())
}

/// Metadata as a request changes it: null removes a key.
pub(crate) fn check_metadata(changes: &BTreeMap<String, Option<String>>) -> Result<()> {
    let bad = |why: String| Error::bad_request(format!("Invalid input for field/attribute metadata: {why}."));
    for (key, value) in changes {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_:. ".contains(c);
        if key.is_empty() || key.chars().count() > 255 || !key.chars().all(plain) {
            return Err(bad(format!("key {key:?} must have 1 to 255 letters, digits, spaces and '-_:.'")));
        }
        if value.as_ref().is_some_and(|value| value.chars().count() > 255) {
            return Err(bad(format!("the value of {key:?} is longer than 255 characters")));
        }
    }
    match changes.get(ZONE) {
        Some(Some(zone)) => check_zone(zone),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_name_that_a_server_can_ask_for() {
        assert!(check_zone("rack 1").is_ok());
        for bad in ["", "  ", "nova:host", "a\nb", &"x".repeat(256)] {
            assert!(check_zone(bad).is_err(), "{bad:?}");
        }
    }
}
