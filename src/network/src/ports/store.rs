//! Rows of ports and of what hangs on them: addresses and security groups.

use std::{collections::HashMap, net::IpAddr, sync::OnceLock};

use db::{Constraint, Row, Tx, params, rusqlite};
use hostnet::Mac;
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};
use serde::{Deserialize, Serialize};

use super::options::DhcpOpt;
use crate::{
    errors, ip,
    query::{id_list, storable, stored},
    subnets::store::parsed,
};

#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub id: String,
    pub network_id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub mac: Mac,
    pub admin_state_up: bool,
    pub device_id: String,
    pub device_owner: String,
    pub port_security_enabled: bool,
    pub pairs: Vec<AddressPair>,
    pub dhcp_opts: Vec<DhcpOpt>,
    pub dns_name: String,
    pub vnic_type: String,
    pub host_id: String,
    pub profile: serde_json::Map<String, serde_json::Value>,
    pub made_for: Option<String>,
    pub plugged: bool,
    pub problem: Option<String>,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

impl Port {
    pub(crate) fn status(&self) -> &'static str {
        if self.device_owner == super::FLOATING_IP {
            "N/A"
        } else if self.problem.is_some() {
            "ERROR"
        } else if self.plugged && self.admin_state_up {
            "ACTIVE"
        } else {
            "DOWN"
        }
    }
}

/// Another address that the port may send from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressPair {
    pub mac_address: String,
    pub ip_address: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FixedIp {
    pub subnet_id: String,
    pub address: IpAddr,
}

const COLUMNS: &str = "r.id, r.network_id, r.project_id, r.name, r.description, r.mac_address, r.admin_state_up,
    r.device_id, r.device_owner, r.port_security_enabled, r.allowed_address_pairs, r.extra_dhcp_opts, r.dns_name,
    r.vnic_type, r.host_id, r.profile, r.made_for, r.plugged, r.problem, r.revision, r.created_at, r.updated_at";

/// The same and [`Parts`], for lists.
const COLUMNS_WITH_PARTS: &str = "r.id, r.network_id, r.project_id, r.name, r.description, r.mac_address,
    r.admin_state_up, r.device_id, r.device_owner, r.port_security_enabled, r.allowed_address_pairs, r.extra_dhcp_opts,
    r.dns_name, r.vnic_type, r.host_id, r.profile, r.made_for, r.plugged, r.problem, r.revision, r.created_at,
    r.updated_at,
    (SELECT group_concat((f.ordinal + 1000) || ' ' || f.subnet_id || ' ' || f.address, char(10)) FROM network_fixed_ip f
         WHERE f.port_id = r.id),
    (SELECT group_concat(s.security_group_id, char(10)) FROM network_port_security_group s WHERE s.port_id = r.id),
    (SELECT group_concat(t.tag, char(10)) FROM network_tag t WHERE t.resource_id = r.id)";

const STATUS: &str =
    "CASE WHEN r.device_owner = 'network:floatingip' THEN 'N/A' WHEN r.problem IS NOT NULL THEN 'ERROR'
    WHEN r.plugged AND r.admin_state_up THEN 'ACTIVE' ELSE 'DOWN' END";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS_WITH_PARTS,
    // There always is one; said so, the database leaves it out where nobody asks for its columns.
    from: "network_port r LEFT JOIN network_network n ON n.id = r.network_id",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("name", "r.name"),
        ("network_id", "r.network_id"),
        ("mac_address", "r.mac_address"),
        ("admin_state_up", "r.admin_state_up"),
        ("status", STATUS),
        ("device_id", "r.device_id"),
        ("device_owner", "r.device_owner"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("created_at", "r.created_at"),
        ("updated_at", "r.updated_at"),
    ],
    filters: &[
        Filter::new("id", "r.id", FilterKind::Text),
        Filter::new("name", "r.name", FilterKind::Text),
        Filter::new("description", "r.description", FilterKind::Text),
        Filter::new("network_id", "r.network_id", FilterKind::Text),
        Filter::new("project_id", "r.project_id", FilterKind::Text),
        Filter::new("tenant_id", "r.project_id", FilterKind::Text),
        Filter::new("mac_address", "r.mac_address", FilterKind::TextIgnoreCase),
        Filter::new("admin_state_up", "r.admin_state_up", FilterKind::Bool),
        Filter::new("status", STATUS, FilterKind::Text),
        Filter::new("device_id", "r.device_id", FilterKind::Text),
        Filter::new("device_owner", "r.device_owner", FilterKind::Text),
        Filter::new("port_security_enabled", "r.port_security_enabled", FilterKind::Bool),
        Filter::new("dns_name", "r.dns_name", FilterKind::Text),
        Filter::new("binding:host_id", "r.host_id", FilterKind::Text),
        Filter::new("binding:vnic_type", "r.vnic_type", FilterKind::Text),
        Filter::new("binding:vif_type", "iif(r.host_id = '', 'unbound', 'tap')", FilterKind::Text),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<Port> {
    Ok(Port {
        id: row.get(0)?,
        network_id: row.get(1)?,
        project_id: row.get(2)?,
        name: row.get(3)?,
        description: row.get(4)?,
        mac: parsed(row, 5)?,
        admin_state_up: row.get(6)?,
        device_id: row.get(7)?,
        device_owner: row.get(8)?,
        port_security_enabled: row.get(9)?,
        pairs: json_list(row, 10)?,
        dhcp_opts: json_list(row, 11)?,
        dns_name: row.get(12)?,
        vnic_type: row.get(13)?,
        host_id: row.get(14)?,
        profile: profile(row.get_ref(15)?.as_str()?),
        made_for: row.get(16)?,
        plugged: row.get(17)?,
        problem: row.get(18)?,
        revision: row.get(19)?,
        created_at: row.get(20)?,
        updated_at: row.get(21)?,
    })
}

/// What hangs on a port, as its list reads it in the port's own statement: a line each, in no order.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Ordinal (made as long as any other, so that it sorts as text does), subnet id, address.
    pub fixed_ips: Option<String>,
    pub groups: Option<String>,
    /// Tags have no control characters.
    pub tags: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Listed {
    pub port: Port,
    pub parts: Parts,
}

pub(crate) fn map_listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let parts = Parts { fixed_ips: row.get(22)?, groups: row.get(23)?, tags: row.get(24)? };
    Ok(Listed { port: map(row)?, parts })
}

/// One port with its parts.
pub(crate) fn listed(tx: &Tx<'_>, id: &str) -> Result<Listed> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = SQL.get_or_init(|| format!("SELECT {COLUMNS_WITH_PARTS} FROM network_port r WHERE r.id = ?1"));
    tx.find(sql, params![id], map_listed)?.ok_or_else(|| errors::port_not_found(id))
}

fn profile(text: &str) -> serde_json::Map<String, serde_json::Value> {
    if text == "{}" { serde_json::Map::new() } else { stored(text) }
}

/// A JSON list; nearly all are empty, and lists of ports are long.
pub(crate) fn json_list<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<Vec<T>> {
    let text = row.get_ref(index)?.as_str()?;
    Ok(if text == "[]" { Vec::new() } else { stored(text) })
}

/// `SELECT <columns> FROM network_port r <condition>`, put together once.
fn select(cell: &'static OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| format!("SELECT {COLUMNS} FROM network_port r {condition}"))
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Port>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.find(select(&SQL, "WHERE r.id = ?1"), params![id], map)?)
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<Port> {
    find(tx, id)?.ok_or_else(|| errors::port_not_found(id))
}

/// Ports whose device is one of these (a JSON list of ids), oldest first.
pub(crate) fn of_devices(tx: &Tx<'_>, ids: &str) -> Result<Vec<Port>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(
        &SQL,
        "WHERE r.device_id IN (SELECT value FROM json_each(?1)) AND r.device_id <> '' ORDER BY r.created_at, r.rowid",
    );
    Ok(tx.list(sql, params![ids], map)?)
}

/// The ports of one device that has this owner.
pub(crate) fn of_device(tx: &Tx<'_>, device_id: &str, device_owner: &str) -> Result<Vec<Port>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(&SQL, "WHERE r.device_id = ?1 AND r.device_owner = ?2 ORDER BY r.created_at, r.rowid");
    Ok(tx.list(sql, params![device_id, device_owner], map)?)
}

/// The ports of one network.
pub(crate) fn of_network(tx: &Tx<'_>, network_id: &str) -> Result<Vec<Port>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.list(select(&SQL, "WHERE r.network_id = ?1 ORDER BY r.id"), params![network_id], map)?)
}

pub(crate) fn ids_of_network(tx: &Tx<'_>, network_id: &str) -> Result<Vec<String>> {
    Ok(tx.list("SELECT id FROM network_port WHERE network_id = ?1", params![network_id], |row| row.get(0))?)
}

pub(crate) fn has_router_interface(tx: &Tx<'_>, network_id: &str) -> Result<bool> {
    Ok(tx.exists(
        "SELECT 1 FROM network_port WHERE network_id = ?1 AND device_owner = 'network:router_interface'",
        params![network_id],
    )?)
}

pub(crate) fn insert(tx: &Tx<'_>, port: &Port) -> Result<()> {
    tx.execute(
        "INSERT INTO network_port (id, network_id, project_id, name, description, mac_address, admin_state_up,
             device_id, device_owner, port_security_enabled, allowed_address_pairs, extra_dhcp_opts, dns_name,
             vnic_type, host_id, profile, made_for, plugged, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
        params![
            port.id,
            port.network_id,
            port.project_id,
            port.name,
            port.description,
            port.mac.to_string(),
            port.admin_state_up,
            port.device_id,
            port.device_owner,
            port.port_security_enabled,
            storable(&port.pairs)?,
            storable(&port.dhcp_opts)?,
            port.dns_name,
            port.vnic_type,
            port.host_id,
            storable(&port.profile)?,
            port.made_for,
            port.plugged,
            port.revision,
            port.created_at,
            port.updated_at,
        ],
    )
    .on_unique("network_port.network_id, network_port.mac_address", || mac_in_use(port))?;
    Ok(())
}

fn mac_in_use(port: &Port) -> rest::Error {
    errors::conflict(
        "MacAddressInUse",
        format!(
            "Unable to complete operation for network {}. The mac address {} is in use.",
            port.network_id, port.mac
        ),
    )
}

/// Writes what may change, `plugged` and `problem` excepted: those belong to the reconciler.
pub(crate) fn update(tx: &Tx<'_>, port: &mut Port, now: &str) -> Result<()> {
    port.revision += 1;
    port.updated_at = now.to_owned();
    tx.execute(
        "UPDATE network_port SET name = ?2, description = ?3, mac_address = ?4, admin_state_up = ?5, device_id = ?6,
             device_owner = ?7, port_security_enabled = ?8, allowed_address_pairs = ?9, extra_dhcp_opts = ?10,
             dns_name = ?11, vnic_type = ?12, host_id = ?13, profile = ?14, made_for = ?15, revision = ?16,
             updated_at = ?17, plugged = ?18
         WHERE id = ?1",
        params![
            port.id,
            port.name,
            port.description,
            port.mac.to_string(),
            port.admin_state_up,
            port.device_id,
            port.device_owner,
            port.port_security_enabled,
            storable(&port.pairs)?,
            storable(&port.dhcp_opts)?,
            port.dns_name,
            port.vnic_type,
            port.host_id,
            storable(&port.profile)?,
            port.made_for,
            port.revision,
            port.updated_at,
            port.plugged,
        ],
    )
    .on_unique("network_port.network_id, network_port.mac_address", || mac_in_use(port))?;
    Ok(())
}

/// Sets whether the port's tap is there. No revision: nothing that a user wrote has changed.
pub(crate) fn set_plugged(tx: &Tx<'_>, id: &str, plugged: bool, now: &str) -> Result<()> {
    tx.execute(
        "UPDATE network_port SET plugged = ?2, updated_at = ?3 WHERE id = ?1 AND plugged <> ?2",
        params![id, plugged, now],
    )?;
    Ok(())
}

/// Removes a port; its addresses and group bindings go by their foreign keys. A floating IP that led to it stays with
/// its project and leads nowhere.
pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.execute(
        "UPDATE network_floating_ip SET fixed_port_id = NULL, fixed_ip_address = NULL, router_id = NULL, active = 0,
             revision = revision + 1
         WHERE fixed_port_id = ?1",
        params![id],
    )?;
    crate::tags::remove_all(tx, id)?;
    tx.execute("DELETE FROM network_port WHERE id = ?1", params![id])?;
    Ok(())
}

fn fixed_ip(row: &Row<'_>) -> rusqlite::Result<(String, FixedIp)> {
    Ok((row.get(0)?, FixedIp { subnet_id: row.get(1)?, address: parsed(row, 2)? }))
}

pub(crate) fn fixed_ips(tx: &Tx<'_>, port_id: &str) -> Result<Vec<FixedIp>> {
    let rows = tx.list(
        "SELECT port_id, subnet_id, address FROM network_fixed_ip WHERE port_id = ?1 ORDER BY ordinal",
        params![port_id],
        fixed_ip,
    )?;
    Ok(rows.into_iter().map(|(_, fixed)| fixed).collect())
}

fn grouped<T>(rows: Vec<(String, T)>) -> HashMap<String, Vec<T>> {
    let mut map: HashMap<String, Vec<T>> = HashMap::new();
    for (key, value) in rows {
        map.entry(key).or_default().push(value);
    }
    map
}

/// Addresses by port, for a JSON list of port ids.
pub(crate) fn fixed_ips_of(tx: &Tx<'_>, ids: &str) -> Result<HashMap<String, Vec<FixedIp>>> {
    Ok(grouped(tx.list(
        "SELECT port_id, subnet_id, address FROM network_fixed_ip
         WHERE port_id IN (SELECT value FROM json_each(?1)) ORDER BY port_id, ordinal",
        params![ids],
        fixed_ip,
    )?))
}

/// Replaces the port's addresses. Those it keeps are put back under the same key, so nobody can take them between.
pub(crate) fn set_fixed_ips(tx: &Tx<'_>, port: &Port, fixed_ips: &[FixedIp]) -> Result<()> {
    tx.execute("DELETE FROM network_fixed_ip WHERE port_id = ?1", params![port.id])?;
    for (ordinal, fixed) in fixed_ips.iter().enumerate() {
        add_fixed_ip(tx, port, fixed, ordinal)?;
    }
    Ok(())
}

pub(crate) fn add_fixed_ip(tx: &Tx<'_>, port: &Port, fixed: &FixedIp, ordinal: usize) -> Result<()> {
    tx.execute(
        "INSERT INTO network_fixed_ip (subnet_id, position, address, port_id, network_id, ordinal)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            fixed.subnet_id,
            ip::position(fixed.address),
            fixed.address.to_string(),
            port.id,
            port.network_id,
            i64::try_from(ordinal).unwrap_or(i64::MAX),
        ],
    )
    .on_unique("network_fixed_ip.subnet_id, network_fixed_ip.position", || {
        errors::conflict(
            "IpAddressAlreadyAllocated",
            format!("IP address {} already allocated in subnet {}", fixed.address, fixed.subnet_id),
        )
    })?;
    Ok(())
}

pub(crate) fn groups(tx: &Tx<'_>, port_id: &str) -> Result<Vec<String>> {
    Ok(tx.list(
        "SELECT security_group_id FROM network_port_security_group WHERE port_id = ?1 ORDER BY security_group_id",
        params![port_id],
        |row| row.get(0),
    )?)
}

/// Security groups by port, for a JSON list of port ids.
pub(crate) fn groups_of(tx: &Tx<'_>, ids: &str) -> Result<HashMap<String, Vec<String>>> {
    Ok(grouped(tx.list(
        "SELECT port_id, security_group_id FROM network_port_security_group
         WHERE port_id IN (SELECT value FROM json_each(?1)) ORDER BY port_id, security_group_id",
        params![ids],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?))
}

pub(crate) fn set_groups(tx: &Tx<'_>, port_id: &str, groups: &[String]) -> Result<()> {
    tx.execute("DELETE FROM network_port_security_group WHERE port_id = ?1", params![port_id])?;
    for group in groups {
        tx.execute(
            "INSERT OR IGNORE INTO network_port_security_group (port_id, security_group_id) VALUES (?1, ?2)",
            params![port_id, group],
        )
        .on_foreign(|| errors::group_not_found(group))?;
    }
    Ok(())
}

/// Which of these ids exist is asked in one statement.
pub(crate) fn list_text(ports: &[Port]) -> String {
    id_list(ports.iter().map(|port| port.id.as_str()))
}
