//! All SQL of usages.

use std::collections::HashMap;

use db::{Result, Tx, params};

/// What is used of each class that the provider has an inventory of or an allocation from.
pub fn of_provider(tx: &Tx<'_>, provider: i64) -> Result<Vec<(String, i64)>> {
    tx.list(
        "SELECT c.name, coalesce(sum(a.used), 0) FROM placement_inventory i
         JOIN placement_resource_class c ON c.id = i.class_id
         LEFT JOIN placement_allocation a ON a.provider_id = i.provider_id AND a.class_id = i.class_id
         WHERE i.provider_id = ?1 GROUP BY i.class_id ORDER BY i.class_id",
        [provider],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// What is used by provider (a JSON list of ids) and class id.
pub fn of_providers(tx: &Tx<'_>, providers: &str) -> Result<HashMap<(i64, i64), i64>> {
    let rows: Vec<((i64, i64), i64)> = tx.list(
        "SELECT provider_id, class_id, sum(used) FROM placement_allocation
         WHERE provider_id IN (SELECT value FROM json_each(?1)) GROUP BY provider_id, class_id",
        [providers],
        |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)),
    )?;
    Ok(rows.into_iter().collect())
}

/// Consumer type, class, used.
pub fn of_project(tx: &Tx<'_>, project: &str, user: Option<&str>) -> Result<Vec<(Option<String>, String, i64)>> {
    tx.list(
        "SELECT k.consumer_type, c.name, sum(a.used) FROM placement_consumer k
         JOIN placement_allocation a ON a.consumer_id = k.id
         JOIN placement_resource_class c ON c.id = a.class_id
         WHERE k.project_id = ?1 AND (?2 IS NULL OR k.user_id = ?2)
         GROUP BY k.consumer_type, a.class_id ORDER BY a.class_id",
        params![project, user],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// Consumers by type.
pub fn consumers_of_project(tx: &Tx<'_>, project: &str, user: Option<&str>) -> Result<Vec<(Option<String>, i64)>> {
    tx.list(
        "SELECT consumer_type, count(*) FROM placement_consumer
         WHERE project_id = ?1 AND (?2 IS NULL OR user_id = ?2) GROUP BY consumer_type ORDER BY consumer_type",
        params![project, user],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}
