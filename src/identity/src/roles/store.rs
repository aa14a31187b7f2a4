//! SQL of roles and implications.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};
use serde_json::{Map, Value};

use crate::{
    errors::duplicate,
    fields::{map_text, text_map},
};

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub id: String,
    pub name: String,
    /// `None`: a role of the whole cloud.
    pub domain_id: Option<String>,
    pub description: Option<String>,
    pub options: Map<String, Value>,
    pub extra: Map<String, Value>,
}

const COLUMNS: &str = "r.id, r.name, r.domain_id, r.description, r.options, r.extra";

pub(crate) fn role(row: &db::Row<'_>) -> db::rusqlite::Result<Role> {
    Ok(Role {
        id: row.get(0)?,
        name: row.get(1)?,
        domain_id: row.get(2)?,
        description: row.get(3)?,
        options: text_map(&row.get::<_, String>(4)?),
        extra: text_map(&row.get::<_, String>(5)?),
    })
}

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_role r",
    key: "r.id",
    default_sort: &[("name", Direction::Ascending)],
    sortable: &[("name", "r.name"), ("id", "r.id")],
    filters: &[
        Filter::new("name", "r.name", FilterKind::Text),
        Filter::new("name__contains", "r.name", FilterKind::Contains),
        Filter::new("name__startswith", "r.name", FilterKind::Prefix),
    ],
    limit_max: 0,
};

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Role>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_role r WHERE r.id = ?"), [id], role)
}

/// A role of the whole cloud.
pub(crate) fn find_by_name(tx: &Tx<'_>, name: &str) -> db::Result<Option<Role>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_role r WHERE r.domain_id IS NULL AND r.name = ?"), [name], role)
}

const TAKEN: &str = "index 'identity_role_name'";

pub(crate) fn insert(tx: &Tx<'_>, role: &Role) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_role (id, name, domain_id, description, options, extra) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![role.id, role.name, role.domain_id, role.description, map_text(&role.options), map_text(&role.extra)],
    )
    .on_unique(TAKEN, || duplicate("role", &role.name))?;
    Ok(())
}

pub(crate) fn update(tx: &Tx<'_>, role: &Role) -> Result<()> {
    tx.execute(
        "UPDATE identity_role SET name = ?2, description = ?3, options = ?4, extra = ?5 WHERE id = ?1",
        params![role.id, role.name, role.description, map_text(&role.options), map_text(&role.extra)],
    )
    .on_unique(TAKEN, || duplicate("role", &role.name))?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_role WHERE id = ?", [id])?;
    Ok(())
}

/// What `prior_id` implies directly.
pub(crate) fn implied(tx: &Tx<'_>, prior_id: &str) -> db::Result<Vec<Role>> {
    tx.list(
        &format!(
            "SELECT {COLUMNS} FROM identity_role r JOIN identity_implied_role i ON i.implied_id = r.id \
             WHERE i.prior_id = ? ORDER BY r.name"
        ),
        [prior_id],
        role,
    )
}

/// All roles that imply others.
pub(crate) fn priors(tx: &Tx<'_>) -> db::Result<Vec<Role>> {
    tx.list(
        &format!(
            "SELECT {COLUMNS} FROM identity_role r WHERE r.id IN (SELECT prior_id FROM identity_implied_role) ORDER BY r.name"
        ),
        [],
        role,
    )
}

pub(crate) fn implies(tx: &Tx<'_>, prior_id: &str, implied_id: &str) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM identity_implied_role WHERE prior_id = ? AND implied_id = ?", [prior_id, implied_id])
}

pub(crate) fn insert_implied(tx: &Tx<'_>, prior_id: &str, implied_id: &str) -> db::Result<()> {
    tx.execute(
        "INSERT INTO identity_implied_role (prior_id, implied_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [prior_id, implied_id],
    )?;
    Ok(())
}

pub(crate) fn delete_implied(tx: &Tx<'_>, prior_id: &str, implied_id: &str) -> db::Result<bool> {
    let sql = "DELETE FROM identity_implied_role WHERE prior_id = ? AND implied_id = ?";
    Ok(tx.execute(sql, [prior_id, implied_id])? > 0)
}
