//! Bodies of groups.

use rest::Ctx;
use serde::Serialize;
use serde_json::{Map, Value};

use super::store::Group;
use crate::listing::SelfLink;

#[derive(Debug, Serialize)]
pub(crate) struct GroupView<'a> {
    id: &'a str,
    name: &'a str,
    domain_id: &'a str,
    description: &'a str,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

pub(crate) fn group<'a>(ctx: &Ctx, group: &'a Group) -> GroupView<'a> {
    GroupView {
        id: &group.id,
        name: &group.name,
        domain_id: &group.domain_id,
        description: &group.description,
        extra: &group.extra,
        links: SelfLink::new(ctx, "/groups", &group.id),
    }
}
