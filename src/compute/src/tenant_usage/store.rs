//! All SQL of usage reports.

use db::{Row, rusqlite};
use rest::{Dialect, Direction, ListSpec};

use super::model::Used;

/// Servers that are there and that were, with their size.
const FROM: &str = "(SELECT id, project_id, name, flavor ->> 'name' AS flavor, vcpus, ram_mib,
         root_gib + (flavor ->> 'ephemeral_gib') AS disk_gib, vm_state, created_at, launched_at, NULL AS terminated_at
     FROM compute_server WHERE launched_at IS NOT NULL
     UNION ALL
     SELECT id, project_id, document ->> 'name', document ->> '$.flavor.name', document ->> '$.flavor.vcpus',
         document ->> '$.flavor.ram_mib', (document ->> 'root_gib') + (document ->> '$.flavor.ephemeral_gib'),
         'terminated', created_at, launched_at, terminated_at
     FROM compute_server_gone WHERE launched_at IS NOT NULL) s";

const COLUMNS: &str = "s.id, s.project_id, s.name, s.flavor, s.vcpus, s.ram_mib, s.disk_gib, s.vm_state, s.launched_at, \
                       s.terminated_at";

/// By page since 2.40: a page is of servers, so a project may go on in the next one.
pub(super) static PAGED: ListSpec = ListSpec { limit_max: 1000, ..ALL };

/// All at once, as before.
pub(super) static WHOLE: ListSpec = ALL;

const ALL: ListSpec = ListSpec {
    dialect: Dialect::Compute,
    columns: COLUMNS,
    from: FROM,
    key: "s.id",
    default_sort: &[("created_at", Direction::Ascending)],
    sortable: &[("created_at", "s.created_at")],
    filters: &[],
    limit_max: 0,
};

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Used> {
    let at = |column: usize| -> rusqlite::Result<Option<time::OffsetDateTime>> {
        Ok(row.get::<_, Option<String>>(column)?.as_deref().and_then(db::clock::parse))
    };
    Ok(Used {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        flavor: row.get(3)?,
        vcpus: row.get(4)?,
        ram_mib: row.get(5)?,
        disk_gib: row.get(6)?,
        vm_state: row.get(7)?,
        launched_at: at(8)?.unwrap_or(time::OffsetDateTime::UNIX_EPOCH),
        terminated_at: at(9)?,
    })
}
