//! SQL of projects and domains.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Error, Filter, FilterKind, ListSpec, Result};
use serde_json::{Map, Value};

use crate::{
    errors::duplicate,
    fields::{map_text, text_map},
};

/// How deep projects may nest below their domain.
pub(crate) const DEPTH_MAX: i64 = 32;

/// A project, or a domain (`is_domain`, then without domain and parent).
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub id: String,
    pub name: String,
    pub domain_id: Option<String>,
    pub parent_id: Option<String>,
    pub is_domain: bool,
    pub description: String,
    pub enabled: bool,
    pub options: Map<String, Value>,
    pub extra: Map<String, Value>,
    pub tags: Vec<String>,
}

impl Project {
    pub(crate) fn noun(&self) -> &'static str {
        if self.is_domain { "domain" } else { "project" }
    }
}

pub(crate) const COLUMNS: &str = "p.id, p.name, p.domain_id, p.parent_id, p.is_domain, p.description, p.enabled, \
     p.options, p.extra, (SELECT json_group_array(t.name ORDER BY t.name) FROM identity_project_tag t WHERE t.project_id = p.id)";

pub(crate) fn project(row: &db::Row<'_>) -> db::rusqlite::Result<Project> {
    let tags: String = row.get(9)?;
    Ok(Project {
        id: row.get(0)?,
        name: row.get(1)?,
        domain_id: row.get(2)?,
        parent_id: row.get(3)?,
        is_domain: row.get(4)?,
        description: row.get(5)?,
        enabled: row.get(6)?,
        options: text_map(&row.get::<_, String>(7)?),
        extra: text_map(&row.get::<_, String>(8)?),
        tags: if tags == "[]" { Vec::new() } else { serde_json::from_str(&tags).unwrap_or_default() },
    })
}

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_project p",
    key: "p.id",
    default_sort: &[("name", Direction::Ascending)],
    sortable: &[("name", "p.name"), ("id", "p.id")],
    filters: &[
        Filter::new("domain_id", "p.domain_id", FilterKind::Text),
        Filter::new("parent_id", "p.parent_id", FilterKind::Text),
        Filter::new("enabled", "p.enabled", FilterKind::Bool),
        Filter::new("name", "p.name", FilterKind::Text),
        Filter::new("name__contains", "p.name", FilterKind::Contains),
        Filter::new("name__startswith", "p.name", FilterKind::Prefix),
        Filter::new("name__icontains", "lower(p.name)", FilterKind::Contains),
        Filter::new("name__istartswith", "lower(p.name)", FilterKind::Prefix),
    ],
    limit_max: 0,
};

/// A project or a domain: a domain may be named where a project may.
pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Project>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_project p WHERE p.id = ?"), [id], project)
}

pub(crate) fn find_domain(tx: &Tx<'_>, id: &str) -> db::Result<Option<Project>> {
    Ok(find(tx, id)?.filter(|found| found.is_domain))
}

fn taken(project: &Project) -> impl FnOnce() -> Error {
    let (noun, name) = (project.noun(), project.name.clone());
    move || duplicate(noun, &name)
}

pub(crate) fn insert(tx: &Tx<'_>, p: &Project) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_project \
         (id, name, domain_id, parent_id, is_domain, description, enabled, options, extra) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            p.id,
            p.name,
            p.domain_id,
            p.parent_id,
            p.is_domain,
            p.description,
            p.enabled,
            map_text(&p.options),
            map_text(&p.extra)
        ],
    )
    .on_unique("index 'identity_project_name'", taken(p))?;
    set_tags(tx, &p.id, &p.tags)?;
    Ok(())
}

/// Writes what may change. `void_tokens` moves the epoch.
pub(crate) fn update(tx: &Tx<'_>, p: &Project, void_tokens: bool) -> Result<()> {
    tx.execute(
        "UPDATE identity_project SET name = ?2, description = ?3, enabled = ?4, options = ?5, extra = ?6, \
         epoch = epoch + ?7 WHERE id = ?1",
        params![p.id, p.name, p.description, p.enabled, map_text(&p.options), map_text(&p.extra), void_tokens],
    )
    .on_unique("index 'identity_project_name'", taken(p))?;
    if void_tokens && p.is_domain {
        tx.execute("UPDATE identity_user SET epoch = epoch + 1 WHERE domain_id = ?", [&p.id])?;
    }
    Ok(())
}

/// Deletes a leaf, or a domain with everything in it.
pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE identity_user SET default_project_id = NULL \
         WHERE default_project_id IN (SELECT id FROM identity_project WHERE id = ?1 OR domain_id = ?1)",
        [id],
    )?;
    tx.execute("DELETE FROM identity_project WHERE id = ?", [id])?;
    Ok(())
}

pub(crate) fn set_tags(tx: &Tx<'_>, id: &str, tags: &[String]) -> db::Result<()> {
    tx.execute("DELETE FROM identity_project_tag WHERE project_id = ?", [id])?;
    for tag in tags {
        tx.execute("INSERT INTO identity_project_tag (project_id, name) VALUES (?, ?)", [id, tag.as_str()])?;
    }
    Ok(())
}

pub(crate) fn has_children(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM identity_project WHERE parent_id = ?", [id])
}

pub(crate) fn has_enabled_below(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    tx.exists(
        "WITH RECURSIVE below (id, enabled) AS (SELECT id, enabled FROM identity_project WHERE parent_id = ?1 UNION \
         SELECT p.id, p.enabled FROM identity_project p JOIN below b ON b.id = p.parent_id) \
         SELECT 1 FROM below WHERE enabled = 1",
        [id],
    )
}

/// From the parent up to the domain.
pub(crate) fn ancestors(tx: &Tx<'_>, id: &str) -> db::Result<Vec<Project>> {
    tx.list(
        &format!(
            "WITH RECURSIVE above (id, level) AS (SELECT parent_id, 1 FROM identity_project WHERE id = ?1 UNION \
             SELECT p.parent_id, b.level + 1 FROM identity_project p JOIN above b ON b.id = p.id) \
             SELECT {COLUMNS} FROM identity_project p JOIN above b ON b.id = p.id ORDER BY b.level"
        ),
        [id],
        project,
    )
}

/// Everything below, parents before their children.
pub(crate) fn descendants(tx: &Tx<'_>, id: &str) -> db::Result<Vec<Project>> {
    tx.list(
        &format!(
            "WITH RECURSIVE below (id, level) AS (SELECT id, 1 FROM identity_project WHERE parent_id = ?1 UNION \
             SELECT p.id, b.level + 1 FROM identity_project p JOIN below b ON b.id = p.parent_id) \
             SELECT {COLUMNS} FROM identity_project p JOIN below b ON b.id = p.id ORDER BY b.level, p.name"
        ),
        [id],
        project,
    )
}
