//! What a port looks like to clients.

use std::collections::HashMap;

use db::{Tx, clock::seconds, params};
use rest::{Ctx, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    options::DhcpOpt,
    policy,
    store::{self, AddressPair, FixedIp, Port},
};
use crate::{
    networks,
    policy::{Owner, Sights},
    tags,
};

#[derive(Debug, Serialize)]
struct Address {
    subnet_id: String,
    ip_address: String,
}

#[derive(Debug, Serialize)]
struct Assignment {
    ip_address: String,
    hostname: String,
    fqdn: String,
}

#[derive(Debug, Serialize)]
struct VifDetails {
    port_filter: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct View<'a> {
    id: &'a str,
    name: &'a str,
    network_id: &'a str,
    tenant_id: &'a str,
    project_id: &'a str,
    mac_address: String,
    admin_state_up: bool,
    status: &'static str,
    device_id: &'a str,
    device_owner: &'a str,
    fixed_ips: Vec<Address>,
    allowed_address_pairs: &'a [AddressPair],
    extra_dhcp_opts: &'a [DhcpOpt],
    security_groups: Vec<String>,
    description: &'a str,
    #[serde(rename = "binding:vnic_type")]
    vnic_type: &'a str,
    #[serde(rename = "binding:profile", skip_serializing_if = "Option::is_none")]
    profile: Option<&'a Map<String, Value>>,
    #[serde(rename = "binding:host_id", skip_serializing_if = "Option::is_none")]
    host_id: Option<&'a str>,
    #[serde(rename = "binding:vif_type", skip_serializing_if = "Option::is_none")]
    vif_type: Option<&'static str>,
    #[serde(rename = "binding:vif_details", skip_serializing_if = "Option::is_none")]
    vif_details: Option<VifDetails>,
    port_security_enabled: bool,
    dns_name: &'a str,
    dns_assignment: Vec<Assignment>,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    is_visible: bool,
    profile: bool,
    host: bool,
    vif_type: bool,
    vif_details: bool,
}

/// The network's side of a port's owner.
#[derive(Clone, Debug)]
struct Around {
    project_id: String,
    shared: bool,
    external: bool,
    domain: String,
}

pub(crate) fn owner(port_project: &str, network: &networks::store::Network) -> Owner {
    Owner {
        project_id: port_project.to_owned(),
        network_project_id: Some(network.project_id.clone()),
        shared: network.shared,
        external: network.external,
    }
}

pub(crate) fn owner_of(tx: &Tx<'_>, port: &Port) -> Result<Owner> {
    Ok(owner(&port.project_id, &networks::store::get(tx, &port.network_id)?))
}

/// Views of those ports that the caller may see; everything that belongs to them is read in four statements.
pub(crate) fn render<'a>(tx: &Tx<'_>, ctx: &Ctx, ports: &'a [Port], domain: &str) -> Result<Vec<View<'a>>> {
    let ids = store::list_text(ports);
    let mut fixed_ips = store::fixed_ips_of(tx, &ids)?;
    let mut groups = store::groups_of(tx, &ids)?;
    let mut tags = tags::of(tx, &ids)?;
    let networks = around(tx, ports)?;
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(ports.len());
    let mut last: Option<(&str, &str, Sight)> = None;
    for port in ports {
        let Some(network) = networks.get(&port.network_id) else { continue };
        // Neighbours in a list mostly share project and network: what was decided for the last one holds.
        let known = last.filter(|(project, id, _)| *project == port.project_id && *id == port.network_id);
        let sight = match known {
            Some((_, _, sight)) => sight,
            None => {
                let owner = Owner {
                    project_id: port.project_id.clone(),
                    network_project_id: Some(network.project_id.clone()),
                    shared: network.shared,
                    external: network.external,
                };
                sights.of(owner, |target| sight(ctx, target))?
            }
        };
        last = Some((&port.project_id, &port.network_id, sight));
        if !sight.is_visible {
            continue;
        }
        let fixed = fixed_ips.remove(&port.id).unwrap_or_default();
        let is_bound = !port.host_id.is_empty();
        let domain = if network.domain.is_empty() { domain } else { network.domain.trim_end_matches('.') };
        views.push(View {
            id: &port.id,
            name: &port.name,
            network_id: &port.network_id,
            tenant_id: &port.project_id,
            project_id: &port.project_id,
            mac_address: port.mac.to_string(),
            admin_state_up: port.admin_state_up,
            status: port.status(),
            device_id: &port.device_id,
            device_owner: &port.device_owner,
            dns_assignment: fixed.iter().map(|fixed| assignment(port, fixed, domain)).collect(),
            fixed_ips: fixed
                .into_iter()
                .map(|fixed| Address { ip_address: fixed.address.to_string(), subnet_id: fixed.subnet_id })
                .collect(),
            allowed_address_pairs: &port.pairs,
            extra_dhcp_opts: &port.dhcp_opts,
            security_groups: groups.remove(&port.id).unwrap_or_default(),
            description: &port.description,
            vnic_type: &port.vnic_type,
            profile: sight.profile.then_some(&port.profile),
            host_id: sight.host.then_some(port.host_id.as_str()),
            vif_type: sight.vif_type.then_some(if is_bound { "tap" } else { "unbound" }),
            vif_details: sight.vif_details.then_some(VifDetails { port_filter: is_bound }),
            port_security_enabled: port.port_security_enabled,
            dns_name: &port.dns_name,
            tags: tags.remove(&port.id).unwrap_or_default(),
            created_at: seconds(&port.created_at),
            updated_at: seconds(&port.updated_at),
            revision_number: port.revision,
        });
    }
    Ok(views)
}

fn sight(ctx: &Ctx, target: &::policy::Target) -> Result<Sight> {
    Ok(Sight {
        is_visible: ctx.may(policy::GET_ONE, target)?,
        profile: ctx.may(policy::GET_PROFILE, target)?,
        host: ctx.may(policy::GET_HOST, target)?,
        vif_type: ctx.may(policy::GET_VIF_TYPE, target)?,
        vif_details: ctx.may(policy::GET_VIF_DETAILS, target)?,
    })
}

fn assignment(port: &Port, fixed: &FixedIp, domain: &str) -> Assignment {
    let hostname = port.hostname(fixed.address);
    Assignment { ip_address: fixed.address.to_string(), fqdn: format!("{hostname}.{domain}."), hostname }
}

fn around(tx: &Tx<'_>, ports: &[Port]) -> Result<HashMap<String, Around>> {
    let mut ids: Vec<&str> = ports.iter().map(|port| port.network_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = tx.list(
        "SELECT id, project_id, shared, external, dns_domain FROM network_network
         WHERE id IN (SELECT value FROM json_each(?1))",
        params![crate::query::id_list(ids)],
        |row| {
            let around =
                Around { project_id: row.get(1)?, shared: row.get(2)?, external: row.get(3)?, domain: row.get(4)? };
            Ok((row.get::<_, String>(0)?, around))
        },
    )?;
    Ok(rows.into_iter().collect())
}
