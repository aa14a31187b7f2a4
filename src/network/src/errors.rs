//! Refusals in Neutron's words: the `type` that clients parse, and a sentence for people.

use rest::{Error, Kind};

fn coded(kind: Kind, code: &'static str, text: String) -> Error {
    Error::new(kind, text).with_code(code)
}

/// `noun` as Neutron writes it in the sentence, `code` as it names the type: `("Network", "NetworkNotFound")`.
pub(crate) fn not_found(noun: &str, code: &'static str, id: &str) -> Error {
    coded(Kind::NotFound, code, format!("{noun} {id} could not be found."))
}

pub(crate) fn network_not_found(id: &str) -> Error {
    not_found("Network", "NetworkNotFound", id)
}

pub(crate) fn subnet_not_found(id: &str) -> Error {
    not_found("Subnet", "SubnetNotFound", id)
}

pub(crate) fn port_not_found(id: &str) -> Error {
    not_found("Port", "PortNotFound", id)
}

pub(crate) fn router_not_found(id: &str) -> Error {
    not_found("Router", "RouterNotFound", id)
}

pub(crate) fn floating_ip_not_found(id: &str) -> Error {
    not_found("Floating IP", "FloatingIPNotFound", id)
}

pub(crate) fn group_not_found(id: &str) -> Error {
    coded(Kind::NotFound, "SecurityGroupNotFound", format!("Security group {id} does not exist"))
}

pub(crate) fn rule_not_found(id: &str) -> Error {
    coded(Kind::NotFound, "SecurityGroupRuleNotFound", format!("Security group rule {id} does not exist"))
}

/// A value that does not fit its attribute.
pub(crate) fn invalid(attribute: &str, reason: impl std::fmt::Display) -> Error {
    coded(Kind::BadRequest, "HTTPBadRequest", format!("Invalid input for {attribute}. Reason: {reason}."))
}

/// A request whose parts do not go together.
pub(crate) fn invalid_input(reason: impl std::fmt::Display) -> Error {
    coded(Kind::BadRequest, "InvalidInput", format!("Invalid input for operation: {reason}."))
}

pub(crate) fn bad(code: &'static str, text: impl Into<String>) -> Error {
    coded(Kind::BadRequest, code, text.into())
}

pub(crate) fn conflict(code: &'static str, text: impl Into<String>) -> Error {
    coded(Kind::Conflict, code, text.into())
}

pub(crate) fn not_found_text(code: &'static str, text: impl Into<String>) -> Error {
    coded(Kind::NotFound, code, text.into())
}

pub(crate) fn over_quota(resource: &str) -> Error {
    coded(Kind::OverQuota, "OverQuota", format!("Quota exceeded for resources: ['{resource}']."))
}
