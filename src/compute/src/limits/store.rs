//! All SQL of quotas.

use db::{Tx, params};
use rest::Result;

use crate::Quotas;

type Field = fn(&mut Quotas) -> &mut i64;

/// The names in quota sets, and where each lives in [`Quotas`].
pub(crate) const RESOURCES: &[(&str, Field)] = &[
    ("instances", |quotas| &mut quotas.instances),
    ("cores", |quotas| &mut quotas.cores),
    ("ram", |quotas| &mut quotas.ram_mib),
    ("metadata_items", |quotas| &mut quotas.metadata_items),
    ("key_pairs", |quotas| &mut quotas.key_pairs),
    ("server_groups", |quotas| &mut quotas.server_groups),
    ("server_group_members", |quotas| &mut quotas.server_group_members),
];

/// A project's limits: its own where set, the defaults elsewhere.
pub(crate) fn of_project(tx: &Tx<'_>, project_id: &str, defaults: &Quotas) -> Result<Quotas> {
    let mut quotas = defaults.clone();
    let rows: Vec<(String, i64)> =
        tx.list("SELECT resource, hard_limit FROM compute_quota WHERE project_id = ?1", [project_id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    for (resource, limit) in rows {
        if let Some((_, field)) = RESOURCES.iter().find(|(name, _)| *name == resource) {
            *field(&mut quotas) = limit;
        }
    }
    Ok(quotas)
}

pub(crate) fn set(tx: &Tx<'_>, project_id: &str, resource: &str, limit: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO compute_quota VALUES (?1, ?2, ?3)
         ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
        params![project_id, resource, limit],
    )?;
    Ok(())
}

pub(crate) fn reset(tx: &Tx<'_>, project_id: &str) -> Result<()> {
    tx.execute("DELETE FROM compute_quota WHERE project_id = ?1", [project_id])?;
    Ok(())
}
