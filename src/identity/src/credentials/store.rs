//! SQL of credentials. `blob` is what the column holds: encrypted.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};
use serde_json::{Map, Value};

use crate::{
    errors::duplicate_entry,
    fields::{map_text, text_map},
};

#[derive(Clone)]
pub(crate) struct Credential {
    pub id: String,
    pub user_id: String,
    pub project_id: Option<String>,
    pub kind: String,
    pub blob: String,
    pub extra: Map<String, Value>,
}

const COLUMNS: &str = "c.id, c.user_id, c.project_id, c.type, c.blob, c.extra";

pub(crate) fn credential(row: &db::Row<'_>) -> db::rusqlite::Result<Credential> {
    Ok(Credential {
        id: row.get(0)?,
        user_id: row.get(1)?,
        project_id: row.get(2)?,
        kind: row.get(3)?,
        blob: row.get(4)?,
        extra: text_map(&row.get::<_, String>(5)?),
    })
}

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_credential c",
    key: "c.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[("id", "c.id"), ("type", "c.type")],
    filters: &[Filter::new("user_id", "c.user_id", FilterKind::Text), Filter::new("type", "c.type", FilterKind::Text)],
    limit_max: 0,
};

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Credential>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_credential c WHERE c.id = ?"), [id], credential)
}

/// A user's credentials of one type.
pub(crate) fn list_of(tx: &Tx<'_>, user_id: &str, kind: &str) -> db::Result<Vec<Credential>> {
    tx.list(
        &format!("SELECT {COLUMNS} FROM identity_credential c WHERE c.user_id = ? AND c.type = ? ORDER BY c.id"),
        [user_id, kind],
        credential,
    )
}

pub(crate) fn insert(tx: &Tx<'_>, c: &Credential) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_credential (id, user_id, project_id, type, blob, extra) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![c.id, c.user_id, c.project_id, c.kind, c.blob, map_text(&c.extra)],
    )
    .on_unique("identity_credential.id", || duplicate_entry("credential"))?;
    Ok(())
}

/// Never the owner: a credential cannot be given away.
pub(crate) fn update(tx: &Tx<'_>, c: &Credential) -> db::Result<()> {
    tx.execute(
        "UPDATE identity_credential SET project_id = ?2, type = ?3, blob = ?4, extra = ?5 WHERE id = ?1",
        params![c.id, c.project_id, c.kind, c.blob, map_text(&c.extra)],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_credential WHERE id = ?", [id])?;
    Ok(())
}
