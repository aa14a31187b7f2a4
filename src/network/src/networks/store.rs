//! Rows of networks.

use std::collections::HashMap;

use db::{Constraint, Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use crate::{errors, query::id_list};

/// A network as its row holds it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub admin_state_up: bool,
    pub shared: bool,
    pub external: bool,
    pub is_default: bool,
    pub mtu: u32,
    pub port_security_enabled: bool,
    pub dns_domain: String,
    pub provider_type: String,
    pub provider_physical: Option<String>,
    pub problem: Option<String>,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

const COLUMNS: &str = "r.id, r.project_id, r.name, r.description, r.admin_state_up, r.shared, r.external, r.is_default,
    r.mtu, r.port_security_enabled, r.dns_domain, r.provider_type, r.provider_physical, r.problem, r.revision,
    r.created_at, r.updated_at";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS,
    from: "network_network r",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("name", "r.name"),
        ("admin_state_up", "r.admin_state_up"),
        ("status", "ifnull(r.problem, '')"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("shared", "r.shared"),
        ("mtu", "r.mtu"),
        ("availability_zone_hints", "''"),
        ("created_at", "r.created_at"),
        ("updated_at", "r.updated_at"),
    ],
    filters: &[
        Filter::new("id", "r.id", FilterKind::Text),
        Filter::new("name", "r.name", FilterKind::Text),
        Filter::new("description", "r.description", FilterKind::Text),
        Filter::new("project_id", "r.project_id", FilterKind::Text),
        Filter::new("tenant_id", "r.project_id", FilterKind::Text),
        Filter::new("admin_state_up", "r.admin_state_up", FilterKind::Bool),
        Filter::new("status", "iif(r.problem IS NULL, 'ACTIVE', 'ERROR')", FilterKind::Text),
        Filter::new("shared", "r.shared", FilterKind::Bool),
        Filter::new("router:external", "r.external", FilterKind::Bool),
        Filter::new("is_default", "(r.external AND r.is_default)", FilterKind::Bool),
        Filter::new("mtu", "r.mtu", FilterKind::Integer),
        Filter::new("port_security_enabled", "r.port_security_enabled", FilterKind::Bool),
        Filter::new("dns_domain", "r.dns_domain", FilterKind::Text),
        Filter::new("provider:network_type", "r.provider_type", FilterKind::Text),
        Filter::new("provider:physical_network", "r.provider_physical", FilterKind::Text),
        Filter::new("provider:segmentation_id", "NULL", FilterKind::Integer),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        admin_state_up: row.get(4)?,
        shared: row.get(5)?,
        external: row.get(6)?,
        is_default: row.get(7)?,
        mtu: row.get(8)?,
        port_security_enabled: row.get(9)?,
        dns_domain: row.get(10)?,
        provider_type: row.get(11)?,
        provider_physical: row.get(12)?,
        problem: row.get(13)?,
        revision: row.get(14)?,
        created_at: row.get(15)?,
        updated_at: row.get(16)?,
    })
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Network>> {
    let sql = const_format(&FIND, "WHERE r.id = ?1");
    Ok(tx.find(sql, params![id], map)?)
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<Network> {
    find(tx, id)?.ok_or_else(|| errors::network_not_found(id))
}

static FIND: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// `SELECT <columns> FROM network_network r <condition>`, put together once.
fn const_format(cell: &'static std::sync::OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| format!("SELECT {COLUMNS} FROM network_network r {condition}"))
}

pub(crate) fn by_ids(tx: &Tx<'_>, ids: impl IntoIterator<Item = String>) -> Result<HashMap<String, Network>> {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let ids: Vec<String> = ids.into_iter().collect();
    let list = id_list(ids.iter().map(String::as_str));
    let sql = const_format(&SQL, "WHERE r.id IN (SELECT value FROM json_each(?1))");
    Ok(tx.list(sql, params![list], map)?.into_iter().map(|network| (network.id.clone(), network)).collect())
}

pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Network>> {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    Ok(tx.list(const_format(&SQL, "ORDER BY r.created_at, r.id"), [], map)?)
}

/// Networks that a project may put servers on: its own and shared ones, with at least one subnet, up, not external.
pub(crate) fn usable(tx: &Tx<'_>, project_id: &str) -> Result<Vec<Network>> {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let sql = const_format(
        &SQL,
        "WHERE (r.project_id = ?1 OR r.shared) AND NOT r.external AND r.admin_state_up
         ORDER BY r.project_id <> ?1, r.created_at, r.id",
    );
    Ok(tx.list(sql, params![project_id], map)?)
}

pub(crate) fn insert(tx: &Tx<'_>, network: &Network) -> Result<()> {
    tx.execute(
        "INSERT INTO network_network (id, project_id, name, description, admin_state_up, shared, external, is_default,
             mtu, port_security_enabled, dns_domain, provider_type, provider_physical, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            network.id,
            network.project_id,
            network.name,
            network.description,
            network.admin_state_up,
            network.shared,
            network.external,
            network.is_default,
            network.mtu,
            network.port_security_enabled,
            network.dns_domain,
            network.provider_type,
            network.provider_physical,
            network.revision,
            network.created_at,
            network.updated_at,
        ],
    )
    .on_unique("network_network.provider_physical", || {
        let physical = network.provider_physical.as_deref().unwrap_or_default();
        errors::conflict(
            "FlatNetworkInUse",
            format!("Unable to create the flat network. Physical network {physical} is in use."),
        )
    })?;
    Ok(())
}

pub(crate) fn update(tx: &Tx<'_>, network: &mut Network, now: &str) -> Result<()> {
    network.revision += 1;
    network.updated_at = now.to_owned();
    tx.execute(
        "UPDATE network_network SET name = ?2, description = ?3, admin_state_up = ?4, shared = ?5, external = ?6,
             is_default = ?7, mtu = ?8, port_security_enabled = ?9, dns_domain = ?10, revision = ?11, updated_at = ?12
         WHERE id = ?1",
        params![
            network.id,
            network.name,
            network.description,
            network.admin_state_up,
            network.shared,
            network.external,
            network.is_default,
            network.mtu,
            network.port_security_enabled,
            network.dns_domain,
            network.revision,
            network.updated_at,
        ],
    )?;
    Ok(())
}

/// The row and what it alone owned: subnets go by their foreign key, tags have none.
pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM network_tag WHERE resource_id = ?1
            OR resource_id IN (SELECT id FROM network_subnet WHERE network_id = ?1)",
        params![id],
    )?;
    tx.execute("DELETE FROM network_network WHERE id = ?1", params![id])?;
    Ok(())
}
