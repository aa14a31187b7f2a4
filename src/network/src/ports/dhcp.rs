//! The port of a network's DHCP server: made with the first port that could ask it, so that a network that nobody uses
//! costs neither an address nor a process.

use db::{Tx, params};
use rest::Result;

use super::{
    DHCP,
    store::{self, FixedIp, Port},
};
use crate::{App, ip, networks, subnets::store as subnets};

/// Brings the DHCP port of a network in line with its subnets and ports.
pub(crate) fn ensure(tx: &Tx<'_>, app: &App, network_id: &str) -> Result<()> {
    let Some(network) = networks::store::find(tx, network_id)? else { return Ok(()) };
    let existing = tx.find(
        "SELECT id FROM network_port WHERE network_id = ?1 AND device_owner = 'network:dhcp' LIMIT 1",
        params![network_id],
        |row| row.get::<_, String>(0),
    )?;
    let served: Vec<_> = subnets::of_network(tx, network_id)?.into_iter().filter(subnets::Subnet::has_dhcp).collect();
    if served.is_empty() {
        if let Some(id) = existing {
            store::delete(tx, &id)?;
        }
        return Ok(());
    }
    let is_used = existing.is_some()
        || tx.exists(
            "SELECT 1 FROM network_port WHERE network_id = ?1
                AND device_owner NOT IN ('network:dhcp', 'network:floatingip', 'network:router_gateway')",
            params![network_id],
        )?;
    if !is_used {
        return Ok(());
    }
    let port = match existing {
        Some(id) => store::get(tx, &id)?,
        None => {
            let now = app.now();
            let port = Port {
                id: rest::new_uuid(),
                network_id: network_id.to_owned(),
                project_id: network.project_id,
                name: String::new(),
                description: String::new(),
                mac: free_mac(tx, network_id)?,
                admin_state_up: true,
                device_id: format!("dhcp-{network_id}"),
                device_owner: DHCP.to_owned(),
                port_security_enabled: false,
                pairs: Vec::new(),
                dhcp_opts: Vec::new(),
                dns_name: String::new(),
                vnic_type: "normal".to_owned(),
                host_id: app.options.host_name.clone(),
                profile: serde_json::Map::new(),
                made_for: None,
                plugged: false,
                problem: None,
                revision: 1,
                created_at: now.clone(),
                updated_at: now,
            };
            store::insert(tx, &port)?;
            port
        }
    };
    let current = store::fixed_ips(tx, &port.id)?;
    let mut wanted: Vec<FixedIp> = Vec::with_capacity(served.len());
    for subnet in &served {
        match current.iter().find(|fixed| fixed.subnet_id == subnet.id) {
            Some(fixed) => wanted.push(fixed.clone()),
            None => {
                let address = if subnet.is_automatic() {
                    ip::eui64(subnet.cidr, port.mac)
                } else {
                    ip::last_free_address(tx, &subnet.id, &subnet.pools)?
                };
                // A full subnet keeps the addresses it has handed out; its guests go without DHCP until one is free.
                match address {
                    Some(address) => wanted.push(FixedIp { subnet_id: subnet.id.clone(), address }),
                    None => tracing::warn!(subnet.id, "no free address for DHCP"),
                }
            }
        }
    }
    if wanted != current {
        store::set_fixed_ips(tx, &port, &wanted)?;
    }
    Ok(())
}

/// A MAC address that nothing on the network has.
pub(crate) fn free_mac(tx: &Tx<'_>, network_id: &str) -> Result<hostnet::Mac> {
    for _ in 0..16 {
        let mac = ip::random_mac()?;
        let is_taken = tx.exists(
            "SELECT 1 FROM network_port WHERE network_id = ?1 AND mac_address = ?2",
            params![network_id, mac.to_string()],
        )?;
        if !is_taken {
            return Ok(mac);
        }
    }
    Err(crate::errors::conflict("MacAddressGenerationFailure", "Unable to generate unique mac on network."))
}
