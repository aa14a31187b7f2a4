//! Base rules that the resources' rules refer to, what rules are asked about, and how a refusal is told.
//!
//! Names and defaults are upstream's (secure RBAC). Rules that upstream also keeps for the deprecated defaults are left
//! out: legacy checks are not OR-ed in.

use policy::Target;
use rest::{Ctx, Error, Result, Rule, rule};
use serde_json::Value;

pub(crate) const ADMIN: &str = "rule:admin_only";
pub(crate) const ADMIN_OR_SERVICE: &str = "rule:admin_only or rule:service_api";
pub(crate) const MEMBER: &str = "rule:admin_only or (role:member and project_id:%(project_id)s)";
pub(crate) const READER: &str = "rule:admin_only or (role:reader and project_id:%(project_id)s)";
pub(crate) const NETWORK_MEMBER: &str = "rule:admin_only or (role:member and rule:network_owner)";

pub(crate) const CONTEXT_IS_ADMIN: Rule =
    rule("context_is_admin", "role:admin", "Who is an administrator of the cloud", &[]);

pub(crate) const BASE: &[Rule] = &[
    CONTEXT_IS_ADMIN,
    rule("service_api", "role:service", "Calls between services", &[]),
    rule("admin_only", "rule:context_is_admin", "Administrators", &[]),
    rule("owner", "tenant_id:%(tenant_id)s", "The owner of the resource", &[]),
    rule("admin_or_owner", "rule:context_is_admin or rule:owner", "Administrators and the owner", &[]),
    rule("network_owner", "tenant_id:%(network:tenant_id)s", "The owner of the network that the resource is in", &[]),
    rule("ext_parent_owner", "tenant_id:%(ext_parent:tenant_id)s", "The owner of the resource's parent", &[]),
    rule("shared", "field:networks:shared=True", "The network is shared with all projects", &[]),
    rule("external", "field:networks:router:external=True", "The network is external", &[]),
    rule("network_device", "field:port:device_owner=~^network:", "The port serves the network itself", &[]),
];

/// What rules are asked about: whose it is, and whose network it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub project_id: String,
    /// The owner of the network, or the parent, of what has one.
    pub network_project_id: Option<String>,
    pub shared: bool,
    pub external: bool,
}

impl Owner {
    pub(crate) fn of(project_id: &str) -> Self {
        Self { project_id: project_id.to_owned(), ..Self::default() }
    }

    pub(crate) fn target(&self) -> Target {
        let mut target = Target::new();
        let mut put = |key: &str, value: Value| {
            target.insert(key.to_owned(), value);
        };
        put("project_id", Value::from(self.project_id.as_str()));
        put("tenant_id", Value::from(self.project_id.as_str()));
        put("shared", Value::from(self.shared));
        put("router:external", Value::from(self.external));
        if let Some(network) = &self.network_project_id {
            put("network:tenant_id", Value::from(network.as_str()));
            put("network:project_id", Value::from(network.as_str()));
            put("ext_parent:tenant_id", Value::from(network.as_str()));
        }
        target
    }
}

/// Lets a change happen. Who may not even see the thing is told that it does not exist.
pub(crate) fn guard(ctx: &Ctx, change: Rule, see: Rule, target: &Target, hidden: impl FnOnce() -> Error) -> Result<()> {
    if ctx.may(change, target)? {
        return Ok(());
    }
    ctx.allow_or(see, target, hidden)?;
    ctx.allow(change, target)
}

/// Whether the caller's lists span all projects.
pub(crate) fn is_admin(ctx: &Ctx) -> Result<bool> {
    ctx.may(CONTEXT_IS_ADMIN, &Target::new())
}

/// Decisions by owner, so that a list asks policy once per owner and not once per row.
#[derive(Debug)]
pub(crate) struct Sights<S> {
    known: std::collections::HashMap<Owner, S>,
}

impl<S: Copy> Sights<S> {
    pub(crate) fn new() -> Self {
        Self { known: std::collections::HashMap::new() }
    }

    pub(crate) fn of(&mut self, owner: Owner, decide: impl FnOnce(&Target) -> Result<S>) -> Result<S> {
        if let Some(known) = self.known.get(&owner) {
            return Ok(*known);
        }
        let decided = decide(&owner.target())?;
        self.known.insert(owner, decided);
        Ok(decided)
    }
}
