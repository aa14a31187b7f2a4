//! `/v2.0/subnetpools`: ranges that subnets are cut from without overlapping. API reference: Network API v2.0,
//! "Subnet pools". Address scopes and prefix operations are not served.

pub(crate) mod handlers;
pub(crate) mod policy;

use std::sync::OnceLock;

use db::{Row, Tx, params, rusqlite};
use ipnet::IpNet;
use rest::{Ctx, Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use crate::{
    App, errors, ip,
    policy::Owner,
    query::{storable, stored},
    subnets,
};

#[derive(Clone, Debug)]
pub(crate) struct SubnetPool {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub ip_version: u8,
    pub prefixes: Vec<IpNet>,
    pub default_prefixlen: u8,
    pub min_prefixlen: u8,
    pub max_prefixlen: u8,
    pub default_quota: Option<i64>,
    pub shared: bool,
    pub is_default: bool,
    pub revision: i64,
    pub created_at: String,
    pub updated_at: String,
}

const COLUMNS: &str = "r.id, r.project_id, r.name, r.description, r.ip_version, r.prefixes, r.default_prefixlen,
    r.min_prefixlen, r.max_prefixlen, r.default_quota, r.shared, r.is_default, r.revision, r.created_at, r.updated_at";

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Network,
    columns: COLUMNS,
    from: "network_subnet_pool r",
    key: "r.id",
    default_sort: &[("id", Direction::Ascending)],
    sortable: &[
        ("id", "r.id"),
        ("name", "r.name"),
        ("tenant_id", "r.project_id"),
        ("project_id", "r.project_id"),
        ("ip_version", "r.ip_version"),
        ("default_prefixlen", "r.default_prefixlen"),
        ("min_prefixlen", "r.min_prefixlen"),
        ("max_prefixlen", "r.max_prefixlen"),
        ("shared", "r.shared"),
        ("is_default", "r.is_default"),
        ("created_at", "r.created_at"),
        ("updated_at", "r.updated_at"),
    ],
    filters: &[
        Filter::new("id", "r.id", FilterKind::Text),
        Filter::new("name", "r.name", FilterKind::Text),
        Filter::new("description", "r.description", FilterKind::Text),
        Filter::new("project_id", "r.project_id", FilterKind::Text),
        Filter::new("tenant_id", "r.project_id", FilterKind::Text),
        Filter::new("ip_version", "r.ip_version", FilterKind::Integer),
        Filter::new("default_prefixlen", "r.default_prefixlen", FilterKind::Integer),
        Filter::new("min_prefixlen", "r.min_prefixlen", FilterKind::Integer),
        Filter::new("max_prefixlen", "r.max_prefixlen", FilterKind::Integer),
        Filter::new("default_quota", "r.default_quota", FilterKind::Integer),
        Filter::new("shared", "r.shared", FilterKind::Bool),
        Filter::new("is_default", "r.is_default", FilterKind::Bool),
        Filter::new("address_scope_id", "NULL", FilterKind::Text),
        Filter::new("revision_number", "r.revision", FilterKind::Integer),
        Filter::new("changed_since", "r.updated_at", FilterKind::Since),
    ],
    limit_max: 0,
};

pub(crate) fn map(row: &Row<'_>) -> rusqlite::Result<SubnetPool> {
    Ok(SubnetPool {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        ip_version: row.get(4)?,
        prefixes: stored(row.get_ref(5)?.as_str()?),
        default_prefixlen: row.get(6)?,
        min_prefixlen: row.get(7)?,
        max_prefixlen: row.get(8)?,
        default_quota: row.get(9)?,
        shared: row.get(10)?,
        is_default: row.get(11)?,
        revision: row.get(12)?,
        created_at: row.get(13)?,
        updated_at: row.get(14)?,
    })
}

pub(crate) fn not_found(id: &str) -> rest::Error {
    errors::not_found("Subnet pool", "SubnetPoolNotFound", id)
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<SubnetPool> {
    static SQL: OnceLock<String> = OnceLock::new();
    let sql = SQL.get_or_init(|| format!("SELECT {COLUMNS} FROM network_subnet_pool r WHERE r.id = ?1"));
    tx.find(sql, params![id], map)?.ok_or_else(|| not_found(id))
}

pub(crate) fn owner(pool: &SubnetPool) -> Owner {
    Owner { shared: pool.shared, ..Owner::of(&pool.project_id) }
}

/// The pool for those who ask for "the default one".
pub(crate) fn default_of(tx: &Tx<'_>, version: Option<i64>) -> Result<String> {
    tx.find(
        "SELECT id FROM network_subnet_pool WHERE is_default AND ip_version = ifnull(?1, 4)",
        params![version],
        |row| row.get(0),
    )?
    .ok_or_else(|| errors::bad("BadRequest", "Bad subnets request: No default subnetpool defined."))
}

pub(crate) fn write(tx: &Tx<'_>, pool: &SubnetPool) -> Result<()> {
    tx.execute(
        "INSERT INTO network_subnet_pool (id, project_id, name, description, ip_version, prefixes, default_prefixlen,
             min_prefixlen, max_prefixlen, default_quota, shared, is_default, revision, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (id) DO UPDATE SET name = ?3, description = ?4, prefixes = ?6, default_prefixlen = ?7,
             min_prefixlen = ?8, max_prefixlen = ?9, default_quota = ?10, is_default = ?12, revision = ?13,
             updated_at = ?15",
        params![
            pool.id,
            pool.project_id,
            pool.name,
            pool.description,
            pool.ip_version,
            storable(&pool.prefixes)?,
            pool.default_prefixlen,
            pool.min_prefixlen,
            pool.max_prefixlen,
            pool.default_quota,
            pool.shared,
            pool.is_default,
            pool.revision,
            pool.created_at,
            pool.updated_at,
        ],
    )?;
    Ok(())
}

/// Cuts a range out of the pool: the one asked for, or the first free one of the size asked for.
pub(crate) fn allocate(
    tx: &Tx<'_>,
    _: &App,
    ctx: &Ctx,
    pool_id: &str,
    cidr: Option<IpNet>,
    prefixlen: Option<i64>,
    project_id: &str,
) -> Result<IpNet> {
    let pool = get(tx, pool_id)?;
    ctx.allow_or(policy::GET_ONE, &owner(&pool).target(), || not_found(pool_id))?;
    let taken: Vec<IpNet> =
        tx.list("SELECT cidr FROM network_subnet WHERE subnet_pool_id = ?1", params![pool_id], |row| {
            subnets::store::parsed(row, 0)
        })?;
    let length = match (cidr, prefixlen) {
        (Some(cidr), _) => cidr.prefix_len(),
        (None, Some(length)) => u8::try_from(length).unwrap_or(u8::MAX),
        (None, None) => pool.default_prefixlen,
    };
    let sized = |what: &str, code: &'static str, bound: u8| {
        errors::bad(
            code,
            format!("Unable to allocate subnet with prefix length {length}, {what} allowed prefix is {bound}."),
        )
    };
    if length < pool.min_prefixlen {
        return Err(sized("minimum", "MinPrefixSubnetAllocationError", pool.min_prefixlen));
    }
    if length > pool.max_prefixlen {
        return Err(sized("maximum", "MaxPrefixSubnetAllocationError", pool.max_prefixlen));
    }
    if let Some(quota) = pool.default_quota {
        check_quota(tx, &pool, quota, length, project_id)?;
    }
    let is_free = |net: &IpNet| !taken.iter().any(|other| other.contains(net) || net.contains(other));
    if let Some(cidr) = cidr {
        if !pool.prefixes.iter().any(|prefix| prefix.contains(&cidr)) || !is_free(&cidr) {
            return Err(errors::conflict(
                "SubnetAllocationError",
                format!(
                    "Failed to allocate subnet: Cannot allocate requested subnet {cidr} from the available set of prefixes."
                ),
            ));
        }
        return Ok(cidr);
    }
    pool.prefixes.iter().find_map(|prefix| first_free(*prefix, length, &taken)).ok_or_else(|| {
        errors::conflict(
            "SubnetAllocationError",
            format!("Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length}."),
        )
    })
}

/// The first network of that size inside `prefix` that meets none of `taken`; steps over what is taken, so it takes as
/// many steps as there are ranges in use, not as there could be.
pub(crate) fn first_free(prefix: IpNet, length: u8, taken: &[IpNet]) -> Option<IpNet> {
    if length < prefix.prefix_len() || length > prefix.max_prefix_len() {
        return None;
    }
    let step = 1u128.checked_shl(u32::from(prefix.max_prefix_len() - length))?;
    let last = ip::number(prefix.broadcast());
    let mut at = ip::number(prefix.network());
    loop {
        let candidate = IpNet::new(ip::address(prefix.addr(), at), length).ok()?;
        let Some(obstacle) = taken.iter().find(|other| other.contains(&candidate) || candidate.contains(*other)) else {
            return Some(candidate);
        };
        let behind = ip::number(obstacle.broadcast()).max(ip::number(candidate.broadcast())).checked_add(1)?;
        at = behind.checked_add(step - 1)? / step * step;
        if at > last {
            return None;
        }
    }
}

/// A pool's quota counts addresses for IPv4 and /64s for IPv6.
fn check_quota(tx: &Tx<'_>, pool: &SubnetPool, quota: i64, length: u8, project_id: &str) -> Result<()> {
    let unit = |length: u8| -> i64 {
        let whole: u8 = if pool.ip_version == 4 { 32 } else { 64 };
        1i64.checked_shl(u32::from(whole.saturating_sub(length))).unwrap_or(i64::MAX)
    };
    let used = tx
        .list(
            "SELECT cidr FROM network_subnet WHERE subnet_pool_id = ?1 AND project_id = ?2",
            params![pool.id, project_id],
            |row| subnets::store::parsed::<IpNet>(row, 0),
        )?
        .iter()
        .fold(0i64, |sum, net| sum.saturating_add(unit(net.prefix_len())));
    if used.saturating_add(unit(length)) > quota {
        return Err(errors::conflict("SubnetPoolQuotaExceeded", "Per-tenant subnet pool prefix quota exceeded."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_one_behind_the_other_and_holes_are_used() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let free = |taken: &[&str], length| {
            let taken: Vec<IpNet> = taken.iter().map(|text| net(text)).collect();
            first_free(net("10.0.0.0/8"), length, &taken).map(|net| net.to_string())
        };
        assert_eq!(free(&[], 26).as_deref(), Some("10.0.0.0/26"));
        assert_eq!(free(&["10.0.0.0/26"], 26).as_deref(), Some("10.0.0.64/26"));
        assert_eq!(free(&["10.0.0.0/26", "10.0.0.128/26"], 26).as_deref(), Some("10.0.0.64/26"));
        assert_eq!(free(&["10.0.0.0/26"], 24).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(free(&["10.0.0.0/9", "10.128.0.0/9"], 24), None);
        assert_eq!(free(&["10.0.0.0/8"], 8), None);
        assert_eq!(
            first_free(net("2001:db8::/32"), 64, &[net("2001:db8::/64")]).unwrap().to_string(),
            "2001:db8:0:1::/64"
        );
    }
}
