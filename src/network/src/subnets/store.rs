//! Rows of subnets.

use std::{collections::HashMap, net::IpAddr, sync::OnceLock};

use db::{Row, Tx, params, rusqlite};
use ipnet::IpNet;
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use crate::{
    errors,
    ip::{HostRoute, Pool},
    query::{id_list, storable, stored},
};

/// Neutron's `ipv6_ra_mode` and `ipv6_address_mode`.
pub(crate) const SLAAC: &str = "slaac";
pub(crate) const STATEFUL: &str = "dhcpv6-stateful";
pub(crate) const STATELESS: &str = "dhcpv6-stateless";

#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub id: String,
    pub network_id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub ip_version: u8,
    pub cidr: IpNet,
    pub gateway: Option<IpAddr>,
    pub enable_dhcp: bool,
    pub ra_mode: Option<String>,
    pub address_mode: Option<String>,
    pub pools: Vec<Pool>,
    pub dns: Vec<IpAddr>,
    pub routes: Vec<HostRoute>,
    pub service_types: Vec<String>,
    pub pool_id: Option<String>,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

impl Subnet {
    /// Whether guests make their own addresses out of the prefix (SLAAC, also with stateless DHCP).
    pub(crate) fn is_automatic(&self) -> bool {
        matches!(self.address_mode.as_deref(), Some(SLAAC | STATELESS))
    }

    /// Whether our DHCP server has something to say in it.
    pub(crate) fn has_dhcp(&self) -> bool {
        self.enable_dhcp && self.address_mode.as_deref() != Some(SLAAC)
    }
}

const COLUMNS: &str = "r.id, r.network_id, r.project_id, r.name, r.description, r.ip_version, r.cidr, r.gateway_ip,
    r.enable_dhcp, r.ipv6_ra_mode, r.ipv6_address_mode, r.allocation_pools, r.dns_nameservers, r.host_routes,
    r.service_types, r.subnet_pool_id, r.revision, r.created_at, r.updated_at";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS,
    from: "network_subnet r JOIN network_network n ON n.id = r.network_id",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("name", "r.name"),
        ("network_id", "r.network_id"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("ip_version", "r.ip_version"),
        ("cidr", "r.cidr"),
        ("gateway_ip", "ifnull(r.gateway_ip, '')"),
        ("enable_dhcp", "r.enable_dhcp"),
        ("ipv6_address_mode", "ifnull(r.ipv6_address_mode, '')"),
        ("ipv6_ra_mode", "ifnull(r.ipv6_ra_mode, '')"),
        ("subnetpool_id", "ifnull(r.subnet_pool_id, '')"),
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
        Filter::new("ip_version", "r.ip_version", FilterKind::Integer),
        Filter::new("cidr", "r.cidr", FilterKind::Text),
        Filter::new("gateway_ip", "r.gateway_ip", FilterKind::Text),
        Filter::new("enable_dhcp", "r.enable_dhcp", FilterKind::Bool),
        Filter::new("ipv6_ra_mode", "r.ipv6_ra_mode", FilterKind::Text),
        Filter::new("ipv6_address_mode", "r.ipv6_address_mode", FilterKind::Text),
        Filter::new("subnetpool_id", "r.subnet_pool_id", FilterKind::Text),
        Filter::new("segment_id", "NULL", FilterKind::Text),
        Filter::new("shared", "n.shared", FilterKind::Bool),
        Filter::new("router:external", "n.external", FilterKind::Bool),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

/// A text column that we wrote, as what it stands for.
pub(crate) fn parsed<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    text.parse().map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            format!("unreadable value {text:?}").into(),
        )
    })
}

pub(crate) fn parsed_if_any<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(index)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => parsed(row, index).map(Some),
    }
}

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<Subnet> {
    Ok(Subnet {
        id: row.get(0)?,
        network_id: row.get(1)?,
        project_id: row.get(2)?,
        name: row.get(3)?,
        description: row.get(4)?,
        ip_version: row.get(5)?,
        cidr: parsed(row, 6)?,
        gateway: parsed_if_any(row, 7)?,
        enable_dhcp: row.get(8)?,
        ra_mode: row.get(9)?,
        address_mode: row.get(10)?,
        pools: stored(&row.get::<_, String>(11)?),
        dns: stored(&row.get::<_, String>(12)?),
        routes: stored(&row.get::<_, String>(13)?),
        service_types: stored(&row.get::<_, String>(14)?),
        pool_id: row.get(15)?,
        revision: row.get(16)?,
        created_at: row.get(17)?,
        updated_at: row.get(18)?,
    })
}

/// `SELECT <columns> FROM network_subnet r <condition>`, put together once.
fn select(cell: &'static OnceLock<String>, condition: &str) -> &'static str {
    cell.get_or_init(|| format!("SELECT {COLUMNS} FROM network_subnet r {condition}"))
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Subnet>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.find(select(&SQL, "WHERE r.id = ?1"), params![id], map)?)
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<Subnet> {
    find(tx, id)?.ok_or_else(|| errors::subnet_not_found(id))
}

/// A network's subnets, oldest first: the order in which addresses are looked for.
pub(crate) fn of_network(tx: &Tx<'_>, network_id: &str) -> Result<Vec<Subnet>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(&SQL, "WHERE r.network_id = ?1 ORDER BY r.created_at, r.id");
    Ok(tx.list(sql, params![network_id], map)?)
}

pub(crate) fn by_ids<'a>(tx: &Tx<'_>, ids: impl IntoIterator<Item = &'a str>) -> Result<HashMap<String, Subnet>> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = select(&SQL, "WHERE r.id IN (SELECT value FROM json_each(?1))");
    let rows = tx.list(sql, params![id_list(ids)], map)?;
    Ok(rows.into_iter().map(|subnet| (subnet.id.clone(), subnet)).collect())
}

pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Subnet>> {
    static SQL: OnceLock<String> = OnceLock::new();
    Ok(tx.list(select(&SQL, "ORDER BY r.created_at, r.id"), [], map)?)
}

pub(crate) fn insert(tx: &Tx<'_>, subnet: &Subnet) -> Result<()> {
    tx.execute(
        "INSERT INTO network_subnet (id, network_id, project_id, name, description, ip_version, cidr, gateway_ip,
             enable_dhcp, ipv6_ra_mode, ipv6_address_mode, allocation_pools, dns_nameservers, host_routes,
             service_types, subnet_pool_id, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
        params![
            subnet.id,
            subnet.network_id,
            subnet.project_id,
            subnet.name,
            subnet.description,
            subnet.ip_version,
            subnet.cidr.to_string(),
            subnet.gateway.map(|address| address.to_string()),
            subnet.enable_dhcp,
            subnet.ra_mode,
            subnet.address_mode,
            storable(&subnet.pools)?,
            storable(&subnet.dns)?,
            storable(&subnet.routes)?,
            storable(&subnet.service_types)?,
            subnet.pool_id,
            subnet.revision,
            subnet.created_at,
            subnet.updated_at,
        ],
    )?;
    Ok(())
}

pub(crate) fn update(tx: &Tx<'_>, subnet: &mut Subnet, now: &str) -> Result<()> {
    subnet.revision += 1;
    subnet.updated_at = now.to_owned();
    tx.execute(
        "UPDATE network_subnet SET name = ?2, description = ?3, gateway_ip = ?4, enable_dhcp = ?5,
             allocation_pools = ?6, dns_nameservers = ?7, host_routes = ?8, service_types = ?9, revision = ?10,
             updated_at = ?11
         WHERE id = ?1",
        params![
            subnet.id,
            subnet.name,
            subnet.description,
            subnet.gateway.map(|address| address.to_string()),
            subnet.enable_dhcp,
            storable(&subnet.pools)?,
            storable(&subnet.dns)?,
            storable(&subnet.routes)?,
            storable(&subnet.service_types)?,
            subnet.revision,
            subnet.updated_at,
        ],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> Result<()> {
    crate::tags::remove_all(tx, id)?;
    tx.execute("DELETE FROM network_subnet WHERE id = ?1", params![id])?;
    Ok(())
}
