//! Addresses, ranges of them, and finding a free one without looking at every address of a subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::errors;

/// Addresses from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub start: IpAddr,
    pub end: IpAddr,
}

/// A route as subnets and routers carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct HostRoute {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

impl Pool {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }

    /// How many addresses; saturates.
    pub(crate) fn size(&self) -> u128 {
        (number(self.end) - number(self.start)).saturating_add(1)
    }
}

/// The address as a number; IPv4 and IPv6 have numbers of their own.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The inverse of [`number`] in the family of `like`.
pub(crate) fn address(like: IpAddr, number: u128) -> IpAddr {
    match like {
        // Callers stay inside a range of IPv4 addresses, whose numbers fit.
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// As rows hold it: sorts as addresses do.
pub(crate) fn position(address: IpAddr) -> [u8; 16] {
    number(address).to_be_bytes()
}

/// What a subnet hands out when nobody says: every host address but the gateway. IPv4 without network and broadcast
/// address (unless there are only two or one), IPv6 without the all-zero (router anycast) address.
pub(crate) fn default_pools(cidr: IpNet, gateway: Option<IpAddr>) -> Vec<Pool> {
    let (mut first, mut last) = (number(cidr.network()), number(cidr.broadcast()));
    let bits = cidr.max_prefix_len() - cidr.prefix_len();
    match cidr {
        IpNet::V4(_) if bits >= 2 => (first, last) = (first + 1, last - 1),
        IpNet::V6(_) if bits >= 1 => first += 1,
        _ => {}
    }
    let like = cidr.addr();
    let range = |from: u128, to: u128| Pool { start: address(like, from), end: address(like, to) };
    match gateway.map(number) {
        Some(gateway) if (first..=last).contains(&gateway) => {
            let mut pools = Vec::with_capacity(2);
            if gateway > first {
                pools.push(range(first, gateway - 1));
            }
            if gateway < last {
                pools.push(range(gateway + 1, last));
            }
            pools
        }
        _ => vec![range(first, last)],
    }
}

/// The address that a guest makes of a prefix and its MAC (RFC 4291, appendix A).
pub(crate) fn eui64(prefix: IpNet, mac: hostnet::Mac) -> Option<IpAddr> {
    let IpNet::V6(prefix) = prefix else { return None };
    let low = u128::from(mac.link_local()) & u128::from(u64::MAX);
    Some(IpAddr::V6(Ipv6Addr::from(u128::from(prefix.network()) | low)))
}

/// A random locally administered MAC below Neutron's usual prefix.
pub(crate) fn random_mac() -> rest::Result<hostnet::Mac> {
    let mut tail = [0u8; 3];
    fill(&mut tail)?;
    Ok(hostnet::Mac([0xfa, 0x16, 0x3e, tail[0], tail[1], tail[2]]))
}

fn fill(bytes: &mut [u8]) -> rest::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| rest::Error::internal("the system's random source failed"))
}

/// How many random places are looked at before the first gap is searched.
const PROBES: usize = 16;
/// How many used addresses are read at a time while searching a gap.
const CHUNK: i64 = 512;

/// A free address of the pools: the one behind the highest in use (so that an address just given back is not handed out
/// again at once, while old leases and ARP entries still name the former holder), then random places, then the first gap.
/// The DHCP server's own address, which is at the other end, does not count.
pub(crate) fn free_address(tx: &db::Tx<'_>, subnet_id: &str, pools: &[Pool]) -> rest::Result<Option<IpAddr>> {
    for pool in pools {
        let highest = tx.find(
            "SELECT position FROM network_fixed_ip f WHERE subnet_id = ?1 AND position BETWEEN ?2 AND ?3
                AND NOT EXISTS (SELECT 1 FROM network_port p WHERE p.id = f.port_id AND p.device_owner = 'network:dhcp')
             ORDER BY position DESC LIMIT 1",
            db::params![subnet_id, position(pool.start), position(pool.end)],
            |row| row.get::<_, [u8; 16]>(0),
        )?;
        let next = match highest {
            None => number(pool.start),
            Some(highest) => match u128::from_be_bytes(highest).checked_add(1) {
                Some(next) => next,
                None => continue,
            },
        };
        if next <= number(pool.end) && !is_used(tx, subnet_id, address(pool.start, next))? {
            return Ok(Some(address(pool.start, next)));
        }
    }
    for pool in pools {
        for _ in 0..PROBES {
            let mut bytes = [0u8; 16];
            fill(&mut bytes)?;
            let offset = u128::from_be_bytes(bytes) % pool.size().max(1);
            let candidate = address(pool.start, number(pool.start) + offset);
            if !is_used(tx, subnet_id, candidate)? {
                return Ok(Some(candidate));
            }
        }
    }
    for pool in pools {
        let mut expected = number(pool.start);
        'pool: while expected <= number(pool.end) {
            let chunk = tx.list(
                "SELECT position FROM network_fixed_ip WHERE subnet_id = ?1 AND position BETWEEN ?2 AND ?3
                 ORDER BY position LIMIT ?4",
                db::params![subnet_id, expected.to_be_bytes(), position(pool.end), CHUNK],
                |row| row.get::<_, [u8; 16]>(0),
            )?;
            if chunk.is_empty() {
                return Ok(Some(address(pool.start, expected)));
            }
            for taken in chunk {
                let taken = u128::from_be_bytes(taken);
                if taken != expected {
                    return Ok(Some(address(pool.start, expected)));
                }
                match expected.checked_add(1) {
                    Some(next) => expected = next,
                    None => break 'pool,
                }
            }
        }
    }
    Ok(None)
}

fn is_used(tx: &db::Tx<'_>, subnet_id: &str, address: IpAddr) -> rest::Result<bool> {
    Ok(tx.exists(
        "SELECT 1 FROM network_fixed_ip WHERE subnet_id = ?1 AND position = ?2",
        db::params![subnet_id, position(address)],
    )?)
}

/// A free address from the other end, for what serves the subnet: people count from the first address when they choose
/// some for their ports, and must not meet our own there.
pub(crate) fn last_free_address(tx: &db::Tx<'_>, subnet_id: &str, pools: &[Pool]) -> rest::Result<Option<IpAddr>> {
    for pool in pools.iter().rev() {
        let mut at = number(pool.end);
        for _ in 0..PROBES {
            if !is_used(tx, subnet_id, address(pool.start, at))? {
                return Ok(Some(address(pool.start, at)));
            }
            if at == number(pool.start) {
                break;
            }
            at -= 1;
        }
    }
    free_address(tx, subnet_id, pools)
}

/// A CIDR that names a network, not a host in it.
pub(crate) fn parse_cidr(attribute: &str, text: &str) -> rest::Result<IpNet> {
    let net: IpNet =
        text.trim().parse().map_err(|_| errors::invalid(attribute, format!("'{text}' is not a valid IP subnet")))?;
    if net.addr() != net.network() {
        let reason = format!("'{text}' isn't a recognized IP subnet cidr, '{}' is recommended", net.trunc());
        return Err(errors::invalid(attribute, reason));
    }
    Ok(net)
}

/// A CIDR or an address alone (a network of one), with host bits dropped.
pub(crate) fn parse_prefix(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(net) => Some(net.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(cidr: &str, gateway: Option<&str>) -> Vec<(String, String)> {
        default_pools(cidr.parse().unwrap(), gateway.map(|text| text.parse().unwrap()))
            .iter()
            .map(|pool| (pool.start.to_string(), pool.end.to_string()))
            .collect()
    }

    #[test]
    fn a_subnet_hands_out_every_host_address_but_the_gateway() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.1")), [pair("10.0.0.2", "10.0.0.254")]);
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.254")), [pair("10.0.0.1", "10.0.0.253")]);
        assert_eq!(
            pools("10.0.0.0/24", Some("10.0.0.9")),
            [pair("10.0.0.1", "10.0.0.8"), pair("10.0.0.10", "10.0.0.254")]
        );
        assert_eq!(pools("10.0.0.0/24", None), [pair("10.0.0.1", "10.0.0.254")]);
        assert_eq!(pools("10.0.0.0/30", Some("10.0.0.1")), [pair("10.0.0.2", "10.0.0.2")]);
        assert_eq!(pools("10.0.0.0/31", None), [pair("10.0.0.0", "10.0.0.1")]);
        assert_eq!(pools("2001:db8::/64", Some("2001:db8::1")), [pair("2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff")]);
        assert_eq!(pools("0.0.0.0/0", None), [pair("0.0.0.1", "255.255.255.254")]);
        assert_eq!(pools("::/0", None).len(), 1);
    }

    #[test]
    fn a_guest_s_own_address_follows_its_mac() {
        let mac = "fa:16:3e:01:02:03".parse().unwrap();
        let address = eui64("2001:db8::/64".parse().unwrap(), mac).unwrap();
        assert_eq!(address.to_string(), "2001:db8::f816:3eff:fe01:203");
    }

    #[test]
    fn host_bits_in_a_cidr_are_refused_with_the_network_that_was_meant() {
        let error = parse_cidr("cidr", "10.0.0.5/24").unwrap_err();
        assert!(error.public().contains("10.0.0.0/24"), "{}", error.public());
        assert!(parse_cidr("cidr", "ten").is_err());
    }
}
