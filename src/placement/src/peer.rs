//! What sister services may call, inside their own transaction: this machine as a provider, and what servers take of it.

use std::{collections::BTreeMap, fmt};

use db::Tx;
use rest::{Error, Result};

use crate::{
    aggregates,
    allocations::{
        model::{Expected, Request, Share},
        store as allocations,
    },
    error,
    inventories::{self, model},
    resource_classes,
    resource_providers::store as providers,
    schema, traits, usages,
};

/// How much of a class a provider has.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// `VCPU`, `MEMORY_MB`, `DISK_GB`, or any other standard or custom class.
    pub class: String,
    pub total: i64,
    /// Kept for the host.
    pub reserved: i64,
    /// How often each unit may be promised.
    pub ratio: f64,
    /// The most that one consumer may take at once; the total where `None`.
    pub max_unit: Option<i64>,
}

impl Inventory {
    /// All of it, once, to anyone.
    #[must_use]
    pub fn of(class: &str, total: i64) -> Self {
        Self { class: class.to_owned(), total, reserved: 0, ratio: 1.0, max_unit: None }
    }
}

/// A provider that a sister service keeps: this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub uuid: String,
    pub name: String,
    pub inventories: Vec<Inventory>,
    /// Standard traits; custom ones come into being.
    pub traits: Vec<String>,
}

/// What a consumer shall have of one provider.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub provider_uuid: &'a str,
    /// The server's id.
    pub consumer_uuid: &'a str,
    pub project_id: &'a str,
    pub user_id: &'a str,
    /// Class and amount; amounts of 0 are left out.
    pub resources: &'a [(&'a str, i64)],
}

/// One class that there is too little of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    pub class: String,
    pub requested: i64,
    pub available: i64,
    /// Everything that can be promised, taken or not.
    pub capacity: i64,
    /// The most that one consumer may have.
    pub max_unit: i64,
}

impl Short {
    #[must_use]
    pub fn short_by(&self) -> i64 {
        self.requested - self.available.min(self.max_unit)
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, requested, available, capacity, max_unit } = self;
        write!(f, "{class}: requested {requested}, available {available} of {capacity}")?;
        if available > max_unit {
            write!(f, ", at most {max_unit} for one server")?;
        }
        write!(f, ", short by {}", self.short_by())
    }
}

/// Why a claim does not fit. Every class that is short is in it, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage(pub Vec<Short>);

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, short) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            short.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Shortage {}

#[derive(Debug)]
pub enum ClaimError {
    Shortage(Shortage),
    /// No provider with this uuid: this machine has not registered itself.
    NoProvider,
    Failed(Error),
}

impl From<Error> for ClaimError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<db::Error> for ClaimError {
    fn from(error: db::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// What there is of a class, and what is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub class: String,
    pub total: i64,
    pub reserved: i64,
    pub ratio: f64,
    pub capacity: i64,
    pub used: i64,
}

/// Makes the provider be as given: creates it, or changes what differs (then its generation moves). Inventories of classes
/// and custom traits that are not named are an administrator's, and stay; standard traits that are not named go. A class
/// of which there is 0 is left out.
///
/// # Errors
/// For a name that another provider has, unknown classes and unknown standard traits.
pub fn ensure_provider(tx: &Tx<'_>, wanted: &Provider, now: &str) -> Result<()> {
    let known = match providers::find(tx, &wanted.uuid)? {
        Some(known) => known,
        None => {
            if providers::name_taken(tx, &wanted.name, None)? {
                return Err(Error::conflict(format!("another resource provider is named {}", wanted.name)));
            }
            let uuid = schema::normal_uuid(&wanted.uuid)
                .ok_or_else(|| Error::bad_request(format!("{} is no UUID", wanted.uuid)))?;
            providers::insert(tx, &uuid, &wanted.name, None, now)?
        }
    };
    if known.name != wanted.name {
        if providers::name_taken(tx, &wanted.name, Some(known.id))? {
            return Err(Error::conflict(format!("another resource provider is named {}", wanted.name)));
        }
        providers::rename(tx, known.id, &wanted.name, now)?;
    }
    let mut changed = false;
    for inventory in wanted.inventories.iter().filter(|inventory| inventory.total > 0) {
        let class =
            resource_classes::store::find(tx, &inventory.class)?.ok_or_else(|| error::no_class(&inventory.class))?;
        let full = model::Inventory {
            total: inventory.total.clamp(1, schema::MAX_INT),
            reserved: inventory.reserved.clamp(0, schema::MAX_INT),
            min_unit: 1,
            max_unit: inventory.max_unit.unwrap_or(inventory.total).clamp(1, schema::MAX_INT),
            step_size: 1,
            allocation_ratio: inventory.ratio,
        };
        let stocked = inventories::store::find(tx, known.id, &inventory.class)?;
        if stocked.is_none_or(|stocked| stocked.inventory != full) {
            inventories::store::put(tx, known.id, class.id, &full)?;
            changed = true;
        }
    }
    let has = traits::store::of_provider(tx, known.id)?;
    let mut ids: Vec<i64> = has.iter().filter(|one| !one.is_standard()).map(|one| one.id).collect();
    for name in &wanted.traits {
        let found = match traits::store::find(tx, name)? {
            Some(found) => found,
            None if (schema::CUSTOM_CLASS.fits)(name) => {
                traits::store::insert(tx, name, now)?;
                traits::store::find(tx, name)?.ok_or_else(|| Error::internal("a trait vanished while it was made"))?
            }
            None => return Err(Error::bad_request(format!("no such trait: {name}"))),
        };
        if !ids.contains(&found.id) {
            ids.push(found.id);
        }
    }
    ids.sort_unstable();
    if ids != has.iter().map(|one| one.id).collect::<Vec<_>>() {
        traits::store::replace_of_provider(tx, known.id, &ids)?;
        changed = true;
    }
    if changed {
        providers::touch(tx, known.id, now)?;
    }
    Ok(())
}

/// Leaves the consumer with exactly this, or says everything that there is too little of and changes nothing. What the
/// consumer has already counts as free.
///
/// # Errors
/// [`ClaimError::Shortage`] when it does not fit.
pub fn claim(tx: &Tx<'_>, claim: &Claim<'_>, now: &str) -> std::result::Result<(), ClaimError> {
    let provider = providers::find(tx, claim.provider_uuid)?.ok_or(ClaimError::NoProvider)?;
    let own = allocated(tx, claim.consumer_uuid)?;
    let own = own.get(&provider.uuid);
    let mut short = Vec::new();
    for (class, requested) in claim.resources.iter().filter(|(_, amount)| *amount > 0) {
        let Some(stocked) = inventories::store::find(tx, provider.id, class)? else {
            let class = (*class).to_owned();
            short.push(Short { class, requested: *requested, available: 0, capacity: 0, max_unit: 0 });
            continue;
        };
        let given_back = own.and_then(|own| own.get(*class)).copied().unwrap_or(0);
        let capacity = stocked.inventory.capacity();
        let available = (capacity - allocations::used(tx, provider.id, stocked.class_id)? + given_back).max(0);
        let max_unit = stocked.inventory.max_unit;
        if *requested > available.min(max_unit) {
            short.push(Short { class: stocked.class, requested: *requested, available, capacity, max_unit });
        }
    }
    if !short.is_empty() {
        return Err(ClaimError::Shortage(Shortage(short)));
    }
    let amounts = claim.resources.iter().filter(|(_, amount)| *amount > 0);
    let request = Request {
        consumer: schema::normal_uuid(claim.consumer_uuid)
            .ok_or_else(|| Error::bad_request(format!("{} is no UUID", claim.consumer_uuid)))?,
        expected: Expected::Any,
        owner: Some((claim.project_id.to_owned(), claim.user_id.to_owned())),
        consumer_type: Some("INSTANCE".to_owned()),
        shares: vec![Share {
            provider: provider.uuid,
            amounts: amounts.map(|(class, amount)| ((*class).to_owned(), *amount)).collect(),
        }],
    };
    Ok(allocations::replace(tx, &[request], now)?)
}

/// Gives back all that the consumer has. False when it has nothing.
///
/// # Errors
/// The database's own.
pub fn release(tx: &Tx<'_>, consumer_uuid: &str) -> Result<bool> {
    allocations::delete(tx, consumer_uuid)
}

/// What the consumer has: provider -> class -> amount.
///
/// # Errors
/// The database's own.
pub fn allocated(tx: &Tx<'_>, consumer_uuid: &str) -> Result<BTreeMap<String, BTreeMap<String, i64>>> {
    let mut by_provider: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    if let Some(consumer) = allocations::find(tx, consumer_uuid)? {
        for held in allocations::of_consumer(tx, consumer.id)? {
            by_provider.entry(held.provider_uuid).or_default().insert(held.class, held.used);
        }
    }
    Ok(by_provider)
}

/// What the provider has and what is taken of it, by class in their standard order. Empty when there is no such provider.
///
/// # Errors
/// The database's own.
pub fn usage(tx: &Tx<'_>, provider_uuid: &str) -> Result<Vec<Usage>> {
    let Some(provider) = providers::find(tx, provider_uuid)? else { return Ok(Vec::new()) };
    let used: BTreeMap<String, i64> = usages::store::of_provider(tx, provider.id)?.into_iter().collect();
    let stock = inventories::store::list(tx, provider.id)?;
    Ok(stock
        .into_iter()
        .map(|stocked| Usage {
            used: used.get(&stocked.class).copied().unwrap_or(0),
            total: stocked.inventory.total,
            reserved: stocked.inventory.reserved,
            ratio: stocked.inventory.allocation_ratio,
            capacity: stocked.inventory.capacity(),
            class: stocked.class,
        })
        .collect())
}

/// The consumers that have something of the provider: to find what belongs to nobody any more.
///
/// # Errors
/// The database's own.
pub fn consumers(tx: &Tx<'_>, provider_uuid: &str) -> Result<Vec<String>> {
    let Some(provider) = providers::find(tx, provider_uuid)? else { return Ok(Vec::new()) };
    let mut consumers: Vec<String> =
        allocations::of_provider(tx, provider.id)?.into_iter().map(|given| given.consumer_uuid).collect();
    consumers.dedup();
    Ok(consumers)
}

/// Has the provider in an aggregate or not; its other aggregates stay. Nothing happens when there is no such provider.
///
/// # Errors
/// The database's own.
pub fn set_aggregate(tx: &Tx<'_>, provider_uuid: &str, aggregate_uuid: &str, member: bool, now: &str) -> Result<()> {
    let Some(provider) = providers::find(tx, provider_uuid)? else { return Ok(()) };
    let before = aggregates::store::list(tx, provider.id)?;
    let mut after: Vec<String> = before.iter().filter(|one| *one != aggregate_uuid).cloned().collect();
    if member {
        after.push(aggregate_uuid.to_owned());
    }
    if after.len() != before.len() {
        aggregates::store::replace(tx, provider.id, &after)?;
        providers::touch(tx, provider.id, now)?;
    }
    Ok(())
}

/// Removes a provider that is this machine's no more (`--no-self-provider`), unless something is allocated of it.
///
/// # Errors
/// The database's own.
pub fn remove_provider(tx: &Tx<'_>, provider_uuid: &str) -> Result<bool> {
    let Some(provider) = providers::find(tx, provider_uuid)? else { return Ok(false) };
    if providers::has_allocations(tx, provider.id)? || providers::has_children(tx, provider.id)? {
        return Ok(false);
    }
    providers::delete(tx, provider.id)?;
    Ok(true)
}
