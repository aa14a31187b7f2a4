//! Bodies of roles.

use rest::Ctx;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::store::Role;
use crate::listing::SelfLink;

#[derive(Debug, Serialize)]
pub(crate) struct RoleView<'a> {
    id: &'a str,
    name: &'a str,
    domain_id: Option<&'a str>,
    description: Option<&'a str>,
    options: &'a Map<String, Value>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

pub(crate) fn role<'a>(ctx: &Ctx, role: &'a Role) -> RoleView<'a> {
    RoleView {
        id: &role.id,
        name: &role.name,
        domain_id: role.domain_id.as_deref(),
        description: role.description.as_deref(),
        options: &role.options,
        extra: &role.extra,
        links: SelfLink::new(ctx, "/roles", &role.id),
    }
}

/// A role as inferences name it.
pub(crate) fn short(ctx: &Ctx, role: &Role) -> Value {
    json!({"id": role.id, "name": role.name, "links": SelfLink::new(ctx, "/roles", &role.id)})
}
