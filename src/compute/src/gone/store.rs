//! All SQL of deleted servers.

use db::{Tx, params};
use rest::{ListSpec, Listing, Page, Result};

use crate::servers::{Server, store};

/// The columns of a server that lists sort and filter by, of the deleted ones.
macro_rules! gone {
    () => {
        "SELECT id, project_id, created_at, updated_at, launched_at, document ->> 'user_id' AS user_id,
             document ->> 'name' AS name, document ->> 'hostname' AS hostname,
             document ->> 'description' AS description, 'deleted' AS vm_state, NULL AS task_state, 0 AS power_state,
             document ->> 'locked_by' AS locked_by, document ->> 'image_id' AS image_id,
             document ->> '$.flavor.id' AS flavor_id, document ->> 'key_name' AS key_name,
             document ->> 'config_drive' AS config_drive, document ->> 'access_ipv4' AS access_ipv4,
             document ->> 'access_ipv6' AS access_ipv6, document ->> 'disk_config' AS disk_config,
             document ->> 'availability_zone' AS availability_zone,
             document ->> 'reservation_id' AS reservation_id, document ->> 'launch_index' AS launch_index,
             document, tags
         FROM compute_server_gone"
    };
}

/// Deleted servers only. Read with [`fetch`].
pub(crate) static LIST: ListSpec = ListSpec { columns: COLUMNS, from: concat!("(", gone!(), ") s"), ..store::LIST };

/// Those that are there and those that were deleted. Read with [`fetch`].
pub(crate) static LIST_WITH_LIVE: ListSpec = ListSpec {
    columns: COLUMNS,
    from: concat!(
        "(SELECT id, project_id, created_at, updated_at, launched_at, user_id, name, hostname, description, vm_state,
              task_state, power_state, locked_by, image_id, flavor_id, key_name, config_drive, access_ipv4, access_ipv6,
              disk_config, availability_zone, reservation_id, launch_index, NULL AS document, '[]' AS tags
          FROM compute_server
          UNION ALL ",
        gone!(),
        ") s"
    ),
    ..store::LIST
};

const COLUMNS: &str = "s.id, s.document, s.tags";

/// A server, and if it was deleted the tags it had.
pub(crate) type Known = (Server, Option<Vec<String>>);

/// The rows of a page of either list.
pub(crate) fn fetch(tx: &Tx<'_>, page: &Page) -> Result<Listing<Known>> {
    let listing = page
        .fetch(tx, |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, String>(2)?)))?;
    let mut rows = Vec::with_capacity(listing.rows.len());
    for (id, document, tags) in listing.rows {
        rows.push(match document {
            Some(document) => (parsed(&id, &document)?, Some(parsed(&id, &tags)?)),
            None => (store::get(tx, &id)?, None),
        });
    }
    Ok(Listing { rows, more: listing.more, reverse: listing.reverse })
}

fn parsed<T: serde::de::DeserializeOwned>(id: &str, text: &str) -> db::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| db::Error::Corrupt(format!("what deleted server {id} was cannot be read: {error}")))
}

/// Keeps what a server is that is about to be deleted. One that is not there is fine.
pub(crate) fn keep(tx: &Tx<'_>, id: &str, now: &str) -> db::Result<()> {
    let Some(mut server) = store::find(tx, id)? else { return Ok(()) };
    let tags = store::tags(tx, id)?;
    server.task_state = None;
    server.power_state = 0;
    server.locked_by = None;
    server.updated_at = now.to_owned();
    server.terminated_at = Some(now.to_owned());
    tx.execute(
        "INSERT OR REPLACE INTO compute_server_gone
             (id, project_id, created_at, updated_at, launched_at, terminated_at, tags, document)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            id,
            server.project_id,
            server.created_at,
            now,
            server.launched_at,
            now,
            store::json(&tags)?,
            store::json(&server)?
        ],
    )?;
    Ok(())
}

/// Ids of what is to be forgotten: deleted before `before`, or more than `most`. Oldest first, `limit` at most.
pub(crate) fn outlived(tx: &Tx<'_>, before: &str, most: u32, limit: usize) -> db::Result<Vec<String>> {
    let beyond = tx.count("SELECT count(*) FROM compute_server_gone", [])?.saturating_sub(most.into()).max(0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.list(
        "SELECT id FROM (SELECT id, terminated_at, row_number() OVER (ORDER BY terminated_at, id) AS place
                         FROM compute_server_gone ORDER BY terminated_at, id LIMIT ?3)
         WHERE terminated_at < ?1 OR place <= ?2",
        params![before, beyond, limit],
        |row| row.get(0),
    )
}

/// Forgets a deleted server, and what was done to it.
pub(crate) fn forget(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_gone WHERE id = ?1", [id])?;
    tasks::forget_log(tx, id)
}
