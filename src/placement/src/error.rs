//! The errors that more than one resource answers, and the codes that clients tell them apart by (since 1.23).

use rest::{Error, Kind};

pub const CONCURRENT_UPDATE: &str = "placement.concurrent_update";
pub const DUPLICATE_NAME: &str = "placement.duplicate_name";
pub const INVENTORY_IN_USE: &str = "placement.inventory.inuse";
pub const PROVIDER_IN_USE: &str = "placement.resource_provider.inuse";
pub const CANNOT_DELETE_PARENT: &str = "placement.resource_provider.cannot_delete_parent";
pub const PROVIDER_NOT_FOUND: &str = "placement.resource_provider.not_found";
pub const DUPLICATE_KEY: &str = "placement.query.duplicate_key";
pub const BAD_VALUE: &str = "placement.query.bad_value";
pub const MISSING_VALUE: &str = "placement.query.missing_value";

pub fn no_provider(uuid: &str) -> Error {
    Error::new(Kind::NotFound, format!("No resource provider with uuid {uuid} found"))
}

pub fn no_class(name: &str) -> Error {
    Error::bad_request(format!("No such resource class {name}."))
}

/// The caller's view of a provider is out of date.
pub fn generation_conflict(actual: i64, given: i64) -> Error {
    Error::conflict(format!("resource provider generation conflict: actual: {actual}, given: {given}"))
        .with_code(CONCURRENT_UPDATE)
}
