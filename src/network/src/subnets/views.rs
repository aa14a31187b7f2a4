//! What a subnet looks like to clients.

use std::net::IpAddr;

use db::{Tx, clock::seconds};
use rest::{Ctx, Result};
use serde::Serialize;

use super::{policy, store::Subnet};
use crate::{
    ip::{HostRoute, Pool},
    networks,
    policy::{Owner, Sights},
    query::id_list,
    tags,
};

#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: String,
    name: String,
    tenant_id: String,
    project_id: String,
    network_id: String,
    ip_version: u8,
    subnetpool_id: Option<String>,
    enable_dhcp: bool,
    ipv6_ra_mode: Option<String>,
    ipv6_address_mode: Option<String>,
    gateway_ip: Option<IpAddr>,
    cidr: String,
    allocation_pools: Vec<Pool>,
    host_routes: Vec<HostRoute>,
    dns_nameservers: Vec<IpAddr>,
    description: String,
    service_types: Vec<String>,
    segment_id: Option<String>,
    #[serde(rename = "router:external")]
    external: bool,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

pub(crate) fn owner(tx: &Tx<'_>, subnet: &Subnet) -> Result<Owner> {
    Ok(owner_in(subnet, &networks::store::get(tx, &subnet.network_id)?))
}

fn owner_in(subnet: &Subnet, network: &networks::store::Network) -> Owner {
    Owner {
        project_id: subnet.project_id.clone(),
        network_project_id: Some(network.project_id.clone()),
        shared: network.shared,
        external: network.external,
    }
}

pub(crate) fn render(tx: &Tx<'_>, ctx: &Ctx, subnets: &[Subnet]) -> Result<Vec<View>> {
    let networks = networks::store::by_ids(tx, subnets.iter().map(|subnet| subnet.network_id.clone()))?;
    let mut tags = tags::of(tx, &id_list(subnets.iter().map(|subnet| subnet.id.as_str())))?;
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(subnets.len());
    for subnet in subnets {
        let Some(network) = networks.get(&subnet.network_id) else { continue };
        if !sights.of(owner_in(subnet, network), |target| ctx.may(policy::GET_ONE, target))? {
            continue;
        }
        views.push(View {
            id: subnet.id.clone(),
            name: subnet.name.clone(),
            tenant_id: subnet.project_id.clone(),
            project_id: subnet.project_id.clone(),
            network_id: subnet.network_id.clone(),
            ip_version: subnet.ip_version,
            subnetpool_id: subnet.pool_id.clone(),
            enable_dhcp: subnet.enable_dhcp,
            ipv6_ra_mode: subnet.ra_mode.clone(),
            ipv6_address_mode: subnet.address_mode.clone(),
            gateway_ip: subnet.gateway,
            cidr: subnet.cidr.to_string(),
            allocation_pools: subnet.pools.clone(),
            host_routes: subnet.routes.clone(),
            dns_nameservers: subnet.dns.clone(),
            description: subnet.description.clone(),
            service_types: subnet.service_types.clone(),
            segment_id: None,
            external: network.external,
            tags: tags.remove(&subnet.id).unwrap_or_default(),
            created_at: seconds(&subnet.created_at),
            updated_at: seconds(&subnet.updated_at),
            revision_number: subnet.revision,
        });
    }
    Ok(views)
}
