//! All SQL of key pairs.

use db::{Constraint, Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Error, ListSpec, Result};

use super::Keypair;

const COLUMNS: &str = "id, user_id, name, type, fingerprint, public_key, created_at";

pub(crate) const LIST: ListSpec = ListSpec {
    dialect: Dialect::Compute,
    columns: COLUMNS,
    from: "compute_keypair",
    key: "name",
    default_sort: &[("name", Direction::Ascending)],
    sortable: &[("name", "name")],
    filters: &[],
    limit_max: 1000,
};

pub(crate) fn find(tx: &Tx<'_>, user_id: &str, name: &str) -> Result<Option<Keypair>> {
    Ok(tx.find(
        &format!("SELECT {COLUMNS} FROM compute_keypair WHERE user_id = ?1 AND name = ?2"),
        [user_id, name],
        read,
    )?)
}

pub(crate) fn get(tx: &Tx<'_>, user_id: &str, name: &str) -> Result<Keypair> {
    find(tx, user_id, name)?
        .ok_or_else(|| Error::new(rest::Kind::NotFound, format!("Keypair {name} not found for user {user_id}")))
}

pub(crate) fn count(tx: &Tx<'_>, user_id: &str) -> Result<i64> {
    Ok(tx.count("SELECT count(*) FROM compute_keypair WHERE user_id = ?1", [user_id])?)
}

pub(crate) fn insert(tx: &Tx<'_>, keypair: &Keypair) -> Result<()> {
    tx.execute(
        "INSERT INTO compute_keypair (user_id, name, type, fingerprint, public_key, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            keypair.user_id,
            keypair.name,
            keypair.kind,
            keypair.fingerprint,
            keypair.public_key,
            keypair.created_at
        ],
    )
    .on_unique("compute_keypair.user_id, compute_keypair.name", || {
        Error::conflict(format!("Key pair '{}' already exists.", keypair.name))
    })?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, user_id: &str, name: &str) -> Result<()> {
    get(tx, user_id, name)?;
    tx.execute("DELETE FROM compute_keypair WHERE user_id = ?1 AND name = ?2", [user_id, name])?;
    Ok(())
}

pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Keypair> {
    Ok(Keypair {
        id: row.get(0)?,
        user_id: row.get(1)?,
        name: row.get(2)?,
        kind: row.get(3)?,
        fingerprint: row.get(4)?,
        public_key: row.get(5)?,
        created_at: row.get(6)?,
    })
}
