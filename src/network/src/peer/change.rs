//! While a server has its ports: binding, groups, addresses, and letting go.

use std::net::IpAddr;

use db::{Tx, params};
use rest::Result;

use super::{Requester, bad, create::group_id};
use crate::{
    App, errors,
    floatingips::{handlers::lead, store as floating_ips},
    ip,
    ports::{
        self,
        store::{FixedIp as PortAddress, Port},
    },
    query::id_list,
    subnets,
};

/// Binds a server's ports to this machine again: after they were let go by an unshelve or an evacuation.
///
/// # Errors
/// The database's own.
pub fn bind(tx: &Tx<'_>, app: &App, server_id: &str) -> Result<()> {
    for mut port in ports::store::of_devices(tx, &id_list([server_id]))? {
        if port.host_id != app.options.host_name && !ports::is_service(&port.device_owner) {
            port.host_id.clone_from(&app.options.host_name);
            ports::store::update(tx, &mut port, &app.now())?;
        }
    }
    Ok(())
}

/// Lets go of all ports of a server: those made for it are deleted, the user's own are unbound. Call [`unplug`] first, or
/// leave the taps to the reconciler.
///
/// # Errors
/// The database's own.
pub fn release_ports(tx: &Tx<'_>, app: &App, server_id: &str) -> Result<()> {
    for port in ports::store::of_devices(tx, &id_list([server_id]))? {
        release(tx, app, port)?;
    }
    Ok(())
}

/// Lets go of one port of a server (`DELETE /servers/{id}/os-interface/{port_id}`).
///
/// # Errors
/// 404 when the server has no such port.
pub fn release_port(tx: &Tx<'_>, app: &App, server_id: &str, port_id: &str) -> Result<()> {
    let port = ports::store::find(tx, port_id)?.filter(|port| port.device_id == server_id);
    release(tx, app, port.ok_or_else(|| errors::port_not_found(port_id))?)
}

fn release(tx: &Tx<'_>, app: &App, mut port: Port) -> Result<()> {
    if ports::is_service(&port.device_owner) {
        return Ok(());
    }
    if port.made_for.as_deref() == Some(port.device_id.as_str()) {
        return ports::store::delete(tx, &port.id);
    }
    port.device_id = String::new();
    port.device_owner = String::new();
    port.host_id = String::new();
    port.plugged = false;
    ports::store::update(tx, &mut port, &app.now())
}

/// Adds a group to all ports of a server that filter (`addSecurityGroup`).
///
/// # Errors
/// 404 for a group that the project does not have, 400 when no port can have one.
pub fn add_security_group(tx: &Tx<'_>, app: &App, server_id: &str, project_id: &str, name: &str) -> Result<()> {
    change_groups(tx, app, server_id, project_id, name, |groups, id| {
        if groups.contains(&id) {
            return false;
        }
        groups.push(id);
        true
    })
    .map(|_| ())
}

/// Removes a group from all ports of a server (`removeSecurityGroup`).
///
/// # Errors
/// 404 when no port has it.
pub fn remove_security_group(tx: &Tx<'_>, app: &App, server_id: &str, project_id: &str, name: &str) -> Result<()> {
    let changed = change_groups(tx, app, server_id, project_id, name, |groups, id| {
        let before = groups.len();
        groups.retain(|group| *group != id);
        groups.len() != before
    })?;
    if changed {
        return Ok(());
    }
    Err(errors::not_found_text(
        "SecurityGroupNotFound",
        format!("Security group {name} not associated with the instance {server_id}"),
    ))
}

fn change_groups(
    tx: &Tx<'_>,
    app: &App,
    server_id: &str,
    project_id: &str,
    name: &str,
    change: impl Fn(&mut Vec<String>, String) -> bool,
) -> Result<bool> {
    let id = group_id(tx, app, project_id, name).map_err(|error| match error.code() {
        Some("SecurityGroupNotFound") => errors::not_found_text("SecurityGroupNotFound", error.public().to_owned()),
        _ => error,
    })?;
    let (mut has_filtering, mut changed) = (false, false);
    for mut port in ports::store::of_devices(tx, &id_list([server_id]))? {
        if ports::is_service(&port.device_owner) || !port.port_security_enabled {
            continue;
        }
        has_filtering = true;
        let mut groups = ports::store::groups(tx, &port.id)?;
        if change(&mut groups, id.clone()) {
            ports::store::set_groups(tx, &port.id, &groups)?;
            ports::store::update(tx, &mut port, &app.now())?;
            changed = true;
        }
    }
    if !has_filtering {
        return Err(bad(
            "SecurityGroupCannotBeApplied",
            "Network requires port_security_enabled and subnet associated in order to apply security groups."
                .to_owned(),
        ));
    }
    Ok(changed)
}

/// Gives a server one more address on a network that it is connected to (`addFixedIp`).
///
/// # Errors
/// 400 when it is not on that network or no address is free.
pub fn add_fixed_ip(tx: &Tx<'_>, app: &App, server_id: &str, network_id: &str) -> Result<()> {
    let on_network = |port: &Port| port.network_id == network_id && !ports::is_service(&port.device_owner);
    let mut port =
        ports::store::of_devices(tx, &id_list([server_id]))?.into_iter().find(on_network).ok_or_else(|| {
            bad("NetworkNotFoundForInstance", format!("Network could not be found for instance {server_id}."))
        })?;
    let mut fixed = ports::store::fixed_ips(tx, &port.id)?;
    for subnet in subnets::store::of_network(tx, network_id)?.iter().filter(|subnet| !subnet.is_automatic()) {
        if let Some(address) = ip::free_address(tx, &subnet.id, &subnet.pools)? {
            fixed.push(PortAddress { subnet_id: subnet.id.clone(), address });
            ports::store::set_fixed_ips(tx, &port, &fixed)?;
            return ports::store::update(tx, &mut port, &app.now());
        }
    }
    Err(bad("NoMoreFixedIps", format!("No fixed IP addresses available for network: {network_id}")))
}

/// Takes an address from a server (`removeFixedIp`).
///
/// # Errors
/// 400 when the server does not have it.
pub fn remove_fixed_ip(tx: &Tx<'_>, app: &App, server_id: &str, address: IpAddr) -> Result<()> {
    for mut port in ports::store::of_devices(tx, &id_list([server_id]))? {
        let fixed = ports::store::fixed_ips(tx, &port.id)?;
        if !fixed.iter().any(|fixed| fixed.address == address) {
            continue;
        }
        let kept: Vec<PortAddress> = fixed.into_iter().filter(|fixed| fixed.address != address).collect();
        tx.execute(
            "UPDATE network_floating_ip SET fixed_port_id = NULL, fixed_ip_address = NULL, router_id = NULL, active = 0,
                 revision = revision + 1
             WHERE fixed_port_id = ?1 AND fixed_ip_address = ?2",
            params![port.id, address.to_string()],
        )?;
        ports::store::set_fixed_ips(tx, &port, &kept)?;
        return ports::store::update(tx, &mut port, &app.now());
    }
    Err(bad("FixedIpNotFoundForInstance", format!("Instance {server_id} doesn't have fixed IP {address}.")))
}

/// Lets a floating IP lead to an address of a port (`addFloatingIp`), away from where it led.
///
/// # Errors
/// 404 `FloatingIPNotFound` for one that the project does not have; as Network's own API when it cannot lead there.
pub fn associate_floating_ip(
    tx: &Tx<'_>,
    app: &App,
    requester: Requester<'_>,
    address: IpAddr,
    port_id: &str,
    fixed: IpAddr,
) -> Result<()> {
    let mut floating = floating_ip(tx, requester, address)?;
    let port = ports::store::get(tx, port_id)?;
    floating.active = false;
    lead(tx, &mut floating, &port, Some(fixed))?;
    floating_ips::update(tx, &mut floating, &app.now())
}

/// Lets a floating IP lead nowhere, if it leads to this server (`removeFloatingIp`).
///
/// # Errors
/// 404 `FloatingIPNotFound` for one that the project does not have.
pub fn disassociate_floating_ip(
    tx: &Tx<'_>,
    app: &App,
    requester: Requester<'_>,
    address: IpAddr,
    server_id: &str,
) -> Result<bool> {
    let mut floating = floating_ip(tx, requester, address)?;
    let ports = ports::store::of_devices(tx, &id_list([server_id]))?;
    if !ports.iter().any(|port| floating.fixed_port_id.as_deref() == Some(&port.id)) {
        return Ok(false);
    }
    (floating.fixed_port_id, floating.fixed_address, floating.router_id) = (None, None, None);
    floating.active = false;
    floating_ips::update(tx, &mut floating, &app.now())?;
    Ok(true)
}

fn floating_ip(tx: &Tx<'_>, requester: Requester<'_>, address: IpAddr) -> Result<floating_ips::FloatingIp> {
    let address = address.to_string();
    let found = floating_ips::find_by_address(tx, (!requester.is_admin).then_some(requester.project_id), &address)?;
    found.ok_or_else(|| errors::floating_ip_not_found(&address))
}
