//! Routers: one specification each, and the rows that are up once it is applied.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use db::Tx;
use hostnet::{Advertised, FloatingIp, Id, RouterGateway, RouterInterface, RouterSpec, StaticRoute};
use ipnet::IpNet;
use rest::Result;

use super::{
    RouterPlan, address_mode, id,
    rows::{Owner, Parts, Port},
};
use crate::{floatingips, networks::store::Network, routers, subnets::store::Subnet};

/// The plans of all routers that are there, and the ports of those that are switched off.
pub(super) fn load(
    tx: &Tx<'_>,
    networks: &BTreeMap<Id, Network>,
    parts: &Parts,
) -> Result<(BTreeMap<Id, RouterPlan>, Vec<String>)> {
    let mut subnets: HashMap<Id, &Subnet> = HashMap::new();
    for subnet in parts.subnets() {
        subnets.insert(id(&subnet.id)?, subnet);
    }
    let mut by_router: HashMap<Id, Vec<&Port>> = HashMap::new();
    for port in &parts.ports {
        if let Some(router_id) = port.router_id {
            by_router.entry(router_id).or_default().push(port);
        }
    }
    // Interfaces in the order of their ids, whatever their networks.
    for ports in by_router.values_mut() {
        ports.sort_unstable_by_key(|port| port.id);
    }
    let mut floating: HashMap<String, Vec<floatingips::store::FloatingIp>> = HashMap::new();
    for row in floatingips::store::routed(tx)? {
        floating.entry(row.router_id.clone().unwrap_or_default()).or_default().push(row);
    }
    let at = |port: &Port| -> Vec<(IpNet, &Subnet)> {
        let fixed = parts.fixed_ips_of(port.id).iter();
        fixed
            .filter_map(|fixed| {
                let subnet = *subnets.get(&fixed.subnet_id)?;
                Some((IpNet::new(fixed.address, subnet.cidr.prefix_len()).ok()?, subnet))
            })
            .collect()
    };
    let mut plans = BTreeMap::new();
    let mut idle_ports = Vec::new();
    for router in routers::store::all(tx)? {
        let router_id = id(&router.id)?;
        let own = by_router.remove(&router_id).unwrap_or_default();
        // A router that is switched off, or connected to nothing, is not there.
        if !router.admin_state_up {
            idle_ports.extend(own.iter().filter(|port| !port.plugged).map(|port| port.id.to_string()));
        }
        if !router.admin_state_up || own.is_empty() {
            continue;
        }
        let (mut interfaces, mut gateway, mut port_ids) = (Vec::new(), None, Vec::new());
        for port in own.iter().filter(|port| port.is_up) {
            let Some(network) = networks.get(&port.network_id) else { continue };
            let addresses = at(port);
            if addresses.is_empty() {
                continue;
            }
            let port_id = port.id.to_string();
            let nets: Vec<IpNet> = addresses.iter().map(|(net, _)| *net).collect();
            if router.gateway_port_id.as_deref() == Some(port_id.as_str()) {
                let mut next_hops: Vec<IpAddr> = Vec::new();
                for hop in addresses.iter().filter_map(|(_, subnet)| subnet.gateway) {
                    if !next_hops.iter().any(|other| other.is_ipv4() == hop.is_ipv4()) {
                        next_hops.push(hop);
                    }
                }
                gateway = Some(RouterGateway {
                    network_id: port.network_id,
                    port_id: port.id,
                    mac: port.mac,
                    addresses: nets,
                    next_hops,
                    snat: router.enable_snat,
                    mtu: network.mtu,
                });
            } else if port.owner == Owner::RouterInterface {
                interfaces.push(RouterInterface {
                    network_id: port.network_id,
                    port_id: port.id,
                    mac: port.mac,
                    addresses: nets,
                    mtu: network.mtu,
                    advertise: addresses.iter().filter_map(|(_, subnet)| advertised(subnet)).collect(),
                });
            }
            port_ids.push(port_id);
        }
        let mut floating_ips = Vec::new();
        let mut floating_ids = Vec::new();
        for row in floating.remove(&router.id).unwrap_or_default() {
            let fixed = row.fixed_address.as_deref().and_then(|text| text.parse().ok());
            if let (Some(fixed), Ok(outside)) = (fixed, row.address.parse()) {
                floating_ips.push(FloatingIp { floating: outside, fixed });
                floating_ids.push(row.id);
            }
        }
        let routes = router
            .routes
            .iter()
            .map(|route| StaticRoute { destination: route.destination, next_hop: route.nexthop })
            .collect();
        plans.insert(
            router_id,
            RouterPlan {
                spec: RouterSpec { id: router_id, interfaces, gateway, floating_ips, routes },
                ports: port_ids,
                floating_ips: floating_ids,
            },
        );
    }
    Ok((plans, idle_ports))
}

fn advertised(subnet: &Subnet) -> Option<Advertised> {
    let IpNet::V6(prefix) = subnet.cidr else { return None };
    let mode = address_mode(subnet.ra_mode.as_deref()?)?;
    let dns = subnet
        .dns
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        })
        .collect();
    Some(Advertised { prefix, mode, dns })
}
