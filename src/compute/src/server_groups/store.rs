//! All SQL of server groups.

use std::collections::HashMap;

use db::{Row, Tx, params, rusqlite};
use rest::{Error, Kind, Result};

use super::{Group, Policy};

const COLUMNS: &str = "id, project_id, user_id, name, policy, max_server_per_host, created_at";

/// The groups of a project, or of all, the oldest first; `limit` is 0 for no bound.
pub(crate) fn list(tx: &Tx<'_>, project_id: Option<&str>, offset: i64, limit: i64) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = tx.list(
        &format!(
            "SELECT {COLUMNS} FROM compute_server_group WHERE ?1 IS NULL OR project_id = ?1
             ORDER BY created_at, id LIMIT ?2 OFFSET ?3"
        ),
        params![project_id, if limit > 0 { limit } else { -1 }, offset],
        read,
    )?;
    let ids: Vec<&str> = groups.iter().map(|group| group.id.as_str()).collect();
    let mut members = members_of(tx, &ids)?;
    for group in &mut groups {
        group.members = members.remove(&group.id).unwrap_or_default();
    }
    Ok(groups)
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Group>> {
    let group = tx.find(&format!("SELECT {COLUMNS} FROM compute_server_group WHERE id = ?1"), [id], read)?;
    let Some(mut group) = group else { return Ok(None) };
    group.members = members_of(tx, &[id])?.remove(id).unwrap_or_default();
    Ok(Some(group))
}

pub(crate) fn no_such_group(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("Instance group {id} could not be found."))
}

fn members_of(tx: &Tx<'_>, ids: &[&str]) -> Result<HashMap<String, Vec<String>>> {
    let ids = serde_json::to_string(ids).map_err(Error::internal)?;
    let rows: Vec<(String, String)> = tx.list(
        "SELECT m.group_id, m.server_id FROM compute_server_group_member m
         JOIN compute_server s ON s.id = m.server_id
         WHERE m.group_id IN (SELECT value FROM json_each(?1)) ORDER BY s.created_at, s.id",
        [ids],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut members: HashMap<String, Vec<String>> = HashMap::new();
    for (group, server) in rows {
        members.entry(group).or_default().push(server);
    }
    Ok(members)
}

pub(crate) fn count(tx: &Tx<'_>, project_id: &str) -> Result<i64> {
    Ok(tx.count("SELECT count(*) FROM compute_server_group WHERE project_id = ?1", [project_id])?)
}

/// Servers of the group that are this user's: what the quota counts.
pub(crate) fn count_members(tx: &Tx<'_>, id: &str, user_id: &str) -> Result<i64> {
    Ok(tx.count(
        "SELECT count(*) FROM compute_server_group_member m JOIN compute_server s ON s.id = m.server_id
         WHERE m.group_id = ?1 AND s.user_id = ?2",
        [id, user_id],
    )?)
}

/// Servers of the group that this host has or will have: not those that never got a place.
pub(crate) fn count_placed(tx: &Tx<'_>, id: &str) -> Result<i64> {
    Ok(tx.count(
        "SELECT count(*) FROM compute_server_group_member m JOIN compute_server s ON s.id = m.server_id
         WHERE m.group_id = ?1 AND s.vm_state <> 'shelved_offloaded'
         AND NOT (s.vm_state = 'error' AND s.launched_at IS NULL)",
        [id],
    )?)
}

/// Why its group keeps a server off this host, if it does.
pub(crate) fn keeps_apart(tx: &Tx<'_>, server_id: &str) -> Result<Option<String>> {
    let sql = "SELECT group_id FROM compute_server_group_member WHERE server_id = ?1";
    let Some(id) = tx.find(sql, [server_id], |row| row.get::<_, String>(0))? else { return Ok(None) };
    let Some(group) = find(tx, &id)? else { return Ok(None) };
    let placed = count_placed(tx, &id)?;
    Ok((!group.has_room(placed)).then(|| group.no_room(placed)))
}

pub(crate) fn insert(tx: &Tx<'_>, group: &Group) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO compute_server_group ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        params![
            group.id,
            group.project_id,
            group.user_id,
            group.name,
            group.policy.word(),
            group.max_server_per_host,
            group.created_at
        ],
    )?;
    Ok(())
}

pub(crate) fn insert_member(tx: &Tx<'_>, id: &str, server_id: &str) -> Result<()> {
    tx.execute("INSERT INTO compute_server_group_member (server_id, group_id) VALUES (?1, ?2)", [server_id, id])?;
    Ok(())
}

/// The group that a server is in.
pub(crate) fn group_of(tx: &Tx<'_>, server_id: &str) -> Result<Option<String>> {
    let sql = "SELECT group_id FROM compute_server_group_member WHERE server_id = ?1";
    Ok(tx.find(sql, [server_id], |row| row.get(0))?)
}

/// The servers of a group outlive it.
pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.execute("DELETE FROM compute_server_group WHERE id = ?1", [id])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Group> {
    let policy: String = row.get(4)?;
    Ok(Group {
        id: row.get(0)?,
        project_id: row.get(1)?,
        user_id: row.get(2)?,
        name: row.get(3)?,
        policy: Policy::from_word(&policy).unwrap_or(Policy::SoftAffinity),
        max_server_per_host: row.get(5)?,
        members: Vec::new(),
        created_at: row.get(6)?,
    })
}
