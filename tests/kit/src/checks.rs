//! What is true of every answer, whatever was asked.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::{Reply, cloud::HOST};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Identity,
    Image,
    Placement,
    Compute,
    Network,
    /// Solostack's own, in the manner of Identity.
    System,
}

impl Service {
    pub fn of(path: &str) -> Option<Self> {
        let first = path.trim_start_matches('/').split(['/', '?']).next()?;
        Some(match first {
            "identity" => Self::Identity,
            "image" => Self::Image,
            "placement" => Self::Placement,
            "compute" => Self::Compute,
            "network" => Self::Network,
            "solostack" => Self::System,
            _ => return None,
        })
    }

    pub fn type_name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Image => "image",
            Self::Placement => "placement",
            Self::Compute => "compute",
            Self::Network => "network",
            Self::System => "solostack",
        }
    }
}

type Problem = Result<(), String>;

fn must(holds: bool, what: impl Into<String>) -> Problem {
    if holds { Ok(()) } else { Err(what.into()) }
}

pub(crate) fn check(service: Service, method: &Method, version: Option<&str>, reply: &Reply, state: &Path) -> Problem {
    let status = reply.status;
    // 501 says that something is known and not built; every other 5xx is a mistake of ours.
    must(!status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED, "a failure of the server")?;
    let request_id = reply.header("x-openstack-request-id").unwrap_or_default();
    must(request_id.starts_with("req-") && request_id.len() == 40, "no request id")?;
    body_of(service, method, reply)?;
    versions(service, version, reply)?;
    if status.is_client_error() && method != Method::HEAD {
        error(service, reply)?;
    }
    if status == StatusCode::UNAUTHORIZED {
        must(reply.header("www-authenticate").is_some_and(|value| value.contains("Keystone uri=")), "no challenge")?;
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        must(reply.header("retry-after").is_some(), "413 without Retry-After")?;
    }
    if let Some(location) = reply.header("location") {
        must(location.contains("://") || service == Service::Placement, "a relative Location")?;
    }
    let text = String::from_utf8_lossy(&reply.bytes);
    for inside in [state.to_str().unwrap_or("?"), "rusqlite", "SQLITE_", "panicked at", "src/"] {
        must(!text.contains(inside), format!("the answer shows {inside:?}"))?;
    }
    if matches!(service, Service::Compute | Service::Identity) {
        links(&reply.json)?;
    }
    Ok(())
}

fn body_of(service: Service, method: &Method, reply: &Reply) -> Problem {
    let none = method == Method::HEAD
        || matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    if none {
        return must(reply.bytes.is_empty(), "a body where none may be");
    }
    if reply.bytes.is_empty() {
        return must(!reply.status.is_client_error(), "an error without a body");
    }
    let kind = reply.header("content-type").unwrap_or_default();
    let data =
        matches!((service, kind), (Service::Image, "application/octet-stream") | (Service::System, "application/gzip"));
    must(data || kind == "application/json", format!("the content type {kind:?}"))?;
    must(data || !reply.json.is_null(), "a body that is no JSON")
}

fn versions(service: Service, version: Option<&str>, reply: &Reply) -> Problem {
    if !matches!(service, Service::Compute | Service::Placement) {
        return Ok(());
    }
    let vary = reply.header("vary").unwrap_or_default();
    must(vary.to_ascii_lowercase().contains("openstack-api-version"), "Vary does not name the version header")?;
    let refused = matches!(reply.status, StatusCode::NOT_ACCEPTABLE | StatusCode::BAD_REQUEST);
    let echoed = reply.header("openstack-api-version");
    let Some(version) = version.filter(|version| *version != "latest") else { return Ok(()) };
    if refused && echoed.is_none() {
        return Ok(());
    }
    let wanted = format!("{} {version}", service.type_name());
    must(echoed == Some(&wanted), format!("the version {wanted:?} is not echoed, but {echoed:?}"))?;
    if service == Service::Compute {
        must(reply.header("x-openstack-nova-api-version") == Some(version), "the older version header is not echoed")?;
    }
    Ok(())
}

/// The error in the shape that the service's clients read.
fn error(service: Service, reply: &Reply) -> Problem {
    let code = u64::from(reply.status.as_u16());
    let body = &reply.json;
    let told = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let only = |key: &str| body.as_object().is_some_and(|map| map.len() == 1 && map.contains_key(key));
    let service = if code == 401 { Service::Identity } else { service };
    match service {
        Service::Identity | Service::System => {
            let error = &body["error"];
            must(
                only("error") && error["code"] == code && told(&error["message"]) && told(&error["title"]),
                "no error of Identity",
            )
        }
        Service::Image => must(
            told(&body["message"]) && body["code"].as_str().is_some_and(|text| text.starts_with(&code.to_string())),
            "no error of Image",
        ),
        Service::Network => {
            let error = &body["NeutronError"];
            must(
                only("NeutronError") && told(&error["type"]) && told(&error["message"]) && error["detail"].is_string(),
                "no error of Network",
            )
        }
        Service::Placement => {
            let error = &body["errors"][0];
            let shaped = error["status"] == code && told(&error["detail"]) && error["request_id"].is_string();
            must(only("errors") && shaped, "no error of Placement")?;
            // Codes came with 1.23; an answer without a version was refused before there was one.
            let minor = reply.header("openstack-api-version").and_then(|text| text.rsplit_once('.')?.1.parse().ok());
            must(minor.is_none_or(|minor: u32| minor < 23) || error["code"].is_string(), "an error without its code")
        }
        Service::Compute => {
            let fault = match code {
                400 => "badRequest",
                403 => "forbidden",
                404 => "itemNotFound",
                405 => "badMethod",
                409 => "conflictingRequest",
                413 | 429 => "overLimit",
                415 => "badMediaType",
                _ => "computeFault",
            };
            must(
                only(fault) && body[fault]["code"] == code && told(&body[fault]["message"]),
                format!("no {fault} of Compute"),
            )
        }
    }
}

/// Links lead back by the name that the client used.
fn links(value: &Value) -> Problem {
    match value {
        Value::Array(list) => list.iter().try_for_each(links),
        Value::Object(map) => {
            if let Some(Value::String(href)) = map.get("href") {
                must(href.starts_with(&format!("https://{HOST}/")), format!("the link {href:?}"))?;
            }
            map.values().try_for_each(links)
        }
        _ => Ok(()),
    }
}
