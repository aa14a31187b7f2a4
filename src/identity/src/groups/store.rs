//! SQL of groups and memberships.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};
use serde_json::{Map, Value};

use crate::{
    errors::duplicate,
    fields::{map_text, text_map},
};

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub description: String,
    /// Its domain's directory has it: nothing of it can be changed here.
    pub from_directory: bool,
    pub extra: Map<String, Value>,
}

const COLUMNS: &str = "g.id, g.name, g.domain_id, g.description, g.extra, g.local_id IS NOT NULL";

pub(crate) fn group(row: &db::Row<'_>) -> db::rusqlite::Result<Group> {
    Ok(Group {
        id: row.get(0)?,
        name: row.get(1)?,
        domain_id: row.get(2)?,
        description: row.get(3)?,
        extra: text_map(&row.get::<_, String>(4)?),
        from_directory: row.get(5)?,
    })
}

const SPEC: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_group g",
    key: "g.id",
    default_sort: &[("name", Direction::Ascending)],
    sortable: &[("name", "g.name"), ("id", "g.id"), ("domain_id", "g.domain_id")],
    filters: &[
        Filter::new("domain_id", "g.domain_id", FilterKind::Text),
        Filter::new("name", "g.name", FilterKind::Text),
        Filter::new("name__contains", "g.name", FilterKind::Contains),
        Filter::new("name__startswith", "g.name", FilterKind::Prefix),
    ],
    limit_max: 0,
};

pub(crate) static LIST: ListSpec = SPEC;
/// The groups of one user.
pub(crate) static OF_USER: ListSpec =
    ListSpec { from: "identity_group g JOIN identity_membership m ON m.group_id = g.id", ..SPEC };

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Group>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_group g WHERE g.id = ? AND g.gone = 0"), [id], group)
}

/// Also what is no longer in its directory but still has roles here.
pub(crate) fn find_even_gone(tx: &Tx<'_>, id: &str) -> db::Result<Option<Group>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_group g WHERE g.id = ?"), [id], group)
}

const TAKEN: &str = "identity_group.domain_id, identity_group.name";

pub(crate) fn insert(tx: &Tx<'_>, group: &Group) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_group (id, name, domain_id, description, extra) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![group.id, group.name, group.domain_id, group.description, map_text(&group.extra)],
    )
    .on_unique(TAKEN, || duplicate("group", &group.name))?;
    Ok(())
}

pub(crate) fn update(tx: &Tx<'_>, group: &Group) -> Result<()> {
    tx.execute(
        "UPDATE identity_group SET name = ?2, description = ?3, extra = ?4 WHERE id = ?1",
        params![group.id, group.name, group.description, map_text(&group.extra)],
    )
    .on_unique(TAKEN, || duplicate("group", &group.name))?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_group WHERE id = ?", [id])?;
    Ok(())
}

pub(crate) fn is_member(tx: &Tx<'_>, group_id: &str, user_id: &str) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM identity_membership WHERE group_id = ? AND user_id = ?", [group_id, user_id])
}

pub(crate) fn add_member(tx: &Tx<'_>, group_id: &str, user_id: &str) -> db::Result<()> {
    tx.execute(
        "INSERT INTO identity_membership (group_id, user_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [group_id, user_id],
    )?;
    Ok(())
}

pub(crate) fn remove_member(tx: &Tx<'_>, group_id: &str, user_id: &str) -> db::Result<bool> {
    Ok(tx.execute("DELETE FROM identity_membership WHERE group_id = ? AND user_id = ?", [group_id, user_id])? > 0)
}
