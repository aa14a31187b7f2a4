//! All SQL of host aggregates.

use std::collections::BTreeMap;

use db::{Constraint, Row, Tx, params, rusqlite};
use rest::{Error, Kind, Result};

use super::{Aggregate, model::ZONE};
use crate::{Options, host};

const SELECT: &str = "SELECT a.id, a.uuid, a.name, a.has_host, a.created_at, a.updated_at,
    (SELECT json_group_object(m.key, m.value) FROM compute_aggregate_metadata m WHERE m.aggregate_id = a.id)
    FROM compute_aggregate a";

pub(crate) fn list(tx: &Tx<'_>) -> Result<Vec<Aggregate>> {
    Ok(tx.list(&format!("{SELECT} ORDER BY a.id"), [], read)?)
}

pub(crate) fn get(tx: &Tx<'_>, id: i64) -> Result<Aggregate> {
    tx.find(&format!("{SELECT} WHERE a.id = ?1"), [id], read)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("Aggregate {id} could not be found.")))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Aggregate> {
    let metadata: String = row.get(6)?;
    Ok(Aggregate {
        id: row.get(0)?,
        uuid: row.get(1)?,
        name: row.get(2)?,
        has_host: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        metadata: serde_json::from_str(&metadata)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, error.into()))?,
    })
}

/// Answers the new aggregate's id.
pub(crate) fn insert(tx: &Tx<'_>, uuid: &str, name: &str, now: &str) -> Result<i64> {
    tx.execute(
        "INSERT INTO compute_aggregate (uuid, name, has_host, created_at) VALUES (?1, ?2, 0, ?3)",
        params![uuid, name, now],
    )
    .on_unique("compute_aggregate.name", || exists(name))?;
    Ok(tx.count("SELECT id FROM compute_aggregate WHERE uuid = ?1", [uuid])?)
}

fn exists(name: &str) -> Error {
    Error::conflict(format!("Aggregate {name} already exists."))
}

pub(crate) fn rename(tx: &Tx<'_>, id: i64, name: &str) -> Result<()> {
    tx.execute("UPDATE compute_aggregate SET name = ?2 WHERE id = ?1", params![id, name])
        .on_unique("compute_aggregate.name", || exists(name))?;
    Ok(())
}

pub(crate) fn touch(tx: &Tx<'_>, id: i64, now: &str) -> Result<()> {
    tx.execute("UPDATE compute_aggregate SET updated_at = ?2 WHERE id = ?1", params![id, now])?;
    Ok(())
}

pub(crate) fn set_has_host(tx: &Tx<'_>, id: i64, has_host: bool) -> Result<()> {
    tx.execute("UPDATE compute_aggregate SET has_host = ?2 WHERE id = ?1", params![id, has_host])?;
    Ok(())
}

/// Sets the keys with a value and removes those without; others stay.
pub(crate) fn change_metadata(tx: &Tx<'_>, id: i64, changes: &BTreeMap<String, Option<String>>) -> Result<()> {
    for (key, value) in changes {
        match value {
            Some(value) => tx.execute(
                "INSERT INTO compute_aggregate_metadata (aggregate_id, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (aggregate_id, key) DO UPDATE SET value = excluded.value",
                params![id, key, value],
            )?,
            None => tx.execute(
                "DELETE FROM compute_aggregate_metadata WHERE aggregate_id = ?1 AND key = ?2",
                params![id, key],
            )?,
        };
    }
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.execute("DELETE FROM compute_aggregate WHERE id = ?1", [id])?;
    Ok(())
}

/// The availability zone that this machine is in: its aggregates', or the configured one.
pub(crate) fn zone(tx: &Tx<'_>, options: &Options) -> db::Result<String> {
    let zone = tx.find(
        "SELECT m.value FROM compute_aggregate a JOIN compute_aggregate_metadata m ON m.aggregate_id = a.id
         WHERE a.has_host AND m.key = ?1 ORDER BY a.id LIMIT 1",
        [ZONE],
        |row| row.get(0),
    )?;
    Ok(zone.unwrap_or_else(|| options.availability_zone.clone()))
}

/// How many servers asked for this zone by name.
pub(crate) fn promised(tx: &Tx<'_>, zone: &str) -> Result<i64> {
    Ok(tx.count("SELECT count(*) FROM compute_server WHERE availability_zone = ?1", [zone])?)
}

/// Placement's copy: aggregates of the provider that this machine is.
pub(crate) fn mirror(tx: &Tx<'_>, aggregate: &Aggregate, now: &str) -> Result<()> {
    let provider = host::store::node_uuid(tx)?;
    placement::peer::set_aggregate(tx, &provider, &aggregate.uuid, aggregate.has_host, now)
}
