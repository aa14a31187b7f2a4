//! Version documents, in each service's own shape, from the same data that the gateway negotiates with.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{Reply, ServiceInfo};

/// One version that a service lists.
#[derive(Clone, Copy, Debug)]
pub struct ApiVersion {
    /// `v2.1`
    pub id: &'static str,
    /// `CURRENT`, `SUPPORTED`, or Identity's `stable`.
    pub status: &'static str,
    /// Where it lives below the root: `/v2.1/`.
    pub path: &'static str,
    /// RFC 3339; empty where the service gives none.
    pub updated: &'static str,
    /// Whether this version carries the service's microversions.
    pub microversions: bool,
}

/// The shape of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryStyle {
    Identity,
    Images,
    Placement,
    Compute,
    Network,
    Volume,
}

impl ServiceInfo {
    /// The document at `path` (normalised: no slash at the end, empty for the root), if it is one.
    pub(crate) fn document(&self, path: &str, base_url: &str) -> Option<Reply> {
        if path == "/" || path.is_empty() {
            return Some(self.root(base_url));
        }
        if self.discovery == DiscoveryStyle::Images && path == "/versions" {
            return Some(Reply::ok(&json!({"versions": self.list(base_url)})));
        }
        let wanted = path.trim_matches('/');
        let version = self.versions.iter().find(|version| version.path.trim_matches('/') == wanted)?;
        match self.discovery {
            DiscoveryStyle::Identity | DiscoveryStyle::Compute => {
                Some(Reply::ok(&json!({"version": self.one(version, base_url)})))
            }
            DiscoveryStyle::Volume => Some(Reply::ok(&json!({"versions": [self.one(version, base_url)]}))),
            // These answer nothing of the kind below their root; what is there belongs to the routes.
            DiscoveryStyle::Images | DiscoveryStyle::Placement | DiscoveryStyle::Network => None,
        }
    }

    /// Compute's older version is its newer one without microversions: the path at which a request for it is answered.
    pub(crate) fn legacy_path(&self, path: &str) -> Option<String> {
        if self.discovery != DiscoveryStyle::Compute {
            return None;
        }
        let current = self.versions.iter().find(|version| version.microversions)?;
        let below = self
            .versions
            .iter()
            .filter(|version| !version.microversions)
            .find_map(|version| path.strip_prefix(version.path))?;
        Some(format!("{}{below}", current.path))
    }

    fn root(&self, base_url: &str) -> Reply {
        let list = self.list(base_url);
        match self.discovery {
            DiscoveryStyle::Identity => {
                Reply::json(StatusCode::MULTIPLE_CHOICES, &json!({"versions": {"values": list}}))
            }
            DiscoveryStyle::Images | DiscoveryStyle::Volume => {
                Reply::json(StatusCode::MULTIPLE_CHOICES, &json!({"versions": list}))
            }
            DiscoveryStyle::Placement | DiscoveryStyle::Compute | DiscoveryStyle::Network => {
                Reply::ok(&json!({"versions": list}))
            }
        }
    }

    fn list(&self, base_url: &str) -> Vec<Value> {
        self.versions.iter().map(|version| self.one(version, base_url)).collect()
    }

    fn one(&self, version: &ApiVersion, base_url: &str) -> Value {
        let href = match self.discovery {
            // Relative, as its real service has it: the endpoint itself.
            DiscoveryStyle::Placement => String::new(),
            _ => format!("{base_url}{}", version.path),
        };
        let mut document = json!({
            "id": version.id,
            "status": version.status,
            "links": [{"rel": "self", "href": href}],
        });
        if !version.updated.is_empty() {
            document["updated"] = json!(version.updated);
        }
        if self.discovery == DiscoveryStyle::Identity {
            document["media-types"] =
                json!([{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}]);
        }
        match self.microversions.filter(|_| version.microversions) {
            Some(range) => {
                document["min_version"] = json!(range.min.to_string());
                // Each has its own name for it, and strict clients of Compute refuse the other.
                let key = if self.discovery == DiscoveryStyle::Placement { "max_version" } else { "version" };
                document[key] = json!(range.max.to_string());
            }
            None if matches!(self.discovery, DiscoveryStyle::Compute | DiscoveryStyle::Volume) => {
                document["min_version"] = json!("");
                document["version"] = json!("");
            }
            None => {}
        }
        document
    }
}
