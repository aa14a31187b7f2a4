//! `/v2.0/ports`: where something is connected to a network. API reference: Network API v2.0, "Ports".
//!
//! ```text
//!             bind (Compute, or binding:host_id)         plug (tap open, rules applied)
//! DOWN, unbound ───────────────────────────────> DOWN ──────────────────────────────> ACTIVE
//!      <─────────────────────────────────────────┴── unplug, release ──────────────────┘
//! ERROR: the kernel refused this port's rules; the former rules stay in force, and the next round tries again.
//! ```

pub(crate) mod addresses;
pub(crate) mod dhcp;
pub(crate) mod handlers;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod store;
pub(crate) mod views;

use std::net::IpAddr;

pub(crate) const ROUTER_INTERFACE: &str = "network:router_interface";
pub(crate) const ROUTER_GATEWAY: &str = "network:router_gateway";
pub(crate) const FLOATING_IP: &str = "network:floatingip";
pub(crate) const DHCP: &str = "network:dhcp";

/// Whether the port serves the network itself; those have no security groups and no tap.
pub(crate) fn is_service(device_owner: &str) -> bool {
    device_owner.starts_with("network:")
}

/// What guests are told they are called: the name given, or one made of an address.
pub(crate) fn hostname(dns_name: &str, address: IpAddr) -> String {
    if dns_name.is_empty() {
        format!("host-{}", address.to_string().replace([':', '.'], "-"))
    } else {
        dns_name.to_owned()
    }
}
