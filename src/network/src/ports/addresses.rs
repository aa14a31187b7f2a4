//! Which addresses a port gets: those asked for, or one of each family that its network hands out.

use std::net::IpAddr;

use db::{Tx, params};
use hostnet::Mac;
use rest::Result;
use serde_json::Value;

use super::store::{self, FixedIp, Port};
use crate::{
    attributes::Attributes,
    errors::{bad, conflict, invalid, invalid_input},
    ip,
    subnets::{
        model,
        store::{self as subnets, Subnet},
    },
};

/// Upstream's `max_fixed_ips_per_port`.
const PER_PORT_MAX: usize = 5;

/// One entry of `fixed_ips` in a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub subnet_id: Option<String>,
    pub address: Option<IpAddr>,
}

pub(crate) fn read(list: Vec<Value>) -> Result<Vec<Ask>> {
    let mut asks: Vec<Ask> = Vec::with_capacity(list.len());
    for value in list {
        let mut item = Attributes::nested("fixed_ips", value)?;
        let ask = Ask {
            subnet_id: item.uuid_or_null("subnet_id")?.flatten(),
            address: item.address_or_null("ip_address")?.flatten(),
        };
        item.finish()?;
        if ask.subnet_id.is_none() && ask.address.is_none() {
            return Err(invalid("fixed_ips", "an entry needs 'subnet_id' or 'ip_address'"));
        }
        let is_same =
            |other: &Ask| other.address.is_some() && other.address == ask.address && other.subnet_id == ask.subnet_id;
        if asks.iter().any(is_same) {
            return Err(invalid("fixed_ips", "Duplicate items in the list"));
        }
        asks.push(ask);
    }
    Ok(asks)
}

/// Who the addresses are for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct For<'a> {
    pub network_id: &'a str,
    pub mac: Mac,
    pub device_owner: &'a str,
    /// What the port has now; it may keep any of them.
    pub current: &'a [FixedIp],
}

/// The port's addresses.
///
/// # Errors
/// 400 for what can never be, 409 for what is taken or used up.
pub(crate) fn assign(tx: &Tx<'_>, port: For<'_>, asks: Option<&[Ask]>) -> Result<Vec<FixedIp>> {
    let all = subnets::of_network(tx, port.network_id)?;
    match asks {
        Some(asks) => asked(tx, port, &all, asks),
        None => chosen(tx, port, &all),
    }
}

/// Without a wish: one IPv4 address, one IPv6 address that is handed out, and those that the guest makes itself.
fn chosen(tx: &Tx<'_>, port: For<'_>, all: &[Subnet]) -> Result<Vec<FixedIp>> {
    let is_for = |subnet: &&Subnet| {
        subnet.service_types.is_empty() || subnet.service_types.iter().any(|kind| kind == port.device_owner)
    };
    let reserved: Vec<&Subnet> = all.iter().filter(|subnet| !subnet.service_types.is_empty()).filter(is_for).collect();
    // Subnets that are reserved for this kind of device come before those for everybody.
    let mut candidates: Vec<&Subnet> = reserved;
    candidates.extend(all.iter().filter(|subnet| subnet.service_types.is_empty()));
    if candidates.is_empty() && !all.is_empty() {
        return Err(exhausted(port.network_id));
    }
    let mut fixed_ips: Vec<FixedIp> = Vec::new();
    for version in [4, 6] {
        let family: Vec<&&Subnet> =
            candidates.iter().filter(|subnet| subnet.ip_version == version && !subnet.is_automatic()).collect();
        if family.is_empty() {
            continue;
        }
        let mut found = None;
        for subnet in family {
            if let Some(address) = ip::free_address(tx, &subnet.id, &subnet.pools)? {
                found = Some(FixedIp { subnet_id: subnet.id.clone(), address });
                break;
            }
        }
        fixed_ips.push(found.ok_or_else(|| exhausted(port.network_id))?);
    }
    if !port.device_owner.starts_with("network:router") {
        for subnet in candidates.iter().filter(|subnet| subnet.is_automatic()) {
            if let Some(address) = ip::eui64(subnet.cidr, port.mac) {
                fixed_ips.push(FixedIp { subnet_id: subnet.id.clone(), address });
            }
        }
    }
    Ok(fixed_ips)
}

fn exhausted(network_id: &str) -> rest::Error {
    conflict("IpAddressGenerationFailure", format!("No more IP addresses available on network {network_id}."))
}

fn asked(tx: &Tx<'_>, port: For<'_>, all: &[Subnet], asks: &[Ask]) -> Result<Vec<FixedIp>> {
    if asks.len() > PER_PORT_MAX {
        return Err(invalid_input("Exceeded maximum amount of fixed ips per port"));
    }
    let is_router = port.device_owner.starts_with("network:router");
    let mut fixed_ips: Vec<Option<FixedIp>> = vec![None; asks.len()];
    // Named addresses first, so that a free choice never takes one of them.
    for (slot, ask) in fixed_ips.iter_mut().zip(asks) {
        let Some(address) = ask.address else { continue };
        let subnet = subnet_of(port.network_id, all, ask.subnet_id.as_deref(), Some(address))?;
        if !model::is_host_address(subnet.cidr, address) {
            return Err(bad(
                "InvalidIpForSubnet",
                format!("IP address {address} is not a valid IP for the specified subnet."),
            ));
        }
        if subnet.is_automatic() && !is_router && ip::eui64(subnet.cidr, port.mac) != Some(address) {
            return Err(invalid_input(format!(
                "IPv6 address {address} can not be directly assigned to a port on subnet {} since the subnet is \
                 configured for automatic addresses",
                subnet.id
            )));
        }
        let fixed = FixedIp { subnet_id: subnet.id.clone(), address };
        if !port.current.contains(&fixed) && is_taken(tx, &fixed)? {
            return Err(conflict(
                "IpAddressAlreadyAllocated",
                format!("IP address {address} already allocated in subnet {}", subnet.id),
            ));
        }
        *slot = Some(fixed);
    }
    for (index, ask) in asks.iter().enumerate() {
        if ask.address.is_some() {
            continue;
        }
        let subnet = subnet_of(port.network_id, all, ask.subnet_id.as_deref(), None)?;
        let taken: Vec<&FixedIp> = fixed_ips.iter().flatten().collect();
        let kept = port
            .current
            .iter()
            .find(|fixed| fixed.subnet_id == subnet.id && !taken.contains(fixed))
            .map(|fixed| fixed.address);
        let address = match kept {
            Some(address) => address,
            None if subnet.is_automatic() && !is_router => {
                ip::eui64(subnet.cidr, port.mac).ok_or_else(|| exhausted(port.network_id))?
            }
            None => free_beside(tx, subnet, &taken)?.ok_or_else(|| exhausted(port.network_id))?,
        };
        let fixed = FixedIp { subnet_id: subnet.id.clone(), address };
        if fixed_ips.iter().flatten().any(|other| *other == fixed) {
            return Err(invalid("fixed_ips", "Duplicate items in the list"));
        }
        fixed_ips[index] = Some(fixed);
    }
    Ok(fixed_ips.into_iter().flatten().collect())
}

/// A free address that this very request has not taken for the same port already.
fn free_beside(tx: &Tx<'_>, subnet: &Subnet, taken: &[&FixedIp]) -> Result<Option<IpAddr>> {
    let mut pools = subnet.pools.clone();
    for fixed in taken.iter().filter(|fixed| fixed.subnet_id == subnet.id) {
        pools = pools
            .into_iter()
            .flat_map(|pool| {
                if !pool.contains(fixed.address) {
                    return vec![pool];
                }
                let at = ip::number(fixed.address);
                let part = |from: u128, to: u128| ip::Pool {
                    start: ip::address(pool.start, from),
                    end: ip::address(pool.start, to),
                };
                let mut parts = Vec::with_capacity(2);
                if at > ip::number(pool.start) {
                    parts.push(part(ip::number(pool.start), at - 1));
                }
                if at < ip::number(pool.end) {
                    parts.push(part(at + 1, ip::number(pool.end)));
                }
                parts
            })
            .collect();
    }
    ip::free_address(tx, &subnet.id, &pools)
}

fn is_taken(tx: &Tx<'_>, fixed: &FixedIp) -> Result<bool> {
    Ok(tx.exists(
        "SELECT 1 FROM network_fixed_ip WHERE subnet_id = ?1 AND position = ?2",
        params![fixed.subnet_id, ip::position(fixed.address)],
    )?)
}

fn subnet_of<'s>(network_id: &str, all: &'s [Subnet], id: Option<&str>, address: Option<IpAddr>) -> Result<&'s Subnet> {
    if let Some(id) = id {
        return all.iter().find(|subnet| subnet.id == id).ok_or_else(|| {
            invalid_input(format!(
                "Failed to create port on network {network_id}, because fixed_ips included invalid subnet {id}"
            ))
        });
    }
    let address = address.ok_or_else(|| invalid("fixed_ips", "an entry needs 'subnet_id' or 'ip_address'"))?;
    all.iter().find(|subnet| subnet.cidr.contains(&address)).ok_or_else(|| {
        bad(
            "InvalidIpForNetwork",
            format!("IP address {address} is not a valid IP for any of the subnets on the specified network."),
        )
    })
}

/// A new subnet whose addresses guests make themselves: all ports on the network have one from now on.
pub(crate) fn add_automatic(tx: &Tx<'_>, subnet: &Subnet) -> Result<()> {
    for port in store::of_network(tx, &subnet.network_id)? {
        if super::is_service(&port.device_owner) {
            continue;
        }
        let count = store::fixed_ips(tx, &port.id)?.len();
        if let Some(address) = ip::eui64(subnet.cidr, port.mac) {
            store::add_fixed_ip(tx, &port, &FixedIp { subnet_id: subnet.id.clone(), address }, count)?;
        }
    }
    Ok(())
}

/// A port with a new MAC: the addresses made of the old one are made anew.
pub(crate) fn remade(tx: &Tx<'_>, port: &Port, mac: Mac, fixed_ips: Vec<FixedIp>) -> Result<Vec<FixedIp>> {
    let subnets = subnets::by_ids(tx, fixed_ips.iter().map(|fixed| fixed.subnet_id.as_str()))?;
    Ok(fixed_ips
        .into_iter()
        .map(|fixed| match subnets.get(&fixed.subnet_id) {
            Some(subnet) if subnet.is_automatic() && ip::eui64(subnet.cidr, port.mac) == Some(fixed.address) => {
                FixedIp { address: ip::eui64(subnet.cidr, mac).unwrap_or(fixed.address), ..fixed }
            }
            _ => fixed,
        })
        .collect())
}
