//! Refusals in the words that Identity's clients know.

use rest::{Error, Kind};

/// 404: `user` -> "Could not find user: <id>."
pub(crate) fn not_found(noun: &str, id: &str) -> Error {
    Error::new(Kind::NotFound, format!("Could not find {noun}: {id}."))
}

/// 404 for a token that is handed in and not good (any more), as upstream: only what `X-Auth-Token` says is a 401.
pub(crate) fn no_token() -> Error {
    Error::new(Kind::NotFound, "Could not find token.")
}

/// 409 for a name that is taken.
pub(crate) fn duplicate(noun: &str, name: &str) -> Error {
    Error::conflict(format!("Conflict occurred attempting to store {noun} - Duplicate entry found with name {name}."))
}

/// 409 for an id or combination that is taken.
pub(crate) fn duplicate_entry(noun: &str) -> Error {
    Error::conflict(format!("Conflict occurred attempting to store {noun} - Duplicate entry."))
}

/// 403 for what the state of a thing forbids, whoever asks.
pub(crate) fn refused(action: impl std::fmt::Display) -> Error {
    Error::forbidden(format!("You are not authorized to perform the requested action: {action}."))
}

/// 400 naming the field; never with its value, which may be a secret.
pub(crate) fn invalid(field: &str, why: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("Invalid input for field '{field}': {why}."))
}

/// 400 as Identity words a missing part.
pub(crate) fn expecting(attribute: &str, target: &str) -> Error {
    Error::bad_request(format!(
        "Expecting to find {attribute} in {target}. The server could not comply with the request since it is either \
         malformed or otherwise incorrect. The client is assumed to be in error."
    ))
}
