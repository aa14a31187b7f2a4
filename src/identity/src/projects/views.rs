//! Bodies of projects and domains.

use rest::Ctx;
use serde::Serialize;
use serde_json::{Map, Value};

use super::store::Project;
use crate::listing::SelfLink;

#[derive(Debug, Serialize)]
pub(crate) struct ProjectView<'a> {
    id: &'a str,
    name: &'a str,
    domain_id: Option<&'a str>,
    description: &'a str,
    enabled: bool,
    parent_id: Option<&'a str>,
    is_domain: bool,
    tags: &'a [String],
    options: &'a Map<String, Value>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

pub(crate) fn project<'a>(ctx: &Ctx, project: &'a Project) -> ProjectView<'a> {
    ProjectView {
        id: &project.id,
        name: &project.name,
        domain_id: project.domain_id.as_deref(),
        description: &project.description,
        enabled: project.enabled,
        parent_id: project.parent_id.as_deref(),
        is_domain: project.is_domain,
        tags: &project.tags,
        options: &project.options,
        extra: &project.extra,
        links: SelfLink::new(ctx, "/projects", &project.id),
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DomainView<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    enabled: bool,
    tags: &'a [String],
    options: &'a Map<String, Value>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

pub(crate) fn domain<'a>(ctx: &Ctx, domain: &'a Project) -> DomainView<'a> {
    DomainView {
        id: &domain.id,
        name: &domain.name,
        description: &domain.description,
        enabled: domain.enabled,
        tags: &domain.tags,
        options: &domain.options,
        extra: &domain.extra,
        links: SelfLink::new(ctx, "/domains", &domain.id),
    }
}

/// `{"<parent>": {"<its parent>": null}}`, the nearest first.
pub(crate) fn ids_upwards(ancestors: &[Project]) -> Value {
    ancestors.iter().rev().fold(Value::Null, |inner, project| {
        let mut map = Map::new();
        map.insert(project.id.clone(), inner);
        Value::Object(map)
    })
}

/// `{"<child>": {"<grandchild>": null}}`. `below` has parents before their children.
pub(crate) fn ids_downwards(id: &str, below: &[Project]) -> Value {
    // Built from the leaves: each finished subtree is handed to its parent.
    let mut trees: std::collections::HashMap<&str, Map<String, Value>> = std::collections::HashMap::new();
    for project in below.iter().rev() {
        let own = trees.remove(project.id.as_str()).map_or(Value::Null, Value::Object);
        if let Some(parent) = project.parent_id.as_deref() {
            trees.entry(parent).or_default().insert(project.id.clone(), own);
        }
    }
    trees.remove(id).map_or(Value::Null, Value::Object)
}
