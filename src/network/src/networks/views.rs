//! What a network looks like to clients.

use std::collections::HashMap;

use db::{Tx, clock::seconds, params};
use rest::{Ctx, Result};
use serde::Serialize;

use super::{policy, store::Network};
use crate::{
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
    admin_state_up: bool,
    mtu: u32,
    status: &'static str,
    subnets: Vec<String>,
    shared: bool,
    availability_zone_hints: [String; 0],
    availability_zones: Vec<&'static str>,
    ipv4_address_scope: Option<String>,
    ipv6_address_scope: Option<String>,
    #[serde(rename = "router:external")]
    external: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_default: Option<bool>,
    description: String,
    port_security_enabled: bool,
    dns_domain: String,
    #[serde(rename = "provider:network_type", skip_serializing_if = "Option::is_none")]
    provider_type: Option<String>,
    #[serde(rename = "provider:physical_network", skip_serializing_if = "Option::is_none")]
    provider_physical: Option<Option<String>>,
    #[serde(rename = "provider:segmentation_id", skip_serializing_if = "Option::is_none")]
    provider_segment: Option<Option<u32>>,
    l2_adjacency: bool,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    is_visible: bool,
    provider_type: bool,
    physical: bool,
    segment: bool,
}

pub(crate) fn owner(network: &Network) -> Owner {
    Owner {
        project_id: network.project_id.clone(),
        network_project_id: Some(network.project_id.clone()),
        shared: network.shared,
        external: network.external,
    }
}

/// Views of those networks that the caller may see, with all their parts read at once.
pub(crate) fn render(tx: &Tx<'_>, ctx: &Ctx, networks: &[Network], zone: &'static str) -> Result<Vec<View>> {
    let ids = id_list(networks.iter().map(|network| network.id.as_str()));
    let mut subnets: HashMap<String, Vec<String>> = HashMap::new();
    for (network, subnet) in tx.list(
        "SELECT network_id, id FROM network_subnet WHERE network_id IN (SELECT value FROM json_each(?1))
         ORDER BY created_at, id",
        params![ids],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )? {
        subnets.entry(network).or_default().push(subnet);
    }
    let mut tags = tags::of(tx, &ids)?;
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(networks.len());
    for network in networks {
        let sight = sights.of(owner(network), |target| {
            Ok(Sight {
                is_visible: ctx.may(policy::GET_ONE, target)?,
                provider_type: ctx.may(policy::GET_TYPE, target)?,
                physical: ctx.may(policy::GET_PHYSICAL, target)?,
                segment: ctx.may(policy::GET_SEGMENT, target)?,
            })
        })?;
        if !sight.is_visible {
            continue;
        }
        let subnets = subnets.remove(&network.id).unwrap_or_default();
        views.push(View {
            id: network.id.clone(),
            name: network.name.clone(),
            tenant_id: network.project_id.clone(),
            project_id: network.project_id.clone(),
            admin_state_up: network.admin_state_up,
            mtu: network.mtu,
            status: if network.problem.is_none() { "ACTIVE" } else { "ERROR" },
            availability_zones: if subnets.is_empty() { Vec::new() } else { vec![zone] },
            subnets,
            shared: network.shared,
            availability_zone_hints: [],
            ipv4_address_scope: None,
            ipv6_address_scope: None,
            external: network.external,
            is_default: network.external.then_some(network.is_default),
            description: network.description.clone(),
            port_security_enabled: network.port_security_enabled,
            dns_domain: network.dns_domain.clone(),
            provider_type: sight.provider_type.then(|| network.provider_type.clone()),
            provider_physical: sight.physical.then(|| network.provider_physical.clone()),
            provider_segment: sight.segment.then_some(None),
            l2_adjacency: true,
            tags: tags.remove(&network.id).unwrap_or_default(),
            created_at: seconds(&network.created_at),
            updated_at: seconds(&network.updated_at),
            revision_number: network.revision,
        });
    }
    Ok(views)
}
