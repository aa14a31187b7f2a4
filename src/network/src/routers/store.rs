//! Rows of routers. Interfaces are ports: `device_id` is the router, `device_owner` says which kind.

use std::sync::OnceLock;

use db::{Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use crate::{
    errors,
    ip::HostRoute,
    query::{storable, stored},
};

#[derive(Clone, Debug)]
pub(crate) struct Router {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub admin_state_up: bool,
    pub gateway_port_id: Option<String>,
    pub enable_snat: bool,
    pub routes: Vec<HostRoute>,
    pub problem: Option<String>,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

const COLUMNS: &str = "r.id, r.project_id, r.name, r.description, r.admin_state_up, r.gateway_port_id, r.enable_snat,
    r.routes, r.problem, r.revision, r.created_at, r.updated_at";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS,
    from: "network_router r",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("name", "r.name"),
        ("admin_state_up", "r.admin_state_up"),
        ("status", "ifnull(r.problem, '')"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
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
        Filter::new(
            "external_gateway_info:network_id",
            "(SELECT p.network_id FROM network_port p WHERE p.id = r.gateway_port_id)",
            FilterKind::Text,
        ),
        Filter::new("gw_port_id", "r.gateway_port_id", FilterKind::Text),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<Router> {
    Ok(Router {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        admin_state_up: row.get(4)?,
        gateway_port_id: row.get(5)?,
        enable_snat: row.get(6)?,
        routes: stored(row.get_ref(7)?.as_str()?),
        problem: row.get(8)?,
        revision: row.get(9)?,
        created_at: row.get(10)?,
        updated_at: row.get(11)?,
    })
}

/// `SELECT <columns> FROM network_router r <condition>`, put together once.
fn select(cell: &'static OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| format!("SELECT {COLUMNS} FROM network_router r {condition}"))
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<Router> {
    static SQL: OnceLock<String> = OnceLock::new();
    tx.find(select(&SQL, "WHERE r.id = ?1"), params![id], map)?.ok_or_else(|| errors::router_not_found(id))
}

pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Router>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.list(select(&SQL, "ORDER BY r.id"), [], map)?)
}

pub(crate) fn insert(tx: &Tx<'_>, router: &Router) -> Result<()> {
    tx.execute(
        "INSERT INTO network_router (id, project_id, name, description, admin_state_up, gateway_port_id, enable_snat,
             routes, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            router.id,
            router.project_id,
            router.name,
            router.description,
            router.admin_state_up,
            router.gateway_port_id,
            router.enable_snat,
            storable(&router.routes)?,
            router.revision,
            router.created_at,
            router.updated_at,
        ],
    )?;
    Ok(())
}

pub(crate) fn update(tx: &Tx<'_>, router: &mut Router, now: &str) -> Result<()> {
    router.revision += 1;
    router.updated_at = now.to_owned();
    tx.execute(
        "UPDATE network_router SET name = ?2, description = ?3, admin_state_up = ?4, gateway_port_id = ?5,
             enable_snat = ?6, routes = ?7, revision = ?8, updated_at = ?9
         WHERE id = ?1",
        params![
            router.id,
            router.name,
            router.description,
            router.admin_state_up,
            router.gateway_port_id,
            router.enable_snat,
            storable(&router.routes)?,
            router.revision,
            router.updated_at,
        ],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    crate::tags::remove_all(tx, id)?;
    tx.execute("DELETE FROM network_router WHERE id = ?1", params![id])?;
    Ok(())
}
