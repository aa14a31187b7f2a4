//! All SQL of flavors.

use std::collections::BTreeMap;

use db::{Constraint, Row, Tx, Value, params, rusqlite};
use rest::{Credentials, Dialect, Direction, Error, Kind, ListSpec, Listing, Page, Result};

use super::Flavor;

const COLUMNS: &str = "f.id, f.name, f.vcpus, f.ram_mib, f.disk_gib, f.ephemeral_gib, f.swap_mib, f.rxtx_factor, \
                       f.is_public, f.disabled, f.description";

pub(crate) const LIST: ListSpec = ListSpec {
    dialect: Dialect::Compute,
    columns: COLUMNS,
    from: "compute_flavor f",
    key: "f.id",
    default_sort: &[("flavorid", Direction::Ascending)],
    sortable: &[
        ("flavorid", "f.id"),
        ("id", "f.id"),
        ("name", "f.name"),
        ("memory_mb", "f.ram_mib"),
        ("root_gb", "f.disk_gib"),
        ("ephemeral_gb", "f.ephemeral_gib"),
        ("swap", "f.swap_mib"),
        ("vcpus", "f.vcpus"),
        ("is_public", "f.is_public"),
        ("disabled", "f.disabled"),
        ("rxtx_factor", "f.rxtx_factor"),
        ("created_at", "f.created_at"),
    ],
    filters: &[],
    limit_max: 1000,
};

/// Whose flavors a caller sees.
pub(crate) enum Visible<'a> {
    /// Everything.
    All,
    /// Public ones.
    Public,
    /// Private ones (administrators ask for them).
    Private,
    /// Public ones and those that the project may use.
    Project(&'a str),
}

pub(crate) fn list(tx: &Tx<'_>, mut page: Page, visible: &Visible<'_>) -> Result<Listing<Flavor>> {
    match visible {
        Visible::All => {}
        Visible::Public => {
            page.and("f.is_public = 1", []);
        }
        Visible::Private => {
            page.and("f.is_public = 0", []);
        }
        Visible::Project(project_id) => {
            page.and(
                "(f.is_public = 1 OR f.id IN (SELECT flavor_id FROM compute_flavor_access WHERE project_id = ?))",
                [Value::Text((*project_id).to_owned())],
            );
        }
    }
    let mut listing = page.fetch(tx, read)?;
    with_extra_specs(tx, &mut listing.rows)?;
    Ok(listing)
}

pub(crate) fn min_filters(page: &mut Page, min_ram: Option<&str>, min_disk: Option<&str>) -> Result<()> {
    for (value, condition, name) in [(min_ram, "f.ram_mib >= ?", "minRam"), (min_disk, "f.disk_gib >= ?", "minDisk")] {
        if let Some(value) = value {
            let number = value.parse().map_err(|_| Error::bad_request(format!("Invalid {name} filter [{value}]")))?;
            page.and(condition, [Value::Integer(number)]);
        }
    }
    Ok(())
}

/// The project by which somebody uses flavors; administrators may use all.
pub(crate) fn user(creds: &Credentials) -> Option<String> {
    (!creds.has_role("admin")).then(|| creds.project_id().unwrap_or_default().to_owned())
}

/// The flavor that a request names, if its project may use it. A request that names another is wrong; it is not itself
/// missing.
pub(crate) fn usable(tx: &Tx<'_>, id: &str, project_id: Option<&str>) -> Result<Flavor> {
    let unknown = || Error::bad_request(format!("Flavor {id} could not be found."));
    match get(tx, id, project_id) {
        Ok(flavor) if !flavor.disabled => Ok(flavor),
        Ok(_) => Err(unknown()),
        Err(error) if error.kind() == Kind::NotFound => Err(unknown()),
        Err(error) => Err(error),
    }
}

/// The flavor with this id, if the caller may see it.
pub(crate) fn get(tx: &Tx<'_>, id: &str, project_id: Option<&str>) -> Result<Flavor> {
    let missing = || Error::not_found("Flavor", id);
    let mut flavor =
        tx.find(&format!("SELECT {COLUMNS} FROM compute_flavor f WHERE f.id = ?1"), [id], read)?.ok_or_else(missing)?;
    if let Some(project_id) = project_id
        && !flavor.is_public
        && !access_list(tx, id)?.iter().any(|may| may == project_id)
    {
        return Err(missing());
    }
    with_extra_specs(tx, std::slice::from_mut(&mut flavor))?;
    Ok(flavor)
}

pub(crate) fn insert(tx: &Tx<'_>, flavor: &Flavor, now: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO compute_flavor (id, name, vcpus, ram_mib, disk_gib, ephemeral_gib, swap_mib, rxtx_factor, is_public,
                                     disabled, description, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            flavor.id,
            flavor.name,
            flavor.vcpus,
            flavor.ram_mib,
            flavor.disk_gib,
            flavor.ephemeral_gib,
            flavor.swap_mib,
            flavor.rxtx_factor,
            flavor.is_public,
            flavor.disabled,
            flavor.description,
            now
        ],
    )
    .map_err(|error| match error.unique() {
        Some("compute_flavor.id") => Error::conflict(format!("Flavor with ID {} already exists.", flavor.id)),
        Some(_) => Error::conflict(format!("Flavor with name {} already exists.", flavor.name)),
        None => error.into(),
    })?;
    Ok(())
}

pub(crate) fn update_description(tx: &Tx<'_>, id: &str, description: Option<&str>) -> Result<()> {
    let changed = tx.execute("UPDATE compute_flavor SET description = ?2 WHERE id = ?1", params![id, description])?;
    if changed == 0 { Err(Error::not_found("Flavor", id)) } else { Ok(()) }
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    let gone = tx.execute("DELETE FROM compute_flavor WHERE id = ?1", [id])?;
    if gone == 0 { Err(Error::not_found("Flavor", id)) } else { Ok(()) }
}

pub(crate) fn access_list(tx: &Tx<'_>, id: &str) -> Result<Vec<String>> {
    Ok(tx.list(
        "SELECT project_id FROM compute_flavor_access WHERE flavor_id = ?1 ORDER BY project_id",
        [id],
        |row| row.get(0),
    )?)
}

pub(crate) fn access_add(tx: &Tx<'_>, id: &str, project_id: &str) -> Result<()> {
    tx.execute("INSERT INTO compute_flavor_access VALUES (?1, ?2)", [id, project_id]).on_unique(
        "compute_flavor_access.flavor_id, compute_flavor_access.project_id",
        || {
            Error::conflict(format!(
                "Flavor access already exists for flavor {id} and project {project_id} combination."
            ))
        },
    )?;
    Ok(())
}

pub(crate) fn access_remove(tx: &Tx<'_>, id: &str, project_id: &str) -> Result<()> {
    let gone =
        tx.execute("DELETE FROM compute_flavor_access WHERE flavor_id = ?1 AND project_id = ?2", [id, project_id])?;
    if gone == 0 {
        return Err(Error::new(
            rest::Kind::NotFound,
            format!("Flavor access not found for {id} / {project_id} combination."),
        ));
    }
    Ok(())
}

pub(crate) fn extra_specs_put(tx: &Tx<'_>, id: &str, specs: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in specs {
        tx.execute(
            "INSERT INTO compute_flavor_extra_spec VALUES (?1, ?2, ?3)
             ON CONFLICT (flavor_id, key) DO UPDATE SET value = excluded.value",
            [id, key, value],
        )?;
    }
    Ok(())
}

pub(crate) fn extra_spec_delete(tx: &Tx<'_>, id: &str, key: &str) -> Result<()> {
    let gone = tx.execute("DELETE FROM compute_flavor_extra_spec WHERE flavor_id = ?1 AND key = ?2", [id, key])?;
    if gone == 0 { Err(no_such_spec(id, key)) } else { Ok(()) }
}

pub(crate) fn no_such_spec(id: &str, key: &str) -> Error {
    Error::new(rest::Kind::NotFound, format!("Flavor {id} has no extra specs with key {key}."))
}

fn with_extra_specs(tx: &Tx<'_>, flavors: &mut [Flavor]) -> Result<()> {
    if let [flavor] = flavors {
        let specs =
            tx.list("SELECT key, value FROM compute_flavor_extra_spec WHERE flavor_id = ?1", [&flavor.id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        flavor.extra_specs = specs.into_iter().collect();
        return Ok(());
    }
    let specs: Vec<(String, String, String)> =
        tx.list("SELECT flavor_id, key, value FROM compute_flavor_extra_spec", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    for (id, key, value) in specs {
        if let Some(flavor) = flavors.iter_mut().find(|flavor| flavor.id == id) {
            flavor.extra_specs.insert(key, value);
        }
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Flavor> {
    Ok(Flavor {
        id: row.get(0)?,
        name: row.get(1)?,
        vcpus: row.get(2)?,
        ram_mib: row.get(3)?,
        disk_gib: row.get(4)?,
        ephemeral_gib: row.get(5)?,
        swap_mib: row.get(6)?,
        rxtx_factor: row.get(7)?,
        is_public: row.get(8)?,
        disabled: row.get(9)?,
        description: row.get(10)?,
        extra_specs: BTreeMap::new(),
    })
}
