//! What a subnet must be like, whoever makes it: ranges, gateway, modes. No rows are changed here.

use std::net::IpAddr;

use ipnet::IpNet;
use rest::Result;

use super::store::{SLAAC, STATEFUL, STATELESS, Subnet};
use crate::{
    errors::{bad, conflict, invalid, invalid_input},
    ip,
    ip::Pool,
};

pub(crate) const MODES: &[&str] = &[SLAAC, STATEFUL, STATELESS];
pub(crate) const DNS_MAX: usize = 5;
pub(crate) const ROUTES_MAX: usize = 20;

/// Refuses ranges that no guest can use.
pub(crate) fn check_cidr(cidr: IpNet, enable_dhcp: bool) -> Result<()> {
    if cidr.prefix_len() == 0 {
        return Err(invalid_input("0 is not allowed as CIDR prefix length"));
    }
    let address = cidr.addr();
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.is_multicast() || address.is_loopback() || address.is_unspecified() || is_link_local {
        return Err(invalid_input(format!("{cidr} is a multicast, loopback, link-local or unspecified range")));
    }
    if cidr.contains(&IpAddr::V4(hostnet::METADATA_ADDRESS)) {
        return Err(invalid_input(format!(
            "{cidr} contains {}, where guests find the metadata service",
            hostnet::METADATA_ADDRESS
        )));
    }
    if enable_dhcp && cidr.max_prefix_len() - cidr.prefix_len() < 2 {
        let reason = format!("{cidr} is too small for a subnet with DHCP");
        return Err(invalid_input(reason));
    }
    Ok(())
}

pub(crate) fn check_modes(
    cidr: IpNet,
    enable_dhcp: bool,
    ra_mode: Option<&str>,
    address_mode: Option<&str>,
) -> Result<()> {
    if ra_mode.is_none() && address_mode.is_none() {
        return Ok(());
    }
    if cidr.addr().is_ipv4() {
        return Err(invalid_input("ipv6_ra_mode and ipv6_address_mode are for IPv6 subnets"));
    }
    if !enable_dhcp {
        return Err(invalid_input("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"));
    }
    if let (Some(ra), Some(address)) = (ra_mode, address_mode)
        && ra != address
    {
        return Err(invalid_input(format!(
            "ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes are \
             set, they must be the same value"
        )));
    }
    let is_eui64 = [ra_mode, address_mode].contains(&Some(SLAAC)) || [ra_mode, address_mode].contains(&Some(STATELESS));
    if is_eui64 && cidr.prefix_len() != 64 {
        return Err(invalid_input(format!(
            "Invalid CIDR {cidr} for IPv6 address mode. Addresses in the EUI-64 format require the prefix to be /64"
        )));
    }
    Ok(())
}

/// The gateway that a subnet has when nobody says: its first host address.
pub(crate) fn default_gateway(cidr: IpNet) -> IpAddr {
    let bits = cidr.max_prefix_len() - cidr.prefix_len();
    let offset = u128::from(bits >= 1 && !(cidr.addr().is_ipv4() && bits == 1));
    ip::address(cidr.addr(), ip::number(cidr.network()) + offset)
}

pub(crate) fn check_gateway(cidr: IpNet, gateway: IpAddr) -> Result<()> {
    let is_link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if gateway.is_ipv4() != cidr.addr().is_ipv4() || !(is_host_address(cidr, gateway) || is_link_local) {
        return Err(invalid_input("Gateway is not valid on subnet"));
    }
    Ok(())
}

/// Whether a port may have this address: inside, and neither the network nor the broadcast address.
pub(crate) fn is_host_address(cidr: IpNet, address: IpAddr) -> bool {
    if !cidr.contains(&address) {
        return false;
    }
    match cidr {
        IpNet::V4(v4) => v4.prefix_len() >= 31 || (address != cidr.network() && address != cidr.broadcast()),
        IpNet::V6(v6) => v6.prefix_len() >= 127 || address != cidr.network(),
    }
}

pub(crate) fn check_pools(cidr: IpNet, gateway: Option<IpAddr>, pools: &[Pool]) -> Result<()> {
    let shown = |pool: &Pool| format!("{}-{}", pool.start, pool.end);
    for pool in pools {
        let same_family = pool.start.is_ipv4() == pool.end.is_ipv4();
        if !same_family || pool.start > pool.end || pool.start.is_ipv4() != cidr.addr().is_ipv4() {
            let text = format!("The allocation pool {} is not valid.", shown(pool));
            return Err(bad("InvalidAllocationPool", text));
        }
        if !is_host_address(cidr, pool.start) || !is_host_address(cidr, pool.end) {
            let text = format!("The allocation pool {} spans beyond the subnet cidr {cidr}.", shown(pool));
            return Err(bad("OutOfBoundsAllocationPool", text));
        }
        if let Some(gateway) = gateway.filter(|gateway| pool.contains(*gateway)) {
            return Err(conflict(
                "GatewayConflictWithAllocationPools",
                format!("Gateway ip {gateway} conflicts with allocation pool {}.", shown(pool)),
            ));
        }
    }
    let mut sorted: Vec<&Pool> = pools.iter().collect();
    sorted.sort_by_key(|pool| ip::number(pool.start));
    for pair in sorted.windows(2) {
        if ip::number(pair[0].end) >= ip::number(pair[1].start) {
            return Err(conflict(
                "OverlappingAllocationPools",
                format!("Found overlapping allocation pools: {} {} for subnet {cidr}.", shown(pair[0]), shown(pair[1])),
            ));
        }
    }
    Ok(())
}

/// A network's subnets never overlap.
pub(crate) fn check_overlap(cidr: IpNet, network_id: &str, others: &[Subnet]) -> Result<()> {
    let overlaps = |other: &Subnet| other.cidr.contains(&cidr) || cidr.contains(&other.cidr);
    if others.iter().any(overlaps) {
        // Clients look for these words to try the next range.
        return Err(invalid_input(format!(
            "Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet"
        )));
    }
    Ok(())
}

pub(crate) fn check_families(attribute: &str, cidr: IpNet, mut addresses: impl Iterator<Item = IpAddr>) -> Result<()> {
    match addresses.find(|address| address.is_ipv4() != cidr.addr().is_ipv4()) {
        Some(stranger) => Err(invalid(attribute, format!("'{stranger}' is of another IP version than the subnet"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_that_no_guest_can_use_are_refused() {
        for bad in ["0.0.0.0/0", "224.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "fe80::/64", "ff00::/8", "::1/128"] {
            assert!(check_cidr(net(bad), false).is_err(), "{bad}");
        }
        assert!(check_cidr(net("10.0.0.0/31"), true).is_err());
        check_cidr(net("10.0.0.0/31"), false).unwrap();
        check_cidr(net("10.0.0.0/30"), true).unwrap();
    }

    #[test]
    fn a_gateway_is_a_host_address_of_its_subnet() {
        assert_eq!(default_gateway(net("10.0.0.0/24")).to_string(), "10.0.0.1");
        assert_eq!(default_gateway(net("2001:db8::/64")).to_string(), "2001:db8::1");
        assert_eq!(default_gateway(net("10.0.0.7/32")).to_string(), "10.0.0.7");
        check_gateway(net("10.0.0.0/24"), "10.0.0.254".parse().unwrap()).unwrap();
        check_gateway(net("2001:db8::/64"), "fe80::1".parse().unwrap()).unwrap();
        for bad in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "::1"] {
            assert!(check_gateway(net("10.0.0.0/24"), bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn pools_lie_inside_apart_and_without_the_gateway() {
        let pool = |a: &str, b: &str| Pool { start: a.parse().unwrap(), end: b.parse().unwrap() };
        let check = |pools: &[Pool]| check_pools(net("10.0.0.0/24"), Some("10.0.0.1".parse().unwrap()), pools);
        check(&[pool("10.0.0.2", "10.0.0.9"), pool("10.0.0.10", "10.0.0.254")]).unwrap();
        for bad in [
            vec![pool("10.0.0.9", "10.0.0.2")],
            vec![pool("10.0.0.2", "10.0.1.2")],
            vec![pool("10.0.0.1", "10.0.0.2")],
            vec![pool("10.0.0.2", "10.0.0.9"), pool("10.0.0.9", "10.0.0.12")],
            vec![pool("10.0.0.2", "::5")],
            vec![pool("::2", "::5")],
            vec![pool("10.0.0.2", "10.0.0.255")],
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ipv6_modes_must_agree_and_need_a_64() {
        check_modes(net("2001:db8::/64"), true, Some(SLAAC), Some(SLAAC)).unwrap();
        check_modes(net("2001:db8::/64"), true, None, Some(STATEFUL)).unwrap();
        assert!(check_modes(net("2001:db8::/64"), true, Some(SLAAC), Some(STATEFUL)).is_err());
        assert!(check_modes(net("2001:db8::/64"), false, Some(SLAAC), None).is_err());
        assert!(check_modes(net("2001:db8::/60"), true, Some(SLAAC), None).is_err());
        assert!(check_modes(net("10.0.0.0/24"), true, Some(SLAAC), None).is_err());
    }
}
