//! All SQL of consumers and their allocations, and the one way to write them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use db::{Row, Tx, params, rusqlite};
use rest::{Error, Result};

use super::model::{Expected, INCOMPLETE, Request};
use crate::{error, inventories, resource_classes, resource_providers::store as providers};

#[derive(Debug, Clone)]
pub struct Consumer {
    pub id: i64,
    pub generation: i64,
    pub project_id: String,
    pub user_id: String,
    pub consumer_type: Option<String>,
    pub updated_at: String,
}

fn map(row: &Row<'_>) -> rusqlite::Result<Consumer> {
    Ok(Consumer {
        id: row.get(0)?,
        generation: row.get(1)?,
        project_id: row.get(2)?,
        user_id: row.get(3)?,
        consumer_type: row.get(4)?,
        updated_at: row.get(5)?,
    })
}

pub fn find(tx: &Tx<'_>, uuid: &str) -> Result<Option<Consumer>> {
    Ok(tx.find(
        "SELECT id, generation, project_id, user_id, consumer_type, updated_at
         FROM placement_consumer WHERE uuid = ?1",
        [uuid],
        map,
    )?)
}

/// One row of a consumer.
#[derive(Debug, Clone)]
pub struct Held {
    pub provider_uuid: String,
    pub provider_generation: i64,
    pub class: String,
    pub used: i64,
}

pub fn of_consumer(tx: &Tx<'_>, consumer: i64) -> Result<Vec<Held>> {
    Ok(tx.list(
        "SELECT p.uuid, p.generation, c.name, a.used FROM placement_allocation a
         JOIN placement_provider p ON p.id = a.provider_id
         JOIN placement_resource_class c ON c.id = a.class_id
         WHERE a.consumer_id = ?1 ORDER BY a.provider_id, a.class_id",
        [consumer],
        |row| {
            Ok(Held {
                provider_uuid: row.get(0)?,
                provider_generation: row.get(1)?,
                class: row.get(2)?,
                used: row.get(3)?,
            })
        },
    )?)
}

/// One row of a provider.
#[derive(Debug, Clone)]
pub struct Given {
    pub consumer_uuid: String,
    pub consumer_generation: i64,
    pub class: String,
    pub used: i64,
    pub updated_at: String,
}

pub fn of_provider(tx: &Tx<'_>, provider: i64) -> Result<Vec<Given>> {
    Ok(tx.list(
        "SELECT k.uuid, k.generation, c.name, a.used, k.updated_at FROM placement_allocation a
         JOIN placement_consumer k ON k.id = a.consumer_id
         JOIN placement_resource_class c ON c.id = a.class_id
         WHERE a.provider_id = ?1 ORDER BY a.consumer_id, a.class_id",
        [provider],
        |row| {
            Ok(Given {
                consumer_uuid: row.get(0)?,
                consumer_generation: row.get(1)?,
                class: row.get(2)?,
                used: row.get(3)?,
                updated_at: row.get(4)?,
            })
        },
    )?)
}

/// Ends the consumer. False when there was none.
pub fn delete(tx: &Tx<'_>, uuid: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM placement_consumer WHERE uuid = ?1", [uuid])? > 0)
}

pub fn used(tx: &Tx<'_>, provider: i64, class: i64) -> Result<i64> {
    Ok(tx.count(
        "SELECT coalesce(sum(used), 0) FROM placement_allocation WHERE provider_id = ?1 AND class_id = ?2",
        [provider, class],
    )?)
}

/// Leaves each consumer with exactly what is asked, or fails and leaves all as they were (the caller's transaction is
/// taken back). Amounts of all consumers are checked together, after everything they had before is given back.
pub fn replace(tx: &Tx<'_>, requests: &[Request], now: &str) -> Result<()> {
    let mut consumers = Vec::with_capacity(requests.len());
    for request in requests {
        let consumer = find(tx, &request.consumer)?;
        check_generation(request.expected, consumer.as_ref())?;
        consumers.push(consumer);
    }

    let mut known_providers: HashMap<&str, providers::Provider> = HashMap::new();
    let mut known_classes: HashMap<&str, i64> = HashMap::new();
    // (provider, class) -> amount; one consumer may name a provider twice in the list form.
    let mut wanted: Vec<BTreeMap<(i64, i64), i64>> = Vec::with_capacity(requests.len());
    for request in requests {
        let mut amounts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for share in &request.shares {
            if !known_providers.contains_key(share.provider.as_str()) {
                let provider = providers::find(tx, &share.provider)?.ok_or_else(|| {
                    Error::bad_request(format!(
                        "Allocation for resource provider '{}' that does not exist.",
                        share.provider
                    ))
                })?;
                known_providers.insert(&share.provider, provider);
            }
            let provider = known_providers[share.provider.as_str()].id;
            for (class, amount) in &share.amounts {
                if !known_classes.contains_key(class.as_str()) {
                    let known = resource_classes::store::find(tx, class)?.ok_or_else(|| {
                        Error::bad_request(format!(
                            "Unable to allocate inventory for consumer {}: No such resource class {class}.",
                            request.consumer
                        ))
                    })?;
                    known_classes.insert(class, known.id);
                }
                let sum = amounts.entry((provider, known_classes[class.as_str()])).or_insert(0);
                *sum = sum.saturating_add(*amount);
            }
        }
        wanted.push(amounts);
    }

    let mut before: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for consumer in consumers.iter().flatten() {
        let rows: Vec<((i64, i64), i64)> = tx.list(
            "SELECT provider_id, class_id, used FROM placement_allocation WHERE consumer_id = ?1",
            [consumer.id],
            |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)),
        )?;
        for (place, used) in rows {
            *before.entry(place).or_insert(0) += used;
        }
        tx.execute("DELETE FROM placement_allocation WHERE consumer_id = ?1", [consumer.id])?;
    }
    check_room(tx, &wanted, &before)?;

    let mut touched: BTreeSet<i64> = BTreeSet::new();
    for ((request, consumer), amounts) in requests.iter().zip(consumers).zip(&wanted) {
        if amounts.is_empty() {
            delete(tx, &request.consumer)?;
            continue;
        }
        let id = match consumer {
            Some(consumer) => {
                update_consumer(tx, &consumer, request, now)?;
                consumer.id
            }
            None => insert_consumer(tx, request, now)?,
        };
        for ((provider, class), amount) in amounts {
            tx.execute(
                "INSERT INTO placement_allocation (consumer_id, provider_id, class_id, used) VALUES (?1, ?2, ?3, ?4)",
                [id, *provider, *class, *amount],
            )?;
            touched.insert(*provider);
        }
    }
    for provider in touched {
        providers::touch(tx, provider, now)?;
    }
    Ok(())
}

fn check_generation(expected: Expected, consumer: Option<&Consumer>) -> Result<()> {
    let (actual, given) = match (expected, consumer) {
        (Expected::Any, _) | (Expected::New, None) => return Ok(()),
        (Expected::Generation(given), Some(consumer)) if given == consumer.generation => return Ok(()),
        (Expected::Generation(given), consumer) => {
            (consumer.map_or_else(|| "null".to_owned(), |consumer| consumer.generation.to_string()), given.to_string())
        }
        (Expected::New, Some(consumer)) => (consumer.generation.to_string(), "None".to_owned()),
    };
    Err(Error::conflict(format!("consumer generation conflict - expected {actual} but got {given}"))
        .with_code(error::CONCURRENT_UPDATE))
}

/// `before` is what the same consumers had: an inventory that shrank below what is used may be handed back in steps.
fn check_room(tx: &Tx<'_>, wanted: &[BTreeMap<(i64, i64), i64>], before: &BTreeMap<(i64, i64), i64>) -> Result<()> {
    let mut sums: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (place, amount) in wanted.iter().flatten() {
        let sum = sums.entry(*place).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
    let places: BTreeSet<i64> = sums.keys().map(|(provider, _)| *provider).collect();
    let list = serde_json::Value::from(places.into_iter().collect::<Vec<_>>()).to_string();
    let stock = inventories::store::of_providers(tx, &list)?;
    for (place @ (provider, class), sum) in &sums {
        let uuid = || {
            tx.get("a provider", "SELECT uuid FROM placement_provider WHERE id = ?1", [*provider], |row| {
                row.get::<_, String>(0)
            })
        };
        let Some(stocked) = stock.get(provider).and_then(|of_provider| of_provider.get(class)) else {
            let name: String = tx.get(
                "a resource class",
                "SELECT name FROM placement_resource_class WHERE id = ?1",
                [*class],
                |row| row.get(0),
            )?;
            return Err(Error::conflict(format!(
                "Unable to allocate inventory: Inventory for '{name}' on resource provider '{}' invalid.",
                uuid()?
            )));
        };
        let refuse = |why: &str| -> Result<Error> {
            Ok(Error::conflict(format!(
                "Unable to allocate inventory: Unable to create allocation for '{}' on resource provider '{}'. {why}",
                stocked.class,
                uuid()?
            )))
        };
        let inventory = &stocked.inventory;
        for amount in wanted.iter().filter_map(|amounts| amounts.get(place)) {
            if !inventory.takes(*amount) {
                return Err(refuse(&format!(
                    "The requested amount {amount} would violate inventory constraints (min_unit {}, max_unit {}, \
                     step_size {}).",
                    inventory.min_unit, inventory.max_unit, inventory.step_size
                ))?);
            }
        }
        let others = used(tx, *provider, *class)?;
        let grows = *sum > before.get(place).copied().unwrap_or(0);
        if grows && others.saturating_add(*sum) > inventory.capacity() {
            return Err(refuse("The requested amount would exceed the capacity.")?);
        }
    }
    Ok(())
}

fn insert_consumer(tx: &Tx<'_>, request: &Request, now: &str) -> Result<i64> {
    let (project, user) = match &request.owner {
        Some((project, user)) => (project.as_str(), user.as_str()),
        None => (INCOMPLETE, INCOMPLETE),
    };
    let id = tx.get(
        "the new consumer's id",
        "INSERT INTO placement_consumer
             (uuid, generation, project_id, user_id, consumer_type, created_at, updated_at)
         VALUES (?1, 1, ?2, ?3, ?4, ?5, ?5) RETURNING id",
        params![request.consumer, project, user, request.consumer_type, now],
        |row| row.get(0),
    )?;
    Ok(id)
}

fn update_consumer(tx: &Tx<'_>, consumer: &Consumer, request: &Request, now: &str) -> Result<()> {
    let (project, user) = match &request.owner {
        Some((project, user)) => (project, user),
        None => (&consumer.project_id, &consumer.user_id),
    };
    tx.execute(
        "UPDATE placement_consumer
         SET generation = generation + 1, project_id = ?2, user_id = ?3, consumer_type = ?4, updated_at = ?5
         WHERE id = ?1",
        params![consumer.id, project, user, request.consumer_type.as_ref().or(consumer.consumer_type.as_ref()), now],
    )?;
    Ok(())
}
