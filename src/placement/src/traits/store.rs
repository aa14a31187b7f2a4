//! All SQL of traits.

use std::collections::{HashMap, HashSet};

use db::{Result, Row, Tx, params, rusqlite};

const FIRST_CUSTOM_ID: i64 = 10_000;

/// The trait of providers that lend their resources to all providers of their aggregates.
pub const SHARES_VIA_AGGREGATE: &str = "MISC_SHARES_VIA_AGGREGATE";

#[derive(Debug, Clone)]
pub struct Trait {
    pub id: i64,
    pub name: String,
    pub updated_at: String,
}

impl Trait {
    pub fn is_standard(&self) -> bool {
        self.id < FIRST_CUSTOM_ID
    }
}

fn map(row: &Row<'_>) -> rusqlite::Result<Trait> {
    Ok(Trait { id: row.get(0)?, name: row.get(1)?, updated_at: row.get(2)? })
}

/// `associated`: only those that some provider has (or none has).
pub fn list(tx: &Tx<'_>, associated: Option<bool>) -> Result<Vec<Trait>> {
    let sql = match associated {
        None => "SELECT t.id, t.name, t.updated_at FROM placement_trait t ORDER BY t.id",
        Some(true) => {
            "SELECT t.id, t.name, t.updated_at FROM placement_trait t
             WHERE EXISTS (SELECT 1 FROM placement_provider_trait p WHERE p.trait_id = t.id) ORDER BY t.id"
        }
        Some(false) => {
            "SELECT t.id, t.name, t.updated_at FROM placement_trait t
             WHERE NOT EXISTS (SELECT 1 FROM placement_provider_trait p WHERE p.trait_id = t.id) ORDER BY t.id"
        }
    };
    tx.list(sql, [], map)
}

pub fn find(tx: &Tx<'_>, name: &str) -> Result<Option<Trait>> {
    tx.find("SELECT id, name, updated_at FROM placement_trait WHERE name = ?1", [name], map)
}

pub fn insert(tx: &Tx<'_>, name: &str, now: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO placement_trait (id, name, updated_at)
         SELECT max(?1, coalesce(max(id), 0) + 1), ?2, ?3 FROM placement_trait",
        params![FIRST_CUSTOM_ID, name, now],
    )?;
    Ok(())
}

pub fn in_use(tx: &Tx<'_>, id: i64) -> Result<bool> {
    tx.exists("SELECT 1 FROM placement_provider_trait WHERE trait_id = ?1", [id])
}

pub fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.execute("DELETE FROM placement_trait WHERE id = ?1", [id])?;
    Ok(())
}

pub fn of_provider(tx: &Tx<'_>, provider: i64) -> Result<Vec<Trait>> {
    tx.list(
        "SELECT t.id, t.name, t.updated_at FROM placement_provider_trait p
         JOIN placement_trait t ON t.id = p.trait_id WHERE p.provider_id = ?1 ORDER BY t.id",
        [provider],
        map,
    )
}

/// Names by provider, each in order of trait ids.
pub fn names_of_providers(tx: &Tx<'_>, providers: &str) -> Result<HashMap<i64, Vec<String>>> {
    let rows: Vec<(i64, String)> = tx.list(
        "SELECT p.provider_id, t.name FROM placement_provider_trait p JOIN placement_trait t ON t.id = p.trait_id
         WHERE p.provider_id IN (SELECT value FROM json_each(?1)) ORDER BY p.provider_id, t.id",
        [providers],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut by_provider: HashMap<i64, Vec<String>> = HashMap::new();
    for (provider, name) in rows {
        by_provider.entry(provider).or_default().push(name);
    }
    Ok(by_provider)
}

/// Ids by provider.
pub fn ids_of_providers(tx: &Tx<'_>, providers: &str) -> Result<HashMap<i64, HashSet<i64>>> {
    let rows: Vec<(i64, i64)> = tx.list(
        "SELECT provider_id, trait_id FROM placement_provider_trait
         WHERE provider_id IN (SELECT value FROM json_each(?1))",
        [providers],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut by_provider: HashMap<i64, HashSet<i64>> = HashMap::new();
    for (provider, id) in rows {
        by_provider.entry(provider).or_default().insert(id);
    }
    Ok(by_provider)
}

/// Leaves the provider with exactly these.
pub fn replace_of_provider(tx: &Tx<'_>, provider: i64, traits: &[i64]) -> Result<()> {
    tx.execute("DELETE FROM placement_provider_trait WHERE provider_id = ?1", [provider])?;
    for id in traits {
        tx.execute("INSERT INTO placement_provider_trait (provider_id, trait_id) VALUES (?1, ?2)", [provider, *id])?;
    }
    Ok(())
}
