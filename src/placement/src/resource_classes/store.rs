//! All SQL of resource classes.

use db::{Result, Row, Tx, params, rusqlite};

/// Ids of standard classes are below this.
const FIRST_CUSTOM_ID: i64 = 10_000;

#[derive(Debug, Clone)]
pub struct ResourceClass {
    pub id: i64,
    pub name: String,
    pub updated_at: String,
}

impl ResourceClass {
    pub fn is_standard(&self) -> bool {
        self.id < FIRST_CUSTOM_ID
    }
}

fn map(row: &Row<'_>) -> rusqlite::Result<ResourceClass> {
    Ok(ResourceClass { id: row.get(0)?, name: row.get(1)?, updated_at: row.get(2)? })
}

pub fn list(tx: &Tx<'_>) -> Result<Vec<ResourceClass>> {
    tx.list("SELECT id, name, updated_at FROM placement_resource_class ORDER BY id", [], map)
}

pub fn find(tx: &Tx<'_>, name: &str) -> Result<Option<ResourceClass>> {
    tx.find("SELECT id, name, updated_at FROM placement_resource_class WHERE name = ?1", [name], map)
}

/// The name must not be taken.
pub fn insert(tx: &Tx<'_>, name: &str, now: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO placement_resource_class (id, name, updated_at)
         SELECT max(?1, coalesce(max(id), 0) + 1), ?2, ?3 FROM placement_resource_class",
        params![FIRST_CUSTOM_ID, name, now],
    )?;
    Ok(())
}

pub fn rename(tx: &Tx<'_>, id: i64, name: &str, now: &str) -> Result<()> {
    tx.execute("UPDATE placement_resource_class SET name = ?2, updated_at = ?3 WHERE id = ?1", params![id, name, now])?;
    Ok(())
}

pub fn in_use(tx: &Tx<'_>, id: i64) -> Result<bool> {
    Ok(tx.exists("SELECT 1 FROM placement_inventory WHERE class_id = ?1", [id])?
        || tx.exists("SELECT 1 FROM placement_allocation WHERE class_id = ?1", [id])?)
}

pub fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.execute("DELETE FROM placement_resource_class WHERE id = ?1", [id])?;
    Ok(())
}
