//! What is remembered of every call that may change something, and of every authentication.

use std::{fmt::Debug, net::IpAddr};

/// Who did what, from where, in which scope, and how it ended. The request's body is never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The service type: `compute`.
    pub service: &'static str,
    pub request_id: String,
    pub method: String,
    /// Below the service's root, without the query.
    pub path: String,
    pub status: u16,
    pub peer: IpAddr,
    /// Of the token, or who asked for one; `None` when nobody is known.
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub domain_id: Option<String>,
    /// The token's scope was the system.
    pub system: bool,
    /// The token's own.
    pub audit_id: Option<String>,
}

/// Keeps events. Never waits: the answer to the client is on its way.
pub trait AuditTrail: Send + Sync + Debug {
    fn keep(&self, event: AuditEvent);
}
