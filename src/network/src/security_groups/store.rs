//! Rows of security groups and their rules.

use std::{collections::HashMap, sync::OnceLock};

use db::{Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use super::model::Terms;
use crate::{App, errors, quotas};

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub stateful: bool,
    pub is_default: bool,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupRule {
    pub id: String,
    pub group_id: String,
    pub project_id: String,
    pub description: String,
    pub direction: String,
    pub ethertype: String,
    pub protocol: Option<String>,
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    pub remote_ip_prefix: Option<String>,
    pub remote_group_id: Option<String>,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
    pub in_default_group: bool,
    pub group_project_id: String,
}

const COLUMNS: &str =
    "r.id, r.project_id, r.name, r.description, r.stateful, r.is_default, r.revision, r.created_at, r.updated_at";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS,
    from: "network_security_group r",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("name", "r.name"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("stateful", "r.stateful"),
        ("created_at", "r.created_at"),
        ("updated_at", "r.updated_at"),
    ],
    filters: &[
        Filter::new("id", "r.id", FilterKind::Text),
        Filter::new("name", "r.name", FilterKind::Text),
        Filter::new("description", "r.description", FilterKind::Text),
        Filter::new("project_id", "r.project_id", FilterKind::Text),
        Filter::new("tenant_id", "r.project_id", FilterKind::Text),
        Filter::new("stateful", "r.stateful", FilterKind::Bool),
        Filter::new("shared", "0", FilterKind::Bool),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

const RULE_COLUMNS: &str =
    "r.id, r.security_group_id, r.project_id, r.description, r.direction, r.ethertype, r.protocol,
    r.port_range_min, r.port_range_max, r.remote_ip_prefix, r.remote_group_id, r.revision, r.created_at, r.updated_at,
    g.is_default, g.project_id";

pub(crate) static RULES: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: RULE_COLUMNS,
    from: "network_security_group_rule r JOIN network_security_group g ON g.id = r.security_group_id",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("security_group_id", "r.security_group_id"),
        ("direction", "r.direction"),
        ("ethertype", "r.ethertype"),
        ("protocol", "ifnull(r.protocol, '')"),
        ("port_range_min", "ifnull(r.port_range_min, -1)"),
        ("port_range_max", "ifnull(r.port_range_max, -1)"),
        ("remote_ip_prefix", "ifnull(r.remote_ip_prefix, '')"),
        ("remote_group_id", "ifnull(r.remote_group_id, '')"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("created_at", "r.created_at"),
    ],
    filters: &[
        Filter::new("id", "r.id", FilterKind::Text),
        Filter::new("security_group_id", "r.security_group_id", FilterKind::Text),
        Filter::new("description", "r.description", FilterKind::Text),
        Filter::new("direction", "r.direction", FilterKind::Text),
        Filter::new("ethertype", "r.ethertype", FilterKind::TextIgnoreCase),
        Filter::new("protocol", "r.protocol", FilterKind::Text),
        Filter::new("port_range_min", "r.port_range_min", FilterKind::Integer),
        Filter::new("port_range_max", "r.port_range_max", FilterKind::Integer),
        Filter::new("remote_ip_prefix", "r.remote_ip_prefix", FilterKind::Text),
        Filter::new("remote_group_id", "r.remote_group_id", FilterKind::Text),
        Filter::new("project_id", "r.project_id", FilterKind::Text),
        Filter::new("tenant_id", "r.project_id", FilterKind::Text),
        Filter::new("belongs_to_default_sg", "g.is_default", FilterKind::Bool),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<Group> {
    Ok(Group {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        stateful: row.get(4)?,
        is_default: row.get(5)?,
        revision: row.get(6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

pub(crate) fn map_rule(row: &Row<'_>) -> rusqlite::Result<GroupRule> {
    Ok(GroupRule {
        id: row.get(0)?,
        group_id: row.get(1)?,
        project_id: row.get(2)?,
        description: row.get(3)?,
        direction: row.get(4)?,
        ethertype: row.get(5)?,
        protocol: row.get(6)?,
        port_min: row.get(7)?,
        port_max: row.get(8)?,
        remote_ip_prefix: row.get(9)?,
        remote_group_id: row.get(10)?,
        revision: row.get(11)?,
        created_at: row.get(12)?,
        updated_at: row.get(13)?,
        in_default_group: row.get(14)?,
        group_project_id: row.get(15)?,
    })
}

/// `SELECT <columns> FROM network_security_group r <condition>`, put together once.
fn select(cell: &'static OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| format!("SELECT {COLUMNS} FROM network_security_group r {condition}"))
}

fn select_rules(cell: &'static OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| {
        format!(
            "SELECT {RULE_COLUMNS} FROM network_security_group_rule r
             JOIN network_security_group g ON g.id = r.security_group_id {condition}"
        )
    })
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Group>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.find(select(&SQL, "WHERE r.id = ?1"), params![id], map)?)
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<Group> {
    find(tx, id)?.ok_or_else(|| errors::group_not_found(id))
}

/// A project's groups of that id or name: Compute's users name groups by either.
pub(crate) fn named(tx: &Tx<'_>, project_id: &str, id_or_name: &str) -> Result<Vec<Group>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(&SQL, "WHERE r.project_id = ?1 AND (r.id = ?2 OR r.name = ?2) ORDER BY r.id <> ?2, r.created_at");
    Ok(tx.list(sql, params![project_id, id_or_name], map)?)
}

/// All groups, or a project's, the default one first.
pub(crate) fn all(tx: &Tx<'_>, project_id: Option<&str>) -> Result<Vec<Group>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(
        &SQL,
        "WHERE ?1 IS NULL OR r.project_id = ?1 ORDER BY r.project_id, NOT r.is_default, r.created_at, r.id",
    );
    Ok(tx.list(sql, params![project_id], map)?)
}

pub(crate) fn rules_of(tx: &Tx<'_>, ids: &str) -> Result<HashMap<String, Vec<GroupRule>>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select_rules(
        &SQL,
        "WHERE r.security_group_id IN (SELECT value FROM json_each(?1)) ORDER BY r.created_at, r.rowid",
    );
    let mut rules: HashMap<String, Vec<GroupRule>> = HashMap::new();
    for rule in tx.list(sql, params![ids], map_rule)? {
        rules.entry(rule.group_id.clone()).or_default().push(rule);
    }
    Ok(rules)
}

pub(crate) fn get_rule(tx: &Tx<'_>, id: &str) -> Result<GroupRule> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select_rules(&SQL, "WHERE r.id = ?1");
    tx.find(sql, params![id], map_rule)?.ok_or_else(|| errors::rule_not_found(id))
}

/// Refuses groups that a port of this project cannot have.
pub(crate) fn check_usable(tx: &Tx<'_>, ids: &[String], project_id: &str, is_admin: bool) -> Result<()> {
    for id in ids {
        match find(tx, id)? {
            Some(group) if is_admin || group.project_id == project_id => {}
            _ => return Err(errors::group_not_found(id)),
        }
    }
    Ok(())
}

pub(crate) fn default_of(tx: &Tx<'_>, project_id: &str) -> Result<Option<String>> {
    Ok(tx.find(
        "SELECT id FROM network_security_group WHERE project_id = ?1 AND is_default",
        params![project_id],
        |row| row.get(0),
    )?)
}

/// Every project has a default group from the moment that anyone looks or needs it.
pub(crate) fn ensure_default(tx: &Tx<'_>, app: &App, project_id: &str) -> Result<String> {
    if let Some(id) = default_of(tx, project_id)? {
        return Ok(id);
    }
    Ok(insert(tx, app, project_id, "default", "Default security group", true, true)?.id)
}

/// A new group with its first rules: all may leave, and to the default group its own members may come in.
pub(crate) fn insert(
    tx: &Tx<'_>,
    app: &App,
    project_id: &str,
    name: &str,
    description: &str,
    stateful: bool,
    is_default: bool,
) -> Result<Group> {
    let now = app.now();
    let group = Group {
        id: rest::new_uuid(),
        project_id: project_id.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        stateful,
        is_default,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    };
    tx.execute(
        "INSERT INTO network_security_group (id, project_id, name, description, stateful, is_default, revision,
             created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            group.id,
            group.project_id,
            group.name,
            group.description,
            group.stateful,
            group.is_default,
            group.revision,
            group.created_at,
            group.updated_at,
        ],
    )?;
    for ethertype in ["IPv4", "IPv6"] {
        insert_rule(tx, app, &group, "", &Terms::any("egress", ethertype, None))?;
        if is_default {
            insert_rule(tx, app, &group, "", &Terms::any("ingress", ethertype, Some(group.id.clone())))?;
        }
    }
    Ok(group)
}

pub(crate) fn update(tx: &Tx<'_>, group: &mut Group, now: &str) -> Result<()> {
    group.revision += 1;
    group.updated_at = now.to_owned();
    tx.execute(
        "UPDATE network_security_group SET name = ?2, description = ?3, stateful = ?4, revision = ?5, updated_at = ?6
         WHERE id = ?1",
        params![group.id, group.name, group.description, group.stateful, group.revision, group.updated_at],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    crate::tags::remove_all(tx, id)?;
    tx.execute("DELETE FROM network_security_group WHERE id = ?1", params![id])?;
    Ok(())
}

/// The rule's id, or the conflict when the group says so already.
pub(crate) fn insert_rule(tx: &Tx<'_>, app: &App, group: &Group, description: &str, terms: &Terms) -> Result<String> {
    let twin = tx.find(
        "SELECT id FROM network_security_group_rule WHERE security_group_id = ?1 AND direction = ?2 AND ethertype = ?3
            AND protocol IS ?4 AND port_range_min IS ?5 AND port_range_max IS ?6 AND remote_ip_prefix IS ?7
            AND remote_group_id IS ?8",
        params![
            group.id,
            terms.direction,
            terms.ethertype,
            terms.protocol,
            terms.port_min,
            terms.port_max,
            terms.remote_ip_prefix,
            terms.remote_group_id,
        ],
        |row| row.get::<_, String>(0),
    )?;
    if let Some(twin) = twin {
        return Err(errors::conflict(
            "SecurityGroupRuleExists",
            format!("Security group rule already exists. Rule id is {twin}."),
        ));
    }
    let id = rest::new_uuid();
    let now = app.now();
    tx.execute(
        "INSERT INTO network_security_group_rule (id, security_group_id, project_id, description, direction, ethertype,
             protocol, port_range_min, port_range_max, remote_ip_prefix, remote_group_id, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 1, ?12, ?12)",
        params![
            id,
            group.id,
            group.project_id,
            description,
            terms.direction,
            terms.ethertype,
            terms.protocol,
            terms.port_min,
            terms.port_max,
            terms.remote_ip_prefix,
            terms.remote_group_id,
            now,
        ],
    )?;
    Ok(id)
}

pub(crate) fn check_quota(tx: &Tx<'_>, app: &App, project_id: &str, groups: i64, rules: i64) -> Result<()> {
    quotas::check(tx, app, project_id, "security_group", groups)?;
    quotas::check(tx, app, project_id, "security_group_rule", rules)
}
