//! All SQL of aggregates.

use std::collections::{HashMap, HashSet};

use db::{Result, Tx, params};

pub fn list(tx: &Tx<'_>, provider: i64) -> Result<Vec<String>> {
    tx.list("SELECT aggregate_uuid FROM placement_aggregate WHERE provider_id = ?1 ORDER BY rowid", [provider], |row| {
        row.get(0)
    })
}

pub fn replace(tx: &Tx<'_>, provider: i64, aggregates: &[String]) -> Result<()> {
    tx.execute("DELETE FROM placement_aggregate WHERE provider_id = ?1", [provider])?;
    for aggregate in aggregates {
        tx.execute(
            "INSERT OR IGNORE INTO placement_aggregate (provider_id, aggregate_uuid) VALUES (?1, ?2)",
            params![provider, aggregate],
        )?;
    }
    Ok(())
}

/// Aggregates by provider (a JSON list of ids).
pub fn of_providers(tx: &Tx<'_>, providers: &str) -> Result<HashMap<i64, HashSet<String>>> {
    let rows: Vec<(i64, String)> = tx.list(
        "SELECT provider_id, aggregate_uuid FROM placement_aggregate
         WHERE provider_id IN (SELECT value FROM json_each(?1))",
        [providers],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut by_provider: HashMap<i64, HashSet<String>> = HashMap::new();
    for (provider, aggregate) in rows {
        by_provider.entry(provider).or_default().insert(aggregate);
    }
    Ok(by_provider)
}

/// For each of these providers the roots of all providers that have an aggregate in common with it.
pub fn roots_in_common(tx: &Tx<'_>, providers: &str) -> Result<Vec<(i64, i64)>> {
    tx.list(
        "SELECT DISTINCT own.provider_id, p.root_id FROM placement_aggregate own
         JOIN placement_aggregate other ON other.aggregate_uuid = own.aggregate_uuid
         JOIN placement_provider p ON p.id = other.provider_id
         WHERE own.provider_id IN (SELECT value FROM json_each(?1))",
        [providers],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}
