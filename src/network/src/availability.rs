//! `/v2.0/network-ip-availabilities`: how many addresses there are and how many are in use.

use std::collections::HashMap;

use axum::extract::{Path, State};
use db::Tx;
use policy::Target;
use rest::{Ctx, Params, Reply, Result, Rule, rule};
use serde_json::{Value, json};

use crate::{App, errors, networks, policy::ADMIN, query::Query, subnets};

pub(crate) const GET: Rule = rule(
    "get_network_ip_availability",
    ADMIN,
    "See how many addresses are in use",
    &[("GET", "/network-ip-availabilities"), ("GET", "/network-ip-availabilities/{network_id}")],
);

/// JSON numbers of clients end at 2^63; an IPv6 subnet has more addresses.
fn bounded(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}

fn views(tx: &Tx<'_>) -> Result<Vec<Value>> {
    let used: HashMap<String, i64> = tx
        .list("SELECT subnet_id, count(*) FROM network_fixed_ip GROUP BY subnet_id", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?
        .into_iter()
        .collect();
    let mut by_network: HashMap<String, Vec<subnets::store::Subnet>> = HashMap::new();
    for subnet in subnets::store::all(tx)? {
        by_network.entry(subnet.network_id.clone()).or_default().push(subnet);
    }
    let mut views = Vec::new();
    for network in networks::store::all(tx)? {
        let (mut total_ips, mut used_ips, mut list) = (0u128, 0i64, Vec::new());
        for subnet in by_network.remove(&network.id).unwrap_or_default() {
            let total = subnet.pools.iter().fold(0u128, |sum, pool| sum.saturating_add(pool.size()));
            let in_use = used.get(&subnet.id).copied().unwrap_or(0);
            total_ips = total_ips.saturating_add(total);
            used_ips += in_use;
            list.push(json!({
                "subnet_id": subnet.id,
                "subnet_name": subnet.name,
                "cidr": subnet.cidr.to_string(),
                "ip_version": subnet.ip_version,
                "total_ips": bounded(total),
                "used_ips": in_use,
            }));
        }
        views.push(json!({
            "network_id": network.id,
            "network_name": network.name,
            "tenant_id": network.project_id,
            "project_id": network.project_id,
            "total_ips": bounded(total_ips),
            "used_ips": used_ips,
            "subnet_ip_availability": list,
        }));
    }
    Ok(views)
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(GET, &Target::new())?;
    let mut query = Query::new(params);
    let version = query.params.take("ip_version").map(|text| text.parse::<i64>().ok());
    let mut all = app.db.read(views).await?;
    for name in ["network_id", "network_name", "tenant_id", "project_id"] {
        let wanted = query.params.take_all(name);
        if !wanted.is_empty() {
            all.retain(|view| wanted.iter().any(|wanted| view[name] == wanted.as_str()));
        }
    }
    if let Some(version) = version {
        let has = |view: &Value| {
            view["subnet_ip_availability"]
                .as_array()
                .is_some_and(|list| list.iter().any(|subnet| subnet["ip_version"].as_i64() == version))
        };
        all.retain(has);
    }
    Ok(query.all("network_ip_availabilities", &all))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    ctx.allow(GET, &Target::new())?;
    let all = app.db.read(views).await?;
    match all.iter().find(|view| view["network_id"] == id.as_str()) {
        Some(view) => Ok(Query::new(params).one("network_ip_availability", view)),
        None => Err(errors::network_not_found(&id)),
    }
}
