//! All SQL of migrations.

use db::{Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use super::{Migration, Status};
use crate::servers::{model::VmState, store::json};

const COLUMNS: &str = "m.id, m.uuid, m.server_id, m.project_id, m.user_id, m.status, m.old_flavor, m.new_flavor, \
                       m.old_number, m.new_number, m.old_root_gib, m.new_root_gib, m.old_vm_state, m.created_at, \
                       m.updated_at";

pub(crate) const LIST: ListSpec = ListSpec {
    dialect: Dialect::Compute,
    columns: COLUMNS,
    from: "compute_migration m",
    key: "m.uuid",
    default_sort: &[("created_at", Direction::Descending), ("id", Direction::Descending)],
    sortable: &[("created_at", "m.created_at"), ("id", "m.id")],
    filters: &[
        Filter::new("instance_uuid", "m.server_id", FilterKind::Text),
        Filter::new("status", "m.status", FilterKind::Text),
    ],
    limit_max: 1000,
};

/// Since 2.59, since 2.66, since 2.80.
pub(crate) const SINCE: Filter = Filter::new("changes-since", "m.updated_at", FilterKind::Since);
pub(crate) const BEFORE: Filter = Filter::new("changes-before", "m.updated_at", FilterKind::Before);
pub(crate) const OWNERS: [Filter; 2] = [
    Filter::new("user_id", "m.user_id", FilterKind::Text),
    Filter::new("project_id", "m.project_id", FilterKind::Text),
];

pub(crate) fn insert(tx: &Tx<'_>, new: &Migration) -> Result<i64> {
    Ok(tx.get(
        "a new row",
        "INSERT INTO compute_migration (uuid, server_id, project_id, user_id, status, old_flavor, new_flavor, old_number,
             new_number, old_root_gib, new_root_gib, old_vm_state, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT rowid FROM compute_flavor WHERE id = ?8),
                 (SELECT rowid FROM compute_flavor WHERE id = ?9), ?10, ?11, ?12, ?13, ?14)
         RETURNING id",
        params![
            new.uuid,
            new.server_id,
            new.project_id,
            new.user_id,
            new.status,
            json(&new.old_flavor)?,
            json(&new.new_flavor)?,
            new.old_flavor.id,
            new.new_flavor.id,
            new.old_root_gib,
            new.new_root_gib,
            new.old_vm_state.as_str(),
            new.created_at,
            new.updated_at
        ],
        |row| row.get(0),
    )?)
}

pub(crate) fn set_status(tx: &Tx<'_>, id: i64, status: Status, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_migration SET status = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, status.as_str(), now],
    )?;
    Ok(())
}

/// The resize that is not over, newest first. There is one at most, but for what was left by a reset of a server's state.
pub(crate) fn open_of(tx: &Tx<'_>, server_id: &str) -> db::Result<Vec<Migration>> {
    let open: Vec<String> = Status::OPEN.map(|status| format!("'{}'", status.as_str())).to_vec();
    let open = open.join(", ");
    tx.list(
        &format!("SELECT {COLUMNS} FROM compute_migration m WHERE m.server_id = ?1 AND m.status IN ({open}) ORDER BY m.id DESC"),
        [server_id],
        read,
    )
}

pub(crate) fn find(tx: &Tx<'_>, id: i64) -> db::Result<Option<Migration>> {
    tx.find(&format!("SELECT {COLUMNS} FROM compute_migration m WHERE m.id = ?1"), [id], read)
}

/// Whether there is such a migration of the server, by its number.
pub(crate) fn is_of(tx: &Tx<'_>, server_id: &str, id: i64) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM compute_migration WHERE server_id = ?1 AND id = ?2", params![server_id, id])
}

/// Ids of servers whose resize waits since before `until`, and that nothing is being done to.
pub(crate) fn unconfirmed(tx: &Tx<'_>, until: &str) -> db::Result<Vec<String>> {
    tx.list(
        "SELECT s.id FROM compute_server s JOIN compute_migration m ON m.server_id = s.id
         WHERE s.vm_state = 'resized' AND s.task_state IS NULL AND m.status = 'finished' AND m.updated_at <= ?1
           AND NOT EXISTS (SELECT 1 FROM tasks_task t WHERE t.resource = s.id)
         ORDER BY m.updated_at",
        [until],
        |row| row.get(0),
    )
}

pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Migration> {
    let flavor = |index: usize| {
        serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
        })
    };
    Ok(Migration {
        id: row.get(0)?,
        uuid: row.get(1)?,
        server_id: row.get(2)?,
        project_id: row.get(3)?,
        user_id: row.get(4)?,
        status: row.get(5)?,
        old_flavor: flavor(6)?,
        new_flavor: flavor(7)?,
        old_number: row.get(8)?,
        new_number: row.get(9)?,
        old_root_gib: row.get(10)?,
        new_root_gib: row.get(11)?,
        old_vm_state: VmState::parse(row.get_ref(12)?.as_str()?).unwrap_or(VmState::Stopped),
        created_at: row.get(13)?,
        updated_at: row.get(14)?,
    })
}
