//! All SQL of inventories.

use std::collections::{BTreeMap, HashMap};

use db::{Row, Tx, params, rusqlite};
use rest::{Error, Result};

use super::model::Inventory;
use crate::error;

/// A class's id and name with the inventory of it.
#[derive(Debug, Clone)]
pub struct Stocked {
    pub class_id: i64,
    pub class: String,
    pub inventory: Inventory,
}

fn map(row: &Row<'_>) -> rusqlite::Result<Stocked> {
    Ok(Stocked {
        class_id: row.get(0)?,
        class: row.get(1)?,
        inventory: Inventory {
            total: row.get(2)?,
            reserved: row.get(3)?,
            min_unit: row.get(4)?,
            max_unit: row.get(5)?,
            step_size: row.get(6)?,
            allocation_ratio: row.get(7)?,
        },
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT i.class_id, c.name, i.total, i.reserved, i.min_unit, i.max_unit, i.step_size, i.allocation_ratio,
                    i.provider_id
             FROM placement_inventory i JOIN placement_resource_class c ON c.id = i.class_id ",
            $rest
        )
    };
}

pub fn list(tx: &Tx<'_>, provider: i64) -> Result<Vec<Stocked>> {
    Ok(tx.list(select!("WHERE i.provider_id = ?1 ORDER BY i.class_id"), [provider], map)?)
}

pub fn find(tx: &Tx<'_>, provider: i64, class: &str) -> Result<Option<Stocked>> {
    Ok(tx.find(select!("WHERE i.provider_id = ?1 AND c.name = ?2"), params![provider, class], map)?)
}

/// Inventories by provider (a JSON list of ids) and class id.
pub fn of_providers(tx: &Tx<'_>, providers: &str) -> Result<HashMap<i64, BTreeMap<i64, Stocked>>> {
    let rows = tx.list(select!("WHERE i.provider_id IN (SELECT value FROM json_each(?1))"), [providers], |row| {
        Ok((row.get::<_, i64>(8)?, map(row)?))
    })?;
    let mut by_provider: HashMap<i64, BTreeMap<i64, Stocked>> = HashMap::new();
    for (provider, stocked) in rows {
        by_provider.entry(provider).or_default().insert(stocked.class_id, stocked);
    }
    Ok(by_provider)
}

pub fn put(tx: &Tx<'_>, provider: i64, class: i64, inventory: &Inventory) -> Result<()> {
    tx.execute(
        "INSERT INTO placement_inventory
             (provider_id, class_id, total, reserved, min_unit, max_unit, step_size, allocation_ratio)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (provider_id, class_id) DO UPDATE SET
             total = excluded.total, reserved = excluded.reserved, min_unit = excluded.min_unit,
             max_unit = excluded.max_unit, step_size = excluded.step_size,
             allocation_ratio = excluded.allocation_ratio",
        params![
            provider,
            class,
            inventory.total,
            inventory.reserved,
            inventory.min_unit,
            inventory.max_unit,
            inventory.step_size,
            inventory.allocation_ratio
        ],
    )?;
    Ok(())
}

/// Leaves the provider with exactly these inventories; 409 when one that goes is in use.
pub fn replace(tx: &Tx<'_>, provider: i64, uuid: &str, wanted: &[(i64, Inventory)]) -> Result<()> {
    let gone: Vec<Stocked> = list(tx, provider)?
        .into_iter()
        .filter(|stocked| !wanted.iter().any(|(class, _)| *class == stocked.class_id))
        .collect();
    remove(tx, provider, uuid, &gone)?;
    for (class, inventory) in wanted {
        put(tx, provider, *class, inventory)?;
    }
    Ok(())
}

/// 409 when one of them is in use.
pub fn remove(tx: &Tx<'_>, provider: i64, uuid: &str, gone: &[Stocked]) -> Result<()> {
    let mut used = Vec::new();
    for stocked in gone {
        let sql = "SELECT 1 FROM placement_allocation WHERE provider_id = ?1 AND class_id = ?2";
        if tx.exists(sql, [provider, stocked.class_id])? {
            used.push(stocked.class.as_str());
        }
    }
    if !used.is_empty() {
        return Err(Error::conflict(format!(
            "Unable to update inventory: Inventory for '{}' on resource provider '{uuid}' in use.",
            used.join(", ")
        ))
        .with_code(error::INVENTORY_IN_USE));
    }
    for stocked in gone {
        tx.execute(
            "DELETE FROM placement_inventory WHERE provider_id = ?1 AND class_id = ?2",
            [provider, stocked.class_id],
        )?;
    }
    Ok(())
}
