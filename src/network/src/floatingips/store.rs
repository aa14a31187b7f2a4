//! Rows of floating IPs.

use std::sync::OnceLock;

use db::{Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use crate::errors;

#[derive(Clone, Debug)]
pub(crate) struct FloatingIp {
    pub id: String,
    pub project_id: String,
    pub description: String,
    pub network_id: String,
    pub address: String,
    pub port_id: String,
    pub fixed_port_id: Option<String>,
    pub fixed_address: Option<String>,
    pub router_id: Option<String>,
    pub active: bool,
    pub dns_name: String,
    pub dns_domain: String,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

const COLUMNS: &str = "r.id, r.project_id, r.description, r.floating_network_id, r.floating_ip_address,
    r.floating_port_id, r.fixed_port_id, r.fixed_ip_address, r.router_id, r.active, r.dns_name, r.dns_domain,
    r.revision, r.created_at, r.updated_at";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS,
    from: "network_floating_ip r",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("floating_ip_address", "r.floating_ip_address"),
        ("floating_network_id", "r.floating_network_id"),
        ("fixed_ip_address", "ifnull(r.fixed_ip_address, '')"),
        ("port_id", "ifnull(r.fixed_port_id, '')"),
        ("router_id", "ifnull(r.router_id, '')"),
        ("status", "iif(r.active, 'ACTIVE', 'DOWN')"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("created_at", "r.created_at"),
        ("updated_at", "r.updated_at"),
    ],
    filters: &[
        Filter::new("id", "r.id", FilterKind::Text),
        Filter::new("description", "r.description", FilterKind::Text),
        Filter::new("project_id", "r.project_id", FilterKind::Text),
        Filter::new("tenant_id", "r.project_id", FilterKind::Text),
        Filter::new("floating_network_id", "r.floating_network_id", FilterKind::Text),
        Filter::new("floating_ip_address", "r.floating_ip_address", FilterKind::Text),
        Filter::new("fixed_ip_address", "r.fixed_ip_address", FilterKind::Text),
        Filter::new("port_id", "r.fixed_port_id", FilterKind::Text),
        Filter::new("router_id", "r.router_id", FilterKind::Text),
        Filter::new("status", "iif(r.active, 'ACTIVE', 'DOWN')", FilterKind::Text),
        Filter::new("dns_name", "r.dns_name", FilterKind::Text),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<FloatingIp> {
    Ok(FloatingIp {
        id: row.get(0)?,
        project_id: row.get(1)?,
        description: row.get(2)?,
        network_id: row.get(3)?,
        address: row.get(4)?,
        port_id: row.get(5)?,
        fixed_port_id: row.get(6)?,
        fixed_address: row.get(7)?,
        router_id: row.get(8)?,
        active: row.get(9)?,
        dns_name: row.get(10)?,
        dns_domain: row.get(11)?,
        revision: row.get(12)?,
        created_at: row.get(13)?,
        updated_at: row.get(14)?,
    })
}

/// `SELECT <columns> FROM network_floating_ip r <condition>`, put together once.
fn select(cell: &'static OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| format!("SELECT {COLUMNS} FROM network_floating_ip r {condition}"))
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<FloatingIp> {
    static SQL: OnceLock<String> = OnceLock::new();
    tx.find(select(&SQL, "WHERE r.id = ?1"), params![id], map)?.ok_or_else(|| errors::floating_ip_not_found(id))
}

/// The one with this address outside, among a project's or (`None`) all.
pub(crate) fn find_by_address(tx: &Tx<'_>, project_id: Option<&str>, address: &str) -> Result<Option<FloatingIp>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql =
        select(&SQL, "WHERE r.floating_ip_address = ?1 AND (?2 IS NULL OR r.project_id = ?2) ORDER BY r.id LIMIT 1");
    Ok(tx.find(sql, params![address, project_id], map)?)
}

/// A project's, oldest first.
pub(crate) fn of_project(tx: &Tx<'_>, project_id: &str) -> Result<Vec<FloatingIp>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.list(select(&SQL, "WHERE r.project_id = ?1 ORDER BY r.created_at, r.id"), params![project_id], map)?)
}

/// Those that lead somewhere, by the ports they lead to (a JSON list of ids).
pub(crate) fn of_ports(tx: &Tx<'_>, ids: &str) -> Result<Vec<FloatingIp>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(&SQL, "WHERE r.fixed_port_id IN (SELECT value FROM json_each(?1)) ORDER BY r.created_at, r.id");
    Ok(tx.list(sql, params![ids], map)?)
}

/// Those that go through a router.
pub(crate) fn routed(tx: &Tx<'_>) -> Result<Vec<FloatingIp>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.list(select(&SQL, "WHERE r.router_id IS NOT NULL ORDER BY r.id"), [], map)?)
}

pub(crate) fn insert(tx: &Tx<'_>, floating: &FloatingIp) -> Result<()> {
    tx.execute(
        "INSERT INTO network_floating_ip (id, project_id, description, floating_network_id, floating_ip_address,
             floating_port_id, fixed_port_id, fixed_ip_address, router_id, active, dns_name, dns_domain, revision,
             created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            floating.id,
            floating.project_id,
            floating.description,
            floating.network_id,
            floating.address,
            floating.port_id,
            floating.fixed_port_id,
            floating.fixed_address,
            floating.router_id,
            floating.active,
            floating.dns_name,
            floating.dns_domain,
            floating.revision,
            floating.created_at,
            floating.updated_at,
        ],
    )?;
    Ok(())
}

pub(crate) fn update(tx: &Tx<'_>, floating: &mut FloatingIp, now: &str) -> Result<()> {
    floating.revision += 1;
    floating.updated_at = now.to_owned();
    tx.execute(
        "UPDATE network_floating_ip SET description = ?2, fixed_port_id = ?3, fixed_ip_address = ?4, router_id = ?5,
             active = ?6, revision = ?7, updated_at = ?8
         WHERE id = ?1",
        params![
            floating.id,
            floating.description,
            floating.fixed_port_id,
            floating.fixed_address,
            floating.router_id,
            floating.active,
            floating.revision,
            floating.updated_at,
        ],
    )?;
    Ok(())
}

/// The floating IP and the port that holds its address.
pub(crate) fn delete(tx: &Tx<'_>, floating: &FloatingIp) -> Result<()> {
    crate::tags::remove_all(tx, &floating.id)?;
    tx.execute("DELETE FROM network_floating_ip WHERE id = ?1", params![floating.id])?;
    crate::ports::store::delete(tx, &floating.port_id)
}
