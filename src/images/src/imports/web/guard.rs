//! Where data may be fetched from. A user must not make this machine speak to itself, to its neighbours, or to whatever
//! only it can reach: what counts is the address that is connected to, at the moment of connecting, on every redirect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::address::Address;

/// What the operator allows and forbids. The default is every host of the public Internet on the ports 80 and 443.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Names that may be asked, and nothing else; empty: every name. `.example.org` is everything below it.
    pub allowed_hosts: Vec<String>,
    pub denied_hosts: Vec<String>,
    /// Empty: every port.
    pub allowed_ports: Vec<u16>,
    /// Networks that may be reached though they are not public.
    pub allowed_networks: Vec<IpNet>,
    /// Networks that may not be reached though they are public.
    pub denied_networks: Vec<IpNet>,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            allowed_hosts: Vec::new(),
            denied_hosts: Vec::new(),
            allowed_ports: vec![80, 443],
            allowed_networks: Vec::new(),
            denied_networks: Vec::new(),
        }
    }
}

impl Guard {
    /// What can be said of a URL before its host is looked up.
    ///
    /// # Errors
    /// Why it may not be asked, for the user.
    pub fn check_url(&self, address: &Address) -> Result<(), String> {
        let host = &address.host;
        let named = |list: &[String]| list.iter().any(|pattern| matches(pattern, host));
        if named(&self.denied_hosts) || !self.allowed_hosts.is_empty() && !named(&self.allowed_hosts) {
            return Err(format!("the host {host} is not allowed"));
        }
        if !self.allowed_ports.is_empty() && !self.allowed_ports.contains(&address.port) {
            return Err(format!("the port {} is not allowed", address.port));
        }
        match host.parse::<IpAddr>() {
            Ok(ip) if !self.admits(ip) => Err(format!("the address {host} is not allowed")),
            _ => Ok(()),
        }
    }

    /// Whether an address may be connected to.
    #[must_use]
    pub fn admits(&self, ip: IpAddr) -> bool {
        // `::ffff:127.0.0.1` reaches 127.0.0.1.
        let ip = ip.to_canonical();
        if self.denied_networks.iter().any(|network| network.contains(&ip)) {
            return false;
        }
        self.allowed_networks.iter().any(|network| network.contains(&ip)) || is_public(ip)
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix('.') {
        Some(parent) => host == parent || host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        None => pattern == host,
    }
}

/// Whether an address is one of the public Internet (IANA's registries of special-purpose addresses).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        // This network, private, loopback, link-local, multicast, reserved.
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            // Protocol assignments, documentation, 6to4 relays, benchmarks.
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Only global unicast; of that, not what carries an IPv4 address inside (Teredo, 6to4), nor documentation.
    (0x2000..=0x3fff).contains(&a)
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_public_internet_is_reached() {
        let guard = Guard::default();
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!guard.admits(refused.parse().unwrap()), "{refused}");
        }
        for fine in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"]
        {
            assert!(guard.admits(fine.parse().unwrap()), "{fine}");
        }
    }

    #[test]
    fn the_operator_opens_and_closes_networks_hosts_and_ports() {
        let guard = Guard {
            allowed_hosts: vec![".example.org".into(), "files.test".into(), "10.1.2.3".into()],
            denied_hosts: vec!["bad.example.org".into()],
            allowed_ports: vec![443, 8080],
            allowed_networks: vec!["10.1.0.0/16".parse().unwrap()],
            denied_networks: vec!["10.1.9.0/24".parse().unwrap(), "1.1.1.0/24".parse().unwrap()],
        };
        let check = |text: &str| guard.check_url(&Address::parse(text).unwrap());
        for fine in ["https://example.org/", "https://a.b.example.org/", "http://files.test:8080/", "https://10.1.2.3/"]
        {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for refused in [
            "https://bad.example.org/",
            "https://badexample.org/",
            "http://files.test/",
            "https://other.test/",
            "https://10.9.0.1/",
        ] {
            assert!(check(refused).is_err(), "{refused}");
        }
        let admits = |text: &str| guard.admits(text.parse().unwrap());
        assert!(admits("10.1.2.3") && admits("::ffff:10.1.2.3") && admits("8.8.8.8"));
        assert!(!admits("10.1.9.9") && !admits("10.2.0.1") && !admits("1.1.1.1") && !admits("127.0.0.1"));
    }
}
