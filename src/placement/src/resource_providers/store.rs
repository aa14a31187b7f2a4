//! All SQL of resource providers.

use db::{Row, Tx, Value, params, params_from_iter, rusqlite};
use rest::Result;

use crate::{error, query::Wanted, schema};

#[derive(Debug, Clone)]
pub struct Provider {
    pub id: i64,
    pub uuid: String,
    pub name: String,
    pub generation: i64,
    pub parent_id: Option<i64>,
    pub parent_uuid: Option<String>,
    pub root_id: i64,
    pub root_uuid: String,
    pub updated_at: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT p.id, p.uuid, p.name, p.generation, p.parent_id, parent.uuid, p.root_id, root.uuid, p.updated_at
             FROM placement_provider p
             LEFT JOIN placement_provider parent ON parent.id = p.parent_id
             JOIN placement_provider root ON root.id = p.root_id ",
            $rest
        )
    };
}

fn map(row: &Row<'_>) -> rusqlite::Result<Provider> {
    Ok(Provider {
        id: row.get(0)?,
        uuid: row.get(1)?,
        name: row.get(2)?,
        generation: row.get(3)?,
        parent_id: row.get(4)?,
        parent_uuid: row.get(5)?,
        root_id: row.get(6)?,
        root_uuid: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

/// `uuid` in any spelling.
pub fn find(tx: &Tx<'_>, uuid: &str) -> Result<Option<Provider>> {
    match schema::normal_uuid(uuid) {
        Some(uuid) => Ok(tx.find(select!("WHERE p.uuid = ?1"), [uuid], map)?),
        None => Ok(None),
    }
}

/// 404 when there is none.
pub fn get(tx: &Tx<'_>, uuid: &str) -> Result<Provider> {
    find(tx, uuid)?.ok_or_else(|| error::no_provider(uuid))
}

pub fn name_taken(tx: &Tx<'_>, name: &str, except: Option<i64>) -> Result<bool> {
    let sql = "SELECT 1 FROM placement_provider WHERE name = ?1 AND id IS NOT ?2";
    Ok(tx.exists(sql, params![name, except])?)
}

/// What a list may be narrowed by.
#[derive(Debug, Default)]
pub struct Filter {
    pub name: Option<String>,
    pub uuid: Option<String>,
    pub in_tree: Option<String>,
    /// Class ids and amounts that the provider itself has room for.
    pub resources: Vec<(i64, i64)>,
    pub traits: Wanted<i64>,
    pub aggregates: Wanted<String>,
}

/// Providers whose own inventory of a class could give out an amount. `class` and `amount` are places of bound values.
pub fn fitting(class: &str, amount: &str) -> String {
    format!(
        "SELECT i.provider_id FROM placement_inventory i
         WHERE i.class_id = {class} AND {amount} BETWEEN i.min_unit AND i.max_unit AND {amount} % i.step_size = 0
           AND (i.total - i.reserved) * i.allocation_ratio >= {amount} + (
               SELECT coalesce(sum(a.used), 0) FROM placement_allocation a
               WHERE a.provider_id = i.provider_id AND a.class_id = i.class_id)"
    )
}

pub fn list(tx: &Tx<'_>, filter: &Filter) -> Result<Vec<Provider>> {
    let mut sql = String::from(select!("WHERE 1 = 1"));
    let mut values: Vec<Value> = Vec::new();
    // Numbered places, because `fitting` uses its own more than once.
    let mut bind = |value: Value| {
        values.push(value);
        format!("?{}", values.len())
    };
    if let Some(name) = &filter.name {
        sql.push_str(&format!(" AND p.name = {}", bind(Value::from(name.clone()))));
    }
    if let Some(uuid) = &filter.uuid {
        sql.push_str(&format!(" AND p.uuid = {}", bind(Value::from(uuid.clone()))));
    }
    if let Some(uuid) = &filter.in_tree {
        let place = bind(Value::from(uuid.clone()));
        sql.push_str(&format!(" AND p.root_id = (SELECT t.root_id FROM placement_provider t WHERE t.uuid = {place})"));
    }
    for (class, amount) in &filter.resources {
        let (class, amount) = (bind(Value::from(*class)), bind(Value::from(*amount)));
        sql.push_str(&format!(" AND p.id IN ({})", fitting(&class, &amount)));
    }
    let has_trait = |ids: &[i64], bind: &mut dyn FnMut(Value) -> String| {
        let places: Vec<String> = ids.iter().map(|id| bind(Value::from(*id))).collect();
        let places = places.join(", ");
        format!(
            "EXISTS (SELECT 1 FROM placement_provider_trait t WHERE t.provider_id = p.id AND t.trait_id IN ({places}))"
        )
    };
    for set in &filter.traits.any {
        sql.push_str(" AND ");
        sql.push_str(&has_trait(set, &mut bind));
    }
    if !filter.traits.forbidden.is_empty() {
        sql.push_str(" AND NOT ");
        sql.push_str(&has_trait(&filter.traits.forbidden, &mut bind));
    }
    let in_aggregate = |uuids: &[String], bind: &mut dyn FnMut(Value) -> String| {
        let places: Vec<String> = uuids.iter().map(|uuid| bind(Value::from(uuid.clone()))).collect();
        let places = places.join(", ");
        format!(
            "EXISTS (SELECT 1 FROM placement_aggregate g
             WHERE g.provider_id = p.id AND g.aggregate_uuid IN ({places}))"
        )
    };
    for set in &filter.aggregates.any {
        sql.push_str(" AND ");
        sql.push_str(&in_aggregate(set, &mut bind));
    }
    if !filter.aggregates.forbidden.is_empty() {
        sql.push_str(" AND NOT ");
        sql.push_str(&in_aggregate(&filter.aggregates.forbidden, &mut bind));
    }
    sql.push_str(" ORDER BY p.id");
    Ok(tx.list(&sql, params_from_iter(values), map)?)
}

/// Every provider of the trees with these roots (a JSON list of ids).
pub fn of_trees(tx: &Tx<'_>, roots: &str) -> Result<Vec<Provider>> {
    Ok(tx.list(select!("WHERE p.root_id IN (SELECT value FROM json_each(?1)) ORDER BY p.id"), [roots], map)?)
}

/// These providers (a JSON list of ids).
pub fn by_ids(tx: &Tx<'_>, ids: &str) -> Result<Vec<Provider>> {
    Ok(tx.list(select!("WHERE p.id IN (SELECT value FROM json_each(?1)) ORDER BY p.id"), [ids], map)?)
}

/// The uuid and the name must not be taken.
pub fn insert(tx: &Tx<'_>, uuid: &str, name: &str, parent: Option<&Provider>, now: &str) -> Result<Provider> {
    let id = tx.count("SELECT coalesce(max(id), 0) + 1 FROM placement_provider", [])?;
    let root = parent.map_or(id, |parent| parent.root_id);
    tx.execute(
        "INSERT INTO placement_provider (id, uuid, name, generation, parent_id, root_id, created_at, updated_at)
         VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?6)",
        params![id, uuid, name, parent.map(|parent| parent.id), root, now],
    )?;
    get(tx, uuid)
}

pub fn rename(tx: &Tx<'_>, id: i64, name: &str, now: &str) -> Result<()> {
    tx.execute("UPDATE placement_provider SET name = ?2, updated_at = ?3 WHERE id = ?1", params![id, name, now])?;
    Ok(())
}

/// The provider and everything below it.
pub fn subtree(tx: &Tx<'_>, id: i64) -> Result<Vec<i64>> {
    Ok(tx.list(
        "WITH RECURSIVE below (id) AS (
             SELECT ?1 UNION SELECT p.id FROM placement_provider p JOIN below ON p.parent_id = below.id)
         SELECT id FROM below",
        [id],
        |row| row.get(0),
    )?)
}

/// Gives the provider a parent or makes it a root, and moves the root of all that is below it along.
pub fn set_parent(tx: &Tx<'_>, id: i64, parent: Option<&Provider>, now: &str) -> Result<()> {
    let root = parent.map_or(id, |parent| parent.root_id);
    let below = subtree(tx, id)?;
    tx.execute(
        "UPDATE placement_provider SET parent_id = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, parent.map(|parent| parent.id), now],
    )?;
    for id in below {
        tx.execute("UPDATE placement_provider SET root_id = ?2 WHERE id = ?1", [id, root])?;
    }
    Ok(())
}

/// Moves the generation on, and answers the new one.
pub fn touch(tx: &Tx<'_>, id: i64, now: &str) -> Result<i64> {
    tx.execute(
        "UPDATE placement_provider SET generation = generation + 1, updated_at = ?2 WHERE id = ?1",
        params![id, now],
    )?;
    Ok(tx.count("SELECT generation FROM placement_provider WHERE id = ?1", [id])?)
}

pub fn has_children(tx: &Tx<'_>, id: i64) -> Result<bool> {
    Ok(tx.exists("SELECT 1 FROM placement_provider WHERE parent_id = ?1", [id])?)
}

pub fn has_allocations(tx: &Tx<'_>, id: i64) -> Result<bool> {
    Ok(tx.exists("SELECT 1 FROM placement_allocation WHERE provider_id = ?1", [id])?)
}

/// Its inventories, traits and aggregates go with it.
pub fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.execute("DELETE FROM placement_provider WHERE id = ?1", [id])?;
    Ok(())
}
