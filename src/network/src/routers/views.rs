//! What a router looks like to clients.

use std::collections::HashMap;

use db::{Tx, clock::seconds, params};
use rest::{Ctx, Result};
use serde::Serialize;

use super::{policy, store::Router};
use crate::{
    ip::HostRoute,
    policy::{Owner, Sights},
    ports,
    query::id_list,
    tags,
};

#[derive(Debug, Serialize)]
struct GatewayAddress {
    subnet_id: String,
    ip_address: String,
}

#[derive(Debug, Serialize)]
struct Gateway {
    network_id: String,
    external_fixed_ips: Vec<GatewayAddress>,
    enable_snat: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: String,
    name: String,
    tenant_id: String,
    project_id: String,
    admin_state_up: bool,
    status: &'static str,
    external_gateway_info: Option<Gateway>,
    description: String,
    availability_zones: [&'static str; 1],
    availability_zone_hints: [String; 0],
    routes: Vec<HostRoute>,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

pub(crate) fn render(tx: &Tx<'_>, ctx: &Ctx, routers: &[Router], zone: &'static str) -> Result<Vec<View>> {
    let ids = id_list(routers.iter().map(|router| router.id.as_str()));
    let mut tags = tags::of(tx, &ids)?;
    let gateways = id_list(routers.iter().filter_map(|router| router.gateway_port_id.as_deref()));
    let mut addresses = ports::store::fixed_ips_of(tx, &gateways)?;
    let networks: HashMap<String, String> = tx
        .list(
            "SELECT id, network_id FROM network_port WHERE id IN (SELECT value FROM json_each(?1))",
            params![gateways],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .into_iter()
        .collect();
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(routers.len());
    for router in routers {
        if !sights.of(Owner::of(&router.project_id), |target| ctx.may(policy::GET_ONE, target))? {
            continue;
        }
        let gateway = router.gateway_port_id.as_ref().and_then(|port| {
            let network_id = networks.get(port)?.clone();
            let fixed = addresses.remove(port).unwrap_or_default();
            let external_fixed_ips = fixed
                .into_iter()
                .map(|fixed| GatewayAddress { subnet_id: fixed.subnet_id, ip_address: fixed.address.to_string() })
                .collect();
            Some(Gateway { network_id, external_fixed_ips, enable_snat: router.enable_snat })
        });
        views.push(View {
            id: router.id.clone(),
            name: router.name.clone(),
            tenant_id: router.project_id.clone(),
            project_id: router.project_id.clone(),
            admin_state_up: router.admin_state_up,
            status: if router.problem.is_none() { "ACTIVE" } else { "ERROR" },
            external_gateway_info: gateway,
            description: router.description.clone(),
            availability_zones: [zone],
            availability_zone_hints: [],
            routes: router.routes.clone(),
            tags: tags.remove(&router.id).unwrap_or_default(),
            created_at: seconds(&router.created_at),
            updated_at: seconds(&router.updated_at),
            revision_number: router.revision,
        });
    }
    Ok(views)
}
