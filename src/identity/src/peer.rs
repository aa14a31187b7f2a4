//! What sister services may ask, inside their own transaction.

use db::Tx;
use rest::NamedRef;

/// A project that exists, whether or not it is enabled.
///
/// # Errors
/// The database's own.
pub fn find_project(tx: &Tx<'_>, id: &str) -> db::Result<Option<NamedRef>> {
    tx.find("SELECT id, name FROM identity_project WHERE id = ?", [id], named)
}

/// # Errors
/// The database's own.
pub fn project_exists(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM identity_project WHERE id = ?", [id])
}

/// A project by its name in a domain, for what the program sets up itself.
///
/// # Errors
/// The database's own.
pub fn find_project_by_name(tx: &Tx<'_>, domain_id: &str, name: &str) -> db::Result<Option<NamedRef>> {
    tx.find("SELECT id, name FROM identity_project WHERE domain_id = ? AND name = ?", [domain_id, name], named)
}

/// All projects and domains.
///
/// # Errors
/// The database's own.
pub fn list_projects(tx: &Tx<'_>) -> db::Result<Vec<NamedRef>> {
    tx.list("SELECT id, name FROM identity_project ORDER BY id", [], named)
}

/// # Errors
/// The database's own.
pub fn find_user(tx: &Tx<'_>, id: &str) -> db::Result<Option<NamedRef>> {
    tx.find("SELECT id, name FROM identity_user WHERE id = ?", [id], named)
}

fn named(row: &db::Row<'_>) -> db::rusqlite::Result<NamedRef> {
    Ok(NamedRef { id: row.get(0)?, name: row.get(1)? })
}
