//! All SQL of quotas.

use std::collections::BTreeMap;

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

/// What a server may be given of files (before 2.57), and how much where nobody set it, as upstream.
pub(crate) const FILES: &[(&str, i64)] =
    &[("injected_files", 5), ("injected_file_content_bytes", 10_240), ("injected_file_path_bytes", 255)];

/// A limit of [`FILES`].
pub(crate) fn file_limit(set: &Set, name: &str) -> i64 {
    let default = FILES.iter().find(|(known, _)| *known == name).map_or(-1, |(_, limit)| *limit);
    set.get(name).copied().unwrap_or(default)
}

/// The quota class that every project starts from.
pub(crate) const DEFAULT_CLASS: &str = "default";

/// Limits that somebody set, by resource. Resources that Compute only shows (addresses, files) are in here too.
pub(crate) type Set = BTreeMap<String, i64>;

/// Whose limits.
#[derive(Clone, Debug)]
pub(crate) enum Of {
    Class(String),
    Project(String),
    /// A user in a project.
    User(String, String),
}

/// What was set for them alone.
fn own(tx: &Tx<'_>, of: &Of) -> Result<Set> {
    let read = |row: &db::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let rows: Vec<(String, i64)> = match of {
        Of::Class(class) => {
            tx.list("SELECT resource, hard_limit FROM compute_quota_class WHERE class = ?1", [class], read)?
        }
        Of::Project(project) => {
            tx.list("SELECT resource, hard_limit FROM compute_quota WHERE project_id = ?1", [project], read)?
        }
        Of::User(project, user) => tx.list(
            "SELECT resource, hard_limit FROM compute_quota_user WHERE project_id = ?1 AND user_id = ?2",
            [project, user],
            read,
        )?,
    };
    Ok(rows.into_iter().collect())
}

/// What holds for them: their own where set, else what is above them: project, then the default class.
pub(crate) fn in_force(tx: &Tx<'_>, of: &Of) -> Result<Set> {
    let mut set = match of {
        Of::Class(_) => Set::new(),
        Of::Project(_) => in_force(tx, &Of::Class(DEFAULT_CLASS.to_owned()))?,
        Of::User(project, _) => in_force(tx, &Of::Project(project.clone()))?,
    };
    set.extend(own(tx, of)?);
    Ok(set)
}

/// The defaults, changed by a set.
pub(crate) fn applied(defaults: &Quotas, set: &Set) -> Quotas {
    let mut quotas = defaults.clone();
    for (name, field) in RESOURCES {
        if let Some(limit) = set.get(*name) {
            *field(&mut quotas) = *limit;
        }
    }
    quotas
}

/// A project's limits: its own where set, the defaults elsewhere.
pub(crate) fn of_project(tx: &Tx<'_>, project_id: &str, defaults: &Quotas) -> Result<Quotas> {
    Ok(applied(defaults, &in_force(tx, &Of::Project(project_id.to_owned()))?))
}

/// A user's limits in a project, if any were set for them.
pub(crate) fn of_user(tx: &Tx<'_>, project_id: &str, user_id: &str, defaults: &Quotas) -> Result<Option<Quotas>> {
    let of = Of::User(project_id.to_owned(), user_id.to_owned());
    if own(tx, &of)?.is_empty() {
        return Ok(None);
    }
    Ok(Some(applied(defaults, &in_force(tx, &of)?)))
}

pub(crate) fn set(tx: &Tx<'_>, of: &Of, resource: &str, limit: i64) -> Result<()> {
    match of {
        Of::Class(class) => tx.execute(
            "INSERT INTO compute_quota_class VALUES (?1, ?2, ?3)
             ON CONFLICT (class, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
            params![class, resource, limit],
        )?,
        Of::Project(project) => tx.execute(
            "INSERT INTO compute_quota VALUES (?1, ?2, ?3)
             ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
            params![project, resource, limit],
        )?,
        Of::User(project, user) => tx.execute(
            "INSERT INTO compute_quota_user VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project_id, user_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
            params![project, user, resource, limit],
        )?,
    };
    Ok(())
}

/// Takes back what was set: of a user alone, or of a project with its users.
pub(crate) fn reset(tx: &Tx<'_>, project_id: &str, user_id: Option<&str>) -> Result<()> {
    match user_id {
        Some(user_id) => {
            tx.execute("DELETE FROM compute_quota_user WHERE project_id = ?1 AND user_id = ?2", [project_id, user_id])?;
        }
        None => {
            tx.execute("DELETE FROM compute_quota_user WHERE project_id = ?1", [project_id])?;
            tx.execute("DELETE FROM compute_quota WHERE project_id = ?1", [project_id])?;
        }
    }
    Ok(())
}

pub(crate) fn count_classes(tx: &Tx<'_>) -> Result<i64> {
    Ok(tx.count("SELECT count(DISTINCT class) FROM compute_quota_class", [])?)
}
